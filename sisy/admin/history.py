"""What became of tasks' runs, read in a constant number of queries for any number of tasks, as frozen values.

The list of tasks and the page of a task draw from these: strip.py, heatmap.py and durations.py are given them.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from math import ceil
from operator import or_
from typing import Final

from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.utils.translation import gettext as _

from sisy.admin import shown
from sisy.models import Run, RunStatus, Task

_COLUMNS: Final = (
    *("pk", "task_id", "status", "slot", "enqueued_at", "started_at", "finished_at"),
    *("reason", "missed_count", "missed_since"),
)


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """One run of a task, as far as it is drawn; the names are those of Run's columns."""

    pk: int
    task_id: int
    status: str
    slot: datetime | None
    enqueued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str
    missed_count: int
    missed_since: datetime | None

    @property
    def at(self) -> datetime:
        """The instant that it is for."""
        return self.slot or self.enqueued_at

    @property
    def duration(self) -> timedelta | None:
        """How long its last attempt ran, or None if it did not run or is not over."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(self.finished_at - self.started_at, timedelta(0))


@dataclass(frozen=True, kw_only=True)
class Typical:
    """How long runs take: half of them at most `p50`, 95 of 100 at most `p95`, of `count` that were looked at."""

    p50: timedelta
    p95: timedelta
    count: int

    @property
    def text(self) -> str:
        """Both, short."""
        return f"p50 {shown.duration(self.p50)} · p95 {shown.duration(self.p95)}"

    @property
    def meaning(self) -> str:
        """Both, in a sentence."""
        text = _("Half of the last %(count)d successful runs took at most %(p50)s, 95 of 100 at most %(p95)s")
        return text % {"count": self.count, "p50": shown.duration(self.p50), "p95": shown.duration(self.p95)}


def newest_runs(task_keys: Collection[int], *, count: int) -> dict[int, list[PastRun]]:
    """Return the newest runs of each of these tasks, the oldest first, in two queries.

    No join and no window: where each task's newest `count` runs begin is one step in the index on (task, id), and from
    there on the index has nothing but what is wanted. A window would read, and sort, all that is kept of them.
    """
    found: dict[int, list[PastRun]] = defaultdict(list)
    if not task_keys:
        return found
    oldest = Run.objects.filter(task=OuterRef("pk")).order_by("-pk").values("pk")[count - 1 : count]
    begins = dict(Task._base_manager.filter(pk__in=task_keys).values_list("pk").annotate(oldest=Subquery(oldest)))
    wanted = [Q(task__in=[key for key, oldest in begins.items() if oldest is None])]
    wanted += [Q(task=key, pk__gte=oldest) for key, oldest in begins.items() if oldest is not None]
    for run in _past(Run.objects.filter(reduce(or_, wanted))):
        found[run.task_id].append(run)
    return found


def kept_runs(task_key: int, *, most: int) -> list[PastRun]:
    """Return what is kept of a task's runs, the oldest first, in one query.

    Args:
        task_key: the task.
        most: read no more than its newest so many.
    """
    newest = Run.objects.filter(task=task_key).order_by("-pk")
    return _past(newest[:most])[::-1]


def typical(runs: Iterable[PastRun]) -> Typical | None:
    """Return how long those of the runs took that succeeded, or None if none did.

    >>> typical([]) is None
    True
    """
    times = [run.duration for run in runs if run.status == RunStatus.SUCCESSFUL]
    known = sorted(time for time in times if time is not None)
    if not known:
        return None
    return Typical(p50=percentile(known, 50), p95=percentile(known, 95), count=len(known))


def percentile(ordered: Sequence[timedelta], share: int) -> timedelta:
    """Return the smallest of the values than which `share` of 100 are not greater; the values come in order.

    >>> percentile([timedelta(seconds=n) for n in range(1, 11)], 95).total_seconds()
    10.0
    """
    return ordered[max(0, ceil(len(ordered) * share / 100) - 1)]


def _past(runs: "QuerySet[Run]") -> list[PastRun]:
    if not runs.query.is_sliced:
        runs = runs.order_by("pk")
    return [PastRun(**dict(zip(_COLUMNS, row, strict=True))) for row in runs.values_list(*_COLUMNS)]
