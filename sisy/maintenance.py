"""Keep the rows in order: rescue the runs of dead workers, let waiting runs start, realign slots, prune what is old.

Each tick and each worker calls this; every part is one query when there is nothing to do.
"""

import logging
from datetime import datetime, timedelta

from sisy import conf, realignment
from sisy.models import Heartbeat, Run, Worker
from sisy.transitions import endings, returns

_log = logging.getLogger("sisy.maintenance")
_PRUNE_BATCH = 500  # runs deleted at once; a tick must not take long because nobody pruned for a year
_PRUNE_EVERY = timedelta(seconds=60)
_FORGET_PROCESSES_AFTER = timedelta(days=1)

_last_prune: datetime | None = None


def keep_in_order(now: datetime) -> None:
    """Do all of it; prune at most once a minute in one process."""
    global _last_prune
    rescue(now)
    endings.release_waiting(now=now)
    endings.delete_used_up(now=now)
    realignment.realign_some(now)
    if _last_prune is None or abs(now - _last_prune) >= _PRUNE_EVERY:
        _last_prune = now
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
