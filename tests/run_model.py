"""What must become of tasks and runs, as a second program that shares no line with sisy: the machine test's oracle.

Written from what the documentation promises and not from the code: slots are enumerated one by one, rows are plain
objects, nothing is locked or batched. tests/test_run_machine.py does the same to this world and to the database, and
compares the two after each step. Times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
FAR = 1_000
"""Missed slots are counted exactly up to here; beyond that the row says "at least" and one more."""
ENDED = {"SUCCESSFUL", "FAILED", "CANCELLED", "SKIPPED", "MISSED", "LOST"}

# What a schedule means, in the simplest way to say it.
EVERY = {"* * * * *": 1, "*/2 * * * *": 2, "*/7 * * * *": 7, "*/30 * * * *": 30}
SCHEDULES = [*EVERY, "@every 90s", "30 4 * * *", "0 0 29 2 *"]


def slots_after(schedule: str, after: datetime, *, anchor: datetime) -> Iterator[datetime]:
    """Yield the slots after an instant, one by one."""
    if schedule in EVERY:
        at = after.replace(second=0, microsecond=0) + MINUTE
        while True:
            if at.minute % EVERY[schedule] == 0:
                yield at
            at += MINUTE
    elif schedule == "@every 90s":
        at = anchor
        while True:
            if at > after:
                yield at
            at += timedelta(seconds=90)
    else:
        day = after.replace(hour=0, minute=0, second=0, microsecond=0)
        while True:
            if schedule == "30 4 * * *":
                at = day.replace(hour=4, minute=30)
            elif (day.month, day.day) == (2, 29):
                at = day
            else:
                at = after
            if at > after:
                yield at
            day += DAY


@dataclass
class TaskModel:
    """A task, as the world has it."""

    key: int
    schedule: str
    overlap: str
    misfire: str
    grace: timedelta
    max_attempts: int
    at_most_once: bool
    iterations: int
    start: datetime | None
    end: datetime | None
    created_at: datetime
    jitter: timedelta
    enabled: bool = True
    announced: datetime | None = None
    created: int = 0
    is_broken: bool = False  # its schedule is one that can't be read
    is_parked: bool = False
    accounted: dict[datetime, str] = field(default_factory=dict)  # slot -> what became of it

    @property
    def is_one_shot(self) -> bool:
        return self.schedule == "@once"

    @property
    def is_used_up(self) -> bool:
        return bool(self.iterations) and self.created >= self.iterations

    @property
    def anchor(self) -> datetime:
        """From where a period counts: the first whole second of its time."""
        anchor = self.start or self.created_at
        return anchor if not anchor.microsecond else anchor.replace(microsecond=0) + timedelta(seconds=1)

    def first_slot(self, after: datetime) -> datetime | None:
        """The first slot after an instant that lies in the window, or None."""
        if self.is_used_up:
            return None
        return self.next_slot(after)

    def next_slot(self, after: datetime) -> datetime | None:
        """As `first_slot`, whether an iteration is left or not."""
        if self.is_one_shot:
            return None
        for slot in slots_after(self.schedule, after, anchor=self.anchor):
            if self.end is not None and slot >= self.end:
                return None
            if self.start is None or slot >= self.start:
                return slot
        return None

    def passed(self, now: datetime) -> list[datetime]:
        """All slots from the announced one up to now."""
        if not self.announced or self.announced > now or (self.end and self.announced >= self.end):
            return []
        found = [self.announced]
        while (slot := self.next_slot(found[-1])) is not None and slot <= now:
            found.append(slot)
        return found


@dataclass
class RunModel:
    """A run, as the world has it."""

    task: int | None
    slot: datetime | None
    status: str = "READY"
    waits: bool = False
    attempt: int = 1
    crashes: int = 0
    at_most_once: bool = False
    has_begun: bool = False  # its start is written
    cancel_requested: bool = False
    missed_count: int = 0
    missed_since: datetime | None = None
    lease_until: datetime | None = None
    owner: int | None = None  # the claim's number
    calls: int = 0  # how often a function was called for it
    max_attempts: int = 1
    key: int | None = None  # its row's, once that is known

    @property
    def is_over(self) -> bool:
        return self.status in ENDED

    @property
    def is_active(self) -> bool:
        return not self.is_over and not self.waits

    def end(self, status: str) -> None:
        assert not self.is_over, f"{self} has ended already"
        self.status, self.waits, self.lease_until, self.owner = status, False, None, None

    def give_back(self) -> None:
        self.status, self.lease_until, self.owner, self.has_begun = "READY", None, None, False


class World:
    """All tasks and runs.

    Args:
        max_crashes: how often a run is handed out again.
        misfire_cap: the most slots that are made up for.
    """

    def __init__(self, *, max_crashes: int, misfire_cap: int) -> None:
        self.tasks: dict[int, TaskModel] = {}
        self.runs: list[RunModel] = []
        self.max_crashes = max_crashes
        self.misfire_cap = misfire_cap
        self.went_back = False  # whether a clock was ever set back

    # -- reading -----------------------------------------------------------------------------------

    def runs_of(self, task: TaskModel) -> list[RunModel]:
        return [run for run in self.runs if run.task == task.key]

    def open_runs(self) -> list[RunModel]:
        return [run for run in self.runs if not run.is_over]

    # -- what a tick does --------------------------------------------------------------------------

    def tick(self, now: datetime, clock: datetime) -> None:
        """Create what is due at `now`, then keep order; leases are judged by `clock`."""
        for task in sorted(self.tasks.values(), key=lambda task: task.key):
            if task.enabled and task.announced is not None and task.announced <= now:
                self._fire(task, now)
        self.rescue(clock)
        self.release_waiting()
        self.delete_used_up()

    def _fire(self, task: TaskModel, now: datetime) -> None:
        if task.is_broken:
            task.enabled, task.is_parked = False, True
            return
        passed = task.passed(now)
        to_run, missed = self._choose(task, passed, now)
        has_row = {run.slot for run in self.runs_of(task)}
        if missed:
            self._miss(task, missed, has_row=missed[-1] in has_row)
        for slot in to_run:
            if slot not in has_row and not task.is_used_up:
                self.admit(task, slot, one_of_several=len(to_run) > 1)
        for slot in passed:
            task.accounted.setdefault(slot, "none is left")
            assert task.accounted[slot] != "none is left" or task.is_used_up, f"{slot} of {task} came to nothing"
        announced = task.next_slot(max(now, task.announced or now))
        task.announced = None if task.is_used_up else announced

    def _choose(self, task: TaskModel, passed: list[datetime], now: datetime) -> tuple[list[datetime], list[datetime]]:
        """Part the slots that have passed: the newest ones run, what is older is missed."""
        if not passed:
            return [], []
        wanted = {"latest": 1, "all": self.misfire_cap, "skip": 1 if now - passed[-1] <= task.grace else 0}
        count = min(len(passed), wanted[task.misfire])
        return passed[len(passed) - count :], passed[: len(passed) - count]

    def _miss(self, task: TaskModel, missed: list[datetime], *, has_row: bool) -> None:
        count = min(len(missed), FAR + 1)
        row = RunModel(task=task.key, slot=missed[-1], status="MISSED", missed_count=count, missed_since=missed[0])
        if not has_row:
            self.runs.append(row)
        for slot in missed:
            assert slot not in task.accounted or self.went_back, f"{slot} is missed, but was {task.accounted[slot]}"
            task.accounted.setdefault(slot, "missed")

    def admit(self, task: TaskModel, slot: datetime | None, *, one_of_several: bool = False) -> RunModel:
        """Create one run as the overlap policy says."""
        others = [run for run in self.runs_of(task) if not run.is_over]
        run = RunModel(task=task.key, slot=slot, at_most_once=task.at_most_once, max_attempts=task.max_attempts)
        if others and task.overlap == "replace":
            for other in others:
                if other.status == "RUNNING":
                    other.cancel_requested = True
                else:
                    other.end("CANCELLED")
            run.waits = any(other.status == "RUNNING" for other in others)
        elif others and task.overlap != "allow":
            may_wait = task.overlap == "queue" and not any(other.waits for other in others)
            if may_wait or one_of_several:
                run.waits = True
            else:
                run.status = "SKIPPED"
        if not run.is_over:
            task.created += 1
        if slot is not None:
            task.accounted[slot] = "run"
        self.runs.append(run)
        return run

    def realign(self, now: datetime, latest_clock: datetime) -> int:
        """Bring back what was announced for long after its next slot, or for no slot at all; return how many."""
        corrected = 0
        for task in self.tasks.values():
            if not task.enabled or task.announced is None or task.announced <= latest_clock or task.is_broken:
                continue
            next_slot = task.next_slot(latest_clock)
            if task.announced == task.start or next_slot is None:
                continue
            by_another_clock = task.next_slot(latest_clock + MINUTE) or next_slot
            if next_slot <= task.announced <= by_another_clock:
                continue
            assert self.went_back, f"{task} is announced for another slot than {next_slot}"
            task.announced = next_slot
            corrected += 1
        return corrected

    # -- order -------------------------------------------------------------------------------------

    def rescue(self, clock: datetime) -> None:
        """Take the runs of those that have not renewed their leases."""
        expired = [run for run in self.runs if run.lease_until is not None and run.lease_until < clock]
        for run in expired:
            if run.cancel_requested:
                self.end(run, "CANCELLED")
                continue
            run.crashes += 1 if run.has_begun or not (run.at_most_once or run.crashes) else 0
            gone = run.task is None
            used = run.has_begun and (run.at_most_once or run.crashes > self.max_crashes)
            if gone or used:
                self.end(run, "LOST")
            else:
                run.give_back()

    def release_waiting(self) -> None:
        """Let waiting runs start that have nobody to wait for."""
        for task in self.tasks.values():
            self._release(task)
        for run in self.runs:
            if run.waits and run.task is None:
                run.waits = False

    def _release(self, task: TaskModel) -> None:
        runs = self.runs_of(task)
        if any(run.is_active for run in runs):
            return
        waiting = [run for run in runs if run.waits]
        if waiting:
            # Those for slots in their order; where one by hand comes among them depends on the database.
            first = min(waiting, key=lambda run: (run.slot is not None, run.slot or run.key, run.key or 0))
            first.waits = False

    def delete_used_up(self) -> None:
        """Delete tasks that nothing will come of any more."""
        for task in list(self.tasks.values()):
            self._delete_if_used_up(task)

    def _delete_if_used_up(self, task: TaskModel) -> bool:
        if task.announced is not None or task.is_parked or any(not run.is_over for run in self.runs_of(task)):
            return False
        self.forget(task)
        return True

    def forget(self, task: TaskModel) -> None:
        """Delete a task; its history stays."""
        for run in self.runs_of(task):
            run.task = None
        del self.tasks[task.key]

    # -- ends --------------------------------------------------------------------------------------

    def end(self, run: RunModel, status: str) -> None:
        """End a run, and let follow what follows."""
        run.end(status)
        self.follow([run])

    def follow(self, runs: list[RunModel]) -> None:
        """Do what the ends of these runs mean for their tasks."""
        for key in {run.task for run in runs if run.task is not None}:
            if not self._delete_if_used_up(self.tasks[key]):
                self._release(self.tasks[key])

    def finish(self, run: RunModel, how: str) -> None:
        """Write how a claimed run came out: "success", "failure", "skip" or "cancelled"."""
        has_another_try = how == "failure" and run.attempt < run.max_attempts
        if has_another_try and not run.cancel_requested:
            run.give_back()
            run.attempt += 1
            return
        how = "cancelled" if has_another_try else how
        self.end(run, {"success": "SUCCESSFUL", "failure": "FAILED", "skip": "SKIPPED", "cancelled": "CANCELLED"}[how])

    def cancel(self, runs: list[RunModel]) -> None:
        """Cancel what waits at once, and ask for it where it runs."""
        ended = []
        for run in runs:
            if run.status == "RUNNING":
                run.cancel_requested = True
            elif not run.is_over:
                run.end("CANCELLED")
                ended.append(run)
        self.follow(ended)

    def release(self, run: RunModel) -> None:
        """Hand a claimed run back whose function was not called."""
        if run.cancel_requested:
            self.end(run, "CANCELLED")
        else:
            run.give_back()

    # -- what must be true at any moment -------------------------------------------------------------

    def check(self) -> None:
        """The invariants, on what has happened so far."""
        for task in self.tasks.values():
            runs = self.runs_of(task)
            slots = [run.slot for run in runs if run.slot is not None]
            assert len(slots) == len(set(slots)), f"a slot of {task} has two rows"
            assert not task.iterations or task.created <= task.iterations, f"{task} has more runs than iterations"
            if task.overlap != "allow":
                assert sum(run.is_active for run in runs) <= 1, f"two runs of {task} overlap"
            missed = sorted((run.missed_since, run.slot) for run in runs if run.status == "MISSED")
            if not self.went_back:
                assert all(last < since for (_, last), (since, _) in pairwise(missed)), f"{task} missed a slot twice"
        for run in self.runs:
            assert run.calls <= run.attempt + run.crashes, f"{run} was called without a reason"
            assert not run.at_most_once or run.calls <= run.attempt, f"{run} was called again"
