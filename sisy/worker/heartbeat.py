"""The heartbeat: a tick at each boundary, and early ones for slots in between.

The commands sisy_heartbeat and sisy run it; any number may run at once. Where the channel layer refuses the tick, the
heartbeat does the tick's work itself.
"""

import asyncio
import contextlib
import functools
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from sisy import conf, layer, policy, scheduler
from sisy.backoff import Backoff
from sisy.models import Heartbeat as HeartbeatRow
from sisy.rows.outage import OUTAGES, twice

A = TypeVar("A")
T = TypeVar("T")

_log = logging.getLogger("sisy.heartbeat")

_LOOK_AFTER = timedelta(milliseconds=250)  # a tick's work is done by then, and the next slots are known
_SHORTEST_PERIOD = timedelta(seconds=1)  # slots are whole seconds: none comes between two boundaries that are closer
_LONGEST_SLEEP = timedelta(seconds=1)  # so that a clock that was set is noticed, and a laptop that slept


class Heartbeat:
    """Ticks until it is stopped.

    Args:
        interval: time between two boundaries.
        presence: gives signs of life of this process in its row, or None to leave no trace.
    """

    def __init__(self, *, interval: timedelta, presence: "Presence | None" = None) -> None:
        self.interval = interval
        self._presence = presence
        self.ticks = 0
        self._left = False
        self._database = DatabaseThread()
        self._stopped = asyncio.Event()
        self._trouble = Backoff("Ticking", meanwhile="due tasks wait", log=_log, longest=5.0)

    def stop(self) -> None:
        """End `beat` soon."""
        self._stopped.set()

    async def beat(self) -> None:
        """Tick now, for what is overdue, then at each boundary, and early where a slot comes before it."""
        try:
            while not self._stopped.is_set():
                ticked = timezone.now()
                await self.tick()
                await self._wait(ticked)
        finally:
            if self._presence is not None:
                await self._presence.leave(self._database)
            await self._database.close()

    async def once(self) -> None:
        """Tick once, and leave no connection behind."""
        try:
            await self.tick()
        finally:
            await self._database.close()

    async def tick(self) -> None:
        """Send one tick; do its work here when nobody can take it."""
        self.ticks += 1
        self._left = False
        if not await layer.send_tick():
            await self._tick_here()

    async def _wait(self, ticked: datetime) -> None:
        """Sleep until the next boundary or an earlier slot; a clock that is set meanwhile ends it too.

        Args:
            ticked: when the last tick was sent; slots up to it belong to that tick.
        """
        boundary, slot = policy.next_boundary(ticked, self.interval), ticked + scheduler.SOON if self._left else None
        look_at = boundary if self.interval <= _SHORTEST_PERIOD else ticked + _LOOK_AFTER
        while not self._stopped.is_set():
            if self._presence is not None:
                await self._presence.sign(self._database)
            now = timezone.now()
            if now >= boundary or (slot is not None and now >= slot) or now < ticked - _LONGEST_SLEEP:
                return
            if now >= look_at:
                slot = await self._slot_after(ticked)
                look_at = now + conf.current().poll_interval
            pause = min(boundary, look_at, slot or boundary) - timezone.now()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), max(0.0, min(pause, _LONGEST_SLEEP).total_seconds()))

    async def _slot_after(self, instant: datetime) -> datetime | None:
        """Return the earliest slot after an instant, or None, also when the database can't be asked."""
        try:
            return await self._database.call(scheduler.next_slot, instant)
        except (DatabaseError, InterfaceError) as error:
            _log.debug("The next slot is not known: %s", error)
            return None

    async def _tick_here(self) -> None:
        try:
            ticked = await self._database.call(scheduler.tick, timezone.now())
            self._left = ticked.left
            self._trouble.worked()
        except (DatabaseError, InterfaceError) as error:
            await asyncio.sleep(self._trouble.failed(error))


class Presence:
    """A heartbeat's own row: begun with the first sign of life, renewed as often as leases are.

    Args:
        interval: the heartbeat's, for people to see.
    """

    def __init__(self, *, interval: timedelta) -> None:
        self.id = uuid.uuid4()
        self._interval = interval
        self._next_sign = 0.0

    async def sign(self, database: "DatabaseThread") -> None:
        """Give a sign of life if it is time for one; nothing depends on it, so a database in trouble is no matter."""
        now = time.monotonic()
        if now < self._next_sign:
            return
        self._next_sign = now + conf.current().lease.total_seconds() / 3
        try:
            await database.call(lambda key: HeartbeatRow.objects.sign(key, interval=self._interval), self.id)
        except (DatabaseError, InterfaceError) as error:
            _log.debug("No sign of life could be written: %s", error)

    async def leave(self, database: "DatabaseThread") -> None:
        """Write that the heartbeat has ended."""
        try:
            await database.call(HeartbeatRow.objects.leave, self.id)
        except (DatabaseError, InterfaceError) as error:
            _log.warning("This heartbeat's end could not be written: %s", error)


class DatabaseThread:
    """A thread that asks the database for an event loop; its connection stays open, as opening one takes longest."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="sisy-heartbeat")

    async def call(self, function: Callable[[A], T], argument: A) -> T:
        """Call a function that may be called twice: the connection may have been cut since it was last used."""
        call = functools.partial(function, argument)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, twice, call)
        except OUTAGES:
            await self._close_connections()
            raise

    async def close(self) -> None:
        """Close the connection; ask nothing more."""
        await self._close_connections()
        self._threads.shutdown(wait=False)

    async def _close_connections(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, connections.close_all)
