"""A task's policies as sentences: what happens when slots collide or pass, when it fails, where and how it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from sisy.admin import shown
from sisy.models import Task
from sisy.models.columns import Misfire, Overlap

OVERLAP: Final[Mapping[str, Any]] = {
    Overlap.SKIP: gettext_lazy("A run that comes due while an older one is not over is skipped, and a row says so."),
    Overlap.QUEUE: gettext_lazy("One run waits for the older one to end; those that come due meanwhile are skipped."),
    Overlap.ALLOW: gettext_lazy("A run starts when it comes due, whether an older one is over or not."),
    Overlap.REPLACE: gettext_lazy("A run that comes due cancels the older one that is not over."),
}
MISFIRE: Final[Mapping[str, Any]] = {
    Misfire.LATEST: gettext_lazy("Of the slots that passed while nothing ticked, the newest one runs."),
    Misfire.ALL: gettext_lazy("Each of the slots that passed while nothing ticked runs, up to a cap."),
    Misfire.SKIP: gettext_lazy("Of the slots that passed while nothing ticked, none runs that is older than %(time)s."),
}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy: its name and what it means for this task."""

    name: str
    text: str


def policies_of(task: Task) -> tuple[Policy, ...]:
    """Say what a task's policies mean, with its own numbers."""
    return (
        Policy(name=_("Overlap"), text=str(OVERLAP.get(task.overlap, task.overlap))),
        Policy(name=_("Misfire"), text=_misfire(task)),
        Policy(name=_("Retries"), text=_retries(task)),
        Policy(name=_("Crashes"), text=_crashes(task)),
        Policy(name=_("Timeout"), text=_timeout(task)),
        Policy(name=_("Place"), text=_place(task)),
    )


def _misfire(task: Task) -> str:
    text = str(MISFIRE.get(task.misfire, task.misfire))
    return text % {"time": shown.duration(task.misfire_grace)} if task.misfire == Misfire.SKIP else text


def _retries(task: Task) -> str:
    if task.max_attempts <= 1:
        return _("A run that raises has failed; it is not tried again.")
    text = ngettext(
        "A run that raises is tried up to %(count)d time, first after %(time)s, then after twice as long each time.",
        "A run that raises is tried up to %(count)d times, first after %(time)s, then after twice as long each time.",
        task.max_attempts,
    )
    return text % {"count": task.max_attempts, "time": shown.duration(task.retry_backoff)}


def _crashes(task: Task) -> str:
    if task.at_most_once:
        return _("A run whose worker died is LOST: it never starts a second time.")
    return _("A run whose worker died is handed to another worker.")


def _timeout(task: Task) -> str:
    if task.timeout is None:
        return _("A run may take as long as it likes.")
    return _("A run is stopped after %(time)s.") % {"time": shown.duration(task.timeout)}


def _place(task: Task) -> str:
    where = {"queue": shown.short(task.queue), "priority": task.priority}
    text = _("Queue %(queue)s, priority %(priority)s.") % where
    if task.jitter:
        text += " " + _("Each run is delayed by up to %(time)s.") % {"time": shown.duration(task.jitter)}
    return text
