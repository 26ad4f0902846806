"""What the buttons and actions on runs do: each asks one thing of one run and answers what became of it."""

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext_lazy

from sisy.admin import task_verbs
from sisy.admin.answers import Answer, done, not_needed, refused
from sisy.errors import InvalidInput
from sisy.models import Run, RunStatus, Task, task_with_callable
from sisy.models.timing import ONCE
from sisy.transitions import endings

CANCELLED = done(ngettext_lazy("A run was cancelled: %(names)s.", "%(count)d runs were cancelled: %(names)s.", "count"))
ASKED = done(
    ngettext_lazy(
        "The worker of a running run was asked to stop it: %(names)s.",
        "The workers of %(count)d running runs were asked to stop them: %(names)s.",
        "count",
    )
)
OVER_BEFORE = not_needed(
    ngettext_lazy("A run was over already: %(names)s.", "%(count)d runs were over already: %(names)s.", "count")
)
NOT_OVER = not_needed(
    ngettext_lazy(
        "A run is not over yet, so it was not run again: %(names)s.",
        "%(count)d runs are not over yet, so they were not run again: %(names)s.",
        "count",
    )
)
CREATED_AGAIN = done(
    ngettext_lazy(
        "The task of a run is gone, so a new one-shot was created: %(names)s.",
        "The tasks of %(count)d runs are gone, so new one-shots were created: %(names)s.",
        "count",
    )
)
NOT_KEPT = refused(
    ngettext_lazy(
        "A run can't be run again, as its task was deleted and its input with it: %(names)s.",
        "%(count)d runs can't be run again, as their tasks were deleted and their input with them: %(names)s.",
        "count",
    )
)
REFUSED = refused(
    ngettext_lazy(
        "A run can't be run again. %(names)s", "%(count)d runs can't be run again. %(names)s", "count"
    )
)  # fmt: skip


def cancel(run: Run) -> Answer:
    """Cancel a run that waits, or ask the worker of one that runs to stop it."""
    if not endings.cancel([run], now=timezone.now()):
        return Answer(row=run, kind=OVER_BEFORE)
    status = Run.objects.filter(pk=run.pk).values_list("status", flat=True).first()
    return Answer(row=run, kind=ASKED if status == RunStatus.RUNNING else CANCELLED)


def run_again(run: Run) -> Answer:
    """Run the task of a run that is over now; if the task is gone, create a one-shot with what the run kept of it."""
    if not run.is_over:
        return Answer(row=run, kind=NOT_OVER)
    if run.task is not None:
        answer = task_verbs.run_now(run.task)
        return Answer(row=run, kind=answer.kind, detail=answer.detail)
    if run.userdata is None or run.args or run.kwargs:
        return Answer(row=run, kind=NOT_KEPT)
    try:
        task = _one_shot(run)
        task.save()
    except InvalidInput as error:
        return Answer(row=run, kind=REFUSED, detail=str(error))
    return Answer(row=run, kind=CREATED_AGAIN, detail=_("task %(id)s") % {"id": task.pk})


def _one_shot(run: Run) -> Task:
    """Return an unsaved task like the one that a run had; its retry policy and timeout were not kept.

    Raises:
        InvalidInput: its callable is not allowed, or is not there any more.
    """
    task = task_with_callable(
        run.callable,
        label=run.label,
        schedule=ONCE,
        iterations=1,
        userdata=run.userdata,
        pk_override=run.instance_pk,
        queue=run.queue,
        priority=run.priority,
        at_most_once=run.at_most_once,
    )
    task.instance_db = run.instance_db  # pk_override leaves the database to the router
    return task
