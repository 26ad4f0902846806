"""The overview in the admin: is it alive, what runs, what failed, what comes next; all of it live."""

from collections.abc import Hashable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import URLPattern, get_script_prefix, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from sisy import health as health_of_sisy
from sisy.admin import overview, run_verbs, shown
from sisy.admin.answers import tell
from sisy.admin.chart import chart
from sisy.admin.live import LiveAdmin, NotByHand, Shared, fragment
from sisy.admin.plan import schedule_in_words
from sisy.live.jobs import progress_of
from sisy.models import Dashboard, Run, RunStatus, Task

_ANY: Final = "run task worker"  # what may change any of it


@admin.register(Dashboard)
class DashboardAdmin(NotByHand, LiveAdmin):
    """The overview."""

    _kept: tuple[overview.Survey, dict[tuple[Hashable, ...], SafeString]] | None = None
    """The last survey, with the regions that were rendered of it."""

    # Regions ---------------------------------------------------------------------------------------------------------

    @fragment(template="admin/sisy/dashboard/health.html", on=_ANY)
    def health(self, request: HttpRequest) -> dict[str, Any]:
        """Show whether everything that has to be there is, and what is wrong."""
        seen = _seen(request)
        found = seen.health
        problems = health_of_sisy.judge(found)
        return {
            "said": said(seen),
            "failing": sum(minute.bad for minute in seen.minutes),
            "health": found,
            "problems": problems,
            "is_broken": any(problem.level == "error" for problem in problems),
            "heartbeat_age": shown.duration(found.ticking.age) if found.ticking.age is not None else "",
            "oldest_due": shown.duration(found.oldest_due) if found.oldest_due else "",
            "oldest_ready": _oldest(found),
            "ready": sum(backlog.ready for backlog in found.backlog),
            "queues": [(backlog.queue, backlog.ready) for backlog in found.backlog],
            "layer": _layer_in_words(seen),
            "clock": shown.duration(abs(found.clock_difference)),
            "missed_url": self._runs(status__in="MISSED,LOST", enqueued="day"),
            "is_clock_off": abs(found.clock_difference) > timedelta(seconds=2),
        }

    @fragment(template="admin/sisy/dashboard/counts.html", on=_ANY)
    def counts(self, request: HttpRequest) -> dict[str, Any]:
        """Show how many there are in each state, each number with a link to them."""
        seen = _seen(request)
        now, day = self._run_counts(seen)
        return {"groups": [(_("Now"), now), (_("Tasks"), self._task_counts(seen)), (_("24 h"), day)]}

    @fragment(template="admin/sisy/dashboard/throughput.html", on="run")
    def throughput(self, request: HttpRequest) -> dict[str, Any]:
        """Show what ended in each minute of the last hour."""
        seen = _seen(request)
        return {"chart": chart(seen.minutes)}

    @fragment(template="admin/sisy/dashboard/running.html", on="run worker")
    def running(self, request: HttpRequest) -> dict[str, Any]:
        """Show what runs now, how far it is, and a button to cancel it."""
        seen = _seen(request)
        may_cancel = request.user.has_perm("sisy.cancel_run")
        rows = [self._running_row(run, may_cancel=may_cancel) for run in seen.running]
        return {
            "rows": rows,
            "more": seen.health.working.running - len(rows),
            "all": self._runs(status__exact="RUNNING"),
        }

    @fragment(template="admin/sisy/dashboard/failures.html", on="run")
    def failures(self, request: HttpRequest) -> dict[str, Any]:
        """Show what failed within a day, by callable and exception."""
        seen = _seen(request)
        groups = [
            {
                "failure": failure,
                "callable": shown.short(failure.callable, 90),
                "exception": shown.short(failure.exception, 90),
                "reason": shown.short(failure.last["reason"], 160),
                "last": failure.last["finished_at"],
                "distance": shown.distance(failure.last["finished_at"]),
                "last_url": self._url("run_change", failure.last["pk"]),
                "all": self._runs(status__in="FAILED,LOST", q=failure.callable),
                "retry": f"{self._url('dashboard_retry')}?{urlencode(_named(failure))}",
            }
            for failure in seen.failures
        ]
        return {"groups": groups, "is_cut": seen.failures_cut, "may_retry": request.user.has_perm("sisy.retry_run")}

    @fragment(template="admin/sisy/dashboard/upcoming.html", on="task")
    def upcoming(self, request: HttpRequest) -> dict[str, Any]:
        """Show the tasks that are due next."""
        seen = _seen(request)
        return {"rows": [self._upcoming_row(task) for task in seen.upcoming]}

    # The page --------------------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the overview in place of a list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            **self.live_context(request),
            "title": _("Overview"),
            "opts": self.opts,
            "cl": {"opts": self.opts},
            "media": self.media,
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/sisy/dashboard/overview.html", context)

    def get_urls(self) -> list[URLPattern]:
        """Add the address that Retry all posts to."""
        view = self.admin_site.admin_view(require_POST(self.retry_view))
        return [path("retry/", view, name="sisy_dashboard_retry"), *super().get_urls()]

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        """Run again what failed in the same way: the newest run of each task."""
        if not self.has_view_permission(request) or not request.user.has_perm("sisy.retry_run"):
            raise PermissionDenied
        called, exception = request.GET.get("callable", ""), request.GET.get("exception", "")
        runs = overview.same_failures(timezone.now(), path=called, exception=exception)
        tell(self, request, [run_verbs.run_again(run) for run in runs])
        if "Sisy-Live" in request.headers:
            return render(request, "admin/sisy/messages.html")
        return HttpResponseRedirect(self._url("dashboard_changelist"))

    def read_at(self, request: HttpRequest) -> float:
        """Return when the survey was read that the regions show."""
        return _seen(request).read_at

    def shared(self, request: HttpRequest) -> Shared:
        """Render what a survey shows once for all who see the same of it: fifty open overviews cost little more."""
        seen = _seen(request)
        kept = self._kept
        if kept is None or kept[0] is not seen:
            kept = self._kept = (seen, {})
        may = tuple(request.user.has_perm(permission) for permission in ("sisy.cancel_run", "sisy.retry_run"))
        language, zone = get_language(), timezone.get_current_timezone_name()
        urls = (getattr(request, "urlconf", None), get_script_prefix(), request.META.get("QUERY_STRING", ""))
        return Shared(regions=kept[1], of=(may, language, zone, urls))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: there is nothing to delete."""
        return False

    # Rows ------------------------------------------------------------------------------------------------------------

    def _running_row(self, run: Run, *, may_cancel: bool) -> dict[str, Any]:
        fraction, text = progress_of(run.progress)
        return {
            "run": run,
            "label": shown.short(run.label, 80),
            "url": self._url("run_change", run.pk),
            "since": (run.started_at or run.enqueued_at).timestamp(),
            "elapsed": shown.duration(timezone.now() - (run.started_at or run.enqueued_at)),
            "worker": shown.short(getattr(run, "worker_name", None) or "", 40),
            "fraction": fraction,
            "percent": None if fraction is None else round(100 * fraction),
            "text": text,
            "is_cancelling": run.cancel_requested_at is not None,
            "cancel": self._url("run_verb", run.pk, "cancel") if may_cancel else "",
        }

    def _upcoming_row(self, task: Task) -> dict[str, Any]:
        words, error = schedule_in_words(task)
        assert task.next_run is not None  # noqa: S101 - overview.read leaves out those without
        return {
            "task": task,
            "label": shown.short(task.label or task.callable, 80),
            "url": self._url("task_change", task.pk),
            "words": error or words,
            "raw": f"{shown.visible(task.schedule)} · {shown.visible(task.zone_name)}",
            "at": task.next_run,
            "until": task.next_run.timestamp(),
            "distance": shown.distance(task.next_run),
        }

    def _run_counts(self, seen: overview.Survey) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        counts = seen.counts
        ready = sum(backlog.ready for backlog in seen.health.backlog)
        waiting = counts.get("later", 0) + counts.get("blocked", 0)
        now = [
            _count(_("Running"), seen.health.working.running, self._runs(status__exact="RUNNING"), status="running"),
            _count(_("Ready"), ready, self._runs(status__exact="READY"), status="ready"),
            _count(_("Waiting"), waiting, self._runs(status__exact="READY"), status="ready"),
        ]
        day = [
            _count(status.label, counts.get(status, 0), self._runs(status__exact=status, enqueued="day"), status=status)
            for status in map(RunStatus, overview.ENDED)
        ]
        return now, day

    def _task_counts(self, seen: overview.Survey) -> list[dict[str, Any]]:
        counts = {**seen.counts, "parked": seen.health.parked, "due": seen.health.due}
        named = (("enabled", _("Scheduled")), ("paused", _("Paused")), ("parked", _("Parked")))
        return [
            _count(_("Due"), counts["due"], self._tasks(state="enabled"), state="due"),
            *(_count(word, counts.get(name, 0), self._tasks(state=name), state=name) for name, word in named),
        ]

    def _runs(self, **filters: str) -> str:
        return f"{self._url('run_changelist')}?{urlencode(filters)}"

    def _tasks(self, **filters: str) -> str:
        return f"{self._url('task_changelist')}?{urlencode(filters)}"

    def _url(self, name: str, *keys: Any) -> str:
        return reverse(f"admin:sisy_{name}", args=keys, current_app=self.admin_site.name)


def _seen(request: HttpRequest) -> overview.Survey:
    """Return the one survey that everything in an answer shows."""
    seen: overview.Survey | None = getattr(request, "sisy_survey", None)
    if seen is None:
        seen = request.sisy_survey = overview.survey()  # type: ignore[attr-defined]
    return seen


def _count(word: Any, number: int, url: str, *, status: str = "", state: str = "") -> dict[str, Any]:
    mark = shown.MARKS.get(status.upper(), "")
    return {"word": word, "number": number, "url": url, "status": status.lower(), "state": state, "mark": mark}


def _named(failure: overview.Failure) -> dict[str, str]:
    return {"callable": failure.callable, "exception": failure.exception}


def _oldest(found: health_of_sisy.Health) -> str:
    instants: Sequence[datetime] = [backlog.oldest_at for backlog in found.backlog]
    return shown.duration(max(found.at - min(instants), timedelta(0))) if instants else ""


def _layer_in_words(seen: overview.Survey) -> dict[str, Any]:
    trip = seen.round_trip
    if trip is None:
        return {"value": "…", "note": _("being measured"), "state": "quiet"}
    if trip.reaches == "nobody":
        return {"value": _("none"), "note": _("workers look by themselves"), "state": "quiet"}
    if trip.time is None:
        return {"value": _("no answer"), "note": shown.short(trip.error, 120), "state": "bad"}
    reaches = _("within this process") if trip.reaches == "this process" else _("reaches all processes")
    return {"value": shown.duration(trip.time), "note": reaches, "state": "good"}


def said(seen: overview.Survey) -> str:
    """Return the overview in one sentence, for those who listen to it."""
    failed = sum(minute.bad for minute in seen.minutes)
    running = seen.health.working.running
    return ", ".join(
        [
            ngettext("%(n)d run is running", "%(n)d runs are running", running) % {"n": running},
            ngettext("%(n)d failed in the last hour", "%(n)d failed in the last hour", failed) % {"n": failed},
        ]
    )
