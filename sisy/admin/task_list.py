"""The list of tasks, with the last runs of those on the page, which cost one query."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber
from django.http import HttpRequest

from sisy.models import Run, Task


class TaskChangeList(ChangeList):
    """Sets `recent_runs` on each task of the page."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> "QuerySet[Task]":
        """Leave out userdata, which may be large and is not shown."""
        return super().get_queryset(request, *args, **kwargs).defer("_extra_data")

    def get_results(self, request: HttpRequest) -> None:
        """Load the page's tasks and their last runs."""
        super().get_results(request)
        tasks = list(self.result_list)
        runs = recent_runs([task.pk for task in tasks])
        for task in tasks:
            task.recent_runs = runs[task.pk]
        self.result_list = tasks


def recent_runs(task_keys: Collection[int], *, count: int = 5) -> dict[int, list[Run]]:
    """Return the last runs of tasks, the oldest first, in one query.

    It reads what is kept of these tasks' runs: SISY["KEEP_RUNS_PER_TASK"] bounds that, not the table's size.
    """
    place = Window(RowNumber(), partition_by=F("task_id"), order_by=F("pk").desc())
    newest = Run.objects.filter(task__in=task_keys).annotate(place=place).filter(place__lte=count)
    found: dict[int, list[Run]] = defaultdict(list)
    for run in newest.only("task_id", "status", "enqueued_at", "slot", "reason").order_by("pk"):
        if run.task_id is not None:
            found[run.task_id].append(run)
    return found
