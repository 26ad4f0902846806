"""Tasks -> runs: what a tick and the models' verbs create, and each change of a task's next_run.

scheduler.py calls `enqueue` with what policy.plan decided; models/task.py calls the rest.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from django.db.models import Q, QuerySet

from sisy import policy
from sisy.errors import SisyError, TaskExhausted, TaskGone, TaskParked
from sisy.jsondata import printable
from sisy.rows.changes import write_each
from sisy.rows.inserts import copies, insert, insert_many, new
from sisy.rows.run import Run, RunStatus
from sisy.rows.tasks import task_rows
from sisy.transitions.atomic import alias, announce, announce_tasks, locked, tried_again, write

if TYPE_CHECKING:
    from sisy.models.task import Task

Slot = tuple[int | None, datetime | None]
"""A task's key and one of its slots."""

OVERLAPPED = "the previous run of this task was not over"
REPLACED = "replaced by a newer run of this task"


@dataclass(kw_only=True)
class Enqueued:
    """What became of a batch of due tasks, and whether one of them has no slot left."""

    ready: list[Run] = field(default_factory=list)
    waiting: list[Run] = field(default_factory=list)
    skipped: list[Run] = field(default_factory=list)
    missed: list[Run] = field(default_factory=list)
    cancelled: list[Run] = field(default_factory=list)
    any_without_slot: bool = False

    def all(self) -> list[Run]:
        """Return every new run."""
        return [*self.ready, *self.waiting, *self.skipped, *self.missed]


def enqueue(planned: Sequence[tuple["Task", policy.Plan]], *, now: datetime) -> Enqueued:
    """Insert the runs of due tasks and advance the tasks, within the caller's transaction that holds their locks.

    Args:
        planned: locked due tasks, each with its plan.
        now: the instant of the tick.
    """
    enqueued = Enqueued()
    if not planned:
        return enqueued
    taken = _taken_slots(planned)
    active, waiting = _count_active([task for task, plan in planned if plan.slots])
    for task, plan in planned:
        _add_missed(enqueued, task, plan, taken=taken, now=now)
        left = len(plan.slots) if plan.runs_left is None else plan.runs_left
        for slot in plan.slots:
            if left and (task.pk, slot) not in taken:
                left -= _admit(
                    enqueued, task, slot, active=active, waiting=waiting, several=len(plan.slots) > 1, now=now
                )
    insert_many(enqueued.all(), using=alias())
    _advance(planned, enqueued)
    _announce(enqueued)
    return enqueued


@tried_again
def enqueue_now(task: "Task", *, now: datetime) -> Run:
    """Create an ad hoc run of a task; its next slot stays where it is.

    Raises:
        TaskGone: the row does not exist any more.
        TaskExhausted: no iteration is left.
        TaskParked: the row has an error.
    """
    with write():
        row = locked_row(task)
        if row.error:
            raise TaskParked(f"Task {row.label!r} was set aside: {row.error} Mend and save it, then run it.")
        if row.is_used_up:
            raise TaskExhausted(f"Task {row.label!r} has used up its {row.iterations} iterations. Raise `iterations`.")
        enqueued = Enqueued()
        active, waiting = _count_active([row])
        _admit(enqueued, row, None, active=active, waiting=waiting, several=False, now=now)
        run = enqueued.all()[0]
        insert(run, using=alias())
        if run.status == RunStatus.READY:
            row.runs_created, row.last_run = row.runs_created + 1, now
            row.next_run = None if row.is_used_up else row.next_run
            _write(row, "runs_created", "last_run", "next_run")
        _announce(enqueued)
    task.runs_created, task.last_run, task.next_run = row.runs_created, row.last_run, row.next_run
    return run


def insert_first_runs(tasks: Iterable["Task"], *, now: datetime) -> None:
    """Insert the run of each new task that does not wait for its schedule, within the caller's transaction."""
    runs = [run_of(task, slot=None, now=now) for task in tasks]
    if len(runs) == 1:
        insert(runs[0], using=alias())
    else:
        insert_many(runs, using=alias())
    announce("enqueued", runs)


def insert_first_runs_of_copies(tasks: Sequence["Task"], *, now: datetime) -> None:
    """As `insert_first_runs`, for tasks that differ in nothing but userdata."""
    runs = copies(run_of(tasks[0], slot=None, now=now), "task", [task.pk for task in tasks], using=alias())
    for run, task in zip(runs, tasks, strict=True):
        run._state.fields_cache["task"] = task
    insert_many(runs, using=alias(), different=["task"])
    announce("enqueued", runs)


@tried_again
def reschedule(task: "Task", *, now: datetime, resume: bool = False) -> None:
    """Compute a saved task's next slot anew, from now: editing and resuming never make up for anything.

    Args:
        task: its timing has been written; next_run, error and enabled are set on it.
        now: only slots after it count.
        resume: whether to enable the task and forget its error.

    Raises:
        TaskGone: the row does not exist any more.
    """
    with write():
        row = locked_row(task)
        if not (resume and row.enabled):  # resuming what is not paused must not jump over a slot that is due
            _compute_slot(row, now=now, resume=resume)
    task.next_run, task.schedule_version = row.next_run, row.schedule_version
    task.enabled, task.error = row.enabled, row.error
    task.runs_created, task.last_run = row.runs_created, row.last_run


@tried_again
def correct_slot(task: "Task", slot: datetime) -> bool:
    """Announce another slot of an enabled task; return whether nobody has changed its timing or holds its row.

    Args:
        task: as it was read; its next_run is set.
        slot: what its schedule says.
    """
    rows = task_rows(alias()).filter(
        pk=task.pk, enabled=True, next_run=task.next_run, schedule_version=task.schedule_version
    )
    with write():
        held = list(locked(rows, skip=True).values_list("pk", flat=True))
        if not rows.filter(pk__in=held).update(next_run=slot):
            return False
        task.next_run = slot
        announce_tasks("scheduled", [task])
    return True


@tried_again
def pause(task: "Task") -> bool:
    """Stop creating runs of a task; return whether it was not paused already."""
    rows = task_rows(alias()).filter(pk=task.pk, enabled=True)
    paused = bool(rows.update(enabled=False))
    if not paused and not task_rows(alias()).filter(pk=task.pk).exists():
        raise _gone(task)
    task.enabled = False
    announce_tasks("paused", [task] if paused else [])
    return paused


def park(errors: Mapping[int, str]) -> None:
    """Set tasks aside that can't be planned, within the caller's transaction that holds their locks.

    Args:
        errors: what is wrong, by the task's key.
    """
    for key, error in errors.items():
        _park(task_rows(alias()).filter(pk=key), error)


def park_task_of(run: Run, error: str) -> None:
    """Set the task of a run aside that can't be called, unless its callable was mended meanwhile."""
    called = {"callable": run.callable, "instance_pk": run.instance_pk, "instance_db": run.instance_db}
    if run.task_id is not None:
        _park(task_rows(alias()).filter(pk=run.task_id, **called), error)  # in the UPDATE: a save may be under way


def _park(rows: "QuerySet[Task]", error: str) -> None:
    if rows.filter(enabled=True).update(enabled=False, error=printable(error, limit=2000)):
        announce_tasks("parked", list(rows.only("label", "callable", "error")))


def run_of(task: "Task", *, slot: datetime | None, now: datetime) -> Run:
    """Return an unsaved READY run of a task.

    Args:
        slot: the instant it is for, or None for an ad hoc run.
        now: when it is created.
    """
    start = now if slot is None else slot + task.delay_of(slot)
    run = new(
        Run,
        task_id=task.pk,
        label=task.label,
        callable=task.callable,
        instance_pk=task.instance_pk,
        instance_db=task.instance_db,
        queue=task.queue,
        priority=task.priority,
        at_most_once=task.at_most_once,
        slot=slot,
        run_after=start,
        enqueued_at=now,
    )
    run._state.fields_cache["task"] = task
    return run


def _taken_slots(planned: Sequence[tuple["Task", policy.Plan]]) -> set[Slot]:
    """Find slots that have a run already: a clock that was set back, or a row that was written by hand."""
    wanted = Q()
    by_slot = defaultdict(list)
    for task, plan in planned:
        for slot in (*plan.slots, *((plan.missed.last,) if plan.missed else ())):
            by_slot[slot].append(task.pk)
    if not by_slot:
        return set()
    if len(by_slot) > 5:  # one range is cheaper than many conditions
        wanted = Q(task__among={task.pk for task, _ in planned}, slot__gte=min(by_slot), slot__lte=max(by_slot))
    else:
        for slot, keys in by_slot.items():
            wanted |= Q(slot=slot, task__among=keys)
    return set(Run.objects.using(alias()).filter(wanted).values_list("task_id", "slot"))


def _count_active(tasks: Sequence["Task"]) -> tuple[Counter[int], Counter[int]]:
    """Count the runs that are not over, by task: those that may run or are running, and those that wait."""
    keys = [task.pk for task in tasks if task.overlap != task.Overlap.ALLOW]
    active: Counter[int] = Counter()
    waiting: Counter[int] = Counter()
    if keys:
        rows = Run.objects.using(alias()).active().filter(task__among=keys)
        for key, status, run_after in rows.values_list("task_id", "status", "run_after"):
            waits = status == RunStatus.READY and run_after is None
            (waiting if waits else active)[key] += 1
    return active, waiting


def _admit(
    enqueued: Enqueued,
    task: "Task",
    slot: datetime | None,
    *,
    active: Counter[int],
    waiting: Counter[int],
    several: bool,
    now: datetime,
) -> bool:
    """Add one new run in the state that the overlap policy gives it; return whether it counts as an iteration."""
    run = run_of(task, slot=slot, now=now)
    admission = policy.admit(task.overlap, active=active[task.pk], waiting=waiting[task.pk])
    if admission == "skip" and several:  # slots that are made up for run one after another
        admission = "wait"
    if admission == "replace":
        still_running = _cancel_active(enqueued, task, now=now)
        admission = "wait" if still_running else "run"
    if admission == "skip":
        run.status, run.reason, run.finished_at = RunStatus.SKIPPED, OVERLAPPED, now
        enqueued.skipped.append(run)
    elif admission == "wait":
        run.run_after = None
        waiting[task.pk] += 1
        enqueued.waiting.append(run)
    else:
        active[task.pk] += 1
        enqueued.ready.append(run)
    return admission != "skip"


def _cancel_active(enqueued: Enqueued, task: "Task", *, now: datetime) -> bool:
    """Cancel what the new run replaces; return whether some of it is still running."""
    for run in [*enqueued.ready, *enqueued.waiting]:
        if run.task_id == task.pk:
            run.status, run.reason, run.finished_at = RunStatus.CANCELLED, REPLACED, now
    rows = Run.objects.using(alias()).filter(task=task)
    unstarted = list(locked(rows.filter(status=RunStatus.READY)))
    for run in unstarted:
        run.status, run.reason, run.finished_at = RunStatus.CANCELLED, REPLACED, now
    rows.filter(pk__among=[run.pk for run in unstarted], status=RunStatus.READY).update(
        status=RunStatus.CANCELLED, reason=REPLACED, finished_at=now
    )
    enqueued.cancelled.extend(unstarted)
    running = rows.filter(status=RunStatus.RUNNING, cancel_requested_at=None)
    announce("cancelling", list(running))
    running.update(cancel_requested_at=now, reason=REPLACED)
    return rows.filter(status=RunStatus.RUNNING).exists()


def _add_missed(enqueued: Enqueued, task: "Task", plan: policy.Plan, *, taken: set[Slot], now: datetime) -> None:
    missed = plan.missed
    if missed is None or (task.pk, missed.last) in taken:
        return
    run = run_of(task, slot=missed.last, now=now)
    run.status, run.finished_at = RunStatus.MISSED, now
    run.missed_count, run.missed_since = missed.count, missed.first
    slots = f"{'at least ' if missed.at_least else ''}{missed.count} slot{'s' if missed.count > 1 else ''}"
    run.reason = f"{slots} passed while nothing ticked; misfire policy: {task.misfire}"
    enqueued.missed.append(run)


def _advance(planned: Sequence[tuple["Task", policy.Plan]], enqueued: Enqueued) -> None:
    """Write next_run, last_run and runs_created of the locked tasks, all in one UPDATE."""
    created = Counter(run.task_id for run in [*enqueued.ready, *enqueued.waiting])
    for task, plan in planned:
        count = created[task.pk]
        task.runs_created += count
        task.next_run = None if task.is_used_up else plan.next_run
        task.last_run = plan.slots[-1] if count else task.last_run
        enqueued.any_without_slot = enqueued.any_without_slot or task.next_run is None
    write_each([task for task, _ in planned], ["next_run", "last_run", "runs_created"], using=alias())


def _announce(enqueued: Enqueued) -> None:
    new = enqueued.all()
    announce("enqueued", [run for run in new if not run.is_over])
    announce("finished", [*(run for run in new if run.is_over), *enqueued.cancelled])


def _write(row: "Task", *columns: str) -> None:
    """Write columns of a locked task."""
    values = {column: getattr(row, column) for column in columns}
    task_rows(alias()).filter(pk=row.pk).update(**values)


def _compute_slot(row: "Task", *, now: datetime, resume: bool) -> None:
    """Compute and write a locked task's next slot."""
    if resume:
        row.enabled, row.error = True, ""
    row.next_run = row.slot_after(now)
    row.schedule_version += 1
    _write(row, "next_run", "schedule_version", "enabled", "error")
    announce_tasks("scheduled", [row])


def locked_row(task: "Task") -> "Task":
    """Lock a task's row and return it, within the caller's transaction.

    Raises:
        TaskGone: the row does not exist any more.
    """
    row = locked(task_rows(alias()).filter(pk=task.pk)).first()
    if row is None:
        raise _gone(task)
    return row


def _gone(task: "Task") -> SisyError:
    return TaskGone(
        f"Task {task.label!r} (id {task.pk}) does not exist any more: it has used up its runs, or it was deleted. "
        "Create a new one."
    )
