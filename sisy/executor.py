"""Run one claimed run: resolve its callable, call it, and say what came of it.

worker.py and testing.py call `prepare`, then `call` (sync functions) or `acall` (async ones), then `conclude`. Nothing
here changes a row: an outcome is a value, which transitions.finish writes.
"""

import contextlib
import contextvars
import inspect
import logging
import random
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connections

from sisy import callables, conf, instants, jsondata, policy, registry
from sisy.errors import (
    Cancelled,
    InvalidCallable,
    InvalidTime,
    InvalidUserdata,
    Retry,
    SisyError,
    Skip,
    TargetGone,
)
from sisy.models import Run, RunStatus, Task
from sisy.transitions.endings import Outcome

_log = logging.getLogger("sisy.run")
_TRACEBACK_LIMIT = 16 * 1024  # characters kept of each attempt's traceback
_REASON_LIMIT = 255  # the column's length
_LONGEST_DELAY = timedelta(days=366)  # of a retry: what a function asks for may be any number
_TASK_DELETED = "its task was deleted before it started"

_right_parameters: dict[str, object] = {}
"""The code at each path whose parameters were found right; bounded by the code that there is."""

running: contextvars.ContextVar[Run | None] = contextvars.ContextVar("sisy_running", default=None)
"""The run that this thread or coroutine executes, for log filters."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that is ready to be called.

    Args:
        run: the run, with a Task of its own.
        task: that task; the function receives it.
        function: what to call with the message.
        message: what the function receives.
    """

    run: Run
    task: Task
    function: Callable[[dict[str, Any]], object]
    message: dict[str, Any]

    @property
    def is_async(self) -> bool:
        """Whether calling the function only makes a coroutine."""
        return inspect.iscoroutinefunction(self.function)


def prepare(run: Run, *, message: dict[str, Any]) -> Prepared:
    """Find a run's function.

    Args:
        run: a claimed run with its task.
        message: the channel message that made this worker look.

    Raises:
        Skip: its task does not exist any more.
        SisyError: the callable is not allowed, leads nowhere, or its model row is gone.
    """
    task = run.task
    if task is None:
        raise Skip(_TASK_DELETED)
    try:
        function = _function_of(run)
        if not isinstance(task._extra_data, dict):
            raise InvalidUserdata(f"userdata in the row is {task._extra_data!r:.200}; it must be a dict.")
    except SisyError as error:
        error.parks_task = True
        raise
    task.current_run = run
    _ = task.userdata  # remembers what it was, so that every change is noticed
    return Prepared(run=run, task=task, function=function, message={"task": task, "message": dict(message)})


def call(prepared: Prepared) -> object:
    """Call a sync function in a context of its own; what it returns may be awaitable."""
    context = contextvars.copy_context()
    return context.run(_call, prepared)


async def acall(prepared: Prepared, awaitable: Awaitable[object] | None = None) -> object:
    """Call an async function and await it, or await what a sync one returned, within the task's timeout."""
    token = running.set(prepared.run)
    try:
        return await (awaitable if awaitable is not None else prepared.function(prepared.message))  # type: ignore[misc]
    finally:
        running.reset(token)


def conclude(
    run: Run, *, started_at: datetime, now: datetime, result: object = None, error: BaseException | None = None
) -> Outcome:
    """Say what a run came to; its new state is set on the run.

    Args:
        run: the run that was called, or could not be.
        started_at: when its function was called.
        now: when it ended.
        result: what it returned.
        error: what it raised, or None.
    """
    run.started_at, run.finished_at = run.started_at or started_at, now
    claim, run.claim, run.lease_expires_at = run.claim, None, None
    if error is None:
        _succeed(run, result)
    else:
        _fail(run, error, now=now)
    task = run.task
    userdata = _changed_userdata(run, task) if task is not None and task.userdata_changed else None
    parks = isinstance(error, SisyError) and error.parks_task
    return Outcome(run=run, claim=claim, userdata=userdata, park=str(error) if parks else "")


def leave_no_trace() -> None:
    """Close the database connections of this thread in which a function left a transaction open, or that broke."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.in_atomic_block or connection.errors_occurred or not connection.autocommit:
            connection.close()
            del connections[connection.alias]  # the wrapper would believe that it is still in its transaction


def _function_of(run: Run) -> Callable[..., object]:
    registry.check_allowed(run.callable, conf.current().allowed_callables)
    function = callables.function_of(run.callable) if run.instance_pk is None else _method_of_row(run)
    code = getattr(function, "__func__", function)
    if _right_parameters.get(run.callable) is not code:  # reading a signature takes longer than most of the rest
        callables.check_signature(function, path=run.callable)
        _right_parameters[run.callable] = code
    return function


def _method_of_row(run: Run) -> Callable[..., object]:
    target = callables.Target(path=run.callable, instance_pk=run.instance_pk, instance_db=run.instance_db)
    model = callables.model_of(run.callable)
    rows = model._base_manager.using(run.instance_db) if run.instance_db else model._base_manager.all()
    try:
        row = rows.filter(pk=callables.pk_of(target)).first()
    except ValidationError as error:
        text = f"{run.callable} can't be called: {model._meta.label} has no primary key {run.instance_pk!r}."
        raise InvalidCallable(text, field="instance_pk") from error
    if row is None:
        raise TargetGone(
            f"{model._meta.label} with the primary key {run.instance_pk!r} does not exist any more, "
            f"so {run.callable} could not be called. Delete the task, or create one for another row."
        )
    return callables.bind(run.callable, row)


def _call(prepared: Prepared) -> object:
    running.set(prepared.run)
    return prepared.function(prepared.message)


def _succeed(run: Run, result: object) -> None:
    run.status, run.reason = RunStatus.SUCCESSFUL, ""
    if result is None:
        return
    try:
        run.result = jsondata.checked(result, name="result", max_bytes=conf.current().userdata_max_bytes)
    except InvalidUserdata as error:
        run.reason = jsondata.printable(f"the result was dropped: {error}", limit=_REASON_LIMIT)


def _fail(run: Run, error: BaseException, *, now: datetime) -> None:
    if isinstance(error, Skip):
        run.status, run.reason = RunStatus.SKIPPED, jsondata.printable(error, limit=_REASON_LIMIT)
        if run.task is None:
            run.status = RunStatus.CANCELLED
        return
    if isinstance(error, Cancelled):
        run.status, run.reason = RunStatus.CANCELLED, jsondata.printable(error, limit=_REASON_LIMIT)
        return
    run.errors = [*run.errors, _error_entry(run, error, now=now)]
    what = jsondata.printable(error, limit=_REASON_LIMIT)
    run.reason = f"{type(error).__name__}: {what}"[:_REASON_LIMIT] if what else type(error).__name__
    delay = _delay_of_next_attempt(run, error)
    if delay is None:
        run.status = RunStatus.FAILED
        return
    run.status, run.attempt, run.run_after = RunStatus.READY, run.attempt + 1, now + delay
    run.declined_at = None
    run.started_at = run.finished_at = None


def _delay_of_next_attempt(run: Run, error: BaseException) -> timedelta | None:
    """Return how long to wait for the next attempt, or None when this was the last one."""
    task = run.task
    hopeless = isinstance(error, SisyError) and error.parks_task
    if task is None or hopeless or run.attempt >= task.max_attempts:
        return None
    if isinstance(error, Retry) and error.delay is not None:
        with contextlib.suppress(InvalidTime):
            return min(instants.to_duration(error.delay, field="Retry(delay=)"), _LONGEST_DELAY)
        run.reason = f"{run.reason[:150]} (its delay is none: {jsondata.printable(error.delay, limit=80)})"
    return policy.backoff(attempt=run.attempt, base=task.retry_backoff, chance=random.random())  # noqa: S311 - spreads load


def _error_entry(run: Run, error: BaseException, *, now: datetime) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error))
    if len(text) > _TRACEBACK_LIMIT:  # the end says what happened, the beginning where
        half = _TRACEBACK_LIMIT // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    kind = type(error)
    return {
        "attempt": run.attempt,
        "at": now.isoformat(),
        "exception": jsondata.printable(f"{kind.__module__}.{kind.__qualname__}", limit=_REASON_LIMIT),
        "traceback": jsondata.printable(text, limit=2 * _TRACEBACK_LIMIT),
    }


def _changed_userdata(run: Run, task: Task) -> dict[str, Any] | None:
    """Return userdata as it can be stored; what can't is reported in the run and not kept."""
    try:
        return jsondata.checked_userdata(task._extra_data, max_bytes=conf.current().userdata_max_bytes)
    except InvalidUserdata as error:
        dropped = jsondata.printable(f"the change of userdata was dropped: {error}", limit=_REASON_LIMIT // 2)
        run.reason = "; ".join(filter(None, (run.reason[: _REASON_LIMIT // 2 - 2], dropped)))
        return None
