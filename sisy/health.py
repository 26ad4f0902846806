"""How sisy is doing: who ticks, who works, what waits, what went wrong lately; and a judgement of it.

The command sisy_status and the dashboard show it. `look` reads rows, `judge` is a pure function of what it read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.db.models import CharField, Count, DateTimeField, Min, QuerySet, Value
from django.db.models.functions import Cast
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from sisy import conf
from sisy.models import Heartbeat, Run, RunStatus, Task, Worker
from sisy.rows.clock import DatabaseNow, database_now
from sisy.transitions.atomic import alias

Level = Literal["error", "warning"]

LATELY: Final = timedelta(days=1)
"""How far back lost, missed and failed runs count."""

_MANY: Final = 10_000  # counting further tells nobody anything and costs time
_LATE_SLOTS: Final = timedelta(seconds=60)  # on top of an interval: a due task is late after that
_LATE_RUNS: Final = timedelta(seconds=300)  # a ready run that waited this long finds no free slot
_PROCESSES: Final = 1000  # heartbeats that are looked at: the newest
_CLOCKS_AGREE: Final = timedelta(seconds=2)

_COUNTED: Final = (
    (
        "lost",
        ngettext_lazy(
            "%(count)s run was LOST within a day: its worker died. Look for what killed it.",
            "%(count)s runs were LOST within a day: their workers died. Look for what killed them.",
            "count",
        ),
    ),
    (
        "missed",
        ngettext_lazy(
            "Once within a day slots passed while nothing ticked; see the MISSED run.",
            "%(count)s times within a day slots passed while nothing ticked; see the MISSED runs.",
            "count",
        ),
    ),
    (
        "parked",
        ngettext_lazy(
            "%(count)s task is set aside because of an error in its row; see the task's error.",
            "%(count)s tasks are set aside because of an error in their rows; see each task's error.",
            "count",
        ),
    ),
)
"""What is wrong as soon as there is one: by the name of the count."""


@dataclass(frozen=True, kw_only=True)
class Ticking:
    """Who ticks.

    Args:
        alive: heartbeat processes that were heard of within a lease.
        holder: host and process of the one heard of last, or an empty string.
        age: time since that, by the database's clock; None when none was ever heard of.
    """

    alive: int
    holder: str
    age: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Working:
    """Who works.

    Args:
        alive: worker processes that were heard of within a lease.
        slots: runs that they can execute at the same time.
        running: runs that are claimed or executing.
        all_queues: whether one of them serves all queues.
        queues: the queues that the others serve.
        versions: the versions of sisy that they run, in order.
    """

    alive: int
    slots: int
    running: int
    all_queues: bool
    queues: frozenset[str]
    versions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The runs of one queue that may start and have no slot yet.

    Args:
        queue: the queue's name.
        ready: how many there are.
        oldest_at: since when the first of them may start.
    """

    queue: str
    ready: int
    oldest_at: datetime


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that an operator should know.

    Args:
        level: an error makes sisy unhealthy, a warning does not.
        code: a stable name, for scripts.
        text: what is wrong, and what to do.
    """

    level: Level
    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Health:
    """What `look` found.

    Args:
        at: the instant of the look, by this host's clock.
        clock_difference: how far this host's clock is ahead of the database's; negative when it is behind.
        ticking: who ticks.
        working: who works.
        scheduled: whether any enabled task has a next slot, so that a heartbeat is needed.
        due: tasks whose slot has come and has no run yet, at most 10,000.
        oldest_due_at: the slot of the first of them.
        backlog: ready runs by queue, in order of the names.
        missed: runs MISSED within the last day, each standing for one slot or many.
        lost: runs LOST within the last day.
        failed: runs FAILED within the last day.
        parked: tasks set aside because of an error in their rows.
    """

    at: datetime
    clock_difference: timedelta
    ticking: Ticking
    working: Working
    scheduled: bool
    due: int
    oldest_due_at: datetime | None
    backlog: tuple[Backlog, ...]
    missed: int
    lost: int
    failed: int
    parked: int

    @property
    def oldest_due(self) -> timedelta | None:
        """How late the first due task is, or None when none is due."""
        return None if self.oldest_due_at is None else max(self.at - self.oldest_due_at, timedelta(0))


def look(now: datetime) -> Health:
    """Read how sisy is doing, in three or four queries that cost the same however many tasks and ended runs there are.

    Args:
        now: the instant to look from, by this host's clock.

    Raises:
        DatabaseError: the database does not answer, or has no tables of sisy's.
    """
    lease = conf.current().lease
    ticking, there = _ticking(lease, now=now)
    sums = _sums(now, since=there - LATELY)
    oldest_due_at = sums.first_slot_at if sums.first_slot_at is not None and sums.first_slot_at <= now else None
    return Health(
        at=now,
        clock_difference=now - there,
        ticking=ticking,
        working=_working(lease, running=sums.counts.get(RunStatus.RUNNING, 0)),
        scheduled=sums.first_slot_at is not None,
        due=0 if oldest_due_at is None else Task.objects.due(now)[:_MANY].count(),
        oldest_due_at=oldest_due_at,
        backlog=sums.backlog,
        missed=sums.counts.get(RunStatus.MISSED, 0),
        lost=sums.counts.get(RunStatus.LOST, 0),
        failed=sums.counts.get(RunStatus.FAILED, 0),
        parked=sums.counts.get("parked", 0),
    )


def judge(health: Health) -> list[Problem]:
    """Say what is wrong, in the language that is active, the errors first.

    Args:
        health: what `look` found.
    """
    found = [*_about_ticks(health), *_about_work(health), *_about_rows(health)]
    return sorted(found, key=lambda problem: problem.level != "error")


def _ticking(lease: timedelta, *, now: datetime) -> tuple[Ticking, datetime]:
    """Return who ticks, and what time it is by the database's clock."""
    rows = list(Heartbeat.objects.annotate(there=DatabaseNow()).order_by("-seen_at")[:_PROCESSES])
    if not rows:
        return Ticking(alive=0, holder="", age=None), database_now(alias()) or now
    there: datetime = rows[0].there
    alive = [row for row in rows if row.stopped_at is None and there - row.seen_at <= lease]
    last = (alive or rows)[0]
    return Ticking(alive=len(alive), holder=str(last), age=max(there - last.seen_at, timedelta(0))), there


def _working(lease: timedelta, *, running: int) -> Working:
    workers = list(Worker.objects.alive(lease).order_by("version").only("queues", "concurrency", "version"))
    served = [worker.queues for worker in workers]
    return Working(
        alive=len(workers),
        slots=sum(worker.concurrency for worker in workers),
        running=running,
        all_queues=None in served,
        queues=frozenset(queue for queues in served for queue in queues or ()),
        versions=tuple(dict.fromkeys(worker.version for worker in workers)),
    )


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """What one statement counts; the counts by status, and "parked"."""

    counts: dict[str, int]
    backlog: tuple[Backlog, ...]
    first_slot_at: datetime | None


def _sums(now: datetime, *, since: datetime) -> _Sums:
    """Count everything in one statement: each part is served by an index of its own."""
    ended = Run.objects.in_trouble().filter(finished_at__gt=since).order_by()
    active = Run.objects.filter(status=RunStatus.RUNNING).order_by()
    ready, tasks = Run.objects.ready(now).order_by(), Task.objects.order_by()
    rows = _part(ready, "backlog", by="queue", at=Min("run_after")).union(
        _part(active, str(RunStatus.RUNNING)),
        _part(ended, "ended", by="status"),
        _part(tasks.filter(enabled=False).parked(), "parked"),
        _part(tasks.enabled(), "first slot", count=Value(0), at=Min("next_run")),
        all=True,
    )
    found = list(rows)
    return _Sums(
        counts={by or kind: count for kind, by, count, at in found if kind not in ("backlog", "first slot")},
        backlog=tuple(
            Backlog(queue=queue, ready=count, oldest_at=at)
            for queue, count, at in sorted((by, count, at) for kind, by, count, at in found if kind == "backlog")
        ),
        first_slot_at=next((at for kind, by, count, at in found if kind == "first slot"), None),
    )


def _part(rows: "QuerySet[Any]", kind: str, *, by: str = "", count: Any = None, at: Any = None) -> "QuerySet[Any]":
    """Return a part of the union: kind, group, count, the earliest instant."""
    part: QuerySet[Any] = rows.values_list(
        Value(kind, output_field=CharField(max_length=64)),
        Cast(by, CharField(max_length=64)) if by else Value("", output_field=CharField(max_length=64)),
    ).annotate(
        number=count if count is not None else Count("pk"),
        at=at if at is not None else Value(None, output_field=DateTimeField()),
    )
    return part


def _about_ticks(health: Health) -> Iterator[Problem]:
    ticking, late = health.ticking, health.oldest_due
    if not ticking.alive:
        level: Level = "error" if health.scheduled else "warning"
        remedy = _("Start manage.py sisy_heartbeat (or manage.py sisy).")
        if ticking.age is None:
            text = _("No heartbeat ticks: none was ever heard of.")
        else:
            text = _("No heartbeat ticks: the last, %(process)s, %(time)s ago.")
            text %= {"process": ticking.holder, "time": duration(ticking.age)}
        yield Problem(level=level, code="no-heartbeat", text=f"{text} {remedy}")
    if late is not None and late > conf.current().heartbeat_interval + _LATE_SLOTS:
        text = ngettext(
            "%(count)s task is due and has no run yet, the first for %(time)s. Are ticks sent, and does a worker "
            "(or the heartbeat itself) do their work? Look for warnings in their logs.",
            "%(count)s tasks are due and have no run yet, the first for %(time)s. Are ticks sent, and does a worker "
            "(or the heartbeat itself) do their work? Look for warnings in their logs.",
            health.due,
        )
        text %= {"count": health.due, "time": duration(late)}
        yield Problem(level="error", code="due-late", text=text)


def _about_work(health: Health) -> Iterator[Problem]:
    working = health.working
    if not working.alive:
        text = _("No worker is alive. Start manage.py sisy_worker (or manage.py sisy).")
        yield Problem(level="error", code="no-worker", text=text)
    if len(working.versions) > 1:
        text = _("Workers run different versions of sisy: %(versions)s. Restart the older ones.")
        yield Problem(level="warning", code="versions-differ", text=text % {"versions": ", ".join(working.versions)})
    for backlog in health.backlog:
        waited, values = health.at - backlog.oldest_at, {"count": backlog.ready, "queue": backlog.queue}
        if working.alive and not working.all_queues and backlog.queue not in working.queues:
            text = ngettext(
                "%(count)s run waits in the queue '%(queue)s', which no worker serves.",
                "%(count)s runs wait in the queue '%(queue)s', which no worker serves.",
                backlog.ready,
            )
            yield Problem(level="error", code="queue-not-served", text=text % values)
        elif waited > _LATE_RUNS:
            text = ngettext(
                "%(count)s run waits in the queue '%(queue)s', the first for %(time)s. Start more workers, or give "
                "them more slots (--concurrency, --processes).",
                "%(count)s runs wait in the queue '%(queue)s', the first for %(time)s. Start more workers, or give "
                "them more slots (--concurrency, --processes).",
                backlog.ready,
            )
            yield Problem(level="warning", code="backlog-late", text=text % {**values, "time": duration(waited)})


def _about_rows(health: Health) -> Iterator[Problem]:
    difference = health.clock_difference
    if abs(difference) > _CLOCKS_AGREE:
        text = (
            _("This host's clock is %(time)s ahead of the database's. Have both keep time by NTP.")
            if difference > timedelta(0)
            else _("This host's clock is %(time)s behind the database's. Have both keep time by NTP.")
        )
        yield Problem(level="warning", code="clocks-differ", text=text % {"time": duration(abs(difference))})
    for code, sentence in _COUNTED:
        if count := getattr(health, code):
            yield Problem(level="warning", code=code, text=sentence % {"count": count})


def ago(age: timedelta) -> str:
    """Say how long ago something was."""
    return f"{duration(age)} ago"


def duration(length: timedelta) -> str:
    """Say a duration in its largest unit.

    >>> duration(timedelta(seconds=0.25)), duration(timedelta(minutes=200)), duration(timedelta(days=3))
    ('0.2 s', '3.3 h', '3.0 d')
    """
    seconds = length.total_seconds()
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"
