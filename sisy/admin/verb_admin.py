"""A model admin whose actions are also buttons on the page of one row.

TaskAdmin and RunAdmin are two. Buttons and actions are the same methods behind the same permissions; both are POSTs
that Django's CSRF check guards. What destroys something is asked for first: by static/sisy/live.js, or on a page.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from sisy.admin.answers import Answer, tell
from sisy.admin.live import LiveAdmin, fragment

_MOST: Final = 1000  # rows that one request may change, one transaction each
_BACK: Final = "_back_to_list"  # posted by a button that stands in the list
_MOST_ASKED: Final = 20  # rows that are named where somebody is asked


class VerbAdmin(LiveAdmin):
    """Names in `actions` are actions in the list, and buttons on the page of a row that they fit."""

    actions: Sequence[str]

    def fitting(self, row: Any) -> Collection[str]:
        """Return those of the actions that make sense for a row as it is now."""
        raise NotImplementedError

    def answer(self, request: HttpRequest, rows: "QuerySet[Any]", act: Callable[[Any], Answer]) -> None:
        """Act on each row and tell what became of it."""
        chosen = list(rows[: _MOST + 1])
        if len(chosen) > _MOST:
            text = _("More than %(count)d rows are selected, so nothing was done. Select fewer.")
            self.message_user(request, text % {"count": _MOST}, messages.ERROR)
            return
        tell(self, request, (act(row) for row in chosen))

    def may(self, request: HttpRequest, verb: str) -> bool:
        """Tell whether this user has the permissions of an action."""
        needed: Iterable[str] = getattr(self, verb).allowed_permissions
        return all(getattr(self, f"has_{permission}_permission")(request) for permission in needed)

    def get_urls(self) -> list[URLPattern]:
        """Add the address that the buttons post to."""
        view = self.admin_site.admin_view(require_POST(self.verb_view))
        name = f"{self.opts.app_label}_{self.opts.model_name}_verb"
        return [path("<int:object_id>/verb/<slug:verb>/", view, name=name), *super().get_urls()]

    def verb_view(self, request: HttpRequest, object_id: int, verb: str) -> HttpResponse:
        """Do what one button says, and come back to the row's page."""
        if verb not in self.actions:
            raise Http404(verb)
        if not self.has_view_or_change_permission(request) or not self.may(request, verb):
            raise PermissionDenied
        rows = self.get_queryset(request).filter(pk=object_id)
        if not rows.exists():
            return self._gone(request, object_id)
        question = getattr(self, verb)(request, rows)
        if question is not None:
            return cast(HttpResponse, question)
        if not rows.exists():  # it may have been all there was of a task
            return self._to_list(request)
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        url = reverse(name, args=[object_id], current_app=self.admin_site.name)
        if "Sisy-Live" in request.headers:
            return render(request, "admin/sisy/messages.html")
        return self._to_list(request) if _BACK in request.POST else self._back(request, url)

    @fragment(template="admin/sisy/buttons.html", on="{model}:{pk}", of_row=True)
    def buttons(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Show the buttons for a row as it is now, for this user."""
        return {"buttons": self.buttons_for(request, row)}

    def buttons_for(
        self, request: HttpRequest, row: Any, fitting: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return what buttons.html needs of each button that fits a row as it is now, for this user.

        Args:
            request: of that user.
            row: the row.
            fitting: the verbs that fit it, or None to find out.
        """
        fitting = self.fitting(row) if fitting is None else fitting
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_verb"
        return [
            {
                "verb": verb,
                "url": reverse(name, args=[row.pk, verb], current_app=self.admin_site.name),
                "text": self.button_text(verb, row),
                "question": getattr(self, verb).question,
            }
            for verb in self.actions
            if verb in fitting and self.may(request, verb)
        ]

    def button_text(self, verb: str, row: Any) -> str:
        """Return what the button of an action says on the page of a row."""
        return str(getattr(self, verb).button)

    def confirmation(self, request: HttpRequest, rows: "QuerySet[Any]", question: Any) -> HttpResponse:
        """Return the page that asks whether to do what was asked for; its form asks for the same, confirmed."""
        fields = [
            (name, value)
            for name in ("action", "select_across", "index", ACTION_CHECKBOX_NAME)
            for value in request.POST.getlist(name)
        ]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Are you sure?"),
            "opts": self.opts,
            "question": question,
            "rows": list(rows[:_MOST_ASKED]),
            "fields": [*fields, ("confirmed", "1")],
            "cl": {"opts": self.opts},
            "media": self.media,
        }
        return TemplateResponse(request, "admin/sisy/confirmation.html", context)

    def _gone(self, request: HttpRequest, object_id: int) -> HttpResponse:
        text = _("%(name)s %(id)d does not exist any more.") % {"name": self.opts.verbose_name, "id": object_id}
        self.message_user(request, text, messages.WARNING)
        return self._to_list(request)

    def _to_list(self, request: HttpRequest) -> HttpResponse:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return self._back(request, reverse(name, current_app=self.admin_site.name))

    def _back(self, request: HttpRequest, url: str) -> HttpResponse:
        """Lead to a page; live.js goes there by itself, so that it does not lose the messages on its way."""
        if "Sisy-Live" in request.headers:
            return HttpResponse(status=204, headers={"Sisy-Location": url})
        filters: dict[str, Any] = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        return HttpResponseRedirect(add_preserved_filters(filters, url))


def verb(
    *, button: Any, description: Any, permission: str, question: Any = None
) -> Callable[[Callable[..., None]], Callable[..., Any]]:
    """Mark a method of a VerbAdmin as an action.

    Args:
        button: what the button on a row's page says.
        description: what the list of actions says.
        permission: the method has_..._permission must allow it.
        question: what to ask before it is done, or None.
    """

    def mark(method: Callable[..., None]) -> Callable[..., Any]:
        @functools.wraps(method)
        def act(self: VerbAdmin, request: HttpRequest, queryset: "QuerySet[Any]") -> HttpResponse | None:
            if question is not None and "confirmed" not in request.POST:
                return self.confirmation(request, queryset, question)
            method(self, request, queryset)
            return None

        act.button, act.question = button, question  # type: ignore[attr-defined]
        return admin.action(description=description, permissions=[permission])(act)

    return mark
