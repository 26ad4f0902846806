"""What the task form offers to choose from: callables and time zones. A path in a row is code, so none can be typed."""

from collections.abc import Iterator
from typing import Final

import pytz
from django.utils.translation import gettext as _

from sisy import callables, conf, registry
from sisy.admin.shown import short
from sisy.errors import InvalidCallable
from sisy.models import Task

Group = tuple[str, list[tuple[str, str]]]

_SAMPLE: Final = 1000  # newest tasks among which to look for callables that are in use


def offered_paths() -> dict[str, str]:
    """Return the paths that may be chosen, each with its label or "".

    Those are the registered ones, those that SISY["ALLOWED_CALLABLES"] names in full, and those of existing tasks that
    its globs cover. While that setting is unset, code may use any callable, but people only what is registered.
    """
    allowed = conf.current().allowed_callables
    paths = dict(registry.registered())
    if allowed is not None:
        in_use = set(Task.objects.order_by("-pk").values_list("callable", flat=True)[:_SAMPLE])
        named = {path for path in allowed if not any(sign in path for sign in "*?[")}
        covered = {path for path in in_use if registry.is_allowed(path, allowed)}
        paths |= {path: "" for path in sorted(named | covered) if path not in paths}
    return paths


def callable_choices() -> list[Group]:
    """Return the callables that may be chosen, in groups."""
    registered = registry.registered()
    groups: dict[str, list[tuple[str, str]]] = {}
    for path, label in offered_paths().items():
        group = _("Registered with @sisy.task") if path in registered else _("Allowed by the settings")
        groups.setdefault(group, []).append((path, f"{short(label)} ({path})" if label else path))
    return list(groups.items())


def is_row_method(path: str) -> bool:
    """Tell whether a path that may be chosen leads to a method of a model's row.

    >>> is_row_method("sisy.admin.choices.is_row_method")
    False
    """
    try:
        callables.model_of(path)
    except InvalidCallable:
        return False
    return True


def zone_choices(current: str) -> list[tuple[str, str] | Group]:
    """Return the time zones that may be chosen, by continent.

    Args:
        current: the zone that is set, offered in any case; "" for the project's.
    """
    project = Task(timezone="").zone_name
    choices: list[tuple[str, str] | Group] = [("", _("The project's: %(zone)s") % {"zone": project})]
    if current and current not in pytz.common_timezones_set:
        choices.append((current, current))
    return [*choices, *_continents()]


def _continents() -> Iterator[Group]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for zone in pytz.common_timezones:
        continent = zone.partition("/")[0] if "/" in zone else _("Others")
        groups.setdefault(continent, []).append((zone, zone))
    yield from groups.items()
