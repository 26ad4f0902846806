"""The admin's pages for workers: which processes there are, when they were heard of, what they have in hand."""

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy as _

from sisy import conf
from sisy.admin import shown
from sisy.admin.live import LiveAdmin, NotByHand
from sisy.models import Run, RunStatus, Worker

_MOST_RUNS: Final = 200  # running runs that are loaded for one page
_MOST_NAMED: Final = 3  # of them, for each worker


class WorkerChangeList(ChangeList):
    """Sets `in_hand` and `is_alive` on each worker of the page."""

    def get_results(self, request: HttpRequest) -> None:
        """Load the page's workers, what they run, and which of them were heard of within a lease."""
        super().get_results(request)
        workers = list(self.result_list)
        keys = [worker.pk for worker in workers]
        running = Run.objects.filter(status=RunStatus.RUNNING, worker__in=keys)
        in_hand = dict(running.order_by().values_list("worker").annotate(Count("pk")))
        current: dict[Any, list[Run]] = {}
        for run in running.only("worker", "label", "started_at", "progress").order_by("pk")[:_MOST_RUNS]:
            current.setdefault(run.worker, []).append(run)
        alive = set(Worker.objects.seen_within(conf.current().lease).filter(pk__in=keys).values_list("pk", flat=True))
        for worker in workers:
            worker.in_hand, worker.is_alive = in_hand.get(worker.pk, 0), worker.pk in alive
            worker.current = current.get(worker.pk, [])
        self.result_list = workers


@admin.register(Worker)
class WorkerAdmin(NotByHand, LiveAdmin):
    """Worker processes; they write these rows themselves."""

    list_topics = "worker run"
    list_display = ("name", "state", "version", "queues_shown", "busy", "runs", "started", "seen", "stopped")
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

    @admin.display(description=_("busy"), ordering="concurrency")
    def busy(self, worker: Any) -> str:
        """Show how many of its slots are taken; what it has claimed ahead counts."""
        meter = '<meter class="sisy-meter" min="0" max="{}" value="{}" aria-hidden="true"></meter> {}'
        text = _("%(busy)d of %(slots)d") % {"busy": worker.in_hand, "slots": worker.concurrency}
        return format_html(meter, max(1, worker.concurrency), min(worker.in_hand, worker.concurrency), text)

    @admin.display(description=_("current runs"))
    def runs(self, worker: Any) -> str:
        """Show what it executes at present, and lead to all of it."""
        if not worker.in_hand:
            return shown.NOTHING
        url = reverse("admin:sisy_run_changelist", current_app=self.admin_site.name)
        shown_runs = [self._current(run) for run in worker.current[:_MOST_NAMED]]
        if worker.in_hand > len(shown_runs):
            query = f"?worker={worker.pk}&status__exact={RunStatus.RUNNING}"
            text = _("all %(count)d") % {"count": worker.in_hand}
            shown_runs.append(format_html('<a href="{}{}">{}</a>', url, query, text))
        return format_html_join(mark_safe("<br>"), "{}", ((part,) for part in shown_runs))

    def _current(self, run: Run) -> str:
        """Show one run, and for how long it has been running."""
        url = reverse("admin:sisy_run_change", args=[run.pk], current_app=self.admin_site.name)
        link = format_html('<a href="{}">{}</a>', url, shown.short(run.label, 40))
        if run.started_at is None:
            return link
        took = shown.duration(timezone.now() - run.started_at)
        clock = '{} <time class="sisy-clock sisy-aside" data-sisy-since="{}">{}</time>'
        return format_html(clock, link, f"{run.started_at.timestamp():.3f}", took)

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

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: the tick deletes what is old."""
        return False
