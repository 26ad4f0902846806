"""The admin's pages for workers: which processes there are, when they were heard of, what they have in hand."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from sisy import conf
from sisy.admin import shown
from sisy.admin.live import LiveAdmin
from sisy.models import Run, RunStatus, Worker


class WorkerChangeList(ChangeList):
    """Sets `in_hand` and `is_alive` on each worker of the page."""

    def get_results(self, request: HttpRequest) -> None:
        """Load the page's workers, what they run, and which of them were heard of within a lease."""
        super().get_results(request)
        workers = list(self.result_list)
        keys = [worker.pk for worker in workers]
        running = Run.objects.filter(status=RunStatus.RUNNING, worker__in=keys)
        in_hand = dict(running.order_by().values_list("worker").annotate(Count("pk")))
        alive = set(Worker.objects.seen_within(conf.current().lease).filter(pk__in=keys).values_list("pk", flat=True))
        for worker in workers:
            worker.in_hand, worker.is_alive = in_hand.get(worker.pk, 0), worker.pk in alive
        self.result_list = workers


@admin.register(Worker)
class WorkerAdmin(LiveAdmin):
    """Worker processes; they write these rows themselves."""

    list_topics = "worker run"
    list_display = ("name", "state", "version", "queues_shown", "concurrency", "runs", "started", "seen", "stopped")
    list_select_related = False
    ordering = ("-seen_at", "pk")
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    fields = ("id", "host", "pid", "version", "queues_shown", "concurrency", "runs_link", "started", "seen", "stopped")

    @admin.display(description=_("worker"), ordering="host")
    def name(self, worker: Worker) -> str:
        """Show host and process."""
        return shown.short(worker)

    @admin.display(description=_("state"))
    def state(self, worker: Any) -> str:
        """Show whether it was heard of lately."""
        if worker.stopped_at is not None:
            return shown.state("ending", sign="■", word=_("Stopped"))
        if worker.is_alive:
            return shown.state("enabled", sign="●", word=_("Alive"))
        return shown.state("parked", sign="!", word=_("Silent"))

    @admin.display(description=_("queues"))
    def queues_shown(self, worker: Worker) -> str:
        """Show the queues it serves."""
        if not isinstance(worker.queues, list) or not worker.queues:
            return str(_("all"))
        return shown.short(", ".join(map(str, worker.queues)))

    @admin.display(description=_("runs in hand"))
    def runs(self, worker: Any) -> str:
        """Show how many runs it executes at present, and lead to them."""
        url = reverse("admin:sisy_run_changelist", current_app=self.admin_site.name)
        query = f"?worker={worker.pk}&status__exact={RunStatus.RUNNING}"
        return format_html('<a href="{}{}">{}</a>', url, query, worker.in_hand) if worker.in_hand else "0"

    @admin.display(description=_("runs"))
    def runs_link(self, worker: Worker) -> str:
        """Lead to what it ran."""
        url = reverse("admin:sisy_run_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?worker={}">{}</a>', url, worker.pk, _("Runs of this worker"))

    @admin.display(description=_("started"), ordering="started_at")
    def started(self, worker: Worker) -> str:
        """Show its start."""
        return shown.brief_instant(worker.started_at)

    @admin.display(description=_("last seen"), ordering="seen_at")
    def seen(self, worker: Worker) -> str:
        """Show its last sign of life."""
        return shown.instant_and_distance(worker.seen_at)

    @admin.display(description=_("stopped"), ordering="stopped_at")
    def stopped(self, worker: Worker) -> str:
        """Show its end."""
        return shown.brief_instant(worker.stopped_at)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[WorkerChangeList]:
        """Return the list that knows what the workers have in hand."""
        return WorkerChangeList

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: workers write their rows themselves."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse, as above."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: the tick deletes what is old."""
        return False
