"""The list of runs, with the workers of those on the page, which cost one query."""

from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from sisy.models import Run, Worker


class RunChangeList(ChangeList):
    """Sets `worker_row` on each run of the page."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> "QuerySet[Run]":
        """Leave out the columns that may be large and are not shown."""
        rows = super().get_queryset(request, *args, **kwargs)
        return rows.defer("args", "kwargs", "userdata", "result", "errors", "progress")

    def get_results(self, request: HttpRequest) -> None:
        """Load the page's runs and their workers."""
        super().get_results(request)
        runs = list(self.result_list)
        workers = Worker.objects.in_bulk({run.worker for run in runs if run.worker is not None})
        for run in runs:
            run.worker_row = workers.get(run.worker)
        self.result_list = runs
