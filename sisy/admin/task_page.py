"""What stands above the form on a task's page: how it is, what comes, what was, how long it took, who changed it.

Three queries beside the task's own. templates/admin/sisy/task/page.html draws it, and runs.html the newest runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sisy import conf
from sisy.admin import shown
from sisy.admin.changes import Entry, entries_of
from sisy.admin.durations import Durations, durations
from sisy.admin.heatmap import Heatmap, heatmap
from sisy.admin.history import PastRun, kept_runs
from sisy.admin.plan import TaskPlan, plan_of
from sisy.admin.policies import Policy, policies_of
from sisy.admin.strip import Strip, strip
from sisy.models import Task

_MOST_RUNS = 5000  # of one task that are read for the calendar; by default no more than 1,000 are kept
_NEWEST = 8
_ENTRIES = 5


@dataclass(frozen=True, kw_only=True)
class RecentRun:
    """A line of the list of newest runs."""

    key: str
    status: str
    at: str
    duration: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TaskPage:
    """All of it.

    Args:
        task: the task.
        state: its state: sign and word.
        plan: when it runs.
        strip: its last thirty runs.
        recent: its newest runs, the newest first.
        heatmap: its ninety days.
        days_kept: for how many days runs are kept, or None.
        durations: how long runs took, or None if none succeeded.
        policies: its policies in words.
        iterations_left: how many runs may still be created, or None for any number.
        entries: who changed it.
    """

    task: Task
    state: str
    plan: TaskPlan
    strip: Strip
    recent: tuple[RecentRun, ...]
    heatmap: Heatmap
    days_kept: int | None
    durations: Durations | None
    policies: tuple[Policy, ...]
    iterations_left: int | None
    entries: tuple[Entry, ...]

    @property
    def next(self) -> str:
        """When it runs next."""
        return shown.instant_and_distance(self.task.next_run if self.task.enabled else None)

    @property
    def last(self) -> str:
        """When it ran last."""
        return shown.instant_and_distance(self.task.last_run)

    @property
    def p50(self) -> str:
        """How long half of the runs take at most."""
        return shown.duration(self.durations.typical.p50 if self.durations else None)

    @property
    def p95(self) -> str:
        """How long 95 of 100 runs take at most."""
        return shown.duration(self.durations.typical.p95 if self.durations else None)


def task_page(task: Task, *, state: str, now: datetime) -> TaskPage:
    """Return what a task's page shows.

    Args:
        task: as it is in its row, however bad.
        state: its state as it is shown.
        now: the instant to look from.
    """
    runs = kept_runs(task.pk, most=_MOST_RUNS)
    plan = plan_of(task)
    zone = ZoneInfo("UTC") if plan.error else ZoneInfo(task.zone_name)
    kept = conf.current().keep_runs_days
    return TaskPage(
        task=task,
        state=state,
        plan=plan,
        strip=strip(runs),
        recent=tuple(_recent(run) for run in reversed(runs[-_NEWEST:])),
        heatmap=heatmap(
            runs, today=now.astimezone(zone).date(), zone=zone, kept_since=_kept_since(task, runs, now=now, zone=zone)
        ),
        days_kept=kept.days if kept else None,
        durations=durations(runs),
        policies=policies_of(task),
        iterations_left=max(0, task.iterations - task.runs_created) if task.iterations else None,
        entries=tuple(entries_of(task, most=_ENTRIES)),
    )


def _kept_since(task: Task, runs: Sequence[PastRun], *, now: datetime, zone: ZoneInfo) -> date:
    """Return the first day of which no run was deleted for its age or for the number of runs."""
    settings = conf.current()
    since = task.created_at
    if settings.keep_runs_days is not None:
        since = max(since, now - settings.keep_runs_days)
    if settings.keep_runs_per_task is not None and len(runs) >= min(settings.keep_runs_per_task, _MOST_RUNS):
        since = max(since, runs[0].enqueued_at)
    if since == task.created_at:
        return date.min
    return since.astimezone(zone).date() + timedelta(days=1)


def _recent(run: PastRun) -> RecentRun:
    return RecentRun(
        key=str(run.pk),
        status=shown.status(run.status),
        at=shown.instant(run.at, text=shown.distance(run.at)),
        duration=shown.duration(run.duration),
        reason=shown.short(run.reason, 160),
    )
