"""Pure rules: what a tick should do with a task, what overlap allows, what follows a failure or a crash.

The scheduler, the transitions and the executor call these with plain values; nothing here knows a row or a clock.
"""

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sisy.cron import Schedule

Admission = Literal["run", "wait", "skip", "replace"]
Fate = Literal["ready", "lost"]

_COUNT_CAP = 1_000
"""Missed slots are counted one by one up to here; more than that are reported as at least so many."""
_MAX_BACKOFF = timedelta(hours=6)
_SECOND = timedelta(seconds=1)  # slots are whole seconds
_MOMENT = timedelta(microseconds=1)  # but for a first run that does not wait for the schedule


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """What decides when a task runs.

    Args:
        schedule: the parsed schedule.
        next_run: the slot that was announced, or None when there is none left.
        start: no slot before it, or None.
        end: no slot at or after it, or None.
        runs_left: how many runs may still be created, or None for any number.
        misfire: what to do with slots that passed: "latest", "all" or "skip".
        misfire_grace: for "skip": a slot that is older than this is missed.
        misfire_cap: for "all": the most slots to make up for.
    """

    schedule: Schedule
    next_run: datetime | None
    start: datetime | None
    end: datetime | None
    runs_left: int | None
    misfire: str
    misfire_grace: timedelta
    misfire_cap: int


@dataclass(frozen=True, kw_only=True)
class Missed:
    """Slots that nobody ran: how many, the first and the last of them; `at_least` when there may be more."""

    count: int
    first: datetime
    last: datetime
    at_least: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a tick should do with one task.

    Args:
        slots: the slots to run now, oldest first.
        runs_left: how many of them may become runs, or None for all; one that overlap skips uses none up.
        missed: the slots that are only recorded, or None.
        next_run: the next slot in the window, whether a run is left for it or not; None when there is none.
    """

    slots: tuple[datetime, ...]
    missed: Missed | None
    next_run: datetime | None
    runs_left: int | None = None


def plan(timetable: Timetable, *, now: datetime) -> Plan:
    """Decide which of a task's slots run now, which are missed, and which comes next.

    >>> from datetime import UTC
    >>> every_minute = Timetable(
    ...     schedule=Schedule("* * * * *"), next_run=datetime(2026, 1, 1, 12, 0, tzinfo=UTC), start=None, end=None,
    ...     runs_left=None, misfire="latest", misfire_grace=timedelta(seconds=60), misfire_cap=1000)
    >>> result = plan(every_minute, now=datetime(2026, 1, 1, 12, 3, 5, tzinfo=UTC))
    >>> [f"{slot:%H:%M}" for slot in result.slots], result.missed.count, f"{result.next_run:%H:%M}"
    (['12:03'], 3, '12:04')
    """
    first, end = timetable.next_run, timetable.end
    if first is None or (end is not None and first >= end):
        return Plan(slots=(), missed=None, next_run=None)
    if first > now:
        return Plan(slots=(), missed=None, next_run=first)
    last_instant = now if end is None else min(now, end - timedelta(microseconds=1))
    slots = _slots_to_run(timetable, first=first, until=last_instant, now=now)
    missed = _missed(timetable, first=first, until=last_instant, runs=slots)
    next_run = first_slot(timetable, after=max(now, first))
    return Plan(slots=slots, missed=missed, next_run=next_run, runs_left=timetable.runs_left)


def first_slot(timetable: Timetable, *, after: datetime) -> datetime | None:
    """Return the first slot after an instant that lies in the task's window, or None.

    >>> from datetime import UTC
    >>> hourly = Timetable(
    ...     schedule=Schedule("0 * * * *"), next_run=None, start=datetime(2026, 1, 1, 12, 0, tzinfo=UTC), end=None,
    ...     runs_left=None, misfire="latest", misfire_grace=timedelta(seconds=60), misfire_cap=1000)
    >>> f"{first_slot(hourly, after=datetime(2026, 1, 1, 9, 30, tzinfo=UTC)):%H:%M}"
    '12:00'
    """
    if timetable.start is not None and timetable.start > after:
        after = timetable.start - _SECOND  # a slot at `start` itself counts
        slot = timetable.schedule.next_after(after)
        while slot is not None and slot < timetable.start:
            slot = timetable.schedule.next_after(slot)
    else:
        slot = timetable.schedule.next_after(after)
    if slot is None or (timetable.end is not None and slot >= timetable.end):
        return None
    return slot


def admit(overlap: str, *, active: int, waiting: int) -> Admission:
    """Decide what becomes of a new run while others of its task are not over.

    Args:
        overlap: the task's policy: "skip", "queue", "allow" or "replace".
        active: runs of the task that are running or may start at any moment.
        waiting: runs of the task that wait for an active one to end.

    >>> admit("skip", active=1, waiting=0)
    'skip'
    >>> admit("queue", active=1, waiting=0)
    'wait'
    """
    if overlap == "allow" or not (active or waiting):
        return "run"
    if overlap == "replace":
        return "replace"
    return "wait" if overlap == "queue" and not waiting else "skip"


def after_crash(*, started: bool, at_most_once: bool, crashes: int, max_crashes: int) -> tuple[Fate, int]:
    """Decide what becomes of a run whose worker's lease expired; return its fate and its new count of crashes.

    A run that was claimed but not started is always handed out again. Short runs write their start with their end, so
    the first time nobody can tell: it counts as a crash, and from then on the start is written before the call.

    >>> after_crash(started=True, at_most_once=False, crashes=3, max_crashes=3)
    ('lost', 4)
    >>> after_crash(started=False, at_most_once=True, crashes=0, max_crashes=3)
    ('ready', 0)
    """
    if not started:
        return "ready", crashes or int(not at_most_once)
    crashes += 1
    return ("lost" if at_most_once or crashes > max_crashes else "ready"), crashes


def must_write_start_first(*, at_most_once: bool, crashes: int) -> bool:
    """Tell whether a run's start must be in the database before its function is called.

    >>> must_write_start_first(at_most_once=False, crashes=0)
    False
    """
    return at_most_once or crashes > 0


def may_decline(*, declined_at: datetime | None, grace: timedelta, now: datetime) -> bool:
    """Tell whether a worker that lacks a run's code shall hand it back, since another one may have it.

    Args:
        declined_at: when a worker declined it first, or None.
        grace: for how long it may be handed back.
        now: the instant to look from.

    >>> start, grace = datetime.fromisoformat("2026-01-01T00:00Z"), timedelta(minutes=5)
    >>> may_decline(declined_at=None, grace=grace, now=start)
    True
    >>> may_decline(declined_at=start, grace=grace, now=start + grace)
    False
    """
    return grace > timedelta(0) and (declined_at is None or now - declined_at < grace)


def backoff(*, attempt: int, base: timedelta, chance: float) -> timedelta:
    """Return how long to wait after a failed attempt: exponential, with jitter, at most six hours or its base.

    Args:
        attempt: the attempt that failed, from 1.
        base: the wait after the first one.
        chance: a random number in [0, 1), which places the wait between half and the whole of it.

    >>> backoff(attempt=3, base=timedelta(seconds=10), chance=0.5).total_seconds()
    30.0
    """
    whole = min(math.ldexp(base.total_seconds(), min(attempt - 1, 40)), max(_MAX_BACKOFF, base).total_seconds())
    return timedelta(seconds=whole * (0.5 + chance / 2))


def next_boundary(now: datetime, interval: timedelta) -> datetime:
    """Return the first instant after `now` that is a whole number of intervals from the epoch.

    >>> from datetime import UTC
    >>> next_boundary(datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC), timedelta(seconds=60)).isoformat()
    '2026-01-01T12:01:00+00:00'
    """
    epoch = datetime.fromtimestamp(0, tz=now.tzinfo)
    return now + interval - (now - epoch) % interval


def jitter_of(*, task_key: str, slot: datetime, jitter: timedelta) -> timedelta:
    """Return the delay of one slot's run: the same for each caller, spread evenly over [0, jitter).

    >>> from datetime import UTC
    >>> jitter_of(task_key="1", slot=datetime(2026, 1, 1, tzinfo=UTC), jitter=timedelta(0)).total_seconds()
    0.0
    """
    if not jitter:
        return timedelta(0)
    digest = hashlib.blake2b(f"{task_key}@{slot.isoformat()}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest) / 2**64
    return timedelta(seconds=jitter.total_seconds() * share)


def _slots_to_run(timetable: Timetable, *, first: datetime, until: datetime, now: datetime) -> tuple[datetime, ...]:
    schedule = timetable.schedule
    newest = schedule.latest(after=first, until=until) or first
    if timetable.misfire == "skip" and now - newest > timetable.misfire_grace:
        return ()
    if timetable.misfire != "all":
        return (newest,)
    return _newest(schedule, first=first, until=newest, count=timetable.misfire_cap)


def _newest(schedule: Schedule, *, first: datetime, until: datetime, count: int) -> tuple[datetime, ...]:
    """Return the newest slots from `first` to `until`: looks back in windows that double, not from the beginning."""
    window = timedelta(minutes=1)
    while True:
        start = max(first, until - window)
        slots = [first] if start == first else []
        slots += schedule.between(start + _MOMENT, until + _MOMENT)
        if len(slots) >= count or start == first:
            return tuple(slots[-count:])
        window *= 2


def _missed(timetable: Timetable, *, first: datetime, until: datetime, runs: tuple[datetime, ...]) -> Missed | None:
    """Describe the slots that do not run: whatever the policy, it is the oldest ones that it leaves out."""
    if runs and runs[0] == first:
        return None
    until = runs[0] - _SECOND if runs else until
    last = timetable.schedule.latest(after=first, until=until) or first
    count = 1 + timetable.schedule.count(after=first, until=last, cap=_COUNT_CAP)
    return Missed(count=count, first=first, last=last, at_least=count > _COUNT_CAP)
