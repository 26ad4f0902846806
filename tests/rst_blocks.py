"""Take the examples out of a page of documentation: what language, under which file name, run or not and why.

test_docs.py is the only caller. Line by line instead of through docutils, which knows nothing of Sphinx's markup.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DIRECTIVE = re.compile(r"(?P<indent> *)\.\. (?P<name>code-block|literalinclude|raw):: ?(?P<argument>.*)")
_OPTION = re.compile(r" +:(?P<name>[a-z-]+): ?(?P<value>.*)")
_NOT_RUN = re.compile(r" *\.\. not run: (?P<reason>.+)")
_OTHER_WAYS = re.compile(
    r" *\.\. (code|sourcecode|parsed-literal|highlight|testcode|doctest)::.*"
    r"| *>>> .*| *+(?!\.\. ).*::$"
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One example.

    Args:
        page: the file it is in, relative to the repository.
        line: the number of its first line there.
        language: what the directive says.
        file: its caption: the file that a reader is to write it into; "" for none.
        not_run: the reason in the comment above it, "" when it is to be run.
        text: the example.
    """

    page: str
    line: int
    language: str
    file: str
    not_run: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path, *, root: Path) -> Iterator[Block]:
    """Yield a page's examples in their order.

    Raises:
        AssertionError: there is one that is not written as a code-block, and would therefore be overlooked.
    """
    page, lines = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8").splitlines()
    number, reason = 0, ""
    while number < len(lines):
        line = lines[number]
        if marked := _NOT_RUN.fullmatch(line):
            reason = marked["reason"]
        elif found := _DIRECTIVE.fullmatch(line):
            end = _end_of(lines, number, indent=len(found["indent"]))
            if found["name"] == "code-block":
                body = lines[number + 1 : end]
                yield _block(body, page=page, line=number + 2, language=found["argument"], not_run=reason)
            number, reason = end, ""
            continue
        else:
            assert not _OTHER_WAYS.fullmatch(line.rstrip()), f"{page}:{number + 1}: write it as a code-block: {line}"
            assert not (reason and line.strip()), f"{page}:{number + 1}: what is it that is not run?"
        number += 1


def included(path: Path) -> Iterator[Path]:
    """Yield the files that a page takes in whole by literalinclude."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if (found := _DIRECTIVE.fullmatch(line)) and found["name"] == "literalinclude":
            yield (path.parent / found["argument"]).resolve()


def _end_of(lines: list[str], start: int, *, indent: int) -> int:
    """Return the number of the first line after a directive that is not part of it."""
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            return number
    return len(lines)


def _block(lines: list[str], *, page: str, line: int, language: str, not_run: str) -> Block:
    options: dict[str, str] = {}
    while lines and (option := _OPTION.fullmatch(lines[0])):
        options[option["name"]] = option["value"]
        lines, line = lines[1:], line + 1
    while lines and not lines[0].strip():
        lines, line = lines[1:], line + 1
    text = textwrap.dedent("\n".join(lines)).rstrip() + "\n"
    return Block(page=page, line=line, language=language, file=options.get("caption", ""), not_run=not_run, text=text)
