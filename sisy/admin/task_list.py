"""The list of tasks, with the last runs of those on the page and what may be done with them, for two queries in all."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from sisy.admin.history import newest_runs, typical
from sisy.admin.strip import LENGTH
from sisy.models import Task

if TYPE_CHECKING:
    from sisy.admin.task import TaskAdmin


class TaskChangeList(ChangeList):
    """Sets `recent_runs`, `usual` and `row_buttons` on each task of the page."""

    model_admin: "TaskAdmin"

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> "QuerySet[Task]":
        """Leave out userdata, which may be large and is not shown."""
        return super().get_queryset(request, *args, **kwargs).defer("_extra_data")

    def get_results(self, request: HttpRequest) -> None:
        """Load the page's tasks and their last runs."""
        super().get_results(request)
        tasks = list(self.result_list)
        filters = urlencode({"_changelist_filters": request.GET.urlencode()}) if request.GET else ""
        runs = newest_runs([task.pk for task in tasks], count=LENGTH)
        for task in tasks:
            task.recent_runs, task.usual = runs[task.pk], typical(runs[task.pk])
            task.row_buttons = {"buttons": self.model_admin.row_buttons(request, task), "filters": filters}
        self.result_list = tasks
