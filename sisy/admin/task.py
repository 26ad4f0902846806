"""The admin's pages for tasks: the list, and the form with what the scheduler makes of it."""

from collections.abc import Collection
from typing import Any, ClassVar, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import F, QuerySet
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from sisy.admin import changes, choices, filters, shown, task_verbs
from sisy.admin.live import fragment
from sisy.admin.paginator import BoundedPaginator
from sisy.admin.plan import schedule_in_words
from sisy.admin.preview import preview
from sisy.admin.strip import strip
from sisy.admin.task_form import TaskForm
from sisy.admin.task_list import TaskChangeList
from sisy.admin.task_page import task_page
from sisy.admin.task_view import fieldsets_of, state
from sisy.admin.upcoming import upcoming
from sisy.admin.verb_admin import VerbAdmin, verb
from sisy.errors import SisyError
from sisy.models import Run, Task


@admin.register(Task)
class TaskAdmin(VerbAdmin):
    """Tasks: what runs when, and how that went."""

    form = TaskForm
    actions = ("run_now", "pause", "resume", "cancel_runs")
    list_topics = "task run"
    list_display = ("name", "state", "when", "recent", "last", "next", "act")
    list_filter = (
        filters.StateFilter,
        ("overlap", filters.ChoiceFilter),
        filters.QueueFilter,
        filters.CallableFilter,
    )
    list_per_page = 50
    list_select_related = False
    ordering = (F("next_run").asc(nulls_last=True), "pk")
    paginator = BoundedPaginator
    search_fields = ("label", "callable")
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    object_history_template = "admin/sisy/task/object_history.html"
    readonly_fields = ("userdata_shown",)

    class Media:
        css: ClassVar = {"all": ["sisy/tasks.css"]}
        js: ClassVar = [Script("sisy/tasks.js", type="module")]

    # The list --------------------------------------------------------------------------------------------------------

    @admin.display(description=_("task"), ordering="label")
    def name(self, task: Task) -> str:
        """Show the label, and the callable below it."""
        label = shown.short(task.label or task.callable)
        target = task.callable if task.instance_pk is None else f"{task.callable} #{task.instance_pk}"
        return shown.name(label, below="" if label == target else target)

    @admin.display(description=_("schedule"))
    def when(self, task: Task) -> str:
        """Show the schedule in words, or what is wrong with the task; its title has it as it was written."""
        words, error = schedule_in_words(task)
        raw = f"{shown.visible(task.schedule)} · {shown.visible(task.zone_name)}"
        if error := task.error or error:
            return format_html('<span title="{}" class="sisy-error">{}</span>', raw, shown.short(error, 160))
        return format_html('<span title="{}">{}</span>', raw, words)

    @admin.display(description=_("next run"), ordering="next_run", empty_value=shown.NOTHING)
    def next(self, task: Task) -> str:
        """Show when it runs next, unless it is set aside."""
        return shown.day_or_time(task.next_run if task.enabled else None)

    @admin.display(description=_("last runs"))
    def recent(self, task: Any) -> str:
        """Show what became of its last runs, and how long they took."""
        context = {"strip": strip(task.recent_runs), "usual": task.usual, **self._run_address()}
        return render_to_string("admin/sisy/task/recent.html", context)

    @admin.display(description=_("last run"), ordering="last_run")
    def last(self, task: Task) -> str:
        """Show when the last run was."""
        return shown.day_or_time(task.last_run)

    @admin.display(description=_("actions"))
    def act(self, task: Any) -> str:
        """Show the buttons for what may be done with it."""
        return render_to_string("admin/sisy/task/row_buttons.html", {"task": task, **task.row_buttons})

    @admin.display(description=_("state"), ordering="enabled")
    def state(self, task: Task) -> str:
        """Show whether it runs at all."""
        return state(task)

    # Actions and buttons ---------------------------------------------------------------------------------------------

    @verb(button=_("Run now"), description=_("Run selected tasks now"), permission="run")
    def run_now(self, request: HttpRequest, queryset: "QuerySet[Task]") -> None:
        """Create a run of each task now."""
        self.answer(request, queryset, task_verbs.run_now)

    @verb(button=_("Pause"), description=_("Pause selected tasks"), permission="pause")
    def pause(self, request: HttpRequest, queryset: "QuerySet[Task]") -> None:
        """Pause each task."""
        self.answer(request, queryset, task_verbs.pause)

    @verb(button=_("Resume"), description=_("Resume selected tasks"), permission="pause")
    def resume(self, request: HttpRequest, queryset: "QuerySet[Task]") -> None:
        """Resume each task."""
        self.answer(request, queryset, task_verbs.resume)

    @verb(
        button=_("Cancel runs"),
        description=_("Cancel runs of selected tasks"),
        permission="cancel",
        question=_("Cancel the runs? What waits will not run; what runs is told to stop where it is."),
    )
    def cancel_runs(self, request: HttpRequest, queryset: "QuerySet[Task]") -> None:
        """Cancel what waits or runs of each task."""
        self.answer(request, queryset, task_verbs.cancel_runs)

    def fitting(self, row: Any) -> Collection[str]:
        """Return the verbs that can do something for a task as it is now."""
        task = cast(Task, row)
        verbs = {"pause"} if task.enabled else {"resume"}
        if not task.error and not task.is_used_up:
            verbs.add("run_now")
        if Run.objects.active().filter(task=task).exists() or (task.is_one_shot and task.next_run is not None):
            verbs.add("cancel_runs")
        return verbs

    def row_buttons(self, request: HttpRequest, task: Task) -> list[dict[str, str]]:
        """Return the buttons for a task's line in the list; what they need to know is in its row."""
        verbs = {"pause"} if task.enabled else {"resume"}
        if not task.error and not task.is_used_up:
            verbs.add("run_now")
        return self.buttons_for(request, task, verbs)

    @fragment(template="admin/sisy/task/lanes.html", on="task")
    def lanes(self, request: HttpRequest) -> dict[str, Any]:
        """Show the next 24 hours."""
        return {"upcoming": upcoming(request.GET, now=timezone.now())}

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may run tasks now."""
        return request.user.has_perm("sisy.run_task")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may pause and resume tasks."""
        return request.user.has_perm("sisy.pause_task")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may cancel runs."""
        return request.user.has_perm("sisy.cancel_run")

    # The form --------------------------------------------------------------------------------------------------------

    @admin.display(description=_("userdata"))
    def userdata_shown(self, task: Task) -> str:
        """Show userdata to those who may not change it."""
        return shown.json_block(task._extra_data)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show what fits: a new task has no state yet, and who may not change userdata sees no secrets in it."""
        may_edit = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        has_row = obj is not None and obj.instance_pk is not None
        with_key = has_row or any(choices.is_row_method(path) for path in choices.offered_paths())
        return fieldsets_of(obj, may_edit=may_edit, with_instance_key=with_key)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Keep a callable that can't be chosen as it is; pausing has a permission of its own."""
        fields = list(self.readonly_fields)
        if obj is not None and obj.callable not in choices.offered_paths():
            fields += ["callable", "instance_pk"]
        if not self.has_pause_permission(request):
            fields.append("enabled")
        return fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, with what was refused when it was saved."""
        form = cast(type[TaskForm], super().get_form(request, obj, change, **kwargs))
        form.refusal = getattr(request, "_sisy_refusal", None)
        if "schedule" in form.base_fields:
            address = reverse("admin:sisy_task_preview", current_app=self.admin_site.name)
            form.base_fields["schedule"].widget.attrs.update(
                {"data-sisy-preview": address, "data-sisy-task": obj.pk if obj else "", "spellcheck": "false"}
            )
        return form

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show why saving was refused, be it by a rule or by what others did at the same time, in the form."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (SisyError, IntegrityError) as error:
            if request.method != "POST":
                raise
            request._sisy_refusal = error  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)

    @fragment(template="admin/sisy/task/page.html", on="task:{pk}", of_row=True)
    def page(self, request: HttpRequest, task: Task) -> dict[str, Any]:
        """Show what stands above the form."""
        return {"page": task_page(task, state=state(task), now=timezone.now()), **self._run_address()}

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Name the page after the task."""
        task = self.get_object(request, object_id)
        named = {} if task is None else {"title": shown.short(task, 80), "subtitle": None}
        return super().change_view(request, object_id, form_url, {**named, **(extra_context or {})})

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Write into the task's log what was before and is now, beside the names of the fields."""
        message = super().construct_change_message(request, form, formsets, add)
        return message if add else changes.with_values(message, form)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Say what each change of the task's log has changed."""
        response = super().history_view(request, object_id, {"media": self.media, **(extra_context or {})})
        if isinstance(response, TemplateResponse) and response.context_data:
            changed = [(entry, changes.changes_in(entry)) for entry in response.context_data["action_list"]]
            for entry, values in changed:
                entry.sisy_changes = values
            response.context_data["has_values"] = any(values for _entry, values in changed)
        return response

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and say so when that leaves nothing to run."""
        obj.save()
        if change and form.changed_data and obj.next_run is None:
            text = gettext("No run is left within the task's window and iterations: it will be deleted, its runs kept.")
            self.message_user(request, text, messages.WARNING)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[TaskChangeList]:
        """Return the list that knows the last runs."""
        return TaskChangeList

    # Pages of their own ----------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add the page of upcoming runs and what the form asks while a schedule is typed."""
        view = self.admin_site.admin_view
        return [
            path("upcoming/", view(self.upcoming_view), name="sisy_task_upcoming"),
            path("preview/", view(self.preview_view), name="sisy_task_preview"),
            *super().get_urls(),
        ]

    def upcoming_view(self, request: HttpRequest) -> HttpResponse:
        """Show the next 24 hours."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        app = {"app_label": self.opts.app_label, "app_config": self.opts.app_config}
        context = {
            **self.admin_site.each_context(request),
            **self.live_context(request),
            "title": _("Upcoming"),
            "opts": self.opts,
            "cl": {"opts": {**app, "verbose_name_plural": _("Upcoming")}},  # what the breadcrumbs show
            "media": self.media,
            "query": request.GET,
        }
        return TemplateResponse(request, "admin/sisy/task/upcoming.html", context)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Say what the schedule means that somebody types into the form."""
        if not (self.has_view_or_change_permission(request) or self.has_add_permission(request)):
            raise PermissionDenied
        key = request.GET.get("task", "")
        task = self.get_object(request, key) if key else None
        return render(request, "admin/sisy/task/plan.html", {"plan": preview(request, task), "is_preview": True})

    def _run_address(self) -> dict[str, str]:
        """Return what stands before and after a run's key in its address: reversing thousands takes time."""
        address = reverse("admin:sisy_run_change", args=[0], current_app=self.admin_site.name)
        before, _zero, after = address.rpartition("0")
        every = reverse("admin:sisy_run_changelist", current_app=self.admin_site.name)
        return {"run_before": before, "run_after": after, "runs_url": every}

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse to filter by userdata, which would tell its secrets bit by bit."""
        return not lookup.startswith("_extra_data") and super().lookup_allowed(lookup, value, request)
