"""What a worker's code lacks, and for how long it leaves the runs that need it to other workers.

pump.py keeps one. While a new version of a project is deployed, old and new workers run side by side.
"""

import math
import time
from collections.abc import Iterable
from typing import Final

_FIRST: Final = 1.0  # seconds
_LONGEST: Final = 30.0  # seconds: the module may be there by then, or the run has waited long enough to fail


class Lacking:
    """Callables that could not be found here lately."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # time.monotonic() of the next try
        self._wait: dict[str, float] = {}

    def note(self, paths: Iterable[str]) -> None:
        """Leave the runs of these callables to others for a while, for longer each time."""
        now = time.monotonic()
        for path in set(paths):
            self._wait[path] = min(2 * self._wait.get(path, _FIRST / 2), _LONGEST)
            self._until[path] = now + self._wait[path]

    def current(self) -> list[str]:
        """Return the callables whose runs are left to others now."""
        if not self._until:
            return []
        now = time.monotonic()
        self._until = {path: until for path, until in self._until.items() if until > now}
        return list(self._until)

    @property
    def next_try(self) -> float:
        """The instant of time.monotonic() at which one of them shall be tried again; infinity if there is none."""
        return min(self._until.values(), default=math.inf)
