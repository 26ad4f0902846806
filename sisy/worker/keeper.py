"""The keeper: renews the leases of a worker's runs, and stops what runs too long or was cancelled.

engine.py starts it, in a thread and on a connection of its own: whatever a task function does to its thread or to the
event loop, the leases are renewed.
"""

import logging
import threading
import time
import uuid
from typing import Final

from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from sisy import conf, maintenance
from sisy.backoff import Backoff
from sisy.errors import TimedOut
from sisy.models import Run, RunStatus
from sisy.transitions import claims
from sisy.worker.pool import close_broken_connections
from sisy.worker.pump import Pump

_log = logging.getLogger("sisy.worker")

_GLANCE: Final = 0.1  # how often it looks for timeouts while runs are under way
_LOOK_FOR_CANCELLED_EVERY: Final = 1.0
_WORTH_ASKING_AFTER: Final = 0.3  # seconds: shorter runs are over before anybody can cancel them


class Keeper:
    """Keeps what a pump holds.

    Args:
        worker: the id of the worker.
        pump: whose runs to keep.
    """

    def __init__(self, *, worker: uuid.UUID, pump: Pump) -> None:
        self._bell = threading.Event()
        self._closed = threading.Event()
        self._asked = False
        self._worker = worker
        self._pump = pump
        self._next_renewal = 0.0
        self._next_look = 0.0
        self._trouble = Backoff("Renewing leases", meanwhile="others may take over runs", log=_log, longest=2.0)

    def close(self) -> None:
        """Renew nothing more; from any thread."""
        self._closed.set()
        self._bell.set()

    def look_for_cancelled(self) -> None:
        """Look now which runs are to be cancelled; from any thread."""
        self._asked = True
        self._bell.set()

    def run(self) -> None:
        """Renew until closed."""
        while True:
            self._bell.wait(self._pause())
            self._bell.clear()
            if self._closed.is_set():
                return
            for flight in self._pump.pool.flights():
                if flight.ignores_interruption:
                    self._pump.pool.fence(flight)
                elif flight.is_overdue:
                    flight.interrupt(TimedOut)
            try:
                self._turn()
            except (DatabaseError, InterfaceError) as error:
                connections.close_all()
                self._next_renewal = time.monotonic() + self._trouble.failed(error)

    def _pause(self) -> float:
        until_renewal = max(0.0, self._next_renewal - time.monotonic())
        return min(_GLANCE if self._pump.pool.in_hand else 1.0, until_renewal)

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._next_renewal:
            self._renew()
            self._next_renewal = now + conf.current().lease.total_seconds() / 3
            self._trouble.worked()
        if self._asked or (now >= self._next_look and self._pump.pool.in_hand):
            asked, self._asked = self._asked, False  # before the query: who asks meanwhile counts
            self._next_look = now + _LOOK_FOR_CANCELLED_EVERY
            self._stop_cancelled(younger_too=asked)

    def _renew(self) -> None:
        close_broken_connections()  # a good one is kept, whatever CONN_MAX_AGE says: there may be no other one left
        claims.renew(self._pump.held(), lease=conf.current().lease)
        self._pump.sign()
        maintenance.rescue(timezone.now())

    def _stop_cancelled(self, *, younger_too: bool) -> None:
        pool = self._pump.pool
        worth = [flight for flight in pool.flights() if younger_too or flight.age > _WORTH_ASKING_AFTER]
        waiting = pool.backlog() if younger_too else []
        flights = {flight.run.pk: flight for flight in (*worth, *waiting) if not flight.superseded}
        if not flights:
            return
        running = Run.objects.filter(pk__in=list(flights), status=RunStatus.RUNNING)
        for key, claim, requested_at in running.exclude(cancel_requested_at=None).values_list(
            "pk", "claim", "cancel_requested_at"
        ):
            if flights[key].claim == claim:
                pool.cancel(flights[key], requested_at=requested_at)
