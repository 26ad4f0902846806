"""Print what runs do, one line each, for the person who started the demo in a terminal; server.py connects it.

Colours appear on a terminal only, and not where NO_COLOR is set (https://no-color.org).
"""

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from typing import Final, TextIO

from django.utils import timezone

from sisy import signals
from sisy.models import Run, RunStatus

_COLOURS: Final = {
    "SUCCESSFUL": "32",
    "SKIPPED": "36",
    "CANCELLED": "36",
    "RETRY": "33",
    "MISSED": "33",
    "FAILED": "31",
    "LOST": "31",
}
_BOLD: Final = "1"
_DIM: Final = "2"
_LABEL_WIDTH: Final = 30
_BEFORE_TEXT: Final = len("00:00:00  SUCCESSFUL    ") + _LABEL_WIDTH


class Console:
    """Writes lines about runs.

    Args:
        stream: where to.
        on_closed: called once when nobody reads the lines any more.
    """

    def __init__(self, stream: TextIO, *, on_closed: Callable[[], None]) -> None:
        self.runs = 0
        self._stream = stream
        self._on_closed = on_closed
        self._is_open = True
        self._is_coloured = stream.isatty() and not os.environ.get("NO_COLOR")

    def connect(self) -> None:
        """Print a line for each run that ends or is tried again, from here on."""
        signals.run_finished.connect(lambda run, **_: self.show(run), weak=False)
        signals.run_retry_scheduled.connect(lambda run, **_: self.show_retry(run), weak=False)

    def say(self, text: str = "") -> None:
        """Print a line at once."""
        if not self._is_open:
            return
        try:
            self._stream.write(f"{text}\n")  # one write: several threads print
            self._stream.flush()
        except BrokenPipeError:
            self._is_open = False
            self._on_closed()

    def bold(self, text: str) -> str:
        """Set a text off."""
        return self._in_colour(text, _BOLD)

    def show(self, run: Run) -> None:
        """Print what a run that is over came to."""
        self.runs += 1
        text = run.reason if run.status != RunStatus.SUCCESSFUL or run.result is None else str(run.result)
        self.say(self._line(run, run.status, text))

    def show_retry(self, run: Run) -> None:
        """Print when a failed run is tried again."""
        at = run.run_after.astimezone().strftime("%H:%M:%S") if run.run_after else "once the one before has ended"
        self.say(self._line(run, "RETRY", f"attempt {run.attempt} at {at}, after {run.reason}"))

    def _line(self, run: Run, word: str, text: str) -> str:
        at: datetime = run.finished_at or timezone.now()
        clock = self._in_colour(at.astimezone().strftime("%H:%M:%S"), _DIM)
        label = printable(run.label, _LABEL_WIDTH).ljust(_LABEL_WIDTH)
        room = max(20, self._columns() - _BEFORE_TEXT)
        return f"{clock}  {self._in_colour(word.ljust(10), _COLOURS[word])}  {label}  {printable(text, room)}"

    def _columns(self) -> int:
        return shutil.get_terminal_size().columns if self._stream.isatty() else 160

    def _in_colour(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._is_coloured else text


def printable(text: str, width: int) -> str:
    """Make a text fit for one line of a terminal: labels and errors are other people's words.

    >>> printable("two\\nlines", 20), printable("too long", 5)
    ('two lines', 'too …')
    """
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= width else f"{line[: width - 1]}…"
