"""The admin's pages for runs: what has run, runs and will run, and one run with its story. They are only looked at."""

from collections.abc import Collection
from typing import Any, Final, cast

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from sisy.admin import filters, run_verbs, shown
from sisy.admin.paginator import BoundedPaginator
from sisy.admin.run_list import RunChangeList
from sisy.admin.timeline import timeline
from sisy.admin.verb_admin import VerbAdmin, verb
from sisy.models import Run, Worker

_PRIVATE: Final = ("userdata", "args", "kwargs", "result", "errors", "progress")
"""Columns that are shown without their secrets, so that filtering by them must not tell these."""


@admin.register(Run)
class RunAdmin(VerbAdmin):
    """Runs: history and what is going on."""

    actions = ("cancel", "run_again")
    list_topics = "run"
    list_display = ("name", "status_and_reason", "slot_shown", "started_and_took", "attempt", "worker_shown")
    list_filter = ("status", filters.EnqueuedFilter, filters.QueueFilter)
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

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may cancel runs."""
        return request.user.has_perm("sisy.cancel_run")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may run runs again."""
        return request.user.has_perm("sisy.retry_run")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: tasks make runs."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a run is changed by its transitions only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow it to those who may, for runs that are over; the others have to be cancelled first, and end visibly."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.is_over)

    # The page of one run ---------------------------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show what there is."""
        run = cast(Run, obj)
        optional = {"progress_shown": run.progress is not None, "arguments": run.args or run.kwargs}
        data = ["result_shown", "userdata_shown", *(name for name, is_there in optional.items() if is_there)]
        claim = ("worker_shown", "claim", "lease")
        return (
            (None, {"fields": ["status_now", "task_shown", "callable_shown", "story", "errors_shown"]}),
            (_("Data"), {"fields": data}),
            (_("Details"), {"fields": [("attempt", "crashes", "details"), claim]}),
        )

    @admin.display(description=_("status"))
    def status_now(self, run: Run) -> str:
        """Show the state and the reason for it."""
        reason = shown.visible(run.reason)
        return format_html('{}<span class="sisy-aside">{}</span>', shown.status(run.status), reason)

    @admin.display(description=_("task"))
    def task_shown(self, run: Run) -> str:
        """Show the task, with a link while it exists."""
        if run.task_id is None:
            gone = _("its task does not exist any more")
            return format_html('{} <span class="sisy-quiet">{}</span>', shown.visible(run.label), gone)
        url = reverse("admin:sisy_task_change", args=[run.task_id], current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a>', url, shown.visible(run.label))

    @admin.display(description=_("callable"))
    def callable_shown(self, run: Run) -> str:
        """Show what is called, and on which row."""
        if run.instance_pk is None:
            return shown.visible(run.callable)
        database = f" @{run.instance_db}" if run.instance_db else ""
        return shown.visible(f"{run.callable} #{run.instance_pk}{database}")

    @admin.display(description=_("timeline"))
    def story(self, run: Run) -> str:
        """Show what happened when, and the time between."""
        moments = [
            {"what": moment.what, "at": shown.instant(moment.at) if moment.at else "", "remark": moment.remark}
            for moment in timeline(run, now=timezone.now())
        ]
        return render_to_string("admin/sisy/run/timeline.html", {"moments": moments})

    @admin.display(description=_("errors"))
    def errors_shown(self, run: Run) -> str:
        """Show the traceback of each attempt."""
        entries = [entry for entry in run.errors if isinstance(entry, dict)] if isinstance(run.errors, list) else []
        names = ("attempt", "at", "exception", "traceback")
        attempts = [{name: shown.visible(entry.get(name, "")) for name in names} for entry in entries]
        for attempt in attempts:
            attempt["at"] = shown.instant_of(attempt["at"])
        return render_to_string("admin/sisy/run/errors.html", {"attempts": attempts})

    @admin.display(description=_("result"))
    def result_shown(self, run: Run) -> str:
        """Show what the function returned."""
        return shown.json_block(run.result)

    @admin.display(description=_("progress"))
    def progress_shown(self, run: Run) -> str:
        """Show how far it got."""
        return shown.json_block(run.progress)

    @admin.display(description=_("userdata"))
    def userdata_shown(self, run: Run) -> str:
        """Show the userdata that was kept, without its secrets."""
        if run.userdata is None and run.task_id is not None:
            return str(_("with its task"))
        return shown.json_block(run.userdata)

    @admin.display(description=_("arguments"))
    def arguments(self, run: Run) -> str:
        """Show positional and keyword arguments, without their secrets."""
        return shown.json_block({"args": run.args, "kwargs": run.kwargs} if run.args or run.kwargs else None)

    @admin.display(description=_("lease expires at"))
    def lease(self, run: Run) -> str:
        """Show until when its worker has it."""
        return shown.instant(run.lease_expires_at)

    @admin.display(description=_("queue"))
    def details(self, run: Run) -> str:
        """Show where it was enqueued."""
        values = {"queue": shown.visible(run.queue), "priority": run.priority}
        text = str(_("%(queue)s, priority %(priority)d") % values)
        return f"{text}, {_('at most once')}" if run.at_most_once else text
