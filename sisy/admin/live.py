"""Live regions of the admin's pages: named pieces of HTML, each with an address of its own.

A page's model admin is a LiveAdmin whose methods marked with @fragment give the values of a template. The page shows
`{{ live.NAME }}`; static/sisy/live.js fetches the same piece again when a hint says so. Permission is checked at both.
"""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.forms import Media
from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, get_script_prefix, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from sisy.routing import LIVE_PATH
from sisy.views import SCRIPT

MEDIA: Final[dict[str, Any]] = {
    "css": {"all": ["sisy/admin.css", "sisy/live.css"]},
    "js": [SCRIPT],
}
"""What a live page needs; give it to `forms.Media`."""


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """What @fragment notes.

    Args:
        template: shows what the method returns.
        on: which hints are news for it, with spaces between: "run" is any run, "run:{pk}" the page's own row; "task",
            "worker" likewise; "{list}" what the model admin's list_topics says.
        of_row: whether it belongs to the page of one row, which the method receives.
    """

    template: str
    on: str
    of_row: bool


def fragment(*, template: str, on: str, of_row: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a method of a LiveAdmin, (request) or (request, row), as what a live region shows.

    The method returns the template's values. For the arguments see Fragment.
    """

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        method.fragment = Fragment(template=template, on=on, of_row=of_row)  # type: ignore[attr-defined]
        return method

    return mark


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Regions that look the same for many who look at the same time.

    Args:
        regions: those rendered so far.
        of: what a region depends on for this user, besides its name and what was read.
    """

    regions: dict[tuple[Hashable, ...], SafeString]
    of: tuple[Hashable, ...]


class LivePage(Mapping[str, SafeString]):
    """The live regions of one page by their names; in a template, `{{ live.NAME }}`.

    Args:
        model_admin: whose methods give the values.
        request: of the user who looks.
        row: that the page is about, or None.
    """

    def __init__(self, model_admin: "LiveAdmin", request: HttpRequest, row: Any = None) -> None:
        self._model_admin = model_admin
        self._request = request
        self._row = row
        self._fragments = model_admin.fragments(of_row=row is not None)
        self._given: dict[str, dict[str, Any]] = {}

    def give(self, name: str, values: dict[str, Any]) -> None:
        """Have a region show values that are there already."""
        self._given[name] = values

    def __getitem__(self, name: str) -> SafeString:
        """Render a region, with the element around it that live.js knows it by."""
        marked = self._fragments[name]
        try:
            return self._rendered(name, marked)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # A template takes these for a name that isn't there, and shows nothing.
            raise RuntimeError(f"The live region {name!r} can't be shown: {error!r}") from error

    def _rendered(self, name: str, marked: Fragment) -> SafeString:
        if given := self._given.pop(name, None):
            return self._render(name, marked, given)
        shared = self._model_admin.shared(self._request)
        if shared is None:
            return self._render(name, marked, self._values(name))
        key = (name, *shared.of)
        if key not in shared.regions:
            shared.regions[key] = self._render(name, marked, self._values(name))
        return shared.regions[key]

    def _values(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = getattr(self._model_admin, name)(*self._arguments())
        return values

    def _render(self, name: str, marked: Fragment, values: Mapping[str, Any]) -> SafeString:
        context = {
            "live": self,
            "row": self._row,
            "opts": self._model_admin.opts,
            "preserved_filters": self._model_admin.get_preserved_filters(self._request),
            **values,
        }
        html = render_to_string(marked.template, context, request=self._request)
        on = marked.on.format(
            pk=getattr(self._row, "pk", ""), model=self._model_admin.opts.model_name, list=self._model_admin.list_topics
        )
        return format_html(
            '<div id="sisy-{}" class="sisy-region" data-sisy-url="{}" data-sisy-on="{}">{}</div>',
            name,
            self._url(name),
            on,
            html,
        )

    def __iter__(self) -> Any:
        return iter(self._fragments)

    def __len__(self) -> int:
        return len(self._fragments)

    def _arguments(self) -> tuple[Any, ...]:
        return (self._request,) if self._row is None else (self._request, self._row)

    def _url(self, name: str) -> str:
        opts, keys = self._model_admin.opts, () if self._row is None else (self._row.pk,)
        view = f"admin:{opts.app_label}_{opts.model_name}_fragment" + ("s" if self._row is None else "")
        url = reverse(view, args=[*keys, name], current_app=self._model_admin.admin_site.name)
        query = self._request.META.get("QUERY_STRING", "")
        return f"{url}?{query}" if query else url


class NotByHand:
    """Rows that sisy writes itself: nobody adds or changes one, whatever their permissions."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False


class LiveAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # can't be subscripted when it runs
    """A model admin whose pages have live regions; its list is one, `live.results`."""

    list_topics = ""
    """Which hints are news for the list: see Fragment."""

    @property
    def media(self) -> Any:
        """Add what live pages need."""
        return super().media + Media(**MEDIA)

    def fragments(self, *, of_row: bool) -> dict[str, Fragment]:
        """Return what is marked with @fragment, by name."""
        found = {name: getattr(getattr(type(self), name, None), "fragment", None) for name in dir(type(self))}
        return {name: marked for name, marked in found.items() if marked is not None and marked.of_row == of_row}

    def live_context(self, request: HttpRequest, row: Any = None) -> dict[str, Any]:
        """Return what a page's template needs: its regions, and what tells live.js where the socket is."""
        get_token(request)  # a button in a region uses the page's form
        return {
            "live": LivePage(self, request, row),
            "live_socket": f"{get_script_prefix()}{LIVE_PATH}",
            "live_now": timezone.now().timestamp(),
        }

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the regions."""
        view = self.admin_site.admin_view(never_cache(require_safe(self.fragment_view)))
        name = f"{self.opts.app_label}_{self.opts.model_name}_fragment"
        return [
            path("fragment/<str:names>/", view, name=f"{name}s"),
            path("<path:object_id>/fragment/<str:names>/", view, name=name),
            *super().get_urls(),
        ]

    def fragment_view(self, request: HttpRequest, names: str, object_id: str | None = None) -> HttpResponse:
        """Return one region, or several with "+" between their names."""
        began = time.monotonic()
        row = None if object_id is None else self.get_object(request, object_id)
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        if row is None and object_id is not None:
            raise Http404(object_id)
        page = LivePage(self, request, row)
        if unknown := set(names.split("+")) - set(page):
            raise Http404(", ".join(sorted(unknown)))
        response = HttpResponse(SafeString("\n").join(page[name] for name in names.split("+")))
        response["Sisy-Now"] = f"{timezone.now().timestamp():.3f}"
        response["Sisy-Age"] = f"{max(0.0, began - self.read_at(request)):.3f}"  # when it was asked for
        return response

    def read_at(self, request: HttpRequest) -> float:
        """Return when what the regions show was read, by time.monotonic(); live.js fetches again what is too old."""
        return math.inf

    def shared(self, request: HttpRequest) -> Shared | None:
        """Return the regions that others have had rendered, and that this user may see as they are; None without."""
        return None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Add the regions to the list's page."""
        context = self.live_context(request)
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        response = super().changelist_view(request, {**title, **context, **(extra_context or {})})
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            context["live"].give("results", {"cl": response.context_data["cl"]})
        return response

    @fragment(template="admin/sisy/results.html", on="{list}")
    def results(self, request: HttpRequest) -> dict[str, Any]:
        """Show the rows of the list, as the address filters them."""
        try:
            changes = self.get_changelist_instance(request)
        except IncorrectLookupParameters:  # perhaps the page of a list that is shorter now
            values = request.GET.copy()
            values.pop(PAGE_VAR, None)
            request.GET = values  # type: ignore[assignment]
            try:
                changes = self.get_changelist_instance(request)
            except IncorrectLookupParameters as error:
                raise Http404(str(error)) from error
        changes.formset = None
        return {"cl": changes}

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Add the regions to the row's page."""
        row = self.get_object(request, object_id)
        context = self.live_context(request, row) if row is not None else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})
