"""Any order of ticks, edits, claims, crashes, ends, cancellations and clock jumps, against a model of what must be.

Hypothesis invents the orders, on the database that the tests run with, in one transaction an example. The host's clock
is `now`, the database's is another one: both are numbers of the test, and only the host's can be set back. After each
step the rows and tests/run_model.py must say the same; at the end everything is driven to its end.

SISY_TEST_MACHINE_EXAMPLES sets how many orders are tried, SISY_TEST_MACHINE_STEPS how long each is at most.
"""

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from django.db import connection, models, transaction
from django.db.models.functions import Cast
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sisy import executor, maintenance, policy, realignment, scheduler, signals
from sisy.errors import Cancelled, InvalidSchedule, InvalidTime, Retry, Skip, TaskExhausted, TaskParked
from sisy.models import Run, Task, task_with_callable
from sisy.rows import claiming
from sisy.rows import run as run_rows
from sisy.rows.glance import Glance
from sisy.transitions import claims, endings, returns
from tests.project.shop import chores
from tests.project.shop.rows import put_in
from tests.run_model import ENDED, SCHEDULES, RunModel, TaskModel, World

EXAMPLES = int(os.environ.get("SISY_TEST_MACHINE_EXAMPLES", "0"))
STEPS = int(os.environ.get("SISY_TEST_MACHINE_STEPS", "40"))

BEGIN = datetime(2100, 2, 28, 23, 40, 30, 250_000, tzinfo=UTC)
LEASE = timedelta(seconds=60)
QUEUES = ["default", "mail"]
SKEWS = [timedelta(0), timedelta(seconds=20)]  # of two hosts
MAX_CRASHES, MISFIRE_CAP = 1, 3
SETTINGS = {
    "MAX_CRASHES": MAX_CRASHES,
    "MISFIRE_CAP": MISFIRE_CAP,
    "KEEP_RUNS_DAYS": None,
    "KEEP_RUNS_PER_TASK": None,
}

seconds = st.sampled_from([1, 10, 30, 61, 119, 600, 4000]).map(lambda n: timedelta(seconds=n))
jumps = st.sampled_from([61, 3_600, 86_400, -5, -61, -3_600, -86_400]).map(lambda n: timedelta(seconds=n))
ends = st.sampled_from(["success", "success", "failure", "failure", "retry", "skip", "cancelled"])
workers = st.sampled_from([0, 1, 2])
any_one = st.integers(0, 1_000)  # an index into whatever there is


class WrittenAnew(Glance):
    def take(self, *, using: str) -> list[Any]:
        self._written.clear()
        return super().take(using=using)


class Machine(RuleBasedStateMachine):
    """sisy and the model, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.clock = BEGIN
        self.world = World(max_crashes=MAX_CRASHES, misfire_cap=MISFIRE_CAP)
        self.workers: dict[int, list[Run]] = {0: [], 1: [], 2: []}  # what each believes to hold
        self.called: set[UUID] = set()  # claims under which a function was called
        self.numbers = 0
        self.announced: Counter[int] = Counter()  # how often a run's end was announced
        self.context = ExitStack()
        self.context.enter_context(override_settings(SISY=SETTINGS))
        self.context.enter_context(mock.patch.object(timezone, "now", self.host_now))
        for module in (claims, claiming, run_rows):
            self.context.enter_context(mock.patch.object(module, "DatabaseNow", self.database_now))
        self.context.enter_context(mock.patch.object(maintenance, "_last_rounds", None))
        self.context.enter_context(mock.patch.object(maintenance, "_ROUNDS_EVERY", timedelta(0)))  # a tick does all
        self.context.enter_context(mock.patch.object(realignment, "realign_some"))
        self.context.enter_context(mock.patch.object(realignment, "DatabaseNow", self.database_now))
        # What ticks and claims ask is written down once, with the clock's value in it: look at the clock each time.
        self.context.enter_context(mock.patch.object(claiming, "_write", claiming._write.__wrapped__))
        self.context.enter_context(mock.patch.object(scheduler, "_GLANCE", WrittenAnew(scheduler._questions)))
        self.context.callback(signals.runs_changed.disconnect, self.hear, dispatch_uid="machine")
        signals.runs_changed.connect(self.hear, dispatch_uid="machine")
        self.transaction = transaction.atomic()
        self.transaction.__enter__()

    def host_now(self) -> datetime:
        return self.now

    def database_now(self) -> Cast:
        """The model's clock; a bare value would come back from MariaDB as text."""
        return Cast(models.Value(self.clock), models.DateTimeField())

    def hear(self, sender: Any, *, event: str, runs: Sequence[Run], **_: Any) -> None:
        if event == "finished":
            self.announced.update(run.pk for run in runs)

    def teardown(self) -> None:
        try:
            if sys.exception() is None:
                self.drive_to_the_end()
        finally:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)
            self.context.close()

    # -- tasks ---------------------------------------------------------------------------------------

    @rule(
        schedule=st.sampled_from(SCHEDULES),
        overlap=st.sampled_from(["skip", "queue", "allow", "replace"]),
        misfire=st.sampled_from(["latest", "all", "skip"]),
        max_attempts=st.sampled_from([1, 3]),
        at_most_once=st.booleans(),
        iterations=st.sampled_from([0, 0, 1, 2, 3]),
        window=st.tuples(st.sampled_from([None, None, -600, 100, 4000]), st.sampled_from([None, None, 300, 5000])),
        jitter=st.sampled_from([0, 0, 30]),
        at_once=st.booleans(),
        more=st.tuples(st.sampled_from(QUEUES), st.sampled_from([0, 0, 5])),
    )
    def create(
        self, schedule: str, overlap: str, misfire: str, max_attempts: int, at_most_once: bool, iterations: int,
        window: tuple[int | None, int | None], jitter: int, at_once: bool, more: tuple[str, int],
    ) -> None:  # fmt: skip
        start, end = (None if n is None else self.now + timedelta(seconds=n) for n in window)
        end = None if start is not None and end is not None and end <= start else end
        model = TaskModel(
            key=0, schedule=schedule, overlap=overlap, misfire=misfire, grace=timedelta(seconds=60),
            max_attempts=max_attempts, at_most_once=at_most_once, iterations=iterations, start=start, end=end,
            created_at=self.now, jitter=timedelta(seconds=jitter),
        )  # fmt: skip
        task = task_with_callable(
            chores.nothing, schedule=schedule, overlap=overlap, misfire=misfire, max_attempts=max_attempts,
            at_most_once=at_most_once, iterations=iterations, start_running=start, end_running=end, jitter=jitter,
            wait_for_schedule=not at_once, queue=more[0], priority=more[1], label="task",
        )  # fmt: skip
        starts_later = start is not None and start > self.now
        if at_once and starts_later:
            model.announced = start
        else:
            model.created = int(at_once)
            model.announced = model.first_slot(self.now)
        if model.announced is None and not at_once:
            with pytest.raises(InvalidTime, match="no slot before end_running"):
                task.save()
            return
        task.save()
        self.enter(model, task, runs=int(at_once and not starts_later))

    @rule(delay=st.sampled_from([None, None, 50, 3_000]), count=st.sampled_from([1, 1, 3]), keep=st.booleans())
    def create_once(self, delay: int | None, count: int, keep: bool) -> None:
        columns = {"at_most_once": keep, "max_attempts": 2, "overlap": "allow"}
        start = None if delay is None else self.now + timedelta(seconds=delay)
        if delay is None and count > 1:
            tasks = Task.bulk_run_once(chores.nothing, [{"n": n} for n in range(count)], **columns)
        else:
            tasks = [Task.run_once(chores.nothing, {"n": 1}, delay_until=start, **columns)]
        for task in tasks:
            model = TaskModel(
                key=0, schedule="@once", overlap="allow", misfire="latest", grace=timedelta(seconds=60),
                max_attempts=2, at_most_once=keep, iterations=1, start=start, end=None, created_at=self.now,
                jitter=timedelta(0), announced=start, created=int(start is None),
            )  # fmt: skip
            self.enter(model, task, runs=int(start is None))

    def enter(self, model: TaskModel, task: Task, *, runs: int) -> None:
        """Take a new task into the world, with the run that it may begin with."""
        model.key = task.pk
        self.world.tasks[task.pk] = model
        for _ in range(runs):
            self.world.runs.append(
                RunModel(
                    task=task.pk, slot=None, at_most_once=model.at_most_once, max_attempts=model.max_attempts,
                    key=Run.objects.get(task=task.pk).pk,
                )
            )  # fmt: skip

    def pick(self, which: int, **wanted: bool) -> tuple[TaskModel, Task] | None:
        """One of the tasks there are, or None."""
        found = [task for task in self.world.tasks.values() if all(getattr(task, k) is v for k, v in wanted.items())]
        if not found:
            return None
        model = sorted(found, key=lambda task: task.key)[which % len(found)]
        return model, Task.objects.get(pk=model.key)

    @precondition(lambda self: self.world.tasks)
    @rule(which=any_one, how=st.sampled_from(["schedule", "iterations", "end", "rename", "break"]), data=st.data())
    def edit(self, which: int, how: str, data: st.DataObject) -> None:
        if how == "schedule":
            self.edit_schedule(which, data.draw(st.sampled_from(SCHEDULES)))
        elif how == "iterations":
            self.edit_iterations(which, data.draw(st.sampled_from([0, 1, 4])))
        elif how == "end":
            self.edit_end(which, data.draw(st.sampled_from([None, 90, 1_000])))
        elif how == "rename":
            self.rename(which)
        else:
            self.break_row(which)

    def edit_schedule(self, which: int, schedule: str) -> None:
        if found := self.pick(which, is_one_shot=False):
            model, task = found
            task.schedule = schedule
            task.save()
            if schedule != model.schedule or model.is_broken:
                was_parked = model.is_parked
                model.schedule, model.is_broken, model.is_parked = schedule, False, False
                model.announced = model.first_slot(self.now)
                assert not was_parked or not model.enabled

    def edit_iterations(self, which: int, iterations: int) -> None:
        found = self.pick(which, is_one_shot=False, is_broken=False)
        if found and not 0 < iterations < found[0].created:
            model, task = found
            task.iterations = iterations
            task.save()
            if iterations != model.iterations:
                model.iterations, model.announced = iterations, model.announced
                model.announced = model.first_slot(self.now)

    def edit_end(self, which: int, end: int | None) -> None:
        found = self.pick(which, is_one_shot=False, is_broken=False)
        if found:
            model, task = found
            instant = None if end is None else max(self.now, model.start or self.now) + timedelta(seconds=end)
            task.end_running = instant
            task.save()
            if instant != model.end:
                model.end = instant
                model.announced = model.first_slot(self.now)

    def rename(self, which: int) -> None:
        """A save of something else changes nothing."""
        if found := self.pick(which):
            found[1].label = f"task {self.numbers}"
            found[1].save()

    @precondition(lambda self: any(task.enabled for task in self.world.tasks.values()))
    @rule(which=any_one)
    def pause(self, which: int) -> None:
        if found := self.pick(which, enabled=True):
            model, task = found
            assert [task.pause(), task.pause()] == [True, False]
            model.enabled = False

    @precondition(lambda self: not all(task.enabled for task in self.world.tasks.values()))
    @rule(which=any_one, paused=st.sampled_from([True, True, False]))
    def resume(self, which: int, paused: bool) -> None:
        if found := self.pick(which, enabled=not paused):
            model, task = found
            if model.is_broken and not model.enabled and not model.is_used_up:  # nobody reads what comes to nothing
                with pytest.raises(InvalidSchedule):
                    task.resume()
                return
            task.resume()
            if not model.enabled:
                model.enabled, model.is_parked = True, False
                if model.is_one_shot:
                    model.announced = None if model.is_used_up else max(self.now, model.start or self.now)
                else:
                    model.announced = model.first_slot(self.now)

    def break_row(self, which: int) -> None:
        """Somebody writes nonsense into the row, by SQL."""
        if found := self.pick(which, is_one_shot=False):
            put_in(found[1], schedule="99 * * * *")
            found[0].is_broken = True

    @precondition(lambda self: self.world.tasks)
    @rule(which=any_one)
    def run_asap(self, which: int) -> None:
        if found := self.pick(which):
            model, task = found
            if model.is_parked or model.is_used_up:
                with pytest.raises(TaskParked if model.is_parked else TaskExhausted):
                    task.run_asap()
                return
            run = self.world.admit(model, None)
            run.key = task.run_asap().pk
            if model.is_used_up:
                model.announced = None

    @precondition(lambda self: len(self.world.tasks) > 1)
    @rule(which=any_one)
    def delete(self, which: int) -> None:
        if found := self.pick(which):
            found[1].delete()
            self.world.forget(found[0])

    @precondition(lambda self: self.world.tasks)
    @rule(which=any_one)
    def cancel_task(self, which: int) -> None:
        if found := self.pick(which):
            model, task = found
            task.cancel()
            if model.is_one_shot and model.announced is not None:
                self.world.runs.append(RunModel(task=None, slot=None, status="CANCELLED"))
                self.world.forget(model)
            else:
                self.world.cancel([run for run in self.world.runs_of(model) if not run.is_over])

    # -- time ----------------------------------------------------------------------------------------

    @rule(step=seconds)
    def time_passes(self, step: timedelta) -> None:
        self.now += step
        self.clock += step

    @rule(step=jumps)
    def the_host_s_clock_jumps(self, step: timedelta) -> None:
        self.now += step
        self.world.went_back |= step < timedelta(0)

    @precondition(lambda self: any(task.enabled and task.announced for task in self.world.tasks.values()))
    @rule(after=st.sampled_from([0, 0, 0, 60, 130, 600]), skew=st.sampled_from(SKEWS))
    def tick_at_a_slot(self, after: int, skew: timedelta) -> None:
        """Time passes up to the next slot, or some slots go by before anybody ticks."""
        coming = [task.announced for task in self.world.tasks.values() if task.announced and task.enabled]
        step = max(timedelta(0), min([*coming, self.now + timedelta(hours=1)]) - self.now)
        self.time_passes(step + timedelta(seconds=after))
        self.tick(skew)

    @rule(skew=st.sampled_from(SKEWS))
    def tick(self, skew: timedelta) -> None:
        now = self.now + skew
        ticked = scheduler.tick(now)
        before = len(self.world.runs)
        self.world.tick(now, self.clock)
        new = Counter(run.status for run in self.world.runs[before:])
        assert (ticked.missed, ticked.left) == (new["MISSED"], False)
        announced = [task.announced for task in self.world.tasks.values() if task.enabled and task.announced]
        assert ticked.next_slot == min((slot for slot in announced if slot > now), default=None)

    @rule(skew=st.sampled_from(SKEWS))
    def realign(self, skew: timedelta) -> None:
        corrected, place = realignment.realign(self.now + skew)
        expected = self.world.realign(self.now + skew, max(self.now + skew, self.clock))
        assert (corrected, place) == (expected, None)

    # -- workers -------------------------------------------------------------------------------------

    @precondition(lambda self: any(run.status == "READY" for run in self.world.runs))
    @rule(worker=workers, limit=st.sampled_from([1, 50, 50]), queues=st.sampled_from([None, None, ["mail"]]))
    def claim(self, worker: int, limit: int, queues: list[str] | None) -> None:
        ready = Run.objects.filter(status="READY", run_after__lte=self.now)
        if queues:
            ready = ready.filter(queue__in=queues)
        wanted = sorted(ready, key=lambda run: (-run.priority, run.run_after, run.pk))[:limit]
        assert all(not self.model_of(run).waits for run in wanted)
        claimed = claims.claim(worker=uuid4(), queues=queues, limit=limit, lease=LEASE, now=self.now)
        assert [run.pk for run in claimed] == [run.pk for run in wanted]
        for run in claimed:
            model = self.model_of(run)
            assert (model.status, run.task is None) == ("READY", model.task is None)
            self.numbers += 1
            model.status, model.owner, model.lease_until = "RUNNING", self.numbers, self.clock + LEASE
            run.number = self.numbers
        new = {run.pk for run in claimed}  # what a worker claims anew it does not hold twice, see Pool.offer
        self.workers[worker] = [run for run in self.workers[worker] if run.pk not in new] + claimed

    def model_of(self, run: Run) -> RunModel:
        (found,) = [model for model in self.world.runs if model.key == run.pk]
        return found

    def holds(self, run: Run) -> bool:
        """Whether nobody took the run from the worker that believes to hold it."""
        return any(model.key == run.pk and model.owner == run.number for model in self.world.runs)

    @precondition(lambda self: any(self.workers.values()))
    @rule(worker=workers, count=st.sampled_from([1, 50, 50]))
    def call(self, worker: int, count: int) -> None:
        """As slots do: write the start first where that is a must, then call."""
        for run in [run for run in self.workers[worker] if run.started_at is None][:count]:
            self.call_one(worker, run)

    def call_one(self, worker: int, run: Run) -> None:
        try:
            executor.prepare(run, message={})
        except Skip as error:
            self.conclude([run], [error], "cancelled")
            return
        if policy.must_write_start_first(at_most_once=run.at_most_once, crashes=run.crashes):
            held = self.holds(run)
            assert claims.start([run], now=self.now) == ({run.pk} if held else set())
            if not held:
                self.workers[worker].remove(run)
                return
            self.model_of(run).has_begun = True
        self.called.add(run.claim)
        run.started_at = run.started_at or self.now
        for model in self.world.runs:
            if model.key == run.pk:
                model.calls += 1

    @precondition(lambda self: any(self.workers.values()))
    @rule(worker=workers)
    def write_starts(self, worker: int) -> None:
        """As the pump does for runs that last longer than a moment."""
        for run in self.called_runs(worker):
            assert claims.start([run], now=self.now) == ({run.pk} if self.holds(run) else set())
            if self.holds(run):
                self.model_of(run).has_begun = True

    def called_runs(self, worker: int) -> list[Run]:
        return [run for run in self.workers[worker] if run.started_at is not None]

    @precondition(lambda self: any(self.workers.values()))
    @rule(worker=workers, how=ends, count=st.sampled_from([1, 50]))
    def finish(self, worker: int, how: str, count: int) -> None:
        runs = self.called_runs(worker)[:count]
        errors = {
            "failure": RuntimeError("no"), "skip": Skip("not today"), "cancelled": Cancelled("it was cancelled"),
            "retry": Retry(delay=5),
        }  # fmt: skip
        self.conclude(runs, [errors.get(how)] * len(runs), "failure" if how == "retry" else how)

    def conclude(self, runs: list[Run], errors: list[BaseException | None], how: str) -> None:
        """Write the ends of runs in one batch, also of those that were taken from their worker."""
        held = {run.pk for run in runs if self.holds(run)}
        outcomes = [
            executor.conclude(run, started_at=self.now, now=self.now, error=error)
            for run, error in zip(runs, errors, strict=True)
        ]
        assert endings.finish(outcomes, now=self.now) == held
        ended = [self.model_of(run) for run in runs if run.pk in held]
        for model in ended:
            self.world.finish(model, how)
        for worker in self.workers:
            self.workers[worker] = [run for run in self.workers[worker] if run not in runs]

    @precondition(lambda self: any(run.is_active for run in self.world.runs))
    @rule(worker=workers, how=ends)
    def work(self, worker: int, how: str) -> None:
        """Claim all there is, call it, and write how it ended."""
        self.claim(worker, 50, None)
        self.call(worker, 50)
        self.finish(worker, how, 50)

    @precondition(lambda self: any(run.is_active for run in self.world.runs))
    @rule(
        worker=workers, calls=st.sampled_from([True, True, False]), writes=st.booleans(), dies=st.booleans(),
        another_claims=st.booleans(), how=ends,
    )  # fmt: skip
    def claim_and_lose_contact(
        self, worker: int, calls: bool, writes: bool, dies: bool, another_claims: bool, how: str
    ) -> None:
        """A worker claims, and perhaps calls; then its lease runs out, whether it is dead or comes back too late."""
        self.claim(worker, 50, None)
        if calls:
            self.call(worker, 50)
        if writes:
            self.write_starts(worker)
        if dies:
            self.workers[worker] = []
        self.time_passes(LEASE + timedelta(seconds=1))
        self.rescue()
        if another_claims:
            self.claim((worker + 1) % 3, 50, None)
            self.finish(worker, how, 50)

    @precondition(lambda self: any(run.is_active for run in self.world.runs))
    @rule(worker=workers, how=ends, calls_first=st.booleans())
    def cancel_what_is_claimed(self, worker: int, how: str, calls_first: bool) -> None:
        """Somebody cancels what is running: the functions heed it or not, or their worker hands them back."""
        self.claim(worker, 50, None)
        if calls_first:
            self.call(worker, 50)
        self.cancel(0, 50)
        if calls_first:
            self.finish(worker, how, 50)
        else:
            self.give_back(worker)

    @precondition(lambda self: any(self.workers.values()))
    @rule(worker=workers)
    def renew(self, worker: int) -> None:
        held = {run.pk: run.claim for run in self.workers[worker]}
        asked = {
            model.key: model.cancel_requested
            for run in self.workers[worker] if self.holds(run) for model in [self.model_of(run)]
        }  # fmt: skip
        assert claims.renew(held, lease=LEASE) == asked
        for run in self.workers[worker]:
            if self.holds(run):
                self.model_of(run).lease_until = self.clock + LEASE

    @precondition(lambda self: any(self.workers.values()))
    @rule(worker=workers)
    def crash(self, worker: int) -> None:
        """The worker is gone, and with it what it held."""
        self.workers[worker] = []

    @precondition(lambda self: any(self.workers.values()))
    @rule(worker=workers)
    def give_back(self, worker: int) -> None:
        """As a draining worker does with what it has not called."""
        unstarted = [run for run in self.workers[worker] if run.started_at is None]
        held = [self.model_of(run) for run in unstarted if self.holds(run)]
        assert returns.release(unstarted, now=self.now) == len(held)
        for model in held:
            self.world.release(model)
        self.workers[worker] = [run for run in self.workers[worker] if run not in unstarted]

    @precondition(lambda self: any(self.workers.values()))
    @rule(worker=workers)
    def abandon(self, worker: int) -> None:
        """As a worker that was told twice to stop: its leases end now."""
        runs = self.workers[worker]
        held = [self.model_of(run) for run in runs if self.holds(run)]
        assert returns.expire({run.pk: run.claim for run in runs}) == len(held)
        for model in held:
            model.lease_until = self.clock - timedelta(seconds=1)
        self.workers[worker] = []

    @precondition(lambda self: any(run.status == "RUNNING" for run in self.world.runs))
    @rule()
    def rescue(self) -> None:
        maintenance.rescue(self.now)
        self.world.rescue(self.clock)

    # -- people --------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.open_runs())
    @rule(which=any_one, count=st.sampled_from([1, 3]))
    def cancel(self, which: int, count: int) -> None:
        active = sorted(self.world.open_runs(), key=lambda run: run.key or 0)[which % 5 :][:count]
        assert endings.cancel(list(Run.objects.filter(pk__in=[r.key for r in active])), now=self.now) == len(active)
        self.world.cancel(active)

    @precondition(lambda self: len(self.world.runs) > 3)
    @rule(which=any_one, keep=st.sampled_from([0, 1]))
    def prune(self, which: int, keep: int) -> None:
        if found := self.pick(which):
            ended = [run for run in self.world.runs_of(found[0]) if run.is_over]
            gone = sorted(ended, key=lambda run: run.key or 0)[: max(0, len(ended) - keep)]
            endings.prune_task(found[0].key, keep=keep, limit=1_000)
            self.world.runs = [run for run in self.world.runs if run not in gone]

    # -- the two are the same ------------------------------------------------------------------------

    @invariant()
    def rows_are_as_they_must_be(self) -> None:
        self.adopt_new_rows()
        self.world.check()
        rows = {row["id"]: row for row in Run.objects.values()}
        assert set(rows) == {run.key for run in self.world.runs}
        for run in self.world.runs:
            row = rows[run.key]
            assert self.seen(row) == self.expected(run), f"run {row} is not {run}"
            assert not run.is_over or row["status"] == "SUCCESSFUL" or row["reason"], f"{row} ended without a reason"
            if row["slot"] and not run.is_over and not run.waits and run.attempt == 1:
                assert row["run_after"] >= row["slot"]
        tasks = Task.objects.values_list("pk", "enabled", "next_run", "runs_created", "error")
        assert {key: (enabled, slot, created, bool(error)) for key, enabled, slot, created, error in tasks} == {
            task.key: (task.enabled, task.announced, task.created, task.is_parked) for task in self.world.tasks.values()
        }
        self.every_end_is_announced_once()

    def adopt_new_rows(self) -> None:
        """Learn the keys of rows that the model expects too."""
        known = {run.key for run in self.world.runs}
        new: dict[tuple[Any, ...], list[int]] = defaultdict(list)  # several where their tasks are gone already
        for row in Run.objects.exclude(pk__in=known).order_by("-pk"):
            new[row.task_id, row.slot, row.status, row.missed_since].append(row.pk)
        for run in self.world.runs:
            if run.key is None:
                found = new[run.task, run.slot, run.status, run.missed_since]
                assert found, f"there is no row for {run}"
                run.key = found.pop()
        assert not any(new.values()), f"nobody knows of {new}"

    def seen(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return (
            row["task_id"], row["slot"], row["status"], row["status"] == "READY" and row["run_after"] is None,
            row["attempt"], row["crashes"], row["cancel_requested_at"] is not None, row["missed_count"],
            row["missed_since"], row["lease_expires_at"],
        )  # fmt: skip

    def expected(self, run: RunModel) -> tuple[Any, ...]:
        return (
            run.task, run.slot, run.status, run.waits,
            run.attempt, run.crashes, run.cancel_requested, run.missed_count,
            run.missed_since, run.lease_until,
        )  # fmt: skip

    def every_end_is_announced_once(self) -> None:
        """What waits for the commit is done now: there will be none."""
        waiting, connection.run_on_commit = connection.run_on_commit, []
        for _, function, _ in waiting:
            function()
        ended = {run.key for run in self.world.runs if run.is_over}
        assert {key for key in self.announced if key in ended} == ended
        assert set(self.announced.values()) <= {1}

    # -- the end -------------------------------------------------------------------------------------

    def drive_to_the_end(self) -> None:
        """Nothing new comes, time passes, a worker works: everything ends, in few steps."""
        for task in Task.objects.all():
            task.pause()
            self.world.tasks[task.pk].enabled = False
        for _ in range(4 * len(self.world.runs) + 20):
            if not Run.objects.active().exists():
                break
            self.time_passes(timedelta(hours=7))
            self.now = max(self.now, self.clock)
            self.tick(timedelta(0))
            self.workers = {0: [], 1: [], 2: []}
            self.claim(0, 50, None)
            self.call(0, 50)
            self.finish(0, "success", 50)
            self.rows_are_as_they_must_be()
        assert not Run.objects.active().exists(), "something never ends"
        assert {run.status for run in self.world.runs} <= ENDED


@pytest.mark.django_db(transaction=True, available_apps=["sisy", "tests.project.shop"])
def test_any_order_of_events_leaves_the_rows_as_they_must_be() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 50,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
