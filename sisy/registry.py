"""Know which callables may be tasks: those marked with @sisy.task, and those that SISY["ALLOWED_CALLABLES"] covers.

`task` fills the registry when an app's tasks.py is imported; the model and the executor ask `check_allowed`, before
anything is imported; the admin offers what `registered` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, TypeVar, overload

from sisy.callables import declared_path
from sisy.errors import CallableNotAllowed, InvalidCallable
from sisy.paths import SCRIPT_MODULES, named

# A classmethod or staticmethod object is no Callable to type checkers, so this is bound to nothing.
Function = TypeVar("Function")

_labels: dict[str, str] = {}


@overload
def task(function: Function) -> Function: ...
@overload
def task(*, label: str = "") -> Callable[[Function], Function]: ...
def task(function: Any = None, *, label: str = "") -> Any:
    """Register a function or method as a task, and give it back unchanged.

    Args:
        function: any function that a Task can call; inside a class, above or below @classmethod or @staticmethod.
        label: what people read where they choose a task; "" for its path.

    Raises:
        InvalidCallable: it can't be a task: a lambda, nested, with other parameters than one named message.

    A function of the script that Python was started with is not registered, as no worker can import it. In tasks.py::

        @sisy.task(label="Daily digest")
        def send_digest(message): ...

    >>> task(len)
    Traceback (most recent call last):
    sisy.errors.InvalidCallable: builtins.len can't be a task: it is built in or written in C. \
Call it from a function of your own, def name(message).
    """
    if isinstance(function, str):
        raise InvalidCallable(f"{function!r} was given to @task. Write @task(label={function!r}).", field="label")
    if function is None:
        return lambda the_function: _register(the_function, label=label)
    return _register(function, label=label)


def registered() -> Mapping[str, str]:
    """Give the label ("" for none) of each registered path, sorted by path."""
    return MappingProxyType(dict(sorted(_labels.items())))


def check_allowed(path: str, allowed: Sequence[str] | None) -> None:
    """Refuse a path that is neither registered nor covered, without importing it.

    Args:
        path: the dotted path of a task's callable.
        allowed: SISY["ALLOWED_CALLABLES"]: globs for full paths, in which * covers dots too. None: all are allowed.

    Raises:
        CallableNotAllowed: naming the path and both ways to allow it.

    >>> check_allowed("shop.jobs.send_digest", ["shop.jobs.*"])
    >>> check_allowed("os.system", ["shop.jobs.*"])
    Traceback (most recent call last):
    sisy.errors.CallableNotAllowed: 'os.system' is not allowed as a task. Add it to SISY["ALLOWED_CALLABLES"], \
or decorate it with @sisy.task in its app's tasks.py.
    """
    if not is_allowed(path, allowed):
        remedy = 'Add it to SISY["ALLOWED_CALLABLES"], or decorate it with @sisy.task in its app\'s tasks.py.'
        raise CallableNotAllowed(f"{named(path)} is not allowed as a task. {remedy}", field="callable")


def is_allowed(path: str, allowed: Sequence[str] | None) -> bool:
    """Tell whether a path may be a task; see `check_allowed`.

    >>> is_allowed("os.system", None), is_allowed("os.system", [])
    (True, False)
    """
    if allowed is None or path in _labels:
        return True
    # One glob given as text: its single characters would be globs too, and * among them would allow everything.
    globs = [allowed] if isinstance(allowed, str) else allowed
    return any(fnmatchcase(path, glob) for glob in globs)


def _register(function: Function, *, label: str) -> Function:
    path = declared_path(function)
    if path.partition(".")[0] not in SCRIPT_MODULES:
        _labels[path] = label
    return function
