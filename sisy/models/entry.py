"""How new tasks enter the database: one way for one task and for many.

models/task.py calls `create`; models/queries.py calls `prepare`, then inserts the rows, then `enter` in the same
transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.db import connections, router
from django.utils import timezone

from sisy import conf, jsondata
from sisy.errors import InvalidTime
from sisy.rows.inserts import copies, insert, insert_both, insert_many
from sisy.transitions import planning
from sisy.transitions.atomic import announce, announce_tasks, locked, write

if TYPE_CHECKING:
    from sisy.models.task import Task

T = TypeVar("T", bound="Task")

_CHUNK: Final = 1000  # rows in one INSERT


def prepare(task: "Task", *, now: datetime) -> None:
    """Check a new task and give the scheduler's columns their first values.

    Raises:
        InvalidInput: a value is wrong, or there is no slot before its end.
    """
    task.created_at = task.modified_at = now
    task.check_values()
    task.hash_seed = task.new_hash_seed()
    task.error, task.schedule_version, task.last_run, task.runs_created = "", 0, None, 0
    runs_at_once = task.is_one_shot or not task.wait_for_schedule
    starts_later = task.start_running is not None and task.start_running > now
    if runs_at_once and starts_later:
        task.next_run = task.start_running
    elif runs_at_once and task.enabled:
        task.runs_created, task.last_run = 1, now
        task.next_run = task.slot_after(now)
    else:
        task.next_run = task.slot_after(now)
    if task.next_run is None and not task.runs_created:
        raise InvalidTime(
            f"schedule {task.schedule!r} ({task.zone_name}) has no slot before end_running, "
            f"{task.end_running and task.end_running.isoformat()}. Give a later end, or another schedule.",
            field="end_running",
        )


def create(task: "Task", *, using: str | None) -> None:
    """Insert a new task, and its run if that starts at once.

    Raises:
        InvalidInput: a value is wrong; nothing was inserted.
    """
    now = timezone.now()
    prepare(task, now=now)
    if task.runs_created:
        run = planning.run_of(task, slot=None, now=now)
        if insert_both(task, run, link="task", using=using):
            announce("enqueued", [run])
            _entered([task])
            return
    with write():
        insert(task, using=using)
        enter([task], now=now)


def lock_rows(model: type["Task"], keys: Sequence[int]) -> None:
    """Lock tasks, in one order: a tick that is creating their runs ends first, and the next one waits."""
    rows = locked(model._base_manager.filter(pk__among=keys).order_by("pk"))
    list(rows.values_list("pk"))


def insert_copies(first: T, userdatas: Iterable[dict[str, Any]], *, now: datetime) -> list[T]:
    """Insert one task like `first` for each userdata; all of them, or none.

    Args:
        first: a new task that is checked but not inserted itself.
        userdatas: one dict for each task.
        now: when they are created.

    Raises:
        InvalidInput: a value is wrong; nothing was inserted.
    """
    prepare(first, now=now)
    limit = conf.current().userdata_max_bytes
    checked = [jsondata.checked_userdata(userdata, max_bytes=limit) for userdata in userdatas]
    tasks: list[T] = []
    with write():
        for index in range(0, len(checked), _CHUNK):
            tasks += _insert_copies(first, checked[index : index + _CHUNK], now=now)
    return tasks


def _insert_copies(first: T, userdatas: Sequence[dict[str, Any]], *, now: datetime) -> list[T]:
    """Insert copies of a prepared task in one statement, or one by one where the database does not tell their keys."""
    using = router.db_for_write(type(first))
    tasks = copies(first, "_extra_data", userdatas, using=using)
    if connections[using].features.can_return_rows_from_bulk_insert:
        insert_many(tasks, using=using, different=["_extra_data"])
    else:
        for task in tasks:
            insert(task, using=using)
    if first.runs_created:
        planning.insert_first_runs_of_copies(tasks, now=now)
    if first.next_run is not None:
        announce_tasks("scheduled", tasks)
    return tasks


def enter(tasks: Sequence["Task"], *, now: datetime) -> None:
    """Do what follows from inserting tasks, in the same transaction."""
    planning.insert_first_runs([task for task in tasks if task.runs_created], now=now)
    _entered(tasks)


def _entered(tasks: Sequence["Task"]) -> None:
    announce_tasks("scheduled", [task for task in tasks if task.next_run is not None])
    for task in tasks:
        task.remember()
