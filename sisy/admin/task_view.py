"""What the admin shows of one task: its state, and the fields of its form in groups."""

from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from sisy.admin import shown
from sisy.models import Task

_STATES: Final = {
    "enabled": ("●", _("Enabled")),
    "paused": ("❚❚", _("Paused")),
    "parked": ("!", _("Parked")),
    "ending": ("○", _("No run left")),
}


def state(task: Task) -> str:
    """Show whether a task runs: a sign and a word."""
    name = _state_name(task)
    sign, word = _STATES[name]
    return shown.state(name, sign=sign, word=word)


def fieldsets_of(task: Task | None, *, may_edit: bool, with_instance_key: bool) -> list[tuple[Any, dict[str, Any]]]:
    """Return the fields of the form in groups.

    Args:
        task: None for a new one.
        may_edit: whether the user may change what is shown.
        with_instance_key: whether a method of a row can be chosen, or is.
    """
    target = ["callable", "instance_pk"] if with_instance_key else ["callable"]
    window = ["start_running", "end_running", "iterations"]
    return [
        (_("What and when"), {"fields": ["label", *target, "schedule", "timezone", "enabled"]}),
        (_("Data"), {"fields": ["_extra_data" if may_edit else "userdata_shown"]}),
        (_("How long"), {"fields": [*window, "wait_for_schedule"] if task is None else window}),
        (_("When slots collide or pass"), {"fields": ["overlap", "misfire", "misfire_grace", "jitter"]}),
        (_("When it fails"), {"fields": ["max_attempts", "retry_backoff", "timeout", "at_most_once"]}),
        (_("Where"), {"fields": ["queue", "priority"]}),
    ]


def _state_name(task: Task) -> str:
    if task.error:
        return "parked"
    if not task.enabled:
        return "paused"
    return "enabled" if task.next_run is not None else "ending"
