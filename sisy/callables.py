"""Turn a callable into a target that a row can store and a worker can call again, and back.

models/task.py asks `target_of` when a task is created; executor.py asks `function_of`, or for an instance method
`model_of`, `pk_of` and `bind`, when it runs. What can't be called is refused here for both, so that they hold to the
same rules. No queries are made: in a data migration there may be no table yet.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType, NoneType, SimpleNamespace
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import CompositePrimaryKey, Model

from sisy.errors import InvalidCallable
from sisy.paths import LAMBDA, MODULE, SCRIPT_MODULES, Place, check_path, find, refusal

PK_MAX_LENGTH = 255  # characters: the column's length

_C_CALLABLES = (
    types.BuiltinFunctionType,
    types.ClassMethodDescriptorType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
)
_REFUSED_KINDS: tuple[tuple[type | tuple[type, ...], str, str], ...] = (
    (NoneType, "there is nothing to call", "Give a function, or its dotted path such as 'shop.jobs.send_digest'"),
    (ModuleType, *MODULE),
    (type, "it is a class", "Give one of its class or static methods, or a function that uses the class"),
    (
        (functools.partial, functools.partialmethod),
        "it is a partial, which no dotted path leads to",
        "Write a function in a module, and put the fixed arguments in userdata",
    ),
    (_C_CALLABLES, "it is built in or written in C", "Call it from a function of your own, def name(message)"),
)
_WANTED = "A task function takes exactly one, besides self or cls: (message)"
_OTHERS = "Give a function, a class method, or a method of a saved row of a Django model"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a task row stores of its callable.

    Attributes:
        path: where it is, such as "shop.models.Order.remind".
        instance_pk: the model row's primary key as text, as Django's serializers write it; None for anything but an
            instance method.
        instance_db: the alias of the database that the row came from; "" leaves it to the database router.
    """

    path: str
    instance_pk: str | None = None
    instance_db: str = ""


def target_of(the_callable: Callable[..., object] | str, *, pk_override: object = None) -> Target:
    """Give the dotted path of a callable, after making sure that a worker can find and call it again.

    Args:
        the_callable: a function, class method, static method or bound method of a saved model row, or its path.
        pk_override: for an instance method, the row's primary key; it wins over the row of a bound method. None: there
            is none. Whether such a row exists is not asked.

    Raises:
        InvalidCallable: it can't be stored, or not be called with one message.
        CallableNotFound: the path leads nowhere.

    >>> target_of("sisy.paths.find")
    Traceback (most recent call last):
    sisy.errors.InvalidCallable: 'sisy.paths.find' can't be a task: its parameters are (path). \
A task function takes exactly one, besides self or cls: (message).
    """
    row = _row_of(the_callable)
    place = _find_code(the_callable) if isinstance(the_callable, str) else _place_of(the_callable)
    if place.func_type == "instancemethod":
        return _row_target(place, row, pk_override=pk_override)
    if pk_override is not None:
        why = f"pk_override is for instance methods, and this is a {place.func_type}"
        raise refusal(place.path, why, "Leave pk_override out", field="pk_override")
    if place is not _right_places.get(place.path):  # reading a signature takes longer than all the rest
        check_signature(place.value, path=place.path)
        _right_places[place.path] = place
    return Target(path=place.path)


_right_places: dict[str, Place] = {}
"""The places whose functions have the right parameters; bounded by the code that there is."""


def resolve(path: str) -> object:
    """Import what a dotted path leads to.

    Raises:
        InvalidCallable: it is not a dotted path.
        CallableNotFound: it leads nowhere; the text names what comes nearest.

    >>> resolve("sisy.callables.resolve") is resolve
    True
    >>> resolve("sisy.callables.resolv")
    Traceback (most recent call last):
    sisy.errors.CallableNotFound: 'sisy.callables.resolv' can't be a task: sisy.callables has no 'resolv'. \
Did you mean 'sisy.callables.resolve'?
    """
    return find(path).value


def function_of(path: str) -> Callable[..., object]:
    """Give the function, class method or static method at a path, ready to be called with a message.

    Raises:
        InvalidCallable: it is an instance method (see `model_of` and `bind`), or nothing that a task can call.
        CallableNotFound: the path leads nowhere.
    """
    place = find(path)
    if place is not _callable_places.get(path):  # checking it takes longer than finding it again
        place = _find_code(path)
        if place.func_type == "instancemethod":
            raise _without_instance(place)
        _callable_places[path] = place
    function: Callable[..., object] = place.value
    return function


_callable_places: dict[str, Place] = {}
"""The places at which a task function was found; bounded by the code that there is."""


def model_of(path: str) -> type[Model]:
    """Give the model whose rows have the instance method at a path.

    Raises:
        InvalidCallable: it is no instance method of a model, or one that must not be called from a row.
        CallableNotFound: the path leads nowhere.
    """
    return _model_at(_find_code(path))


def pk_of(target: Target) -> object:
    """Give the primary key of a target's row as its model has it: an int, a UUID, a tuple for a composite one."""
    return _pk_from(model_of(target.path)._meta.pk, target.instance_pk)


def bind(path: str, row: Model) -> Callable[..., object]:
    """Give the method at a path, bound to a row that was loaded through `model_of(path)`."""
    method: Callable[..., object] = getattr(row, path.rpartition(".")[2])
    return method


def info(target: Target) -> dict[str, object]:
    """Describe a target in the words of `taskinfo_with_label`.

    Returns:
        func_type (function, classmethod, staticmethod or instancemethod), module_name, func_name and func_path; for
        methods class_name and class_path; for instance methods model_pk.
    """
    place = find(target.path)
    described: dict[str, object] = {"func_type": place.func_type, "module_name": place.module}
    if place.owner is not None:
        class_path = target.path.rpartition(".")[0]
        described |= {"class_name": class_path.rpartition(".")[2], "class_path": class_path}
    if place.func_type == "instancemethod":
        described["model_pk"] = pk_of(target)
    return described | {"func_name": place.name, "func_path": target.path}


def check_signature(function: Callable[..., object], *, path: str = "") -> None:
    """Refuse a function that does not take exactly one parameter named message, by position.

    Args:
        function: what will be called; bound, if it is a method. Wrapped functions count as what they wrap.
        path: how to call it in the error's text; "" for its own name.

    Raises:
        InvalidCallable: the text shows the parameters found.

    >>> def send(message): pass
    >>> check_signature(send)
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise refusal(path or function, f"its parameters can't be read: {error}", _WANTED) from error
    # Without defaults and annotations: their repr is somebody's code, and may ask a database.
    found = inspect.Signature([inspect.Parameter(parameter.name, parameter.kind) for parameter in parameters])
    if str(found) not in ("(message)", "(message, /)"):
        raise refusal(path or function, f"its parameters are {found}", _WANTED)


def declared_path(function: object) -> str:
    """Give the path that a function will have, while the module or class it is in is still being made.

    Raises:
        InvalidCallable: for what can be known already: no function, a lambda, nested, or wrong parameters.
    """
    inner: Any = function.__func__ if isinstance(function, (classmethod, staticmethod)) else function
    _check_code(inner, given=inner)
    path = _qualified_name(inner)
    if inner.__module__ not in SCRIPT_MODULES:
        check_path(path)
    bound = MethodType(inner, object) if _will_be_bound(function) else inner
    check_signature(bound, path=path)
    return path


def _row_of(the_callable: object) -> Model | None:
    """Give the row that a method is bound to; None if it is bound to a class or to nothing."""
    holder = getattr(the_callable, "__self__", None) if isinstance(the_callable, MethodType) else None
    if holder is None or isinstance(holder, (type, Model)):
        return holder if isinstance(holder, Model) else None
    why = f"it is bound to an object of the type {type(holder).__qualname__}, which no worker can find again"
    raise refusal(the_callable, why, _OTHERS)


def _find_code(path: str) -> Place:
    """Find what a path leads to and make sure that it is something a task can call."""
    place = find(path)
    _check_code(place.value, given=path)
    if isinstance(place.value, MethodType) and not isinstance(place.value.__self__, type):
        raise refusal(path, "it is bound to an object that only exists in this process", _OTHERS)
    return place


def _place_of(the_callable: Callable[..., object]) -> Place:
    """Find the path of a callable and make sure that it leads back to it."""
    _check_code(the_callable, given=the_callable)
    place = find(_qualified_name(the_callable))
    expected = the_callable if _row_of(the_callable) is None else the_callable.__func__  # type: ignore[attr-defined]
    if type(place.value) is not type(expected) or place.value != expected:
        why = f"{place.path} leads to something else: another definition, or a decorator without functools.wraps"
        raise refusal(the_callable, why, "Give it a name of its own, and have its decorators use functools.wraps")
    return place


def _qualified_name(function: Any) -> str:
    if not isinstance(function, MethodType):
        return f"{function.__module__}.{function.__qualname__}"
    holder = function.__self__
    owner = holder if isinstance(holder, type) else type(holder)
    return f"{owner.__module__}.{owner.__qualname__}.{function.__name__}"


def _check_code(value: object, *, given: object) -> None:
    """Refuse what is not a function or method written in Python."""
    function = value.__func__ if isinstance(value, MethodType) else value
    for kinds, why, remedy in _REFUSED_KINDS:
        if isinstance(function, kinds):
            raise refusal(given, why, remedy)
    if isinstance(function, FunctionType):
        return _check_function(function, given=given)
    if callable(function):
        raise refusal(given, "it is an object with __call__", "Write a function in a module that calls it")
    raise refusal(given, "it can't be called", "Give a function, or its dotted path such as 'shop.jobs.send_digest'")


def _check_function(function: FunctionType, *, given: object) -> None:
    if function.__name__ == "<lambda>":
        raise refusal(given, *LAMBDA)
    if hasattr(function, "_partialmethod") or hasattr(function, "__partialmethod__"):  # before, and since Python 3.13
        raise refusal(given, "it is a partialmethod", "Write a method with def, and put the arguments in userdata")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        why = "it is a generator function (it has a yield), so calling it runs nothing"
        raise refusal(given, why, "Loop over it in another function, and give that one")


def _will_be_bound(function: object) -> bool:
    """Tell whether a function that is being declared has a self or cls before its message."""
    if not isinstance(function, FunctionType):
        return isinstance(function, classmethod)
    is_in_class = "." in function.__qualname__
    return is_in_class and next(iter(inspect.signature(function).parameters), None) != "message"


def _row_target(place: Place, row: Model | None, *, pk_override: object) -> Target:
    model = _model_at(place)
    check_signature(MethodType(place.value, model), path=place.path)
    database = "" if row is None else row._state.db or ""
    if pk_override is not None:
        return Target(path=place.path, instance_pk=_pk_text(model, pk_override), instance_db=database)
    if row is None:
        raise _without_instance(place)
    if row._state.adding or _is_empty(row.pk):
        raise refusal(place.path, "its row has not been saved", "Save the row first, so that a worker can load it")
    return Target(path=place.path, instance_pk=_pk_text(model, row.pk), instance_db=database)


def _without_instance(place: Place) -> InvalidCallable:
    why = "it is an instance method without an instance"
    return refusal(place.path, why, "Give the method of a saved row, or the path and the row's pk_override")


def _model_at(place: Place) -> type[Model]:
    """Give the model that an instance method belongs to, if its rows may be called by it."""
    owner = place.owner
    if place.func_type != "instancemethod" or owner is None:
        raise refusal(place.path, f"it is a {place.func_type}, and has no row to be called on", _OTHERS)
    if not issubclass(owner, Model):
        raise refusal(place.path, f"{owner.__name__} is not a Django model, so no worker can load its objects", _OTHERS)
    # A right to make tasks is not the right to delete rows, which Order.delete would be.
    if inspect.getattr_static(owner, place.name) is inspect.getattr_static(Model, place.name, None):
        raise refusal(place.path, "it is Django's own and not yours", "Call it from a method that you write")
    if place.name.startswith("_"):
        raise refusal(place.path, "methods with a leading underscore are private", "Call it from a public method")
    if owner._meta.abstract:
        why = f"{owner.__name__} is abstract, and has no rows"
        raise refusal(place.path, why, "Give the path of the method in a model that inherits from it")
    return owner


def _pk_text(model: type[Model], value: object) -> str:
    """Write a primary key as text; refuse one that is not of the model's type or would not come back the same."""
    field: Any = model._meta.pk
    if isinstance(value, Model):
        raise _wrong_pk(model, value)  # a text field would take str(row) for a key
    try:
        key = _pk_from(field, value)
        text = str(field.value_to_string(SimpleNamespace(**{field.attname: key})))
        comes_back = not _is_empty(key) and _pk_from(field, text) == key
        text.encode()  # a lone surrogate can't be stored
    except Exception as error:  # fields are other people's code: ValidationError, ValueError, OverflowError ...
        raise _wrong_pk(model, value) from error
    if not comes_back or len(text) > PK_MAX_LENGTH or "\x00" in text:
        raise _wrong_pk(model, value)
    return text


def _pk_from(field: Any, value: object) -> object:
    """Read a primary key from text, or from what a user gave."""
    if not isinstance(field, CompositePrimaryKey):
        key = field.to_python(value)
        if isinstance(value, float) and key != value:  # an integer field takes 1.5 for 1
            raise ValidationError(f"{value!r} is not a key")
        return key
    parts: Any = zip(field.fields, field.to_python(value), strict=True)
    return tuple(part.to_python(of_part) for part, of_part in parts)  # the field itself reads the parts of text only


def _is_empty(key: object) -> bool:
    return key is None or (isinstance(key, tuple) and None in key)


def _wrong_pk(model: type[Model], value: object) -> InvalidCallable:
    given = repr(value)[:200] if isinstance(value, (str, bytes, int, float, tuple, list)) else type(value).__qualname__
    why = f"{given} can't be the primary key of {model.__name__} ({type(model._meta.pk).__name__})"
    return InvalidCallable(f"{why}. Give the row.pk of a saved row as pk_override.", field="pk_override")
