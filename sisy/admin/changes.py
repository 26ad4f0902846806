"""Who changed a task, and what: Django's log entries with the values before and after, and reading them again.

A log entry's message is JSON with the names of the fields that were changed; sisy adds the values of those that say
when and how a task runs. Userdata is not among them: it may hold secrets.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.utils.dateparse import parse_datetime
from django.utils.duration import duration_string
from django.utils.text import capfirst

from sisy.admin import shown
from sisy.models import Task

TOLD: Final = frozenset(
    {
        *("label", "callable", "instance_pk", "schedule", "timezone", "enabled", "iterations"),
        *("start_running", "end_running", "overlap", "misfire", "misfire_grace", "jitter"),
        *("max_attempts", "retry_backoff", "timeout", "at_most_once", "queue", "priority"),
    }
)
"""The fields whose values are written into the log."""

_KEY: Final = "sisy"
_LONGEST: Final = 300


@dataclass(frozen=True, kw_only=True)
class Change:
    """A field's name for people, and what its value was and became."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a task's log: who, when, what in words, and the values that were changed."""

    at: datetime
    user: str
    text: str
    changes: tuple[Change, ...]


def with_values(message: list[dict[str, Any]], form: Any) -> list[dict[str, Any]]:
    """Add to a log entry's message what the changed fields of a task's form were before and are now.

    Args:
        message: as Django's construct_change_message returns it.
        form: the form that was saved.
    """
    names = [name for name in form.changed_data if name in TOLD]
    values = {name: [_plain(form.initial.get(name)), _plain(form.cleaned_data.get(name))] for name in names}
    for part in message:
        if "changed" in part and values:
            part["changed"][_KEY] = values
    return message


def changes_in(entry: LogEntry) -> tuple[Change, ...]:
    """Return the values in a log entry; none if it was not written by sisy."""
    try:
        parts = json.loads(entry.change_message)
    except ValueError:  # a text, as code outside of the admin writes it
        return ()
    found = [part["changed"].get(_KEY) for part in parts if isinstance(part, dict) and "changed" in part]
    values = found[0] if found and isinstance(found[0], Mapping) else {}
    return tuple(
        Change(field=_label(name), before=_shown(name, pair[0]), after=_shown(name, pair[1]))
        for name, pair in values.items()
        if name in TOLD and isinstance(pair, list) and len(pair) == 2
    )


def entries_of(task: Task, *, most: int) -> list[Entry]:
    """Return the newest entries of a task's log, the newest first, in one query."""
    entries = LogEntry.objects.filter(content_type=get_content_type_for_model(task), object_id=str(task.pk))
    return [
        Entry(
            at=entry.action_time,
            user=shown.short(entry.user.get_username(), 60),
            text=shown.short(_text(entry), _LONGEST),
            changes=changes_in(entry),
        )
        for entry in entries.select_related("user").order_by("-action_time", "-pk")[:most]
    ]


def _text(entry: LogEntry) -> str:
    try:
        return entry.get_change_message() or str(entry)
    except (LookupError, TypeError, AttributeError):  # JSON of somebody else's
        return entry.change_message


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, timedelta):
        return duration_string(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _label(name: str) -> str:
    return str(capfirst(getattr(Task._meta.get_field(name), "verbose_name", name)))


def _shown(name: str, value: Any) -> str:
    if value in (None, ""):
        return shown.NOTHING
    field = Task._meta.get_field(name)
    choices = dict(getattr(field, "flatchoices", None) or ())
    if isinstance(value, str) and name in ("start_running", "end_running"):
        instant = parse_datetime(value)
        return shown.local(instant) if instant else shown.short(value, _LONGEST)
    if isinstance(value, bool):
        return "✓" if value else "✗"
    return shown.short(choices.get(value, value), _LONGEST)
