"""The keeper: renews the leases of a worker's runs, and stops what runs too long or was cancelled.

engine.py starts it, in a thread and on a connection of its own: whatever a task function does to its thread or to the
event loop, the leases are renewed.
"""

import logging
import threading
import time
import uuid
from typing import Final

from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from sisy import conf, maintenance
from sisy.backoff import Backoff
from sisy.errors import Cancelled, TimedOut
from sisy.models import Run, RunStatus, Worker
from sisy.rows.clock import DatabaseNow
from sisy.transitions import claims
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
        self.closed = threading.Event()
        self._worker = worker
        self._pump = pump
        self._next_renewal = 0.0
        self._next_look = 0.0
        self._trouble = Backoff("Renewing leases", meanwhile="others may take over runs", log=_log, longest=2.0)

    def run(self) -> None:
        """Renew until closed."""
        while not self.closed.wait(self._pause()):
            for flight in self._pump.pool.flights():
                if flight.ignores_interruption:
                    self._pump.pool.fence(flight)
                elif flight.is_overdue:
                    flight.interrupt(TimedOut)
            try:
                self._turn()
            except (DatabaseError, InterfaceError) as error:
                connection.close()
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
        elif now >= self._next_look and self._pump.pool.in_hand:
            self._next_look = now + _LOOK_FOR_CANCELLED_EVERY
            self._stop_cancelled()

    def _renew(self) -> None:
        close_old_connections()
        claims.renew(self._pump.held(), lease=conf.current().lease)
        Worker.objects.filter(pk=self._worker).update(seen_at=DatabaseNow())
        maintenance.rescue(timezone.now())

    def _stop_cancelled(self) -> None:
        worth = (flight for flight in self._pump.pool.flights() if flight.age > _WORTH_ASKING_AFTER)
        flights = {flight.run.pk: flight for flight in worth if not flight.superseded}
        if not flights:
            return
        running = Run.objects.filter(pk__in=list(flights), status=RunStatus.RUNNING)
        for key, claim, requested_at in running.exclude(cancel_requested_at=None).values_list(
            "pk", "claim", "cancel_requested_at"
        ):
            if flights[key].claim == claim:
                flights[key].run.cancel_requested_at = requested_at
                flights[key].interrupt(Cancelled)
