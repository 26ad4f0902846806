"""Turns: what many want to do at once is spread over time, so that it takes a bounded part of the process.

sockets.py has a browser's hint wait for its turn: each hint makes that browser fetch what is news, which costs the web
server ten milliseconds of a core.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

Call = Callable[[], float]
"""Takes its turn; returns the seconds until the next one may be taken."""

PAGES: Final = "pages"
"""The turns of the admin's pages."""
JOBS: Final = "jobs"
"""The turns of visitors' own jobs."""


class Turns:
    """Lets one caller after the other have its turn; while few ask, each has it at once.

    Args:
        loop: the event loop in which all of it happens.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.members = 0
        """Those who will ask again and again."""
        self._loop = loop
        self._apart = 0.0  # as the last one wished
        self._waiting: list[tuple[float, int, Call]] = []
        self._order = itertools.count()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def round(self) -> float:
        """Seconds in which every member can have a turn, if all take as long as the last one."""
        return self.members * self._apart

    def ask(self, call: Call, *, earliest: float) -> None:
        """Have a function called once; who may earlier comes first.

        Args:
            call: the function.
            earliest: not before this instant of the loop's clock.
        """
        heapq.heappush(self._waiting, (earliest, next(self._order), call))
        self._wait()

    def withdraw(self, call: Call) -> None:
        """Have a function called no more; harmless if it does not wait."""
        self._waiting = [waiting for waiting in self._waiting if waiting[2] != call]
        heapq.heapify(self._waiting)
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._timer = self._loop.call_at(max(self._waiting[0][0], self._free_at), self._next)

    def _next(self) -> None:
        _earliest, _order, call = heapq.heappop(self._waiting)
        try:
            self._apart = call()
        finally:  # whatever one does, the others have their turns
            self._free_at = self._loop.time() + self._apart
            self._wait()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Turns]] = WeakKeyDictionary()


def turns_of_this_loop(kind: str) -> Turns:
    """Return the turns of a kind in the running event loop: PAGES or JOBS."""
    loop = asyncio.get_running_loop()
    of_loop = _turns.setdefault(loop, {})
    if kind not in of_loop:
        of_loop[kind] = Turns(loop)
    return of_loop[kind]


def longest_round(kind: str) -> float:
    """Return the longest time that a member in this process waits for its next turn, in seconds; from any thread.

    Args:
        kind: as for `turns_of_this_loop`.
    """
    return max((turns[kind].round for turns in list(_turns.values()) if kind in turns), default=0.0)
