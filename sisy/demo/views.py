"""The demo's pages: what was measured, what is scheduled, what ran; and a form that starts a job.

Plain HTML: the pages show what is in the rows at the time and can be told to reload themselves.
"""

import csv
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from sisy.demo.forms import ReportForm
from sisy.demo.models import Alert, Measure, Report, Sample, Watch
from sisy.errors import InvalidSchedule
from sisy.models import Run, Task

_SAMPLES: Final = 12
_RUNS: Final = 15


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """One measure of the newest sample, as the page shows it.

    Args:
        label: what was measured.
        text: the value for people.
        value: the value.
        highest: the right end of the scale.
    """

    label: str
    text: str
    value: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class TaskLine:
    """One task, as the page shows it.

    Args:
        task: the task.
        words: its schedule in words.
        last_status: how its last run that is over ended, or "" if none is.
    """

    task: Task
    words: str
    last_status: str


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """Show everything at a glance; a POST asks for a report."""
    form = ReportForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect(start_report(**form.cleaned_data))
    samples = list(Sample.objects.all()[:_SAMPLES])
    context = {
        "form": form,
        "is_live": "live" in request.GET,
        "gauges": gauges(samples[0]) if samples else [],
        "samples": samples,
        "tasks": task_lines(),
        "runs": Run.objects.ended().order_by("-finished_at", "-pk")[:_RUNS],
        "watches": Watch.objects.all(),
        "alerts": Alert.objects.all()[:5],
        "reports": Report.objects.select_related("run")[:5],
        "now": timezone.now(),
    }
    return render(request, "sisy_demo/index.html", context, status=400 if form.errors else 200)


@require_safe
def report(request: HttpRequest, key: UUID) -> HttpResponse:
    """Show how far a visitor's job is, and its table once it is done."""
    found = get_object_or_404(Report.objects.select_related("run"), pk=key)
    run = found.run
    duration = run.duration if run else None
    context = {
        "report": found,
        "run": run,
        "is_done": run is None or run.is_over,
        "milliseconds": duration and round(duration / timedelta(milliseconds=1)),
    }
    return render(request, "sisy_demo/report.html", context)


@require_safe
def report_as_csv(request: HttpRequest, key: UUID) -> HttpResponse:
    """Give a report's table as a file."""
    found = get_object_or_404(Report, pk=key)
    response = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{found.kind}.csv"'},
    )
    csv.writer(response).writerows(found.table)
    return response


def start_report(*, kind: str, text: str) -> Report:
    """Keep what a visitor asks for and have it done as soon as a worker is free."""
    with transaction.atomic():  # the row and its task are there together or not at all
        wanted = Report.objects.create(kind=kind, text=text if kind == Report.Kind.WORDS else "")
        task = Task.run_once(wanted.write, label=f"Report: {wanted}")
        wanted.run = task.runs.get()
        wanted.save(update_fields=["run"])
    return wanted


def gauges(sample: Sample) -> list[Gauge]:
    """Return what to draw of a sample; what the machine does not tell is left out."""
    values = [(measure, sample.value(measure)) for measure in Measure]
    return [
        Gauge(
            label=measure.label,
            text=measure.show(value),
            value=round(value, 2),
            highest=_highest(value) if measure is Measure.LOAD else 100,
        )
        for measure, value in values
        if value is not None
    ]


def _highest(load: float) -> float:
    """Return an end of the scale for a load that has none."""
    return max(4, round(load + 1))


def task_lines() -> list[TaskLine]:
    """Return what to show of each task, by label."""
    newest_first = Run.objects.ended().filter(task=OuterRef("pk")).order_by("-pk").values("status")
    tasks = Task.objects.order_by("label", "pk")
    last_status = dict(tasks.annotate(last_status=Subquery(newest_first[:1])).values_list("pk", "last_status"))
    return [TaskLine(task=task, words=in_words(task), last_status=last_status.get(task.pk) or "") for task in tasks]


def in_words(task: Task) -> str:
    """Say a task's schedule; one that somebody broke is shown as it is."""
    try:
        return task.describe()
    except InvalidSchedule:
        return task.schedule
