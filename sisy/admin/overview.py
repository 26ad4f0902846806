"""What the overview shows, read in a handful of queries and kept for a moment, so that many who watch cost as one.

`survey` gives one frozen value; dashboard.py shows its parts in live regions.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connections
from django.db.models import CharField, Count, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Cast, Concat, Substr
from django.utils import timezone

from sisy import health, layer
from sisy.live.turns import PAGES, longest_round
from sisy.models import Run, RunStatus, Task, Worker
from sisy.transitions.atomic import alias

MINUTES: Final = 60  # of the chart
MOST_FAILURES: Final = 1000  # the newest, that are grouped
_MOST_RUNNING: Final = 25
_MOST_UPCOMING: Final = 10
_MOST_GROUPS: Final = 12
_KEEP: Final = 0.4  # seconds that a survey may be old, unless this process itself changes something
_SHARE: Final = 19  # and this many times as long as it took to read: a twentieth of a core at most, however many look
_SHARE_OF_ROUND: Final = 0.2  # and this part of the time in which all who look have a turn: nobody sees the difference
_LONGEST_KEEP: Final = 2.0  # what is shown is never older than a breath,
_LONGEST_OF_ROUND: Final = 5.0  # or than this where those who look have to wait for their turns anyway
_PING_EVERY: Final = 20.0  # seconds between two round trips through the channel layer
_PING_PATIENCE: Final = 0.05  # seconds that a page waits for the first of them

ENDED: Final = [str(status) for status in RunStatus if status not in (RunStatus.READY, RunStatus.RUNNING)]
FAILURES: Final = (RunStatus.FAILED, RunStatus.LOST)


@dataclass(frozen=True, kw_only=True)
class Minute:
    """What ended in one minute of the last hour."""

    at: datetime
    good: int
    bad: int
    other: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Runs that failed in the same way within a day.

    Args:
        callable: what they called.
        exception: the name of the exception, or the reason of a lost run.
        count: how many there are.
        last: the newest of them: pk, label, reason, finished_at.
    """

    callable: str
    exception: str
    count: int
    last: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Everything that the overview shows, at one instant.

    Args:
        at: the instant.
        read_at: the same by time.monotonic().
        health: how sisy is doing.
        counts: by status, runs of the last day; "later" and "blocked", runs that may not start yet; "enabled",
            "paused" and "ending", tasks.
        minutes: the last hour.
        running: the first of the runs that are executing, each with `worker_name`.
        failures: the failures of the last day in groups, the newest first.
        failures_cut: whether there were more than are grouped.
        upcoming: the tasks that are due next.
        round_trip: of the channel layer; None while it is measured.
    """

    at: datetime
    read_at: float
    health: health.Health
    counts: dict[str, int]
    minutes: Sequence[Minute]
    running: Sequence[Run]
    failures: Sequence[Failure]
    failures_cut: bool
    upcoming: Sequence[Task]
    round_trip: layer.RoundTrip | None


def _keep(took: float) -> float:
    """Return how many seconds a survey is good that took so long to read."""
    of_round = min(_SHARE_OF_ROUND * longest_round(PAGES), _LONGEST_OF_ROUND)
    return max(_KEEP, min(_SHARE * took, _LONGEST_KEEP), of_round)


class _Kept:
    """The last survey, for as long as it is good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._survey: Survey | None = None
        self._until = 0.0
        self._forgotten = 0  # how often

    def get(self) -> Survey:
        """Return a survey; whoever comes while one is read waits for that one."""
        with self._lock:
            if self._survey is None or time.monotonic() >= self._until:
                forgotten = self._forgotten
                self._survey = read(timezone.now())
                now = time.monotonic()
                self._until = now + _keep(now - self._survey.read_at) if forgotten == self._forgotten else 0.0
            return self._survey

    def forget(self) -> None:
        """Have the next one read anew, also if one is being read just now."""
        self._forgotten += 1
        self._until = 0.0

    def forget_what_is_old(self, _changed: object) -> None:
        """Have the next one read anew for what this process has changed, unless it changes things all the time."""
        if not layer.has_engine():
            self.forget()


_kept = _Kept()
forget = _kept.forget
"""Have the next survey read anew."""

layer.add_watcher(_kept.forget_what_is_old)  # what a web server's process changes, its next page shows


def survey() -> Survey:
    """Return what the overview shows; it may be two seconds old if reading it takes long."""
    return _kept.get()


def read(now: datetime) -> Survey:
    """Read what the overview shows: eight queries with those of health."""
    read_at = time.monotonic()
    counts, minutes = _tallies(now)
    failures, is_cut = _failures(now)
    return Survey(
        at=now,
        read_at=read_at,
        health=health.look(now),
        counts=counts,
        minutes=minutes,
        running=_running(),
        failures=failures,
        failures_cut=is_cut,
        upcoming=list(Task.objects.enabled().exclude(next_run=None).order_by("next_run", "pk")[:_MOST_UPCOMING]),
        round_trip=_ping.last(),
    )


def failed_runs(now: datetime) -> "QuerySet[Run]":
    """Return the runs that failed within a day, the newest first."""
    return Run.objects.filter(status__in=FAILURES, finished_at__gt=now - health.LATELY).order_by("-finished_at")


def exception_of(reason: str) -> str:
    """Return the name of the exception that a reason begins with, or the reason.

    >>> exception_of("KeyError: 'sku'"), exception_of("its worker died"), exception_of("SystemExit")
    ('KeyError', 'its worker died', 'SystemExit')
    """
    name, _colon, _text = reason.partition(":")
    return name if name.isidentifier() else reason


def _tallies(now: datetime) -> tuple[dict[str, int], list[Minute]]:
    """Count what ended within a day by status, within an hour by minute too, and what waits; in one statement."""
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
    ended = Run.objects.filter(status__in=ENDED, finished_at__gt=now - health.LATELY).order_by()
    lately = Run.objects.filter(status__in=ENDED, finished_at__gte=first).order_by()
    ready, tasks = Run.objects.filter(status=RunStatus.READY).order_by(), Task.objects.order_by()
    minute = Substr(Cast("finished_at", CharField(max_length=32)), 1, 16)
    found = list(
        _part(ended, "day", F("status")).union(
            _part(lately, "minute", F("status"), minute),
            _part(ready.filter(run_after__gt=now), "later"),
            _part(ready.filter(run_after=None), "blocked"),
            _part(tasks.filter(enabled=True).exclude(next_run=None), "enabled"),
            _part(tasks.filter(enabled=True, next_run=None), "ending"),
            _part(tasks.filter(enabled=False, error=""), "paused"),
            all=True,
        )
    )
    counts = {status or kind: count for kind, status, _minute, count in found if kind != "minute"}
    by_minute: dict[datetime, dict[str, int]] = {}
    for kind, status, text, count in found:
        if kind == "minute":
            by_minute.setdefault(_minute(text), {})[status] = count
    minutes = [first + timedelta(minutes=n) for n in range(MINUTES)]
    return counts, [_minute_of(at, by_minute.get(at, {})) for at in minutes]


def _part(rows: "QuerySet[Any]", kind: str, status: Any = None, minute: Any = None) -> "QuerySet[Any]":
    nothing, text = Value("", output_field=CharField(max_length=32)), CharField(max_length=32)
    part: QuerySet[Any] = rows.values_list(
        Value(kind, output_field=text), Cast(status, text) if status else nothing, minute or nothing
    ).annotate(number=Count("pk"))
    return part


def _minute(text: str) -> datetime:
    """Return the minute that a database wrote as text, in the zone in which it keeps instants."""
    return (
        datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=connections[alias()].timezone or UTC).astimezone(UTC)
    )


def _minute_of(at: datetime, counts: dict[str, int]) -> Minute:
    good = counts.get(RunStatus.SUCCESSFUL, 0)
    bad = sum(counts.get(status, 0) for status in FAILURES)
    return Minute(at=at, good=good, bad=bad, other=sum(counts.values()) - good - bad)


def _running() -> list[Run]:
    worker = Worker.objects.filter(pk=OuterRef("worker"))
    name = Subquery(worker.values(name=Concat("host", Value(":"), Cast("pid", CharField(max_length=12)))))
    running = Run.objects.filter(status=RunStatus.RUNNING).annotate(worker_name=name).order_by("pk")
    return list(running.defer("args", "kwargs", "userdata", "result", "errors")[:_MOST_RUNNING])


def _failures(now: datetime) -> tuple[list[Failure], bool]:
    rows: list[Any] = list(failed_runs(now).values("pk", "label", "callable", "reason", "finished_at")[:MOST_FAILURES])
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["callable"], exception_of(row["reason"])), []).append(row)
    found = [
        Failure(callable=path, exception=exception, count=len(members), last=members[0])
        for (path, exception), members in groups.items()
    ]
    return found[:_MOST_GROUPS], len(rows) == MOST_FAILURES


def same_failures(now: datetime, *, path: str, exception: str) -> list[Run]:
    """Return the runs of a group of failures that are worth running again: the newest of each task.

    Args:
        now: the end of the day that is looked at.
        path: what they called.
        exception: what exception_of says of their reasons.
    """
    alike = Q(callable=path, reason__startswith=exception[:255])
    runs = failed_runs(now).filter(alike).select_related("task")[:MOST_FAILURES]
    newest: dict[object, Run] = {}
    for run in runs:
        if exception_of(run.reason) == exception:
            newest.setdefault(run.task_id or ("gone", run.pk), run)
    return list(newest.values())


class _Ping:
    """Measures the channel layer's round trip now and then, beside the pages, which never wait long for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: layer.RoundTrip | None = None
        self._at = -_PING_EVERY
        self._thread: threading.Thread | None = None

    def last(self) -> layer.RoundTrip | None:
        """Return the last round trip, and see to it that there will be a new one."""
        if layer.configured() is None:
            return layer.RoundTrip(reaches="nobody")
        with self._lock:
            if self._thread is None and time.monotonic() - self._at >= _PING_EVERY:
                self._thread = threading.Thread(target=self._measure, name="sisy-ping", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None and self._found is None:
            thread.join(_PING_PATIENCE)
        return self._found

    def _measure(self) -> None:
        found = layer.round_trip()
        with self._lock:
            self._found, self._at, self._thread = found, time.monotonic(), None


_ping = _Ping()
