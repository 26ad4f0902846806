"""What the admin shows of one task: its state, its schedule in words, its next and last runs, its fields in groups."""

from collections.abc import Sequence
from copy import copy
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from sisy.admin import shown
from sisy.models import Run, RunStatus, Task

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


def schedule_in_words(task: Task) -> tuple[str, str]:
    """Return a task's schedule in words and an empty text, or what it is and what is wrong with it."""
    try:
        return shown.visible(task.describe()), ""
    except Exception as error:  # whatever somebody wrote into the row by SQL: the page must show it
        return shown.short(error, 300), str(error)


def plan_of(task: Task) -> dict[str, Any]:
    """Return what templates/admin/sisy/task/plan.html shows: the schedule in words and the next slots."""
    words, error = schedule_in_words(task)
    slots = [] if error else [_slot(slot, task.zone_name) for slot in _upcoming(task)]
    return {"task": task, "words": words, "error": error, "slots": slots, "raw": shown.visible(task.schedule)}


def run_marks(runs: Sequence[Run]) -> str:
    """Show the states of runs as marks that lead to them."""
    if not runs:
        return shown.NOTHING
    marks = ((reverse("admin:sisy_run_change", args=[run.pk]), _said(run), shown.mark(run.status)) for run in runs)
    return format_html(
        '<span class="sisy-marks">{}</span>',
        format_html_join("", '<a href="{}" title="{}" aria-label="{}">{}</a>', ((a, b, b, c) for a, b, c in marks)),
    )


def fieldsets_of(task: Task | None, *, may_edit: bool, with_instance_key: bool) -> list[tuple[Any, dict[str, Any]]]:
    """Return the fields of the form in groups.

    Args:
        task: None for a new one.
        may_edit: whether the user may change what is shown.
        with_instance_key: whether a method of a row can be chosen, or is.
    """
    target = ["callable", "instance_pk"] if with_instance_key else ["callable"]
    window = ["start_running", "end_running", "iterations"]
    now = [(_("Now"), {"fields": ["state_now", "plan", "runs_so_far"]})]
    return [
        *([] if task is None else now),
        (None, {"fields": ["label", *target, "schedule", "timezone", "enabled"]}),
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


def _upcoming(task: Task) -> list[datetime]:
    """Return the next slots; those of a paused task are counted from now, as they will be when it is resumed."""
    if not task.enabled:
        task = copy(task)
        task.next_run = None
    return task.upcoming(5)


def _slot(slot: datetime, zone: str) -> dict[str, str]:
    local = slot.astimezone(ZoneInfo(zone))
    return {
        "iso": slot.isoformat(),
        "local": f"{local:%Y-%m-%d %H:%M:%S %Z}",
        "utc": f"{slot.astimezone(UTC):%H:%M:%S} UTC" if local.utcoffset() else "",
        "distance": shown.distance(slot),
    }


def _said(run: Run) -> str:
    said = f"#{run.pk} {RunStatus(run.status).label}, {shown.local(run.slot or run.enqueued_at)}"
    if run.slot is None:
        said += f" ({gettext('ad hoc')})"
    return f"{said}: {shown.short(run.reason)}" if run.reason else said
