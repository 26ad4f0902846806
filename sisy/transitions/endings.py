"""RUNNING -> a final state or the next attempt, cancelling, and deleting what is used up or old.

worker.py finishes batches of outcomes, models and admin cancel, maintenance.py prunes.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef
from django.db.models.signals import post_delete, pre_delete

from sisy import signals
from sisy.rows.changes import write_each
from sisy.rows.reading import read
from sisy.rows.run import Run, RunStatus
from sisy.rows.tasks import task_rows
from sisy.transitions import planning
from sisy.transitions.atomic import alias, announce, announce_tasks, locked, tried_again, write
from sisy.transitions.claims import Held, lock_held

if TYPE_CHECKING:
    from sisy.models.task import Task

CANCELLED_BY_USER = "cancelled"

_ENDING_COLUMNS = ("status", "reason", "started_at", "finished_at", "claim", "lease_expires_at", "declined_at")
_RARE_COLUMNS: dict[str, object] = {"result": None, "progress": None, "errors": [], "crashes": 0}
"""What most runs leave as it was when they were created, and none changes back to that."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run's attempt came to.

    Args:
        run: the run, with the columns of its new state set on it: final, or READY for the next attempt.
        claim: the token with which it was claimed.
        userdata: what the task's userdata became, or None when it did not change.
        park: why no run of the task can succeed, or an empty string.
    """

    run: Run
    claim: uuid.UUID | None
    userdata: dict[str, Any] | None = None
    park: str = ""


@tried_again
def finish(outcomes: Sequence[Outcome], *, now: datetime) -> set[int]:
    """Write how a batch of claimed runs ended; return the keys of those whose claim still held.

    Args:
        outcomes: at most one for each run.
        now: runs that waited for one of these may start from here on.
    """
    by_key = {outcome.run.pk: outcome for outcome in outcomes}
    with write(by_index=True):
        held = lock_held({key: outcome.claim for key, outcome in by_key.items()})
        mine = [by_key[key] for key in held]
        for outcome in mine:
            _heed(outcome.run, held[outcome.run.pk], now=now)
        retried = [outcome.run for outcome in mine if not outcome.run.is_over]
        _write(retried)
        announce("retried", retried)
        end([outcome.run for outcome in mine if outcome.run.is_over], now=now)
        for outcome in mine:  # after the end: what a used-up task held before its run is kept with the run
            if outcome.userdata is not None and outcome.run.task_id is not None:
                task_rows(alias()).filter(pk=outcome.run.task_id).update(_extra_data=outcome.userdata)
        for outcome in mine:
            if outcome.park and outcome.run.task_id is not None:
                planning.park_task_of(outcome.run, outcome.park)
    return set(held)


def announce_written(outcomes: Sequence[Outcome]) -> list[Run]:
    """Tell the observers of what an earlier `finish` had committed when its connection broke; return those runs.

    Args:
        outcomes: that were given to a `finish` that failed, and whose claims do not hold any more.
    """
    attempts = {outcome.run.pk: outcome.run for outcome in outcomes}
    rows = Run.objects.using(alias()).filter(pk__in=list(attempts)).order_by("pk")
    written = [
        attempts[key]
        for key, attempt, run_after, finished_at in rows.values_list("pk", "attempt", "run_after", "finished_at")
        if (attempt, run_after, finished_at)
        == (attempts[key].attempt, attempts[key].run_after, attempts[key].finished_at)
    ]
    announce("retried", [run for run in written if not run.is_over])
    announce("finished", [run for run in written if run.is_over])
    return written


def end(runs: Sequence[Run], *, now: datetime) -> None:
    """Write the final states that are set on locked runs, and what follows for their tasks.

    Within the caller's transaction: deletes tasks that are used up, lets the next waiting runs start.

    Args:
        runs: with status, reason, finished_at, claim and lease_expires_at as they shall be.
        now: waiting runs may start from here on.
    """
    if not runs:
        return
    tasks_left = {run.task_id for run in runs if run.task_id is not None}
    used_up = _lock_used_up(tasks_left, leaving=[run.pk for run in runs])
    _write([run for run in runs if run.task_id not in used_up])
    last = [run for run in runs if run.task_id in used_up]
    for run in last:
        run.userdata, run.task = used_up[run.task_id or 0]._extra_data, None
    _write(last, "task", "userdata")
    _delete_tasks(list(used_up.values()))
    _release_waiting(tasks_left - set(used_up), now=now)
    announce("finished", runs)


@tried_again
def cancel(runs: Collection[Run], *, now: datetime, reason: str = CANCELLED_BY_USER) -> int:
    """Cancel runs: a waiting one at once, a running one by asking its worker; return how many were not over.

    Args:
        runs: any runs.
        now: the instant of the request.
        reason: what the rows will say.
    """
    keys = [run.pk for run in runs]
    with write():
        rows = list(locked(Run.objects.active().filter(pk__among=keys).order_by("pk")))
        running = [run for run in rows if run.status == RunStatus.RUNNING]
        Run.objects.using(alias()).filter(pk__among=[run.pk for run in running], cancel_requested_at=None).update(
            cancel_requested_at=now, reason=reason
        )
        announce("cancelling", running)
        ready = [run for run in rows if run.status == RunStatus.READY]
        for run in ready:
            run.status, run.reason, run.finished_at = RunStatus.CANCELLED, reason, now
        end(ready, now=now)
    return len(rows)


@tried_again
def cancel_task(task: "Task", *, now: datetime) -> int:
    """Cancel every run of a task that is not over; a one-shot that has no run yet ends CANCELLED, with its task.

    Returns:
        how many runs were cancelled.
    """
    with write():
        row = locked(task_rows(alias()).filter(pk=task.pk)).first()
        if row is None:
            return 0
        if row.is_one_shot and row.next_run is not None:
            run = row.unsaved_run(now=now)
            run.status, run.reason, run.finished_at = RunStatus.CANCELLED, CANCELLED_BY_USER, now
            run.task, run.userdata = None, row._extra_data
            run.save(force_insert=True, using=alias())
            announce("finished", [run])
            _delete_tasks([row])
            return 1
        return cancel(list(Run.objects.using(alias()).active().filter(task=row)), now=now)


@tried_again
def delete_used_up(*, now: datetime, limit: int = 100) -> int:
    """Delete tasks that have no slot and no run left; the safety net below `finish`, and for windows that closed.

    Returns:
        how many tasks were deleted.
    """
    unfinished = Run.objects.active().filter(task=OuterRef("pk"))
    candidates = task_rows(alias()).filter(next_run=None, error="").exclude(Exists(unfinished)).order_by("pk")
    keys = list(candidates.values_list("pk", flat=True)[:limit])
    if not keys:
        return 0
    with write():
        used_up = list(_lock_used_up(keys, leaving=[]).values())
        for task in used_up:
            last = Run.objects.using(alias()).filter(task=task).order_by("-pk").values_list("pk", flat=True)[:1]
            Run.objects.using(alias()).filter(pk__in=list(last)).update(userdata=task._extra_data)
        _delete_tasks(used_up)
    return len(used_up)


@tried_again
def release_waiting(*, now: datetime, limit: int = 500) -> int:
    """Let waiting runs start whose predecessor is over, or whose task was deleted: they are cancelled when claimed.

    The safety net below `finish`; return how many may start.
    """
    waiting = Run.objects.using(alias()).waiting()
    keys = set(waiting.values_list("task_id", flat=True)[:limit])
    if not keys:
        return 0
    with write():
        orphans = waiting.filter(task=None).update(run_after=now) if None in keys else 0
        return orphans + _release_waiting({key for key in keys if key is not None}, now=now)


def prune_old(*, before: datetime, limit: int) -> int:
    """Delete runs that ended before an instant, the oldest first, at most `limit`; return how many."""
    table = Run.objects.using(alias())
    oldest = list(table.ended().order_by("pk").values_list("pk", "finished_at")[:limit])
    keys = [key for key, finished_at in oldest if finished_at is not None and finished_at < before]
    return _delete_runs(keys)


def prune_task(task_key: int, *, keep: int, limit: int) -> int:
    """Delete the oldest ended runs of a task beyond the newest `keep`, at most `limit`; return how many."""
    runs = Run.objects.using(alias()).ended().filter(task=task_key).order_by("-pk")
    return _delete_runs(list(runs.values_list("pk", flat=True)[keep : keep + limit]))


def _delete_runs(keys: Sequence[int]) -> int:
    if not keys:
        return 0
    return Run.objects.using(alias()).ended().filter(pk__in=keys).delete()[0]


def _heed(run: Run, held: Held, *, now: datetime) -> None:
    """Take over what the row says that the worker did not know: its task was deleted, or the run was cancelled."""
    if held.task_id is None:
        run.task = None
    elif run.task_id is None:  # an earlier try, which was rolled back, has let go of it
        run.task_id = held.task_id
    if run.status == RunStatus.CANCELLED and held.reason:
        run.reason = held.reason
    if run.status == RunStatus.READY and held.cancel_requested_at is not None:
        run.status, run.reason, run.finished_at = RunStatus.CANCELLED, held.reason, now
        run.attempt -= 1


def _write(runs: Sequence[Run], *more: str) -> None:
    """Write the state that is set on locked runs, in a statement for each set of columns that may differ."""
    by_columns: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        columns = [column for column, unchanged in _RARE_COLUMNS.items() if getattr(run, column) != unchanged]
        if run.status == RunStatus.READY:
            columns += ["attempt", "run_after"]
        by_columns[tuple(columns)].append(run)
    for rare, alike in by_columns.items():
        write_each(alike, [*_ENDING_COLUMNS, *rare, *more], using=alias())


def _lock_used_up(keys: Collection[int], *, leaving: Sequence[int]) -> dict[int, "Task"]:
    """Lock and return those tasks that have no slot left and no other run that is not over.

    Args:
        keys: candidates.
        leaving: keys of runs that are about to end.
    """
    if not keys:
        return {}
    rows = locked(task_rows(alias()).filter(pk__among=keys, next_run=None, error="").order_by("pk"))
    only = () if _somebody_follows_deletions(rows.model) else ("label", "callable", "_extra_data")
    tasks = {task.pk: task for task in read(rows, only=only)}
    if not tasks:
        return {}
    others = Run.objects.using(alias()).active().filter(task__among=tasks).exclude(pk__among=leaving)
    for task_key in others.values_list("task_id", flat=True).distinct():
        del tasks[task_key]
    return tasks


def _delete_tasks(tasks: Sequence["Task"]) -> None:
    """Delete locked tasks; their history stays, without a reference to them."""
    if not tasks:
        return
    keys = [task.pk for task in tasks]
    Run.objects.using(alias()).filter(task__among=keys).update(task=None)
    rows = task_rows(alias()).filter(pk__among=keys)
    if _somebody_follows_deletions(type(tasks[0])):
        rows.delete()
    else:
        rows._raw_delete(alias())
    announce_tasks("exhausted", tasks)


def _somebody_follows_deletions(task_model: type["Task"]) -> bool:
    """Tell whether a project's own models refer to Task, or receivers want to hear of what is deleted."""
    if any(relation.related_model is not Run for relation in task_model._meta.related_objects):
        return True
    return any(signal.has_listeners(task_model) for signal in (pre_delete, post_delete, signals.task_exhausted))


def _release_waiting(task_keys: Collection[int], *, now: datetime) -> int:
    """Let the first waiting run of each task start, where no other run of the task is active."""
    if not task_keys:
        return 0
    table = Run.objects.using(alias())
    first: dict[int | None, Run] = {}
    for run in table.waiting().filter(task__among=task_keys).order_by("slot", "pk"):
        first.setdefault(run.task_id, run)
    if not first:
        return 0
    busy = (
        table.active().filter(task__among=[key for key in first if key]).exclude(status=RunStatus.READY, run_after=None)
    )
    for task_key in busy.values_list("task_id", flat=True).distinct():
        del first[task_key]
    keys = [run.pk for run in first.values()]
    released = table.waiting().filter(pk__among=keys).update(run_after=now)
    announce("released", list(first.values()))
    return released
