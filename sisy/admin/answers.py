"""What became of each row that somebody asked something of, and telling them so.

The verbs give an Answer for each row; `tell` makes one message of those that are alike, and a log entry of each that
changed something.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import ngettext

from sisy.admin import overview
from sisy.admin.shown import short
from sisy.models import Run, Task

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

_MOST_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """One thing that can become of a row.

    Args:
        level: of django.contrib.messages.
        text: an ngettext_lazy text with %(count)d and %(names)s.
        changed: whether something was done, which belongs into the row's history.
    """

    level: int
    text: Any
    changed: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one row.

    Args:
        row: a task or a run.
        kind: what became of it.
        detail: what is to be said of this row alone, such as its error.
    """

    row: Task | Run
    kind: Kind
    detail: str = ""


def done(text: Any) -> Kind:
    """Return a kind that went well."""
    return Kind(level=messages.SUCCESS, text=text, changed=True)


def done_but(text: Any) -> Kind:
    """Return a kind of which people should know more than that it was done."""
    return Kind(level=messages.WARNING, text=text, changed=True)


def not_needed(text: Any) -> Kind:
    """Return a kind of which nothing was to do."""
    return Kind(level=messages.INFO, text=text, changed=False)


def refused(text: Any) -> Kind:
    """Return a kind that was not done."""
    return Kind(level=messages.ERROR, text=text, changed=False)


def tell(model_admin: "ModelAdmin[Any]", request: HttpRequest, answers: Iterable[Answer]) -> None:
    """Tell the user what became of the rows, and write it into the history of those that were changed."""
    groups: dict[Kind, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.kind, []).append(answer)
        if answer.kind.changed:
            model_admin.log_change(request, answer.row, _sentence(answer.kind, [answer]))
    for kind, members in groups.items():
        model_admin.message_user(request, _sentence(kind, members), kind.level)
    overview.forget()  # whoever acts sees what came of it


def _sentence(kind: Kind, answers: list[Answer]) -> str:
    names = ", ".join(_name(answer) for answer in answers[:_MOST_NAMED])
    if (others := len(answers) - _MOST_NAMED) > 0:
        names += ngettext(" and %(count)d other", " and %(count)d others", others) % {"count": others}
    return str(kind.text % {"count": len(answers), "names": names})


def _name(answer: Answer) -> str:
    name = f"“{short(answer.row.label)}”"
    if isinstance(answer.row, Run):
        name += f" (#{answer.row.pk})"
    return f"{name}: {short(answer.detail, 300)}" if answer.detail else name
