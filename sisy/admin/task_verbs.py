"""What the buttons and actions on tasks do: each asks one thing of one task and answers what became of it."""

from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from sisy.admin.answers import Answer, Kind, done, done_but, not_needed, refused
from sisy.admin.shown import local
from sisy.errors import InvalidInput, TaskExhausted, TaskGone, TaskParked
from sisy.models import Run, RunStatus, Task

GONE = refused(
    ngettext_lazy(
        "%(names)s does not exist any more.", "%(count)d tasks do not exist any more: %(names)s.", "count"
    )
)  # fmt: skip
RUN_CREATED = done(
    ngettext_lazy("A run was created now: %(names)s.", "%(count)d runs were created now: %(names)s.", "count")
)
RUN_WHILE_PAUSED = done_but(
    ngettext_lazy(
        "A paused task was run anyway, and stays paused: %(names)s.",
        "%(count)d paused tasks were run anyway, and stay paused: %(names)s.",
        "count",
    )
)
RUN_WAITS = done_but(
    ngettext_lazy(
        "A run was created that waits for an earlier run of its task: %(names)s.",
        "%(count)d runs were created that wait for earlier runs of their tasks: %(names)s.",
        "count",
    )
)
RUN_SKIPPED = done_but(
    ngettext_lazy(
        "A run was skipped, as the task's overlap policy says: %(names)s.",
        "%(count)d runs were skipped, as the overlap policies of the tasks say: %(names)s.",
        "count",
    )
)
PARKED = refused(
    ngettext_lazy(
        "A parked task was not run; mend and resume it first. %(names)s",
        "%(count)d parked tasks were not run; mend and resume them first. %(names)s",
        "count",
    )
)
EXHAUSTED = refused(
    ngettext_lazy(
        "A task was not run, as it has no iteration left: %(names)s.",
        "%(count)d tasks were not run, as they have no iteration left: %(names)s.",
        "count",
    )
)
PAUSED = done(ngettext_lazy("A task was paused: %(names)s.", "%(count)d tasks were paused: %(names)s.", "count"))
PAUSED_BEFORE = not_needed(
    ngettext_lazy(
        "A task was paused already: %(names)s.", "%(count)d tasks were paused already: %(names)s.", "count"
    )
)  # fmt: skip
PARKED_BEFORE = not_needed(
    ngettext_lazy(
        "A task is parked, so there is nothing to pause. %(names)s",
        "%(count)d tasks are parked, so there is nothing to pause. %(names)s",
        "count",
    )
)
RESUMED = done(ngettext_lazy("A task was resumed: %(names)s.", "%(count)d tasks were resumed: %(names)s.", "count"))
RESUMED_IN_VAIN = done_but(
    ngettext_lazy(
        "A task was resumed, but no run is left within its window and iterations: %(names)s.",
        "%(count)d tasks were resumed, but no run is left within their windows and iterations: %(names)s.",
        "count",
    )
)
NOT_PAUSED = not_needed(
    ngettext_lazy("A task was not paused: %(names)s.", "%(count)d tasks were not paused: %(names)s.", "count")
)
STILL_WRONG = refused(
    ngettext_lazy(
        "A task stays as it is until its error is mended. %(names)s",
        "%(count)d tasks stay as they are until their errors are mended. %(names)s",
        "count",
    )
)
RUNS_CANCELLED = done(
    ngettext_lazy("Cancelled for a task: %(names)s.", "Cancelled for %(count)d tasks: %(names)s.", "count")
)
NO_RUNS = not_needed(
    ngettext_lazy(
        "A task has no run that could be cancelled: %(names)s.",
        "%(count)d tasks have no run that could be cancelled: %(names)s.",
        "count",
    )
)


def run_now(task: Task) -> Answer:
    """Create a run of a task now."""
    try:
        run = task.run_asap()
    except TaskParked as error:
        return Answer(row=task, kind=PARKED, detail=task.error or str(error))
    except TaskExhausted:
        return Answer(row=task, kind=EXHAUSTED)
    except TaskGone:
        return Answer(row=task, kind=GONE)
    return Answer(row=task, kind=_kind_of(run, task), detail=run.reason)


def pause(task: Task) -> Answer:
    """Create no further runs of a task."""
    try:
        if task.pause():
            return Answer(row=task, kind=PAUSED)
    except TaskGone:
        return Answer(row=task, kind=GONE)
    return Answer(row=task, kind=PARKED_BEFORE if task.error else PAUSED_BEFORE, detail=task.error)


def resume(task: Task) -> Answer:
    """Create runs of a paused or parked task again."""
    if task.enabled:  # resuming it would move its next slot, and forget one that is just due
        return Answer(row=task, kind=NOT_PAUSED)
    try:
        task.resume()
    except InvalidInput as error:
        return Answer(row=task, kind=STILL_WRONG, detail=str(error))
    except TaskGone:
        return Answer(row=task, kind=GONE)
    if task.next_run is None:
        return Answer(row=task, kind=RESUMED_IN_VAIN)
    return Answer(row=task, kind=RESUMED, detail=_("next run %(time)s") % {"time": local(task.next_run)})


def cancel_runs(task: Task) -> Answer:
    """Cancel the runs of a task that wait or run; its schedule stays."""
    count = task.cancel()
    if not count:
        return Answer(row=task, kind=NO_RUNS)
    return Answer(row=task, kind=RUNS_CANCELLED, detail=ngettext("%d run", "%d runs", count) % count)


def _kind_of(run: Run, task: Task) -> Kind:
    if run.status == RunStatus.SKIPPED:
        return RUN_SKIPPED
    if run.run_after is None:
        return RUN_WAITS
    return RUN_CREATED if task.enabled else RUN_WHILE_PAUSED
