"""The overview in the admin: is it alive, what runs, what failed, what comes next; all of it live."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from sisy.admin.live import LiveAdmin
from sisy.models import Dashboard


@admin.register(Dashboard)
class DashboardAdmin(LiveAdmin):
    """The overview."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the overview in place of a list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **self.live_context(request),
            "title": self.opts.verbose_name,
            "opts": self.opts,
            "cl": {"opts": self.opts},
            "media": self.media,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/sisy/dashboard/overview.html", context)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: there is nothing to add."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: it is only looked at."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, as above."""
        return False
