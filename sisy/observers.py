"""Runs and tasks changed -> log lines, nudges, hints for whoever watches, and the public signals one by one.

Connected once by apps.py; the transitions announce in batches, after their commit. The door by which every change of a
row leaves this process.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone

from sisy import conf, layer, policy, signals
from sisy.messages import changed
from sisy.models import Run, RunStatus, Task

_log = logging.getLogger("sisy.run")
_task_log = logging.getLogger("sisy.task")

_LINES = 10  # of one batch in the log: a dead worker's hundreds of runs are one piece of news
_LEVELS = {RunStatus.FAILED: logging.ERROR, RunStatus.LOST: logging.ERROR, RunStatus.MISSED: logging.WARNING}


def connect() -> None:
    """Connect the observers; calling it twice is harmless."""
    signals.runs_changed.connect(on_runs_changed, dispatch_uid="sisy.observers")
    signals.tasks_changed.connect(on_tasks_changed, dispatch_uid="sisy.observers")
    signals.run_progressed.connect(on_run_progressed, dispatch_uid="sisy.observers")


def on_runs_changed(sender: type[Run], *, event: str, runs: Sequence[Run], **_: Any) -> None:
    """Pass on what happened to a batch of runs."""
    _EVENTS[event](runs)
    layer.publish(changed((run.pk for run in runs), (run.task_id for run in runs if run.task_id is not None)))


def on_tasks_changed(sender: type[Task], *, event: str, tasks: Sequence[Task], **_: Any) -> None:
    """Pass on what happened to the timing of tasks."""
    now = timezone.now()
    layer.publish(changed(tasks=(task.pk for task in tasks if task.pk is not None)))
    if event == "scheduled":
        if any(_comes_before_next_boundary(task, now=now) for task in tasks):
            layer.kick()
    elif event == "parked":
        for task in tasks:
            _task_log.error("Task %s (%s) was set aside: %s", task.pk, task, task.error, extra={"task_id": task.pk})
            signals.task_parked.send_robust(sender=Task, task=task)
    elif event == "exhausted" and signals.task_exhausted.has_listeners(Task):
        for task in tasks:
            signals.task_exhausted.send_robust(sender=Task, task=task)


def on_run_progressed(sender: type[Run], *, run: Run, **_: Any) -> None:
    """Pass on that a run says how far it is."""
    layer.publish(changed([run.pk]))


def _comes_before_next_boundary(task: Task, *, now: datetime) -> bool:
    boundary = policy.next_boundary(now, conf.current().heartbeat_interval)
    return task.enabled and task.next_run is not None and task.next_run < boundary


def _enqueued(runs: Sequence[Run]) -> None:
    _nudge(runs)
    _say(runs, "enqueued", level=logging.DEBUG)


def _back(runs: Sequence[Run]) -> None:
    _nudge(runs)
    _say(runs, "ready again", level=logging.INFO)


def _rescued(runs: Sequence[Run]) -> None:
    _nudge(runs)
    _say(runs, "taken from a worker that died or lost contact, ready again", level=logging.WARNING)


def _declined(runs: Sequence[Run]) -> None:
    _nudge(runs)
    _say(runs, f"handed back for another worker to try: {runs[0].reason}", level=logging.WARNING)


def _claimed(runs: Sequence[Run]) -> None:
    _say(runs, "claimed", level=logging.DEBUG)


def _started(runs: Sequence[Run]) -> None:
    _say(runs, "started", level=logging.DEBUG)


def _cancelling(runs: Sequence[Run]) -> None:
    layer.cancel({run.worker for run in runs if run.worker is not None})
    _say(runs, "asked to cancel", level=logging.INFO)


def _retried(runs: Sequence[Run]) -> None:
    _nudge(runs)  # so that a worker learns when to look again
    for run in runs:
        _log.warning(
            "Run %s of %s failed, attempt %s follows at %s: %s",
            run.pk, run.label, run.attempt, run.run_after, run.reason, extra=_ids(run),
        )  # fmt: skip
    _send(signals.run_retry_scheduled, runs)


def _finished(runs: Sequence[Run]) -> None:
    for run in runs:
        level = _LEVELS.get(RunStatus(run.status), logging.INFO)
        if _log.isEnabledFor(level):
            seconds = run.duration.total_seconds() if run.duration else 0
            reason = f": {run.reason}" if run.reason else ""
            _log.log(
                level, "Run %s of %s %s in %.3f s%s", run.pk, run.label, run.status, seconds, reason, extra=_ids(run)
            )
    _send(signals.run_finished, runs)
    _send(signals.run_failed, [run for run in runs if run.status in (RunStatus.FAILED, RunStatus.LOST)])
    _send(signals.run_missed, [run for run in runs if run.status == RunStatus.MISSED])


_EVENTS: dict[str, Callable[[Sequence[Run]], None]] = {
    "enqueued": _enqueued,
    "released": _back,
    "rescued": _rescued,
    "declined": _declined,
    "claimed": _claimed,
    "started": _started,
    "cancelling": _cancelling,
    "retried": _retried,
    "finished": _finished,
}


def _nudge(runs: Sequence[Run]) -> None:
    layer.nudge({run.queue for run in runs})


def _say(runs: Sequence[Run], what: str, *, level: int) -> None:
    if not _log.isEnabledFor(level):
        return
    for run in runs[:_LINES]:
        _log.log(level, "Run %s of %s %s", run.pk, run.label, what, extra=_ids(run))
    if len(runs) > _LINES:
        _log.log(level, "%s more runs %s", len(runs) - _LINES, what)


def _send(signal: Any, runs: Sequence[Run]) -> None:
    if runs and signal.has_listeners(Run):
        for run in runs:
            signal.send_robust(sender=Run, run=run)


def _ids(run: Run) -> dict[str, Any]:
    return {"run_id": run.pk, "task_id": run.task_id, "run_status": run.status}
