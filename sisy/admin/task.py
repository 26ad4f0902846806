"""The admin's pages for tasks: the list, and the form with what the scheduler makes of it."""

from collections.abc import Collection
from typing import Any, cast

from django.contrib import admin, messages
from django.db import IntegrityError
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from sisy.admin import choices, filters, shown, task_verbs
from sisy.admin.paginator import BoundedPaginator
from sisy.admin.task_form import TaskForm
from sisy.admin.task_list import TaskChangeList, recent_runs
from sisy.admin.task_view import fieldsets_of, plan_of, run_marks, schedule_in_words, state
from sisy.admin.verb_admin import VerbAdmin, verb
from sisy.errors import SisyError
from sisy.models import Run, Task


@admin.register(Task)
class TaskAdmin(VerbAdmin):
    """Tasks: what runs when, and how that went."""

    form = TaskForm
    actions = ("run_now", "pause", "resume", "cancel_runs")
    list_topics = "task run"
    list_display = ("name", "state", "when", "next", "recent")
    list_filter = (filters.StateFilter, "overlap", filters.QueueFilter, filters.CallableFilter)
    list_per_page = 50
    list_select_related = False
    ordering = (F("next_run").asc(nulls_last=True), "pk")
    paginator = BoundedPaginator
    search_fields = ("label", "callable")
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    readonly_fields = ("state_now", "plan", "runs_so_far", "userdata_shown")

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
        return shown.instant_and_distance(task.next_run if task.enabled else None)

    @admin.display(description=_("last runs"), ordering="last_run")
    def recent(self, task: Task) -> str:
        """Show the states of its last runs, and when the last one was."""
        marks = run_marks(task.recent_runs)  # type: ignore[attr-defined]  # TaskChangeList sets it
        if task.last_run is None:
            return marks
        last = shown.instant(task.last_run, text=shown.distance(task.last_run))
        return format_html('{} <span class="sisy-quiet">{}</span>', marks, last)

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

    @admin.display(description=_("state"))
    def state_now(self, task: Task) -> str:
        """Show whether it runs, and why not."""
        return format_html('{} <span class="sisy-error">{}</span>', state(task), shown.visible(task.error))

    @admin.display(description=_("next runs"))
    def plan(self, task: Task) -> str:
        """Show the schedule in words and the next runs."""
        return render_to_string("admin/sisy/task/plan.html", plan_of(task))

    @admin.display(description=_("last runs"))
    def runs_so_far(self, task: Task) -> str:
        """Show the last runs, how many there were, and where all of them are."""
        runs = recent_runs([task.pk], count=10)[task.pk]
        every = f"{reverse('admin:sisy_run_changelist', current_app=self.admin_site.name)}?task={task.pk}"
        context = {"task": task, "marks": run_marks(runs), "url": every}
        return render_to_string("admin/sisy/task/runs.html", context)

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

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and say so when that leaves nothing to run."""
        obj.save()
        if change and form.changed_data and obj.next_run is None:
            text = gettext("No run is left within the task's window and iterations: it will be deleted, its runs kept.")
            self.message_user(request, text, messages.WARNING)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[TaskChangeList]:
        """Return the list that knows the last runs."""
        return TaskChangeList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Refuse to filter by userdata, which would tell its secrets bit by bit."""
        return not lookup.startswith("_extra_data") and super().lookup_allowed(lookup, value, request)
