"""Bring announced slots back to their schedules: after a clock that was wrong, or new rules of a time zone.

Each tick calls this, and it looks at all tasks once when a process starts to tick and once an hour, a few hundred at a
time: what a tick costs does not depend on how many tasks there are.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from sisy import policy
from sisy.models import Task
from sisy.rows.clock import DatabaseNow
from sisy.rows.reading import readable
from sisy.transitions import planning

_log = logging.getLogger("sisy.scheduler")

_BATCH = 500  # tasks looked at in one tick
_LINES = 10  # of one batch in the log: after a clock was wrong it may be all tasks
_PAUSE = timedelta(hours=1)
_STEP = timedelta(seconds=30)  # between two batches: nothing of this is in a hurry, and ticks may come each second
_TOLERANCE = timedelta(minutes=1)  # by which the clock of the host that announced a slot may be ahead

Place = tuple[datetime | None, int]
"""A slot and the key of a task: how far a round has come."""


@dataclass
class _Round:
    """How far this process has come with looking at all tasks, and when it goes on."""

    next_look: datetime | None = None
    place: Place | None = None


_round = _Round()


def realign_some(now: datetime) -> None:
    """Look at the next few tasks, when it is time to; a clock that was set back meanwhile is a reason to begin anew."""
    if _round.next_look is not None and timedelta(0) < _round.next_look - now <= _PAUSE:
        return
    _, _round.place = realign(now, beyond=_round.place)
    _round.next_look = now + (_STEP if _round.place is not None else _PAUSE)


def realign(now: datetime, *, beyond: Place | None = None) -> tuple[int, Place | None]:
    """Correct announced slots that their schedules don't have, or have much earlier: of 500 tasks, the soonest first.

    A slot that is due is left to the tick. Of this host's clock and the database's, the later one counts: a clock that
    is behind must not bring back slots that have passed.

    Args:
        now: the instant to look from.
        beyond: where the last batch ended, or None for the beginning.

    Returns:
        how many were corrected, and where this batch ended, or None when it was the last one.
    """
    rows = Task.objects.enabled().filter(next_run__gt=now).order_by("next_run", "pk")
    slot, key = beyond or (None, 0)
    if slot is not None and slot > now:
        rows = rows.filter(next_run__gte=slot).filter(Q(next_run__gt=slot) | Q(pk__gt=key))
    tasks, _ = readable(rows.defer("_extra_data").annotate(database_now=DatabaseNow())[:_BATCH])
    last = (tasks[-1].next_run, tasks[-1].pk) if len(tasks) == _BATCH else None
    clocks = [now, *(task.database_now for task in tasks[:1] if hasattr(task, "database_now"))]
    corrected = [task for task in tasks if _realign_one(task, now=max(clocks))]
    for task in corrected[:_LINES]:
        _log.warning(
            "Task %s (%s) was announced for a slot that its schedule does not have, or has much earlier, as after a "
            "clock that was wrong for a moment, or new rules of its time zone; its next slot is %s",
            task.pk, task, task.next_run, extra={"task_id": task.pk},
        )  # fmt: skip
    if len(corrected) > _LINES:
        _log.warning("%s more tasks were announced for such slots", len(corrected) - _LINES)
    return len(corrected), last


def _realign_one(task: Task, *, now: datetime) -> bool:
    expected = _expected(task, now=now)
    return expected is not None and planning.correct_slot(task, expected)


def _expected(task: Task, *, now: datetime) -> datetime | None:
    """Return the slot that should be announced in place of the one that is, or None if that one will do."""
    announced = task.next_run
    if announced is None or announced <= now or task.is_one_shot or announced == task.start_running:
        return None
    try:
        timetable = task.timetable()
        first = policy.first_slot(timetable, after=now)
        if first is None or first == announced:
            return None
        latest = policy.first_slot(timetable, after=now + _TOLERANCE) or first
    except Exception:  # whatever is wrong with the row: the tick parks it, once its slot has come
        _log.debug("Task %s can't be looked at", task.pk, exc_info=True)
        return None
    return None if first < announced <= latest else first
