"""The ticker: ticks when a message asks for it, and early where a slot comes before the next boundary.

engine.py starts it, in a thread of its own: a tick over many tasks delays neither runs nor leases. Between ticks that
follow each other soon its connection stays open: opening one takes longer than a tick, and all runs of a boundary would
start later.
"""

import logging
import math
import threading
import time
from datetime import datetime, timedelta
from typing import Final

from django.db import close_old_connections, connections
from django.utils import timezone

from sisy import conf, policy, scheduler
from sisy.backoff import Backoff
from sisy.rows.outage import OUTAGES, twice
from sisy.worker.pool import close_broken_connections

_log = logging.getLogger("sisy.worker")

_CLOCK_SKEW: Final = timedelta(seconds=2)  # between hosts that keep time at all
_IDLE_SECONDS: Final = 30.0  # a connection that was not used for so long is treated as CONN_MAX_AGE says
_PATIENCE: Final = timedelta(milliseconds=50)  # an early tick is left to the heartbeat, which knows of most slots too


class Ticker:
    """Ticks in its own thread."""

    def __init__(self) -> None:
        self.ticks = 0
        self._ticked_at = -math.inf  # time.monotonic()
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._trouble = Backoff("Ticking", meanwhile="due tasks wait", log=_log, longest=5.0)

    def request(self) -> None:
        """Tick now; several requests at once are one tick. From any thread."""
        self._bell.set()

    def stop(self) -> None:
        """Tick no more; from any thread."""
        self._stopping.set()
        self._bell.set()

    def run(self) -> None:
        """Tick when asked, until stopped."""
        early: datetime | None = None
        while not self._stopping.is_set():
            told = self._bell.wait(None if early is None else max(0.0, (early - timezone.now()).total_seconds()))
            self._bell.clear()
            if self._stopping.is_set():
                return
            early = self._tick(timezone.now(), told=told)

    def _tick(self, now: datetime, *, told: bool) -> datetime | None:
        """Tick; return when to tick next without being told, or None."""
        try:
            self._tidy_connections()
            ticked = twice(lambda: scheduler.tick(now))
        except OUTAGES as error:
            connections.close_all()
            self._stopping.wait(self._trouble.failed(error))
            return now
        self._trouble.worked()
        self.ticks += 1
        return early_tick(ticked, told=told)

    def _tidy_connections(self) -> None:
        """Close those that are broken, and after a pause those that CONN_MAX_AGE wants to be closed."""
        was_idle, self._ticked_at = time.monotonic() - self._ticked_at > _IDLE_SECONDS, time.monotonic()
        if was_idle:
            close_old_connections()
        else:
            close_broken_connections()


def early_tick(ticked: scheduler.Ticked, *, told: bool) -> datetime | None:
    """Return when to tick next without being told, for a slot that comes before the next boundary; or None.

    Args:
        ticked: the tick that ended.
        told: whether a message asked for it. Then it may be meant for a boundary that this host's clock, a little
            behind the heartbeat's, has not reached yet.
    """
    if ticked.left:
        return ticked.now + scheduler.SOON
    interval = conf.current().heartbeat_interval
    skew = min(_CLOCK_SKEW, interval / 10) if told else timedelta(0)
    slot = ticked.next_slot
    if slot is None or slot >= policy.next_boundary(ticked.now + skew, interval):
        return None
    return slot + _PATIENCE
