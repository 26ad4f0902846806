"""What the page of one run shows, as values for its templates; run.py has the regions."""

from datetime import datetime, timedelta
from typing import Any, Final

from django.utils.translation import gettext as _

from sisy.admin import shown
from sisy.admin.timeline import timeline
from sisy.admin.traceback import pieces
from sisy.models import Run, RunLine

_MOST_LINES: Final = 300  # of the log on the page: the newest
_WIDTH: Final = 1000


def story_of(run: Run, *, now: datetime) -> dict[str, Any]:
    """Return what happened when, and how waiting and running compare.

    Args:
        run: any run.
        now: until when a run that is not over has waited or run.
    """
    moments = [
        {
            "what": moment.what,
            "at": shown.instant(moment.at) if moment.at else "",
            "remark": moment.remark,
            "is_there": moment.at is not None,
        }
        for moment in timeline(run, now=now)
    ]
    return {"moments": moments, "bar": _bar(run, now=now)}


def attempts_of(run: Run) -> list[dict[str, Any]]:
    """Return the error of each attempt, whatever somebody wrote into the column."""
    entries = [entry for entry in run.errors if isinstance(entry, dict)] if isinstance(run.errors, list) else []
    attempts = []
    for number, entry in enumerate(entries):
        text = shown.visible(entry.get("traceback", ""))
        cut = pieces(text)
        attempts.append(
            {
                "id": number,
                "attempt": shown.visible(entry.get("attempt", "")),
                "exception": shown.visible(entry.get("exception", "")),
                "at": shown.instant_of(shown.visible(entry.get("at", ""))),
                "pieces": cut,
                "is_mixed": any(piece.is_theirs for piece in cut),
            }
        )
    return attempts


def lines_of(run: Run) -> dict[str, Any]:
    """Return the newest lines that the run logged, and how many came before."""
    newest = list(RunLine.objects.filter(run=run).order_by("-pk")[: _MOST_LINES + 1])
    has_more = len(newest) > _MOST_LINES
    lines = [
        {"pk": line.pk, "attempt": line.attempt, "time": shown.local(line.at)[11:], "text": shown.visible(line.text)}
        for line in reversed(newest[:_MOST_LINES])
    ]
    return {"lines": lines, "has_more": has_more, "most": _MOST_LINES, "attempts": run.attempt > 1}


def _bar(run: Run, *, now: datetime) -> dict[str, Any] | None:
    """Return how long it waited and ran, as widths; None while it has done neither."""
    since = max(run.run_after or run.enqueued_at, run.enqueued_at)
    started, ended = run.started_at, run.finished_at or now
    waited = max(((started or ended) - since), timedelta(0))
    ran = max(ended - started, timedelta(0)) if started is not None else timedelta(0)
    if not waited + ran:
        return None
    width = round(_WIDTH * (waited / (waited + ran)))
    names = {"waited": shown.duration(waited), "ran": shown.duration(ran)}
    return {
        "width": _WIDTH,
        "waited_width": width,
        "ran_width": _WIDTH - width,
        "waited": names["waited"],
        "ran": names["ran"] if started is not None else "",
        "said": _("waited %(waited)s, ran %(ran)s") % names,
        "since": None if run.is_over or started is None else started.timestamp(),
        "waiting_since": None if run.is_over or started is not None else since.timestamp(),
    }
