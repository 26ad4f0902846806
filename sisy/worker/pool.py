"""Slots for runs: a bounded set of threads for sync functions, and one event loop for async ones.

engine.py offers claimed runs and takes outcomes. A slow function keeps its slot and nothing else: not the pump, not the
leases, not the other slots.
"""

import asyncio
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence, Set
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections
from django.utils import timezone

from sisy import conf, executor, policy, signals
from sisy.errors import Cancelled, InvalidCallable
from sisy.executor import Prepared
from sisy.models import Run
from sisy.rows.outage import OUTAGES
from sisy.transitions import claims
from sisy.transitions.endings import Outcome
from sisy.worker.flight import Declined, Flight

_log = logging.getLogger("sisy.worker")

_TIDY_EVERY: Final = 10.0  # seconds
_QUICK_SECONDS: Final = 0.0003  # functions below that gain nothing from a second thread, and wait for each other's GIL
_LONG_SECONDS: Final = 0.002  # a function that is under way for so long must not keep those behind it waiting
_WEIGHT: Final = 0.1  # of one more duration in the running average
_WORTH_WRITING: Final = 200  # outcomes: beyond that a transaction's own cost hardly shows
GATHER_SECONDS: Final = 0.02
"""How long an outcome waits for others while runs are ready to follow."""


class Pool:
    """Executes claimed runs, at most `concurrency` at a time.

    Args:
        concurrency: the number of slots.
        on_ended: called, from any thread, when there is something new to do: outcomes to write, slots to fill.
    """

    def __init__(self, *, concurrency: int, on_ended: Callable[[], None]) -> None:
        self.concurrency = concurrency
        self.average_seconds = 0.0
        self.stuck = 0
        """Functions that go on although their runs were written off; the process needs recycling."""
        self.left_behind = False
        """Whether a run was forgotten unstarted since the database could not be asked; the pump hands it back."""
        self._on_ended = on_ended
        self._changed = threading.Condition()
        self._backlog: deque[Flight] = deque()
        self._flights: set[Flight] = set()
        self._ended: list[Outcome] = []
        self._first_ended = 0.0
        self._declined: list[Declined] = []
        self._threads: list[threading.Thread] = []
        self._idle_threads = 0
        self._typical_seconds = _LONG_SECONDS
        """As `average_seconds`, but no run counts for more than this: a few long ones among quick ones don't show."""
        self._lead: Flight | None = None
        """The run that a thread took last, as long as that thread is busy with it."""
        self._somebody_watches = False
        self._tidied = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def in_hand(self) -> int:
        """Runs that are waiting for a slot or have one."""
        return len(self._backlog) + len(self._flights)

    @property
    def is_empty(self) -> bool:
        """Whether no run is in hand and every outcome was taken."""
        with self._changed:
            return not (self._backlog or self._flights or self._ended or self._declined)

    @property
    def unstarted(self) -> int:
        """Runs that are waiting for a slot."""
        return len(self._backlog)

    @property
    def is_gathering(self) -> bool:
        """Whether more outcomes will join those there are in a moment: writing them together costs little more."""
        waited = time.monotonic() - self._first_ended
        return bool(self._backlog) and 0 < len(self._ended) < _WORTH_WRITING and waited < GATHER_SECONDS

    def flights(self) -> list[Flight]:
        """Return the runs that have a slot."""
        with self._changed:
            return list(self._flights)

    def backlog(self) -> list[Flight]:
        """Return the runs that are waiting for a slot."""
        with self._changed:
            return list(self._backlog)

    def cancel(self, flight: Flight, *, requested_at: datetime | None) -> None:
        """Stop a run that somebody wants to be cancelled; one that has no slot yet does not start."""
        flight.run.cancel_requested_at = requested_at
        with self._changed:
            has_slot = flight in self._flights
        if has_slot:
            flight.interrupt(Cancelled)

    def held(self) -> dict[int, UUID]:
        """Return the tokens of all runs in hand by their keys, those whose outcome was not taken yet included."""
        with self._changed:
            flights = (*self._backlog, *(flight for flight in self._flights if not flight.superseded))
            held = {flight.run.pk: flight.claim for flight in flights}
            held |= {declined.run.pk: declined.claim for declined in self._declined}
            return held | {outcome.run.pk: outcome.claim for outcome in self._ended if outcome.claim is not None}

    def offer(self, runs: Sequence[Run], *, message: dict[str, Any]) -> None:
        """Execute runs as slots become free, in this order."""
        with self._changed:
            self._supersede({run.pk for run in runs})
            self._backlog += [Flight(run=run, claim=run.claim, message=message) for run in runs if run.claim]
            wanted = min(len(self._backlog), self.concurrency - len(self._flights)) - self._idle_threads
            for _ in range(min(wanted, self.concurrency + self.stuck - len(self._threads))):
                thread = threading.Thread(target=self._work, name=f"sisy-run-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify(1 if self._is_quick else len(runs))

    def take_ended(self) -> list[Outcome]:
        """Return the outcomes since the last call."""
        with self._changed:
            ended, self._ended = self._ended, []
            return ended

    def take_declined(self) -> list[Declined]:
        """Return the runs whose code this process lacks, since the last call; the caller hands them back."""
        with self._changed:
            declined, self._declined = self._declined, []
            return declined

    def fence(self, flight: Flight) -> None:
        """Write off a run whose function ignores that it was interrupted: what it still does changes no row."""
        with self._changed:
            if flight not in self._flights or flight.interruption is None:
                return
            flight.fenced = True
            self._flights.discard(flight)
            self.stuck += 1
            self._changed.notify()
        error = flight.explained(None)
        outcome = self._concluded(flight, result=None, error=error, now=timezone.now())
        with self._changed:
            if not flight.superseded:
                self._ended.append(outcome)
        self._on_ended()

    def take_unstarted(self) -> list[Run]:
        """Take back the runs that have no slot yet."""
        with self._changed:
            runs = [flight.run for flight in self._backlog]
            self._backlog.clear()
            return runs

    def _supersede(self, keys: Set[int]) -> None:
        """Forget older claims on runs that were claimed anew: their leases had run out while this worker lived on.

        Two claims on one run in one batch would hide each other. A function that is under way goes on, and keeps its
        slot; it can change no row.
        """
        self._backlog = deque(flight for flight in self._backlog if flight.run.pk not in keys)
        self._ended = [outcome for outcome in self._ended if outcome.run.pk not in keys]
        for flight in self._flights:
            flight.superseded = flight.superseded or flight.run.pk in keys

    def _work(self) -> None:
        flight: Flight | None = None
        while True:
            if not self._backlog:
                self._tidy(close_old_connections)  # between runs they stay open, whatever CONN_MAX_AGE says
            with self._changed:
                self._idle_threads += 1
                if self._lead is flight:
                    self._lead = None
                while not self._may_take():
                    self._wait()
                self._idle_threads -= 1
                flight = self._backlog.popleft()
                flight.began = time.monotonic()
                self._lead = flight
                self._flights.add(flight)
                if self._backlog and self._is_quick and not self._somebody_watches:
                    self._changed.notify()
            self._execute(flight)
            self._tidy(executor.leave_no_trace)

    @property
    def _is_quick(self) -> bool:
        """Whether one thread is enough for all slots, unless a function takes longer than most have."""
        return self._typical_seconds < _QUICK_SECONDS

    @property
    def _is_some_ready(self) -> bool:
        """Whether a run waits for a slot and one is free."""
        return bool(self._backlog) and len(self._flights) < self.concurrency

    def _may_take(self) -> bool:
        """Whether a thread that has nothing to do may take the next run: not while a quick one is about to end."""
        return self._is_some_ready and (not self._is_quick or self._lead is None or self._lead.age > _LONG_SECONDS)

    def _wait(self) -> None:
        """Wait for a change; one thread looks by itself whether a quick function turns out to be a long one."""
        if self._somebody_watches or not self._is_some_ready:
            self._changed.wait()
            return
        self._somebody_watches = True
        try:
            self._changed.wait(_LONG_SECONDS)
        finally:
            self._somebody_watches = False

    def _tidy(self, close: Callable[[], None]) -> None:
        """Close connections of this thread; whatever comes of it, the slot goes on."""
        try:
            close()
        except Exception:
            _log.exception("The database connections of a slot can't be closed")

    def _execute(self, flight: Flight) -> None:
        """Execute a run in this thread, up to its end or to where it goes on as a coroutine."""
        result, error = None, None
        try:
            prepared = self._start(flight)
            if prepared is None:
                return
            if prepared.is_async:
                self._go_on_as_coroutine(flight, prepared)
                return
            result = self._call(flight, prepared)
            if inspect.isawaitable(result):
                self._go_on_as_coroutine(flight, prepared, result)
                return
        except BaseException as raised:  # SystemExit and its like end the run, not the worker
            error = raised
        self._end(flight, result=result, error=error)

    def _start(self, flight: Flight) -> Prepared | None:
        """Prepare the call; None when the claim does not hold any more, or the database can't be asked."""
        run = flight.run
        if run.cancel_requested_at is not None:
            raise Cancelled("it was cancelled before it started")
        try:
            prepared = executor.prepare(run, message=flight.message)
            if policy.must_write_start_first(at_most_once=run.at_most_once, crashes=run.crashes):
                flight.start_written = bool(claims.start([run], now=timezone.now()))
                if not flight.start_written:
                    self._drop(flight)
                    return None
        except InvalidCallable as error:
            grace = conf.current().deploy_grace
            if not policy.may_decline(declined_at=run.declined_at, grace=grace, now=timezone.now()):
                raise
            self._decline(flight, str(error))
            return None
        except OUTAGES:  # it has not started: somebody will have it later
            self.left_behind = True
            self._drop(flight)
            return None
        if signals.run_started.has_listeners(Run):
            signals.run_started.send_robust(sender=Run, run=run)
        flight.began, flight.started_at = time.monotonic(), run.started_at or timezone.now()
        return prepared

    def _call(self, flight: Flight, prepared: Prepared) -> object:
        try:
            flight.enter()
            return executor.call(prepared)
        finally:
            flight.leave()

    def _go_on_as_coroutine(
        self, flight: Flight, prepared: Prepared, awaitable: Awaitable[object] | None = None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._await(flight, prepared, awaitable), self._event_loop())

    async def _await(self, flight: Flight, prepared: Prepared, awaitable: Awaitable[object] | None) -> None:
        result, error = None, None
        try:
            with flight.lock:
                flight.coroutine = asyncio.current_task()
                interruption = flight.interruption
            if interruption is not None:
                raise interruption
            result = await executor.acall(prepared, awaitable)
        except BaseException as raised:  # as in _execute; asyncio must not see SystemExit either
            error = raised
        with flight.lock:
            flight.coroutine = None
        await self._tidy_async(failed=error is not None)
        self._end(flight, result=result, error=error)

    async def _tidy_async(self, *, failed: bool) -> None:
        """Tidy the thread in which asgiref makes the database calls of coroutines: after failures, and now and then."""
        now = time.monotonic()
        if failed or now - self._tidied > _TIDY_EVERY:
            self._tidied = now
            await sync_to_async(self._tidy)(close_broken_connections)

    def _end(self, flight: Flight, *, result: object, error: BaseException | None) -> None:
        if flight.fenced:
            return
        now = timezone.now()
        if error is not None and flight.interruption is not None:
            error = flight.explained(error)
        outcome = self._concluded(flight, result=result, error=error, now=now)
        with self._changed:
            if flight not in self._flights:  # it was fenced meanwhile
                return
            self._flights.remove(flight)
            if not flight.superseded:
                self._ended.append(outcome)
            count = len(self._ended)
            if count == 1:
                self._first_ended = time.monotonic()
            worth_telling = count in (1, _WORTH_WRITING) or not self._backlog
            age, was_quick = flight.age, self._is_quick
            self.average_seconds += _WEIGHT * (age - self.average_seconds)
            self._typical_seconds += _WEIGHT * (min(age, _LONG_SECONDS) - self._typical_seconds)
            self._changed.notify(self.concurrency if was_quick and not self._is_quick else 1)
        if worth_telling:
            self._on_ended()

    def _concluded(self, flight: Flight, *, result: object, error: BaseException | None, now: datetime) -> Outcome:
        started_at = flight.started_at or now
        try:
            return executor.conclude(flight.run, started_at=started_at, now=now, result=result, error=error)
        except BaseException as trouble:  # a result or an exception with a hostile repr fails its own run only
            flight.run.claim = flight.claim
            return executor.conclude(flight.run, started_at=started_at, now=now, error=type(trouble)("in its outcome"))

    def _drop(self, flight: Flight) -> None:
        """Forget a run that is not ours any more."""
        with self._changed:
            self._flights.discard(flight)
            self._changed.notify()
        self._on_ended()

    def _decline(self, flight: Flight, reason: str) -> None:
        """Leave a run to a worker that has its code."""
        with self._changed:
            self._flights.discard(flight)
            self._declined.append(Declined(run=flight.run, claim=flight.claim, reason=reason))
            self._changed.notify()
        self._on_ended()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._changed:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run_for_ever, args=[self._loop], name="sisy-async", daemon=True).start()
            return self._loop


def close_broken_connections() -> None:
    """Close connections of this thread that don't work any more; other coroutines may be using the good ones."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block and connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()


def _run_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    """Run an event loop past what a task function's callbacks raise: SystemExit would end it, and its other runs."""
    while True:
        try:
            loop.run_forever()
        except BaseException:
            _log.exception("A callback on the event loop raised")
