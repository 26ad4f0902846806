"""Slots for runs: a bounded set of threads for sync functions, and one event loop for async ones.

engine.py offers claimed runs and takes outcomes. A slow function keeps its slot and nothing else: not the pump, not the
leases, not the other slots.
"""

import asyncio
import ctypes
import inspect
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from django.utils import timezone

from sisy import executor, policy, signals
from sisy.errors import Cancelled, TimedOut
from sisy.executor import Prepared
from sisy.models import Run
from sisy.transitions import claims
from sisy.transitions.endings import Outcome

Interruption = type[TimedOut] | type[Cancelled]
_log = logging.getLogger("sisy.worker")

_OBEY_SECONDS: Final = 1.0  # a function that was interrupted may take this long to clean up
_TIDY_EVERY: Final = 10.0  # seconds
_WEIGHT: Final = 0.1  # of one more duration in the running average


@dataclass(eq=False)
class Flight:
    """A run in a slot."""

    run: Run
    claim: UUID
    message: dict[str, Any]
    began: float = field(default_factory=time.monotonic)
    started_at: datetime | None = None
    start_written: bool = False
    interruption: Interruption | None = None
    interrupted: float = math.inf
    fenced: bool = False
    superseded: bool = False
    """Whether this worker has claimed the run anew since: then nothing that comes of it counts."""
    thread: int | None = None
    coroutine: "asyncio.Task[None] | None" = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def age(self) -> float:
        """Seconds since it took its slot."""
        return time.monotonic() - self.began

    @property
    def is_overdue(self) -> bool:
        """Whether it has run longer than its task's timeout."""
        timeout = self.run.task.timeout if self.run.task is not None else None
        return timeout is not None and self.started_at is not None and self.age > timeout.total_seconds()

    @property
    def ignores_interruption(self) -> bool:
        """Whether it was told to stop and goes on."""
        return time.monotonic() - self.interrupted > _OBEY_SECONDS

    def interrupt(self, kind: Interruption) -> None:
        """Make the function stop, once: cancel its coroutine, or raise in its thread at the next line of Python."""
        if self.interruption is not None or not self.lock.acquire(timeout=1):  # an interruption can hit its holder
            return
        try:
            self.interruption, self.interrupted = kind, time.monotonic()
            if self.coroutine is not None:
                self.coroutine.get_loop().call_soon_threadsafe(self.coroutine.cancel)
            elif self.thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(kind))
        finally:
            self.lock.release()

    def enter(self) -> None:
        """The function is about to be called in this thread."""
        with self.lock:
            self.thread = threading.get_ident()
            if self.interruption is not None:
                raise self.interruption

    def leave(self) -> None:
        """The function has returned: what was raised in this thread too late must not hit the next run."""
        with self.lock:
            if self.thread is not None and self.interruption is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), None)
            self.thread = None


class Pool:
    """Executes claimed runs, at most `concurrency` at a time.

    Args:
        concurrency: the number of slots.
        on_ended: called, from any thread, after each run.
    """

    def __init__(self, *, concurrency: int, on_ended: Callable[[], None]) -> None:
        self.concurrency = concurrency
        self.average_seconds = 0.0
        self.stuck = 0
        """Functions that go on although their runs were written off; the process needs recycling."""
        self._on_ended = on_ended
        self._changed = threading.Condition()
        self._backlog: deque[Flight] = deque()
        self._flights: set[Flight] = set()
        self._ended: list[Outcome] = []
        self._threads: list[threading.Thread] = []
        self._idle_threads = 0
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
            return not (self._backlog or self._flights or self._ended)

    @property
    def unstarted(self) -> int:
        """Runs that are waiting for a slot."""
        return len(self._backlog)

    def flights(self) -> list[Flight]:
        """Return the runs that have a slot."""
        with self._changed:
            return list(self._flights)

    def held(self) -> dict[int, UUID]:
        """Return the tokens of all runs in hand by their keys, those whose outcome was not taken yet included."""
        with self._changed:
            flights = (*self._backlog, *(flight for flight in self._flights if not flight.superseded))
            held = {flight.run.pk: flight.claim for flight in flights}
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
            self._changed.notify(len(runs))

    def take_ended(self) -> list[Outcome]:
        """Return the outcomes since the last call."""
        with self._changed:
            ended, self._ended = self._ended, []
            return ended

    def fence(self, flight: Flight) -> None:
        """Write off a run whose function ignores that it was interrupted: what it still does changes no row."""
        with self._changed:
            if flight not in self._flights or flight.interruption is None:
                return
            flight.fenced = True
            self._flights.discard(flight)
            self.stuck += 1
            self._changed.notify()
        error = _explained(flight.interruption, None, run=flight.run)
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
        while True:
            if not self._backlog:
                self._tidy(close_old_connections)  # between runs they stay open, whatever CONN_MAX_AGE says
            with self._changed:
                self._idle_threads += 1
                while not self._backlog or len(self._flights) >= self.concurrency:
                    self._changed.wait()
                self._idle_threads -= 1
                flight = self._backlog.popleft()
                flight.began = time.monotonic()
                self._flights.add(flight)
            self._execute(flight)
            self._tidy(executor.leave_no_trace)

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
        try:
            prepared = executor.prepare(run, message=flight.message)
            if policy.must_write_start_first(at_most_once=run.at_most_once, crashes=run.crashes):
                flight.start_written = bool(claims.start([run], now=timezone.now()))
                if not flight.start_written:
                    self._drop(flight)
                    return None
        except (OperationalError, InterfaceError):  # it has not started: its lease will run out, another will have it
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
            error = _explained(flight.interruption, error, run=flight.run)
        outcome = self._concluded(flight, result=result, error=error, now=now)
        with self._changed:
            if flight not in self._flights:  # it was fenced meanwhile
                return
            self._flights.remove(flight)
            if not flight.superseded:
                self._ended.append(outcome)
            self.average_seconds += _WEIGHT * (flight.age - self.average_seconds)
            self._changed.notify()
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


def _explained(kind: Interruption, error: BaseException | None, *, run: Run) -> BaseException:
    """Give an interruption its text; the traceback still shows where the function was."""
    timeout = run.task.timeout if run.task is not None else None
    text = f"it ran longer than its timeout of {timeout}" if kind is TimedOut else "it was cancelled"
    if error is None:
        return kind(f"{text}, and did not stop when it was told to")
    return kind(text).with_traceback(error.__traceback__)
