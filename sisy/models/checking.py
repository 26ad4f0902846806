"""Check a task's values: each problem as an error that names the field, the value and the remedy.

Task.save, Task.full_clean and task_with_callable ask here, so that all of them refuse the same things. Values are put
into their stored form on the way: pytz instants to UTC, seconds to timedelta, a timedelta schedule to text.
"""

from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import TextChoices

from sisy import callables, conf, instants, jsondata, registry
from sisy.errors import InvalidInput, InvalidTime
from sisy.messages import QUEUE_NAME
from sisy.models.columns import Misfire, Overlap

if TYPE_CHECKING:
    from sisy.models.task import Task


def problems(task: "Task", columns: Collection[str] | None = None) -> Iterator[InvalidInput]:
    """Yield what is wrong with a task's values.

    Args:
        task: its values are put into their stored form where they are right.
        columns: the columns to look at; None for all.
    """
    for wanted, check in _CHECKS:
        if columns is None or not wanted.isdisjoint(columns):
            try:
                check(task)
            except InvalidInput as error:
                yield error


def _check_callable(task: "Task") -> None:
    registry.check_allowed(task.callable, conf.current().allowed_callables)  # first: the next line imports it
    callables.target_of(task.callable, pk_override=task.instance_pk)


def _check_label(task: "Task") -> None:
    task.label = task.label or task.callable
    if not isinstance(task.label, str) or jsondata.printable(task.label, limit=255) != task.label:
        raise InvalidInput(
            f"label is {task.label!r:.300}; it must be a text of at most 255 characters, none of them NUL or a "
            "lone surrogate.",
            field="label",
        )


def _check_window(task: "Task") -> None:
    for column in ("start_running", "end_running"):
        if getattr(task, column) is not None:
            setattr(task, column, instants.to_utc(getattr(task, column), field=column))
    if task.start_running and task.end_running and task.end_running <= task.start_running:
        raise InvalidTime(
            f"end_running is {task.end_running.isoformat()}, which is not after start_running, "
            f"{task.start_running.isoformat()}: there would be no run. Give a later end_running.",
            field="end_running",
        )


def _check_schedule(task: "Task") -> None:
    task.schedule = task.parsed_schedule().text
    if task.is_one_shot and task.iterations != 1:
        raise InvalidInput(
            f'schedule is "@once" and iterations is {task.iterations}; a one-shot has iterations=1. Use Task.run_once.',
            field="iterations",
        )


def _check_userdata(task: "Task") -> None:
    checked = jsondata.checked_userdata(task._extra_data, max_bytes=conf.current().userdata_max_bytes)
    if checked != task._extra_data:  # in place: a task function may hold the dict, and go on changing it
        task._extra_data.clear()
        task._extra_data.update(checked)


def _check_queue(task: "Task") -> None:
    if not isinstance(task.queue, str) or not QUEUE_NAME.fullmatch(task.queue):
        raise InvalidInput(
            f"queue is {task.queue!r}; it must be 1 to 64 ASCII letters, digits, hyphens or underscores.", field="queue"
        )


def _whole(column: str, low: int, high: int) -> Callable[["Task"], None]:
    def check(task: "Task") -> None:
        value = getattr(task, column)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidInput(f"{column} is {value!r}; it must be a whole number from {low} to {high}.", field=column)

    return check


def _choice(column: str, choices: type[TextChoices]) -> Callable[["Task"], None]:
    def check(task: "Task") -> None:
        if getattr(task, column) not in choices.values:
            raise InvalidInput(
                f"{column} is {getattr(task, column)!r}; it must be one of {', '.join(choices.values)}.", field=column
            )

    return check


def _flag(column: str) -> Callable[["Task"], None]:
    def check(task: "Task") -> None:
        if not isinstance(getattr(task, column), bool):
            raise InvalidInput(f"{column} is {getattr(task, column)!r}; it must be True or False.", field=column)

    return check


def _duration(column: str) -> Callable[["Task"], None]:
    def check(task: "Task") -> None:
        setattr(task, column, instants.to_duration(getattr(task, column), field=column))

    return check


def _check_timeout(task: "Task") -> None:
    if task.timeout is not None:
        task.timeout = instants.to_duration(task.timeout, field="timeout")
        if task.timeout == timedelta(0):
            raise InvalidTime("timeout is 0 seconds; give a longer one, or None for no limit.", field="timeout")


_CHECKS: tuple[tuple[frozenset[str], Callable[["Task"], None]], ...] = (
    (frozenset({"callable", "instance_pk", "instance_db"}), _check_callable),
    (frozenset({"label"}), _check_label),
    (frozenset({"iterations"}), _whole("iterations", 0, 2**31 - 1)),
    (frozenset({"start_running", "end_running"}), _check_window),
    (frozenset({"schedule", "timezone", "iterations"}), _check_schedule),
    (frozenset({"_extra_data"}), _check_userdata),
    (frozenset({"queue"}), _check_queue),
    (frozenset({"priority"}), _whole("priority", -100, 100)),
    (frozenset({"max_attempts"}), _whole("max_attempts", 1, 1000)),
    (frozenset({"overlap"}), _choice("overlap", Overlap)),
    (frozenset({"misfire"}), _choice("misfire", Misfire)),
    (frozenset({"misfire_grace"}), _duration("misfire_grace")),
    (frozenset({"retry_backoff"}), _duration("retry_backoff")),
    (frozenset({"jitter"}), _duration("jitter")),
    (frozenset({"timeout"}), _check_timeout),
    *((frozenset({column}), _flag(column)) for column in ("enabled", "wait_for_schedule", "at_most_once")),
)
