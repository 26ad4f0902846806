"""The demo's rows in the admin, next to sisy's own pages."""

from django.contrib import admin
from django.http import HttpRequest

from sisy.demo.models import Alert, Report, Sample, Watch


@admin.register(Sample)
class SampleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # takes no argument at run time
    """What was measured, to look at."""

    list_display = ["taken_at", "load", "memory_percent", "disk_percent"]
    date_hierarchy = "taken_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Samples are measured, not typed."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Sample | None = None) -> bool:
        """What was measured was measured."""
        return False


@admin.register(Watch)
class WatchAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # takes no argument at run time
    """Lower a limit here to see an alert."""

    list_display = ["measure", "limit", "is_reached"]


@admin.register(Alert)
class AlertAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # takes no argument at run time
    """What the watches have written."""

    list_display = ["raised_at", "text"]
    list_filter = ["watch"]


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # takes no argument at run time
    """The visitors' jobs."""

    list_display = ["requested_at", "kind", "run"]
    readonly_fields = ["run"]
