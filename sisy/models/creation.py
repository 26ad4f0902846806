"""The factory functions beside the model: `task_with_callable` and `taskinfo_with_label`."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sisy import callables
from sisy.errors import InvalidCallable
from sisy.models.task import Task


def task_with_callable(
    the_callable: Callable[..., object] | str,
    label: str | None = None,
    schedule: str | timedelta | None = None,
    userdata: dict[str, Any] | None = None,
    pk_override: object = None,
    **task_fields: Any,
) -> Task:
    """Return an unsaved task for a callable; it is active once saved.

    Args:
        the_callable: a function, class method, static method or a bound method of a saved model row, or its path.
        label: a name for people, or None for the callable's path.
        schedule: a cron text or a timedelta, or None for SISY["DEFAULT_SCHEDULE"].
        userdata: the user's own data, a dict of strict JSON; None for an empty one.
        pk_override: for the path of an instance method, the row's primary key.
        task_fields: any other field of Task.

    Raises:
        InvalidInput: a ValueError that says what was given, why it was refused, and what to do.

    >>> task_with_callable("shop.nothing")
    Traceback (most recent call last):
        ...
    sisy.errors.CallableNotFound: 'shop.nothing' can't be a task: there is no module 'shop'. ...
    """
    return Task.new(
        the_callable, label=label, schedule=schedule, userdata=userdata, pk_override=pk_override, **task_fields
    )


def taskinfo_with_label(label: str) -> dict[str, object]:
    """Describe the callable of the one task with this label; of use in migrations, where models have no methods.

    Args:
        label: the task's label.

    Returns:
        func_type (function, classmethod, staticmethod or instancemethod), module_name, func_name and func_path; for
        methods class_name and class_path; for instance methods model_pk.

    Raises:
        Task.DoesNotExist, Task.MultipleObjectsReturned: there is not exactly one.
    """
    task = Task.objects.get(label=label)
    target = callables.Target(path=task.callable, instance_pk=task.instance_pk, instance_db=task.instance_db)
    try:
        return callables.info(target)
    except InvalidCallable:  # a backwards migration of code that is gone: say what the row says
        module, _, name = task.callable.rpartition(".")
        told = {"module_name": module, "func_name": name, "func_path": task.callable}
        if task.instance_pk is None:
            return {"func_type": "function", **told}
        return {"func_type": "instancemethod", "class_path": module, "model_pk": task.instance_pk, **told}
