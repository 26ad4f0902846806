"""What a schedule means, while it is being typed: the answer to each pause in typing, read by the worker's own parser.

TaskAdmin has the address; static/sisy/schedule.js asks it and puts the answer, a piece of HTML, below the field.
"""

from copy import copy
from dataclasses import replace
from typing import Final

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from sisy.admin import choices
from sisy.admin.plan import TaskPlan, plan_of
from sisy.cron import MAX_LENGTH
from sisy.models import Task

_LONGEST_ZONE: Final = 64


def preview(request: HttpRequest, task: Task | None) -> TaskPlan:
    """Return the plan that a task would have with the schedule and the zone that a request names.

    Args:
        request: its query has `schedule` and `timezone`, and for a new task may have `callable` and `label`.
        task: the task whose form it is; None for a new one.
    """
    schedule, zone = request.GET.get("schedule", ""), request.GET.get("timezone", "")
    if len(schedule) > MAX_LENGTH or len(zone) > _LONGEST_ZONE:
        text = _("A schedule has at most %(count)d characters.") % {"count": MAX_LENGTH}
        return TaskPlan(words=text, error=text, raw="", zone="", slots=())
    if not schedule.strip():
        text = _("Write a schedule, such as */5 * * * * or @daily.")
        return TaskPlan(words=text, error=text, raw="", zone=zone, slots=())
    planned = _planned(request, task)
    planned.schedule, planned.timezone = schedule, zone.strip()
    plan = plan_of(planned)
    return replace(plan, raw=" ".join(plan.raw.split()))


def _planned(request: HttpRequest, task: Task | None) -> Task:
    """Return a task to try the schedule on; it is never saved."""
    if task is not None:
        planned = copy(task)
        planned.next_run = None  # counted from now, as it will be when the form is saved
        return planned
    path = request.GET.get("callable", "")
    return Task(  # H in a schedule stands on these
        callable=path if path in choices.offered_paths() else "",
        label=request.GET.get("label", "")[:255],
        created_at=timezone.now(),
    )
