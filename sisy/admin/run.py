"""The admin's pages for runs: what has run, runs and will run, and one run with its story. They are only looked at."""

from collections.abc import Collection
from typing import Any, Final, cast

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from sisy.admin import filters, run_page, run_verbs, shown
from sisy.admin.live import NotByHand, fragment
from sisy.admin.paginator import BoundedPaginator
from sisy.admin.run_list import RunChangeList
from sisy.admin.verb_admin import VerbAdmin, verb
from sisy.live.jobs import progress_of
from sisy.models import Run, RunStatus, Task, Worker

_PRIVATE: Final = ("userdata", "args", "kwargs", "result", "errors", "progress")
"""Columns that are shown without their secrets, so that filtering by them must not tell these."""


@admin.register(Run)
class RunAdmin(NotByHand, VerbAdmin):
    """Runs: history and what is going on."""

    actions = ("cancel", "run_again")
    list_topics = "run"
    list_display = ("name", "status_and_reason", "slot_shown", "started_and_took", "attempt", "worker_shown")
    list_filter = (("status", filters.StatusFilter), filters.EnqueuedFilter, filters.QueueFilter)
    list_per_page = 100
    list_select_related = False
    ordering = ("-pk",)
    paginator = BoundedPaginator
    search_fields = ("label__startswith",)
    search_help_text = _("The beginning of a label, a whole path of a callable, or the number of a run.")
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()  # only the key has an index that could serve it

    # The list --------------------------------------------------------------------------------------------------------

    @admin.display(description=_("run"))
    def name(self, run: Run) -> str:
        """Show the label, and below it the number and the callable."""
        below = f"#{run.pk}" if run.label == run.callable else f"#{run.pk} · {run.callable}"
        return shown.name(run.label, below=below)

    @admin.display(description=_("status"))
    def status_and_reason(self, run: Run) -> str:
        """Show the state: shape, colour and word; and below it the reason."""
        reason = shown.visible(run.reason)
        quiet = '{}<span class="sisy-quiet" title="{}">{}</span>'
        return format_html(quiet, shown.status(run.status), reason, shown.short(reason, 100))

    @admin.display(description=_("slot"))
    def slot_shown(self, run: Run) -> str:
        """Show the slot, or that there is none."""
        return shown.brief_instant(run.slot) if run.slot else str(_("ad hoc"))

    @admin.display(description=_("started, duration"))
    def started_and_took(self, run: Run) -> str:
        """Show the start, and below it how long it ran, or runs by now."""
        if run.started_at is None:
            return shown.NOTHING
        took = shown.duration((run.finished_at or timezone.now()) - run.started_at)
        return format_html('{} <span class="sisy-quiet">{}</span>', shown.brief_instant(run.started_at), took)

    @admin.display(description=_("worker"))
    def worker_shown(self, run: Run) -> str:
        """Show the worker, with a link while its row exists."""
        if run.worker is None:
            return shown.NOTHING
        worker = run.worker_row if hasattr(run, "worker_row") else Worker.objects.filter(pk=run.worker).first()
        if worker is None:
            return str(run.worker)[:8]
        url = reverse("admin:sisy_worker_change", args=[worker.pk], current_app=self.admin_site.name)
        return format_html('<a href="{}" title="{}">{}</a>', url, worker.pk, shown.short(worker, 60))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RunChangeList]:
        """Return the list that knows the workers."""
        return RunChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Run]", search_term: str
    ) -> "tuple[QuerySet[Run], bool]":
        """Find runs by what can be compared without reading every text: no search within labels."""
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(label__startswith=term) | Q(callable=term)
        if term.isdecimal() and len(term) < 19:  # what fits into 64 bits
            wanted |= Q(pk=int(term))
        return queryset.filter(wanted), False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse to filter by what is shown without its secrets."""
        return not lookup.startswith(_PRIVATE) and super().lookup_allowed(lookup, value, request)

    # Actions and buttons ---------------------------------------------------------------------------------------------

    @verb(
        button=_("Cancel"),
        description=_("Cancel selected runs"),
        permission="cancel",
        question=_("Cancel? What waits will not run; what runs is told to stop where it is."),
    )
    def cancel(self, request: HttpRequest, queryset: "QuerySet[Run]") -> None:
        """Cancel each run that is not over."""
        self.answer(request, queryset, run_verbs.cancel)

    @verb(button=_("Run again"), description=_("Run selected runs again"), permission="retry")
    def run_again(self, request: HttpRequest, queryset: "QuerySet[Run]") -> None:
        """Run the task of each run that is over once more."""
        self.answer(request, queryset.defer(None).select_related("task"), run_verbs.run_again)

    def fitting(self, row: Any) -> Collection[str]:
        """Return the verb that can do something for a run as it is now."""
        return {"run_again"} if cast(Run, row).is_over else {"cancel"}

    def button_text(self, verb: str, row: Any) -> str:
        """Say Retry of what did not work."""
        failed = verb == "run_again" and row.status != RunStatus.SUCCESSFUL
        return str(_("Retry")) if failed else super().button_text(verb, row)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may cancel runs."""
        return request.user.has_perm("sisy.cancel_run")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may run runs again."""
        return request.user.has_perm("sisy.retry_run")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow it to those who may, for runs that are over; the others have to be cancelled first, and end visibly."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.is_over)

    # The page of one run ---------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Name the run without its state, which changes while one looks."""
        run = self.get_object(request, object_id)
        named = {} if run is None else {"title": f"{shown.short(run.label, 80)} #{run.pk}", "subtitle": None}
        return super().change_view(request, object_id, form_url, {**named, **(extra_context or {})})

    @fragment(template="admin/sisy/run/summary.html", on="run:{pk}", of_row=True)
    def summary(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        """Show the state, what is called, where, and how far it is."""
        fraction, text = progress_of(run.progress)
        is_known = fraction is not None or run.progress is None
        task = Task.objects.filter(pk=run.task_id or 0)  # it may be used up and deleted since the run was read
        return {
            "status": shown.status(run.status),
            "reason": shown.visible(run.reason),
            "task": self._task(run),
            "callable": self._called(run),
            "worker": self.worker_shown(run),
            "queue": self._queue(run),
            "percent": None if fraction is None or run.status == RunStatus.SUCCESSFUL else round(100 * fraction),
            "text": text,
            "progress": "" if is_known else shown.json_block(run.progress),
            "attempts": task.values_list("max_attempts", flat=True).first(),
            "siblings": f"{reverse('admin:sisy_run_changelist', current_app=self.admin_site.name)}?task={run.task_id}",
        }

    @fragment(template="admin/sisy/run/story.html", on="run:{pk}", of_row=True)
    def story(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        """Show what happened when, and the time between."""
        return run_page.story_of(run, now=timezone.now())

    @fragment(template="admin/sisy/run/log.html", on="run:{pk}", of_row=True)
    def log(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        """Show what the run logs."""
        return run_page.lines_of(run)

    @fragment(template="admin/sisy/run/errors.html", on="run:{pk}", of_row=True)
    def errors(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        """Show the traceback of each attempt."""
        return {"attempts": run_page.attempts_of(run)}

    @fragment(template="admin/sisy/run/data.html", on="run:{pk}", of_row=True)
    def data(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        """Show result, userdata and arguments, without their secrets."""
        with_task = run.userdata is None and run.task_id is not None
        has_arguments = bool(run.args or run.kwargs)
        return {
            "result": shown.json_block(run.result),
            "userdata": "" if with_task else shown.json_block(run.userdata),
            "arguments": shown.json_block({"args": run.args, "kwargs": run.kwargs}) if has_arguments else "",
            "claim": run.claim,
            "lease": shown.instant(run.lease_expires_at) if run.lease_expires_at else "",
        }

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show no form: the regions show everything."""
        return ()

    def _task(self, run: Run) -> str:
        """Show the task, with a link while it exists."""
        if run.task_id is None:
            gone = _("its task does not exist any more")
            return format_html('{} <span class="sisy-aside">{}</span>', shown.visible(run.label), gone)
        url = reverse("admin:sisy_task_change", args=[run.task_id], current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a>', url, shown.visible(run.label))

    def _called(self, run: Run) -> str:
        """Show what is called, and on which row."""
        if run.instance_pk is None:
            return shown.visible(run.callable)
        database = f" @{run.instance_db}" if run.instance_db else ""
        return shown.visible(f"{run.callable} #{run.instance_pk}{database}")

    def _queue(self, run: Run) -> str:
        """Show where it was enqueued."""
        values = {"queue": shown.visible(run.queue), "priority": run.priority}
        text = str(_("%(queue)s, priority %(priority)d") % values)
        return f"{text}, {_('at most once')}" if run.at_most_once else text
