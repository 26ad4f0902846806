"""Turns: what many want to do at once is spread over time, so that it takes a bounded part of the process.

sockets.py has a browser's hint wait for its turn: each hint makes that browser fetch what is news.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

Call = Callable[[], None]

PAGES_APART: Final = 0.125
"""Seconds between two hints to any of the admin's pages in one process: each has that page fetch a part of it."""


class Turns:
    """Lets one caller after the other have its turn; while few ask, each has it at once.

    Args:
        loop: the event loop in which all of it happens.
        apart: seconds between two turns.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, apart: float) -> None:
        self.members = 0
        """Those who will ask again and again."""
        self._loop = loop
        self._apart = apart
        self._waiting: list[tuple[float, int, Call]] = []
        self._order = itertools.count()
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def round(self) -> float:
        """Seconds in which every member can have a turn."""
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
        self._free_at = self._loop.time() + self._apart
        self._wait()
        call()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, Turns]] = WeakKeyDictionary()


def turns_of_this_loop(*, apart: float) -> Turns:
    """Return the turns of the running event loop that are so many seconds apart."""
    loop = asyncio.get_running_loop()
    of_loop = _turns.setdefault(loop, {})
    if apart not in of_loop:
        of_loop[apart] = Turns(loop, apart=apart)
    return of_loop[apart]


def longest_round(*, apart: float) -> float:
    """Return the longest time that a member in this process waits for its next turn, in seconds; from any thread.

    Args:
        apart: as for `turns_of_this_loop`.
    """
    return max((turns[apart].round for turns in list(_turns.values()) if apart in turns), default=0.0)
