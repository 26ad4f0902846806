"""Walk a dotted path to what it leads to, and say what is wrong with it when it leads nowhere.

callables.py is the only caller. A path goes from a module through classes to a name, and through nothing else:
otherwise `shop.jobs.subprocess.run` would be as good as `shop.jobs.send_digest` to whoever can write a row, whatever
the allow-list says. Modules are imported from the left, and the last name never is.
"""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil
import sys
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from sisy.errors import CallableNotFound, InvalidCallable

PATH_MAX_LENGTH = 255
SCRIPT_MODULES = ("__main__", "__mp_main__")  # the second is what multiprocessing calls the first in its children
HISTORICAL_MODULE = "__fake__"  # where Django's migrations put the models of the past

LAMBDA = ("it is a lambda, which no dotted path leads to", "Write it with def, in a module")
MODULE = ("it is a module", "Add the name of a function in it to the path")
_NOT_IN_SCRIPT = ("it is in the script that Python was started with", "Move it to a module that a worker can import")
_SPECIAL_PARTS = {
    "<lambda>": LAMBDA,
    **dict.fromkeys(SCRIPT_MODULES, _NOT_IN_SCRIPT),
    "<locals>": (
        "it is nested in a function, or its decorator does not use functools.wraps",
        "Move it to a module, and have its decorators use functools.wraps",
    ),
    HISTORICAL_MODULE: (
        "it belongs to a historical model of a migration, which has no code of its own",
        "Give its dotted path, such as 'shop.models.Order.remind', and for an instance method pk_override=row.pk too",
    ),
}
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a path leads: to `value`, under `name`, in the class `owner` or else (None) in `module` itself."""

    path: str
    module: str
    owner: type | None
    name: str
    value: Any

    @property
    def func_type(self) -> str:
        """Say function, classmethod, staticmethod or instancemethod."""
        if self.owner is None:
            return "function"
        if isinstance(self.value, MethodType):
            return "classmethod"
        is_static = isinstance(inspect.getattr_static(self.owner, self.name), staticmethod)
        return "staticmethod" if is_static else "instancemethod"


def find(path: str) -> Place:
    """Walk a dotted path, importing the modules in it.

    Raises:
        InvalidCallable: it is not a dotted path.
        CallableNotFound: it leads nowhere, or a module in it can't be imported.
    """
    known = _found.get(path)
    if known is not None and _leads_there_still(path, *known):
        return known[1]
    place = _follow(path)
    module = sys.modules.get(place.module)
    if module is not None:
        _found[path] = module, place
    return place


_found: dict[str, tuple[ModuleType, Place]] = {}
"""Where each path led the last time; bounded by the code that there is."""


def _leads_there_still(path: str, module: ModuleType, place: Place) -> bool:
    """Tell whether a path leads where it did: neither its module nor a name on the way was replaced."""
    if sys.modules.get(place.module) is not module:
        return False
    holder: object = module
    value: object = module
    for name in path[len(place.module) + 1 :].split("."):
        holder, value = value, _attribute(value, name)
    if place.owner is not None and holder is not place.owner:
        return False
    return value is place.value or (isinstance(value, MethodType) and value == place.value)


def _follow(path: str) -> Place:
    check_path(path)
    parts = path.split(".")
    modules = _import_prefixes(parts)
    furthest = _Walk(parts=parts)
    # From the longest prefix: `from .remind import remind` hides the module shop.remind behind a function.
    for count in range(len(modules), 0, -1):
        walk = _walk(parts, modules[:count])
        if len(walk.reached) == len(parts):
            return _place(walk, module=".".join(parts[:count]))
        furthest = max(furthest, walk, key=lambda a_walk: len(a_walk.reached))
    raise _not_found(furthest)


def check_path(path: str) -> None:
    """Refuse what can't be a dotted path to a function, before anything is imported."""
    parts = path.split(".")
    for special, reason in _SPECIAL_PARTS.items():
        if special in parts:
            raise refusal(path, *reason)
    shape = "Write a path such as 'shop.jobs.send_digest'"
    if not path:
        raise refusal(path, "it is empty", shape)
    if len(path) > PATH_MAX_LENGTH:
        raise refusal(path, f"it has {len(path)} characters and at most {PATH_MAX_LENGTH} fit", "Use shorter names")
    if not all(part.isidentifier() for part in parts):
        raise refusal(path, "it has other characters than names and single dots between them", shape)
    if len(parts) == 1:
        raise refusal(path, "it has no dot, so it names no module", shape)
    if any(part.startswith("__") and part.endswith("__") for part in parts):
        raise refusal(path, "names with double underscores around them belong to Python", shape)


def refusal(
    given: object, why: str, remedy: str, *, kind: type[InvalidCallable] = InvalidCallable, field: str = "callable"
) -> InvalidCallable:
    """Build the error that refuses something: what was given, why not, what to do instead."""
    end = "" if remedy.endswith("?") else "."
    return kind(f"{named(given)} can't be a task: {why}. {remedy}{end}", field=field)


def named(given: object) -> str:
    """Name a value in an error's text, without its repr: a model's would run its code, and maybe a query."""
    if isinstance(given, str):
        return repr(given if len(given) <= PATH_MAX_LENGTH else given[:PATH_MAX_LENGTH] + "...")
    if given is None:
        return "None"
    if isinstance(given, ModuleType):
        return given.__name__
    if isinstance(given, (type, FunctionType, MethodType, BuiltinFunctionType)):
        return f"{getattr(given, '__module__', None) or 'builtins'}.{given.__qualname__}"
    return f"An object of the type {type(given).__qualname__}"


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """How far a path was followed: one object reached for each of its first parts."""

    parts: list[str]
    module_count: int = 0
    reached: tuple[object, ...] = ()

    @property
    def is_astray(self) -> bool:
        """Tell whether the last object is one that a path must not go through, such as an imported module."""
        return len(self.reached) > self.module_count and not isinstance(self.reached[-1], type)


def _import_prefixes(parts: list[str]) -> list[object]:
    """Import what can be of a, a.b, a.b.c ... but the whole path: its last part is a name in a module or a class."""
    modules: list[object] = []
    for end in range(1, len(parts)):
        module = _import(parts, ".".join(parts[:end]))
        if module is None:
            break
        modules.append(module)
    return modules


def _import(parts: list[str], name: str) -> object | None:
    """Import a module; None if there is none of this name."""
    path = ".".join(parts)
    if name not in sys.modules and _is_running_script(name):
        raise refusal(path, *_NOT_IN_SCRIPT)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return None
        cause: BaseException = error
    except (Exception, SystemExit) as error:  # an import runs other people's code: anything can happen
        cause = error
    why = f"importing {name} raised {type(cause).__name__}: {str(cause)[:200]}"
    raise refusal(path, why, "Mend that module first", kind=CallableNotFound) from cause


def _is_running_script(name: str) -> bool:
    """Tell whether a module is the file that Python was started with; importing it would run it a second time."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return bool(spec.name == name)
    file = getattr(main, "__file__", None)
    if file is None or Path(file).stem != name:
        return False
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None and Path(found.origin).resolve() == Path(file).resolve()


def _walk(parts: list[str], modules: list[object]) -> _Walk:
    """Follow the rest of a path from the last module, through classes only."""
    walk = _Walk(parts=parts, module_count=len(modules), reached=tuple(modules))
    for name in parts[len(modules) :]:
        value = _MISSING if walk.is_astray else _attribute(walk.reached[-1], name)
        if value is _MISSING:
            break
        walk = replace(walk, reached=(*walk.reached, value))
    return walk


def _attribute(holder: object, name: str) -> object:
    try:
        return getattr(holder, name)
    except Exception:  # a descriptor runs other people's code; whatever it raises, there is no function here
        return _MISSING


def _place(walk: _Walk, *, module: str) -> Place:
    holder, value = walk.reached[-2:]
    return Place(
        path=".".join(walk.parts),
        module=module,
        owner=holder if isinstance(holder, type) else None,
        name=walk.parts[-1],
        value=value,
    )


def _not_found(walk: _Walk) -> InvalidCallable:
    path, count = ".".join(walk.parts), len(walk.reached)
    so_far, missing, rest = ".".join(walk.parts[:count]), walk.parts[count], walk.parts[count + 1 :]
    if walk.is_astray:
        return _astray(path, so_far, walk.reached[-1])
    submodules = _submodules(walk.reached)
    if missing in submodules and not rest:
        return refusal(path, *MODULE, kind=CallableNotFound)
    why = f"{so_far} has no {missing!r}" if so_far else f"there is no module {missing!r}"
    nearest = get_close_matches(missing, {*submodules, *_public_names(walk.reached)}, n=1)
    remedy = "Check the spelling, and that this code is installed here"
    if nearest:
        remedy = f"Did you mean {'.'.join([*walk.parts[:count], *nearest, *rest])!r}?"
    return refusal(path, why, remedy, kind=CallableNotFound)


def _astray(path: str, so_far: str, holder: object) -> InvalidCallable:
    if not isinstance(holder, ModuleType):
        why = f"{so_far} is neither a module nor a class"
        return refusal(path, why, "Give the path of a function in a module, or of a method in a class")
    why = f"{so_far} is only another name of the module {holder.__name__}"
    return refusal(path, why, f"Give the path from there: {holder.__name__}{path.removeprefix(so_far)}")


def _submodules(reached: tuple[object, ...]) -> set[str]:
    """Give the names of the modules that could come next; without anything reached, all at the top."""
    if not reached:
        return {module.name for module in pkgutil.iter_modules()}
    return {module.name for module in pkgutil.iter_modules(getattr(reached[-1], "__path__", ()))}


def _public_names(reached: tuple[object, ...]) -> set[str]:
    return {name for name in dir(reached[-1]) if not name.startswith("_")} if reached else set()
