"""Make up what became of a task's runs, for the tests of what the admin draws of them."""

from datetime import datetime, timedelta
from typing import Any

from sisy.admin.history import PastRun
from sisy.models import Run, Task


def past_run(status: str = "SUCCESSFUL", *, at: datetime, seconds: float | None = None, **values: Any) -> PastRun:
    """Return a run as it is drawn, for a slot, which ran for so many seconds."""
    times: dict[str, Any] = {"started_at": None, "finished_at": None}
    if seconds is not None:
        times = {"started_at": at, "finished_at": at + timedelta(seconds=seconds)}
    plain = {"pk": 1, "task_id": 1, "reason": "", "missed_count": 0, "missed_since": None, "enqueued_at": at}
    return PastRun(**{**plain, "slot": at, "status": status, **times, **values})


def write_run(task: Task, status: str = "SUCCESSFUL", *, at: datetime, seconds: float = 1, **values: Any) -> Run:
    """Write the row of a run that is over."""
    times = {"enqueued_at": at, "run_after": at, "started_at": at, "finished_at": at + timedelta(seconds=seconds)}
    named = {"label": task.label, "callable": task.callable, "status": status}
    return Run.objects.create(task=task, **{"slot": at, **named, **times, **values})
