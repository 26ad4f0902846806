"""The pump: claims runs, offers them to the pool, writes how they ended; all in one thread, in batches.

engine.py starts it. While it writes one batch, the next gathers, and the slots go on with what was claimed ahead.
"""

import logging
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import DatabaseError, connections
from django.utils import timezone

from sisy import conf, layer
from sisy.backoff import Backoff
from sisy.jsondata import printable
from sisy.messages import Poll, changed
from sisy.models import Run, RunStatus, Worker
from sisy.rows.claiming import next_start
from sisy.rows.outage import OUTAGES
from sisy.transitions import claims, endings, returns
from sisy.transitions.atomic import alias
from sisy.transitions.endings import Outcome
from sisy.worker.flight import Declined
from sisy.worker.lacking import Lacking
from sisy.worker.pool import GATHER_SECONDS, Pool

_log = logging.getLogger("sisy.worker")

_PREFETCH_SECONDS: Final = 0.05  # claim what the slots can run in this time, so that they do not wait for the database
_MOST_IN_HAND: Final = 400  # unstarted runs that a dead worker delays, and the size of a batch
_SLOW_SECONDS: Final = 0.5  # unstarted runs that waited this long for a slot are given back
_WRITE_START_AFTER: Final = 0.3  # shorter runs write their start with their end
_GLANCE: Final = 0.1  # how often it looks while runs are under way
_HELD_FIRST: Final = 0.02  # seconds after which it looks again for a ready run whose row somebody held; then it doubles
_HELD_LONGEST: Final = 1.0


class Pump:
    """Moves runs between the database and a pool.

    Args:
        worker: the id of the worker.
        queues: the queues to serve, or None for all.
        concurrency: runs at the same time.
        burst: whether to end when nothing is ready any more.
    """

    def __init__(self, *, worker: uuid.UUID, queues: Sequence[str] | None, concurrency: int, burst: bool) -> None:
        self.drained = threading.Event()
        self.pool = Pool(concurrency=concurrency, on_ended=self.ring)
        self.next_poll = 0.0
        self._worker = worker
        self._queues = queues
        self._burst = burst
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._registered = False
        self._message: dict[str, Any] | None = None
        self._more = True  # nobody has looked yet
        self._was_full = False
        self._is_nudged = False
        self._held_up = 0.0
        """Seconds until it looks again for ready runs that its last claim had to leave out; 0 when there are none."""
        self._unwritten: list[Outcome] = []
        self._in_doubt = False  # whether some of these may have been committed, and the answer was lost
        self._untold: list[Outcome] = []  # whose claims were over: perhaps by such a commit, which nobody was told of
        self._declined: list[Declined] = []
        self._lacking = Lacking()
        self._trouble = Backoff("Using the database", meanwhile="nothing is claimed", log=_log, longest=5.0)
        self._not_before = 0.0
        self._may_have_strays = False

    def ring(self) -> None:
        """Look what has ended; from any thread."""
        if not self._bell.is_set():
            self._bell.set()

    def wake(self, message: Mapping[str, Any] | None = None) -> None:
        """Look for runs; from any thread.

        Args:
            message: the channel message that says so; task functions receive it.
        """
        if message is not None:
            self._message, self._is_nudged = dict(message), True
        self._more = True
        self._bell.set()

    def stop(self) -> None:
        """Claim nothing more, hand back what has not started, end when the rest is over; from any thread."""
        self._stopping.set()
        self._bell.set()

    def held(self) -> dict[int, uuid.UUID]:
        """Return the tokens of all runs whose end is not written yet, by their keys; from any thread."""
        unwritten = {outcome.run.pk: outcome.claim for outcome in list(self._unwritten) if outcome.claim is not None}
        declined = {declined.run.pk: declined.claim for declined in list(self._declined)}
        return self.pool.held() | unwritten | declined

    def sign(self) -> None:
        """Give a sign of life of this worker, in its row; from any thread."""
        Worker.objects.sign(self._worker, queues=self._queues, concurrency=self.pool.concurrency)

    def run(self) -> None:
        """Pump until drained."""
        while True:
            self._bell.wait(self._pause())
            self._bell.clear()
            if time.monotonic() < self._not_before:
                continue
            try:
                done = self._turn()
            except OUTAGES as error:
                connections.close_all()
                self._may_have_strays = True
                self._not_before = time.monotonic() + self._trouble.failed(error)
                self._more = True  # whatever it was about to look for
                continue
            self._trouble.worked()
            if done:
                break
        self._unregister()
        self.drained.set()

    def _turn(self) -> bool:
        """Write what ended, claim more; return whether everything is done and the pump shall end."""
        if not self._registered:
            self.sign()
            self._registered = True
            layer.publish(changed(workers=True))
        self._write_ended()
        self._write_starts()
        self._hand_back_declined()
        self._give_back_strays()
        if self._stopping.is_set():
            self._give_back(self.pool.take_unstarted())
            return self.pool.is_empty and not self._unwritten
        self._give_back_slow()
        idle = self._claim() == 0 and self.pool.is_empty and not self._unwritten
        return self._burst and idle and not self._more and not self._held_up

    def _pause(self) -> float:
        """Return how long to sleep unless the bell rings, in seconds."""
        now = time.monotonic()
        if now < self._not_before:
            return self._not_before - now
        if self._unwritten or (self._more and self._room() > 0):
            return 0
        if self.pool.is_gathering:
            return GATHER_SECONDS
        if self.pool.in_hand or self._stopping.is_set():
            return _GLANCE
        return max(0.0, self.next_poll - now)

    def _write_ended(self) -> None:
        """Write all outcomes there are, many in one transaction, unless more of them are about to come."""
        if self.pool.is_gathering and not self._unwritten and not self._stopping.is_set():
            return
        self._unwritten += self.pool.take_ended()
        while self._unwritten:
            batch = self._unwritten[:_MOST_IN_HAND]
            try:
                held = endings.finish(batch, now=timezone.now())
                if self._in_doubt:
                    self._untold += [outcome for outcome in batch if outcome.run.pk not in held]
            except OUTAGES:
                self._in_doubt = True
                raise
            except DatabaseError:
                self._finish_one_by_one(batch)
            del self._unwritten[: len(batch)]
        self._in_doubt = False
        if self._untold:
            endings.announce_written(self._untold)
            self._untold = []

    def _finish_one_by_one(self, batch: Sequence[Outcome]) -> None:
        """One outcome can't be stored: write the others, and that one as failed."""
        for outcome in batch:
            try:
                endings.finish([outcome], now=timezone.now())
            except OUTAGES:
                raise
            except DatabaseError as error:
                _log.exception("The outcome of run %s can't be stored", outcome.run.pk)
                run = outcome.run
                run.status, run.reason = RunStatus.FAILED, f"its outcome could not be stored: {error}"[:255]
                run.result, run.errors, run.finished_at = None, [], run.finished_at or timezone.now()
                endings.finish([Outcome(run=run, claim=outcome.claim)], now=timezone.now())

    def _write_starts(self) -> None:
        for flight in self.pool.flights():
            if not flight.start_written and flight.started_at is not None and flight.age > _WRITE_START_AFTER:
                flight.start_written = True
                claims.start([flight.run], now=flight.started_at)

    def _hand_back_declined(self) -> None:
        """Let others have the runs whose code this process lacks."""
        self._declined += self.pool.take_declined()
        if not self._declined:
            return
        self._lacking.note(declined.run.callable for declined in self._declined)
        for reason in {declined.reason for declined in self._declined}:
            runs = [declined.run for declined in self._declined if declined.reason == reason]
            returns.decline(runs, reason=printable(reason, limit=255), now=timezone.now())
        self._declined = []

    def _give_back_slow(self) -> None:
        """Give back what waits for a slot while slow runs have them all: another worker may be free."""
        flights = self.pool.flights()
        if len(flights) < self.pool.concurrency or not self.pool.unstarted:
            return
        if all(flight.age > _SLOW_SECONDS for flight in flights):
            self.pool.average_seconds = max(self.pool.average_seconds, _SLOW_SECONDS)
            self._give_back(self.pool.take_unstarted())

    def _give_back(self, runs: Sequence[Run]) -> None:
        if runs:
            returns.release(runs, now=timezone.now())

    def _give_back_strays(self) -> None:
        """Hand back, after an outage, what is claimed by this worker and not in its hands: it was never called."""
        if self._may_have_strays or self.pool.left_behind:
            self.pool.left_behind = False  # before the query: a run that is left behind meanwhile counts
            returns.release_strays(worker=self._worker, held=self.held(), now=timezone.now())
            self._may_have_strays = False

    def _claim(self) -> int:
        """Claim as many runs as can be used, if there may be some; return how many."""
        now = time.monotonic()
        room = self._room()
        if room <= 0 or not (self._more or now >= self.next_poll):
            return 0
        settings, lacking, told = conf.current(), self._lacking.current(), self._more
        message, self._message = self._message or Poll().to_message(), None
        self._more = False  # before the query: a bell that rings meanwhile counts
        nudged, self._is_nudged = self._is_nudged, False
        self.next_poll = min(now + settings.poll_interval.total_seconds(), self._lacking.next_try)
        if not told and self._nothing_is_ready(lacking):
            return 0
        runs = claims.claim(
            worker=self._worker,
            queues=self._queues,
            limit=room,
            lease=settings.lease,
            now=timezone.now(),
            lacking=lacking,
        )
        if self._stopping.is_set():  # it was told so during the claim: others can have them now
            self._give_back(runs)
            return 0
        if runs:
            self.pool.offer(runs, message=message)
        full = len(runs) == room
        if full:
            self._more, self._held_up = True, 0.0
        else:
            first = next_start(queues=self._queues, lacking=lacking, using=alias())
            self._look_again_at(first, any_claimed=bool(runs))
        if full or self._held_up:
            self._message = self._message or message
        if full and (nudged or not self._was_full):  # one nudge reaches one worker: there may be more than it takes
            layer.nudge({run.queue for run in runs})
        self._was_full = full
        return len(runs)

    def _nothing_is_ready(self, lacking: Collection[str]) -> bool:
        """Ask whether a poll is worth a claim: one query, without a transaction."""
        first = next_start(queues=self._queues, lacking=lacking, using=alias())
        if first is not None and first <= timezone.now():
            return False
        self._was_full = False
        self._look_again_at(first, any_claimed=False)
        return True

    def _look_again_at(self, instant: datetime | None, *, any_claimed: bool) -> None:
        """Poll earlier for a run that is to start later: a retry, a jittered slot, a host whose clock is ahead.

        One that could be claimed by now was left out because another transaction held its row: a cancellation, or on
        MariaDB a claim that went over it on its way to others. Nobody will nudge for it again.
        """
        wait = None if instant is None else (instant - timezone.now()).total_seconds()
        if wait is not None and wait <= 0:
            again = _HELD_FIRST if any_claimed else max(_HELD_FIRST, 2 * self._held_up)
            wait = self._held_up = min(again, _HELD_LONGEST)
        else:
            self._held_up = 0.0
        if wait is not None:
            self.next_poll = min(self.next_poll, time.monotonic() + wait)

    def _room(self) -> int:
        """Return how many runs to claim: free slots and what runs in a moment; 0 while half of that is in hand."""
        average = self.pool.average_seconds
        ahead = min(_MOST_IN_HAND, int(self.pool.concurrency * _PREFETCH_SECONDS / average)) if average else 0
        wanted = self.pool.concurrency + ahead
        return wanted - self.pool.in_hand if self.pool.in_hand <= wanted // 2 or not ahead else 0

    def _unregister(self) -> None:
        try:
            Worker.objects.leave(self._worker)
            layer.publish(changed(workers=True))
        except (*OUTAGES, DatabaseError) as error:  # for people to look at only: nothing depends on it
            _log.warning("This worker's end could not be written: %s", error)
