"""RUNNING -> READY, or an end, without an outcome: released or declined by its worker, or rescued from a dead one.

The engine releases, declines and expires, maintenance.py rescues.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sisy import policy
from sisy.rows.run import Run, RunStatus
from sisy.transitions.atomic import alias, announce, locked, tried_again, write
from sisy.transitions.claims import from_now, lock_held
from sisy.transitions.endings import CANCELLED_BY_USER, end

WORKER_DIED = "its worker died or lost contact while it ran"


@tried_again
def release(runs: Sequence[Run], *, now: datetime) -> int:
    """Hand claimed runs of one worker whose functions were not called back at once; return how many.

    Args:
        runs: the runs, as they were claimed.
        now: what is written as the end of those that were cancelled meanwhile.
    """
    with write():
        return _return(runs, event="released", now=now)


@tried_again
def decline(runs: Sequence[Run], *, reason: str, now: datetime) -> int:
    """Hand claimed runs of one worker back whose code it lacks, so that others try; return how many.

    Args:
        runs: the runs, as they were claimed.
        reason: what the rows will say until somebody executes them.
        now: what is written for those that no worker has declined before.
    """
    first, again = (
        [run for run in runs if run.declined_at is None],
        [run for run in runs if run.declined_at is not None],
    )
    with write():
        count = _return(first, event="declined", now=now, reason=reason, declined_at=now)
        return count + _return(again, event="declined", now=now, reason=reason)


@tried_again
def release_strays(*, worker: uuid.UUID, held: Mapping[int, uuid.UUID], now: datetime) -> int:
    """Hand back what a worker has claimed without knowing, or could not start; return how many runs.

    The answer to a commit can get lost. Only the worker itself knows that it has not called these functions; nobody
    else has to wait for the end of their leases then, and no crash is counted.

    Args:
        worker: the id of the worker.
        held: the token of each claim that it knows of, by the run's key.
        now: what is written as the end of those that were cancelled meanwhile.
    """
    with write():
        claimed = locked(Run.objects.filter(worker=worker, status=RunStatus.RUNNING).order_by("pk"))
        strays = [run for run in claimed if held.get(run.pk) != run.claim]
        _hand_back([run for run in strays if run.cancel_requested_at is None], event="released")
        _cancel((run for run in strays if run.cancel_requested_at is not None), now=now)
    return len(strays)


@tried_again
def expire(held: Mapping[int, uuid.UUID]) -> int:
    """End the leases of a worker that goes away at once, so that others need not wait for them; return how many.

    Args:
        held: the token with which each run was claimed, by the run's key.
    """
    with write():
        mine = list(lock_held(held))
        return (
            Run.objects.using(alias()).filter(pk__among=mine).update(lease_expires_at=from_now(timedelta(seconds=-1)))
        )


@tried_again
def rescue(*, now: datetime, max_crashes: int, limit: int = 500) -> list[Run]:
    """Take runs whose lease expired from their dead worker: READY again, LOST, or CANCELLED if somebody asked for that.

    Args:
        now: what is written as the end of those that are over.
        max_crashes: how often a run is handed out again.
        limit: the most runs to rescue at once.

    Returns:
        the runs, as they are now.
    """
    if not Run.objects.using(alias()).expired().exists():  # the usual case costs one query and no transaction
        return []
    with write():
        runs = list(locked(Run.objects.expired().order_by("pk"), skip=True)[:limit])
        again: list[Run] = []
        lost: list[Run] = []
        for run in runs:
            if run.cancel_requested_at is None:
                (again if _count_crash(run, max_crashes=max_crashes) == "ready" else lost).append(run)
        _hand_back(again, event="rescued")
        _end(lost, status=RunStatus.LOST, reason=WORKER_DIED, now=now)
        _cancel((run for run in runs if run.cancel_requested_at is not None), now=now)
    return runs


def _return(runs: Sequence[Run], *, event: str, now: datetime, **columns: Any) -> int:
    """Hand back those runs whose claims still hold, or end them where that was asked for; return how many."""
    held = lock_held({run.pk: run.claim for run in runs})
    back = [run for run in runs if run.pk in held]
    for run in back:
        run.task_id = held[run.pk].task_id
        run.cancel_requested_at, run.reason = held[run.pk].cancel_requested_at, held[run.pk].reason
    _hand_back([run for run in back if run.cancel_requested_at is None], event=event, **columns)
    _cancel((run for run in back if run.cancel_requested_at is not None), now=now)
    return len(back)


def _count_crash(run: Run, *, max_crashes: int) -> policy.Fate:
    fate, run.crashes = policy.after_crash(
        started=run.started_at is not None, at_most_once=run.at_most_once, crashes=run.crashes, max_crashes=max_crashes
    )
    return "lost" if run.task_id is None else fate  # without its task there is nothing to run again


def _hand_back(runs: Sequence[Run], *, event: str, **columns: Any) -> None:
    """Make locked runs READY again, each with its count of crashes; all of them get the same other columns."""
    values = columns | {
        "status": RunStatus.READY, "worker": None, "claim": None, "lease_expires_at": None, "started_at": None,
    }  # fmt: skip
    for crashes in {run.crashes for run in runs}:
        keys = [run.pk for run in runs if run.crashes == crashes]
        Run.objects.using(alias()).filter(pk__among=keys).update(**values, crashes=crashes)
    for run in runs:
        for column, value in values.items():
            setattr(run, column, value)
    announce(event, runs)


def _cancel(runs: Iterable[Run], *, now: datetime) -> None:
    for run in runs:
        _end([run], status=RunStatus.CANCELLED, reason=run.reason or CANCELLED_BY_USER, now=now)


def _end(runs: Sequence[Run], *, status: RunStatus, reason: str, now: datetime) -> None:
    for run in runs:
        run.status, run.reason, run.finished_at = status, reason, now
        run.claim = run.lease_expires_at = None
    end(runs, now=now)
