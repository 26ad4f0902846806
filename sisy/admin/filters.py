"""Filters beside the lists of tasks and runs that cost the same however many rows there are.

None of them asks the database for the distinct values of a column; those that offer values take them from the registry,
or from a sample of the newest rows. Any other value may be written into the address.
"""

from datetime import timedelta
from typing import Any, Final, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from sisy import registry
from sisy.admin.shown import short
from sisy.models import Run, RunStatus, Task

_SAMPLE: Final = 1000
_MOST_OFFERED: Final = 30

TEMPLATE: Final = "admin/sisy/filter.html"
"""A filter as a menu: the lists have no room for a column of filters beside them."""

Lookups = list[tuple[str, Any]]


class ChoiceFilter(admin.ChoicesFieldListFilter):
    """A column with choices."""

    template = TEMPLATE


class StateFilter(admin.SimpleListFilter):
    """Enabled, paused or parked."""

    title = _("state")
    parameter_name = "state"
    template = TEMPLATE

    def lookups(self, request: HttpRequest, model_admin: Any) -> Lookups:
        """Offer the three states."""
        return [("enabled", _("Enabled")), ("paused", _("Paused")), ("parked", _("Parked"))]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Task]") -> "QuerySet[Task]":
        """Keep the tasks in the chosen state; the index on `enabled` serves each."""
        if self.value() == "enabled":
            return queryset.filter(enabled=True)
        if self.value() == "paused":
            return queryset.filter(enabled=False, error="")
        return queryset.filter(enabled=False).exclude(error="") if self.value() == "parked" else queryset


class StatusFilter(ChoiceFilter):
    """A run's status; those that are rare are found by an index instead of reading on until a page is full."""

    _rare: Final = {RunStatus.FAILED, RunStatus.LOST, RunStatus.MISSED, RunStatus.SKIPPED, RunStatus.CANCELLED}

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Run]") -> "QuerySet[Run]":
        """Keep the runs with the chosen status; what has ended has an end, which tells the index that it is meant."""
        kept: QuerySet[Run] = cast(Any, super().queryset(request, queryset))
        chosen = self.used_parameters.get(self.lookup_kwarg) or [""]
        is_rare = (chosen[-1] if isinstance(chosen, list) else chosen) in self._rare
        return kept.filter(finished_at__isnull=False) if is_rare else kept


class CallableFilter(admin.SimpleListFilter):
    """The callable, if it is registered."""

    title = _("callable")
    parameter_name = "callable"
    template = TEMPLATE

    def lookups(self, request: HttpRequest, model_admin: Any) -> Lookups:
        """Offer what is registered."""
        return [(path, short(label or path)) for path, label in registry.registered().items()][:_MOST_OFFERED]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep the rows with the chosen callable."""
        return queryset.filter(callable=self.value()) if self.value() else queryset


class QueueFilter(admin.SimpleListFilter):
    """The queue, of those that the newest rows have."""

    title = _("queue")
    parameter_name = "queue"
    template = TEMPLATE

    def lookups(self, request: HttpRequest, model_admin: Any) -> Lookups:
        """Offer the queues of the newest rows."""
        newest = model_admin.model._base_manager.order_by("-pk").values_list("queue", flat=True)
        return [(queue, short(queue)) for queue in sorted(set(newest[:_SAMPLE]))[:_MOST_OFFERED]]

    def has_output(self) -> bool:
        """Show the filter only where there is something to choose."""
        return len(self.lookup_choices) > 1 or self.value() is not None

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        """Keep the rows with the chosen queue."""
        return queryset.filter(queue=self.value()) if self.value() else queryset


class EnqueuedFilter(admin.SimpleListFilter):
    """When a run was enqueued."""

    title = _("enqueued")
    parameter_name = "enqueued"
    template = TEMPLATE

    _ages: Final = {
        "hour": timedelta(hours=1),
        "day": timedelta(days=1),
        "week": timedelta(days=7),
        "month": timedelta(days=30),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Lookups:
        """Offer ages."""
        return [
            ("hour", _("In the past hour")),
            ("day", _("In the past 24 hours")),
            ("week", _("In the past 7 days")),
            ("month", _("In the past 30 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Run]") -> "QuerySet[Run]":
        """Keep the runs that are young enough.

        enqueued_at has no index, but keys grow with it: the newest key that is too old bounds what has to be read.
        """
        age = self._ages.get(self.value() or "")
        if age is None:
            return queryset
        since = timezone.now() - age
        too_old = Run.objects.filter(enqueued_at__lt=since).order_by("-pk").values_list("pk", flat=True).first()
        return queryset.filter(enqueued_at__gte=since, pk__gt=too_old or 0)
