"""For tests of your own tasks: let time pass without sleeping, execute what is due, assert what was scheduled.

    from sisy.testing import assert_scheduled, drain, run_due

Everything happens in the calling thread and on its database connection, so it works inside Django's TestCase and
pytest's `db` fixture, with no worker, no heartbeat and no channel layer.
"""

import inspect
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone

from sisy import executor, scheduler
from sisy.instants import to_utc
from sisy.messages import Poll
from sisy.models import Run, Task
from sisy.transitions import claims, endings

_LEASE: Final = timedelta(hours=1)
_BATCH: Final = 100


def run_due(now: datetime | None = None) -> list[Run]:
    """Tick as a heartbeat would at `now`, and execute everything that is ready then.

    Args:
        now: the instant, aware; None for the present. Nothing sleeps: give the instant at which the slot is due.

    Returns:
        the runs that were executed, in order, as they are in the database afterwards.

    Raises:
        InvalidTime: now is naive.
        RuntimeError: more than 10,000 runs were executed; a task probably creates itself again and again.
    """
    now = timezone.now() if now is None else to_utc(now, field="now")
    scheduler.tick(now)
    return drain(now)


def drain(now: datetime | None = None) -> list[Run]:
    """Execute every run that is ready at `now`, and those that these create, until nothing is ready.

    A function's exception ends its run FAILED, as in a worker; look at `run.status` and `run.traceback`. Retries are
    executed once their time has come, so give a later `now` for them.

    Args:
        now: the instant, aware; None for the present.

    Returns:
        the runs that were executed, in order, as they are in the database afterwards.

    Raises:
        RuntimeError: as for `run_due`.
    """
    now = None if now is None else to_utc(now, field="now")
    worker, executed = uuid.uuid4(), list[int]()
    while len(executed) < 10_000:
        instant = now or timezone.now()
        runs = claims.claim(worker=worker, queues=None, limit=_BATCH, lease=_LEASE, now=instant)
        if not runs:
            by_key = Run.objects.in_bulk(executed)
            return [by_key[key] for key in dict.fromkeys(executed) if key in by_key]
        for run in runs:
            executed.append(run.pk)
            endings.finish([_execute(run, now=instant)], now=instant)
    raise RuntimeError("10,000 runs were executed and more are ready: does a task create itself again and again?")


async def arun_due(now: datetime | None = None) -> list[Run]:
    """As `run_due`, in async tests."""
    return await sync_to_async(run_due)(now)


async def adrain(now: datetime | None = None) -> list[Run]:
    """As `drain`, in async tests."""
    return await sync_to_async(drain)(now)


def assert_scheduled(the_callable: Callable[..., object] | str, **columns: Any) -> Task:
    """Assert that exactly one task for this callable exists, with these values; return it.

    Args:
        the_callable: as for task_with_callable.
        columns: values of Task's fields, and `userdata`; fields that are not given may be anything.

    Raises:
        AssertionError: there is none, or several; the text lists the tasks there are.
    """
    tasks = list(Task.objects.for_callable(the_callable))
    found = [task for task in tasks if all(getattr(task, name) == value for name, value in columns.items())]
    if len(found) == 1:
        return found[0]
    wanted = ", ".join(f"{name}={value!r}" for name, value in columns.items()) or "any values"
    there = "".join(f"\n- {_shown(task, columns)}" for task in (found or tasks or Task.objects.all()[:20]))
    raise AssertionError(f"{len(found)} tasks for {the_callable!r} with {wanted}; there are:{there or ' none'}")


def assert_not_scheduled(the_callable: Callable[..., object] | str) -> None:
    """Assert that no task for this callable exists.

    Raises:
        AssertionError: there is one; the text shows it.
    """
    tasks = list(Task.objects.for_callable(the_callable))
    if tasks:
        there = "".join(f"\n- {_shown(task, {})}" for task in tasks)
        raise AssertionError(f"{len(tasks)} tasks for {the_callable!r}, and none was expected:{there}")


def _execute(run: Run, *, now: datetime) -> endings.Outcome:
    result, error = None, None
    try:
        prepared = executor.prepare(run, message=Poll().to_message())
        result = async_to_sync(executor.acall)(prepared) if prepared.is_async else executor.call(prepared)
        if inspect.isawaitable(result):
            result = async_to_sync(executor.acall)(prepared, result)
    except BaseException as raised:  # as in a worker: SystemExit ends the run, not the process
        error = raised
    return executor.conclude(run, started_at=now, now=now, result=result, error=error)


def _shown(task: Task, columns: dict[str, Any]) -> str:
    values = {name: getattr(task, name) for name in ("callable", "schedule", "next_run", *columns)}
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
