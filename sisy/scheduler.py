"""What a tick does: due tasks become runs, and the rows are kept in order.

HeartbeatConsumer, sisy_heartbeat (when the layer refuses) and testing.py call `tick`; any number of them at once.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from sisy import maintenance, policy, signals
from sisy.errors import SisyError
from sisy.models import Task
from sisy.rows.glance import Glance
from sisy.rows.reading import UNREADABLE, readable
from sisy.transitions import planning
from sisy.transitions.atomic import alias, locked, tried_again, write

_log = logging.getLogger("sisy.scheduler")
SOON = timedelta(milliseconds=250)
"""When to tick again for a due task whose row somebody held."""

_BATCH = 500  # tasks in one transaction: large enough to be fast, small enough not to keep their rows locked for long


@dataclass(frozen=True, kw_only=True)
class Ticked:
    """What one tick did.

    Args:
        now: the instant for which it looked.
        ready: runs that may start.
        skipped: runs that the overlap policy left out.
        missed: rows for slots that passed.
        parked: tasks set aside because of an error.
        next_slot: the earliest slot after this tick that is known, or None.
        left: whether somebody held the row of a due task, so that another tick should follow soon.
    """

    now: datetime
    ready: int
    skipped: int
    missed: int
    parked: int
    next_slot: datetime | None
    left: bool = False


def tick(now: datetime) -> Ticked:
    """Create the runs of all due tasks, and do the rows' housekeeping.

    Args:
        now: the instant to look from, aware.
    """
    first, expired, waiting = _glance(now)
    ready = skipped = missed = parked = 0
    left = closed = False
    if first is not None and first <= now:
        while True:
            enqueued, errors, seen = _enqueue_batch(now)
            ready += len(enqueued.ready) + len(enqueued.waiting)
            skipped, missed, parked = skipped + len(enqueued.skipped), missed + len(enqueued.missed), parked + errors
            closed = closed or enqueued.any_without_slot
            if seen < _BATCH:
                break
        first, left = _what_follows(now)
    maintenance.keep_in_order(now, expired=expired, waiting=waiting, closed=closed)
    ticked = Ticked(
        now=now, ready=ready, skipped=skipped, missed=missed, parked=parked, next_slot=first, left=left
    )  # fmt: skip
    signals.tick.send_robust(sender=tick, ticked=ticked)
    return ticked


def next_slot(after: datetime) -> datetime | None:
    """Return the earliest slot after an instant that any enabled task announces, or None."""
    slots = Task.objects.enabled().filter(next_run__gt=after).order_by("next_run")
    slot: datetime | None = slots.values_list("next_run", flat=True).first()
    return slot


def _what_follows(now: datetime) -> tuple[datetime | None, bool]:
    """Return the earliest slot that is to come, and whether a task is still due: somebody holds its row."""
    try:
        (first,) = _FIRST.take(using=alias())
    except UNREADABLE:  # the next tick parks it
        return next_slot(now), True
    return (first, False) if first is None or first > now else (next_slot(now), True)


def _glance(now: datetime) -> tuple[datetime | None, bool, bool]:
    """Return the earliest slot of all, whether leases have expired, and whether runs wait: one query, usually all.

    A row that can't be read is found and parked by the batch that it belongs to.
    """
    try:
        first, *signs = _GLANCE.take(using=alias())
    except UNREADABLE:
        return now, True, True
    return first, *(sign is not None for sign in signs)


def _questions() -> "tuple[QuerySet[Any, Any], ...]":
    return _first_slot(), *maintenance.signs()


def _first_slot() -> "QuerySet[Any, Any]":
    return Task.objects.enabled().filter(next_run__isnull=False).order_by("next_run").values_list("next_run")


_GLANCE = Glance(_questions)
_FIRST = Glance(lambda: [_first_slot()])


@tried_again
def _enqueue_batch(now: datetime) -> tuple[planning.Enqueued, int, int]:
    """Handle up to _BATCH due tasks in one transaction; return their runs, how many were parked, how many were handled.

    The last is less than those that are due when somebody else holds their rows.
    """
    due = Task.objects.due(now)
    with write(by_index=True):
        tasks, errors = readable(locked(due, skip=True)[:_BATCH])
        planned: list[tuple[Task, policy.Plan]] = []
        for task in tasks:
            plan = _plan(task, now=now)
            if isinstance(plan, policy.Plan):
                planned.append((task, plan))
            else:
                errors[task.pk] = plan
        planning.park(errors)
        return planning.enqueue(planned, now=now), len(errors), len(tasks) + len(errors)


def _plan(task: Task, *, now: datetime) -> policy.Plan | str:
    """Plan one task, or say what is wrong with its row: one bad row must not stop the others."""
    try:
        return policy.plan(task.timetable(), now=now)
    except SisyError as error:
        return str(error)
    except Exception as error:  # whatever somebody wrote into the row by SQL
        _log.exception("Task %s can't be planned", task.pk, extra={"task_id": task.pk})
        return f"{type(error).__name__}: {error}"
