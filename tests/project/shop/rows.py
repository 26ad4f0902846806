"""What the row-level tests share: instants far from now, tasks in chosen states, and changes by SQL past the models.

Slots are in the year 2100, so that a test says by itself what time it is; `now` is always passed.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connection

from sisy import executor, scheduler
from sisy.models import Run, Task, task_with_callable
from sisy.transitions import claims, endings

from . import chores

NOON = datetime(2100, 1, 1, 12, tzinfo=UTC)
LEASE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    """The instant so many minutes after noon of the first day of 2100."""
    return NOON + timedelta(minutes=minutes)


def every_minute(the_callable: Callable[..., object] | str = chores.does, **columns: Any) -> Task:
    """A saved task whose slots are at(0), at(1), at(2) ..."""
    columns = {"schedule": "* * * * *", "start_running": NOON, "label": "task"} | columns
    task = task_with_callable(the_callable, **columns)
    task.save()
    return task


def stored(row: Any) -> Any:
    """The same row as it is in the database."""
    return type(row)._base_manager.get(pk=row.pk)


def statuses(**wanted: Any) -> list[str]:
    """The states of all runs, oldest first, as text."""
    return [str(status) for status in Run.objects.filter(**wanted).order_by("pk").values_list("status", flat=True)]


def slots(**wanted: Any) -> list[float | None]:
    """The slots of all runs, oldest first, as minutes after noon."""
    found = Run.objects.filter(**wanted).order_by("pk").values_list("slot", flat=True)
    return [None if slot is None else (slot - NOON).total_seconds() / 60 for slot in found]


def claim(now: datetime = NOON, *, limit: int = 100, worker: UUID | None = None) -> list[Run]:
    """Claim what is ready, as a worker of its own."""
    return claims.claim(worker=worker or uuid4(), queues=None, limit=limit, lease=LEASE, now=now)


def tick_and_claim(now: datetime = NOON, **how: Any) -> list[Run]:
    """What a heartbeat and a worker do at one instant."""
    scheduler.tick(now)
    return claim(now, **how)


def outcome(run: Run, *, now: datetime = NOON, result: object = None, error: BaseException | None = None) -> Any:
    """What a worker makes of a claimed run that ended."""
    return executor.conclude(run, started_at=now, now=now, result=result, error=error)


def end(run: Run, *, now: datetime = NOON, result: object = None, error: BaseException | None = None) -> bool:
    """Finish a claimed run as a worker would; say whether its claim still held."""
    return run.pk in endings.finish([outcome(run, now=now, result=result, error=error)], now=now)


def put_in(row: Any, **columns: Any) -> None:
    """Write columns by SQL, past everything that checks."""
    quote, names = connection.ops.quote_name, list(columns)
    values = [json.dumps(value) if isinstance(value, dict | list) else value for value in columns.values()]
    pairs = ", ".join(f"{quote(name)} = %s" for name in names)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {quote(row._meta.db_table)} SET {pairs} WHERE id = %s", [*values, row.pk])  # noqa: S608


def expire(*runs: Run) -> None:
    """Let leases run out, as if their worker had died a minute ago."""
    for run in runs:
        put_in(run, lease_expires_at="2001-01-01 00:00:00")
