"""A model admin whose actions are also buttons on the page of one row.

TaskAdmin and RunAdmin are two. Buttons and actions are the same methods behind the same permissions; both are POSTs
that Django's CSRF check guards.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from sisy.admin.answers import Answer, tell

_MOST: Final = 1000  # rows that one request may change, one transaction each
_BACK: Final = "_back_to_list"  # posted by a button that stands in the list


class VerbAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # can't be subscripted when it runs
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
        getattr(self, verb)(request, rows)
        if not rows.exists():  # it may have been all there was of a task
            return self._to_list(request)
        if _BACK in request.POST:
            return self._to_list(request)
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return self._back(request, reverse(name, args=[object_id], current_app=self.admin_site.name))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Add the buttons to the row's page."""
        context = {"buttons": self._buttons(request, object_id), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def _buttons(self, request: HttpRequest, object_id: str) -> list[dict[str, str]]:
        row = self.get_object(request, object_id)
        if row is None:
            return []
        return self.buttons_for(request, row, self.fitting(row))

    def buttons_for(self, request: HttpRequest, row: Any, fitting: Collection[str]) -> list[dict[str, str]]:
        """Return address and text of a button for each of these verbs that this user may use."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_verb"
        return [
            {
                "verb": verb,
                "url": reverse(name, args=[row.pk, verb], current_app=self.admin_site.name),
                "text": getattr(self, verb).button,
            }
            for verb in self.actions
            if verb in fitting and self.may(request, verb)
        ]

    def _gone(self, request: HttpRequest, object_id: int) -> HttpResponse:
        text = _("%(name)s %(id)d does not exist any more.") % {"name": self.opts.verbose_name, "id": object_id}
        self.message_user(request, text, messages.WARNING)
        return self._to_list(request)

    def _to_list(self, request: HttpRequest) -> HttpResponse:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return self._back(request, reverse(name, current_app=self.admin_site.name))

    def _back(self, request: HttpRequest, url: str) -> HttpResponseRedirect:
        filters: dict[str, Any] = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        return HttpResponseRedirect(add_preserved_filters(filters, url))


def verb(*, button: Any, description: Any, permission: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a method of a VerbAdmin as an action.

    Args:
        button: what the button on a row's page says.
        description: what the list of actions says.
        permission: the method has_..._permission must allow it.
    """

    def mark(method: Callable[..., None]) -> Callable[..., None]:
        method.button = button  # type: ignore[attr-defined]
        return admin.action(description=description, permissions=[permission])(method)

    return mark
