"""Keep the rows in order: rescue the runs of dead workers, let waiting runs start, realign slots, prune what is old.

Each tick and each worker calls this; every part is one query when there is nothing to do.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from sisy import conf, realignment
from sisy.models import Heartbeat, Run, Worker
from sisy.transitions import endings, returns

_log = logging.getLogger("sisy.maintenance")
_PRUNE_BATCH = 500  # runs deleted at once; a tick must not take long because nobody pruned for a year
_ROUNDS_EVERY = timedelta(seconds=60)
_FORGET_PROCESSES_AFTER = timedelta(days=1)

_last_rounds: datetime | None = None


def signs() -> "tuple[QuerySet[Run, Any], QuerySet[Run, Any]]":
    """Return two questions whose answers say whether leases have expired, and whether runs wait for others."""
    return Run.objects.expired().values_list("pk"), Run.objects.waiting().values_list("pk")


def keep_in_order(now: datetime, *, expired: bool = True, waiting: bool = True, closed: bool = True) -> None:
    """Do all of it that there is a sign for; what can wait, at most once a minute in one process.

    Args:
        now: the instant to look from.
        expired: whether a lease may have expired.
        waiting: whether a run may wait for another one.
        closed: whether a task may have no slot left without having a run.
    """
    global _last_rounds
    rounds = _last_rounds is None or abs(now - _last_rounds) >= _ROUNDS_EVERY
    if expired:
        rescue(now)
    if waiting:
        endings.release_waiting(now=now)
    if closed or rounds:
        endings.delete_used_up(now=now)
    realignment.realign_some(now)
    if rounds:
        _last_rounds = now
        prune(now)


def rescue(now: datetime) -> list[Run]:
    """Take runs whose lease expired from their dead worker; return them as they are now."""
    return returns.rescue(now=now, max_crashes=conf.current().max_crashes)


def prune(now: datetime, *, batches: int = 1) -> int:
    """Delete ended runs that are too old or too many, and processes that were not heard of for a day.

    Args:
        now: the instant to count the age from.
        batches: how many times 500 runs to delete at most, for each of the two reasons.

    Returns:
        how many runs were deleted.
    """
    settings = conf.current()
    deleted = 0
    if settings.keep_runs_days is not None:
        for _ in range(batches):
            batch = endings.prune_old(before=now - settings.keep_runs_days, limit=_PRUNE_BATCH)
            deleted += batch
            if not batch:
                break
    if settings.keep_runs_per_task is not None:
        deleted += _prune_by_count(keep=settings.keep_runs_per_task, batches=batches)
    for process in (Worker, Heartbeat):
        process.objects.unseen_for(_FORGET_PROCESSES_AFTER).delete()
    return deleted


def _prune_by_count(*, keep: int, batches: int) -> int:
    """Prune the tasks with the most runs among a sample: those whose runs are the newest have them the most often."""
    newest = Run.objects.ended().order_by("-pk").values_list("task_id", flat=True)[: 100 * batches]
    deleted = 0
    for task_key in {key for key in newest if key is not None}:
        deleted += endings.prune_task(task_key, keep=keep, limit=_PRUNE_BATCH * batches)
    return deleted
