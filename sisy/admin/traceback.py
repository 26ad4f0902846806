"""A traceback as text in pieces: the frames of the project's own code, those of others, and what is said around them.

The page of a run shows it; a checkbox hides the frames of others.
"""

import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FRAME: Final = re.compile(r'  File "(?P<path>[^"]*)", line \d+')
_SISY: Final = Path(__file__).parents[1]
_OF_OTHERS: Final = tuple(f"{Path(path)}/" for path in {*sysconfig.get_paths().values(), str(_SISY)} if path)
_DEMO: Final = f"{_SISY / 'demo'}/"  # a project that happens to live in here
_ALWAYS_OF_OTHERS: Final = ("/site-packages/", "/dist-packages/", "<frozen ", "/lib/python3")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A frame, or the lines between frames.

    Args:
        text: its lines.
        is_theirs: whether it is a frame of a library, of Python or of sisy.
    """

    text: str
    is_theirs: bool


def pieces(text: str) -> list[Piece]:
    r"""Cut a traceback into its frames.

    >>> [piece.is_theirs for piece in pieces('Traceback:\n  File "/srv/tasks.py", line 3, in f\n    x()\nKeyError')]
    [False, False, False]
    """
    return [Piece(text="".join(lines), is_theirs=is_theirs) for lines, is_theirs in _cut(text)]


def _cut(text: str) -> Iterator[tuple[list[str], bool]]:
    lines: list[str] = []
    is_theirs = in_frame = False
    for line in text.splitlines(keepends=True):
        frame = _FRAME.match(line)
        if frame or (in_frame and not line.startswith("    ")):
            if lines:
                yield lines, is_theirs
            lines, in_frame, is_theirs = [], frame is not None, frame is not None and _is_theirs(frame["path"])
        lines.append(line)
    if lines:
        yield lines, is_theirs


def _is_theirs(path: str) -> bool:
    if path.startswith(_DEMO):
        return False
    return path.startswith(_OF_OTHERS) or any(part in path for part in _ALWAYS_OF_OTHERS)
