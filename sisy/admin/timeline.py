"""The story of one run as moments in order, each with what lay between it and the one before."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext_lazy as _

from sisy.admin.shown import duration
from sisy.models import Run, RunStatus


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One line: what happened, when (None: not at one instant), and a remark."""

    what: Any
    at: datetime | None
    remark: Any = ""


def timeline(run: Run, *, now: datetime) -> list[Moment]:
    """Return the moments of a run.

    Args:
        run: any run.
        now: until when a run that is not over has waited or run.
    """
    moments = [
        _slot(run),
        Moment(what=_("Enqueued"), at=run.enqueued_at),
        _due(run),
        _started(run, now=now),
        Moment(what=_("Cancel requested"), at=run.cancel_requested_at) if run.cancel_requested_at else None,
        _finished(run, now=now),
    ]
    return [moment for moment in moments if moment is not None]


def _slot(run: Run) -> Moment:
    if run.slot is None:
        return Moment(what=_("Slot"), at=None, remark=_("ad hoc: for no slot of the schedule"))
    if run.missed_since is not None and run.missed_count > 1:
        remark = _("the last of %(count)d missed slots") % {"count": run.missed_count}
        return Moment(what=_("Slot"), at=run.slot, remark=remark)
    return Moment(what=_("Slot"), at=run.slot)


def _due(run: Run) -> Moment | None:
    if run.run_after is not None:
        return Moment(what=_("Due"), at=run.run_after)
    if run.status == RunStatus.READY:
        return Moment(what=_("Due"), at=None, remark=_("waits for an earlier run of its task"))
    return None


def _started(run: Run, *, now: datetime) -> Moment | None:
    since = max(run.run_after or run.enqueued_at, run.enqueued_at)
    if run.started_at is not None:
        waited = _("waited %(time)s") % {"time": duration(max(run.started_at - since, timedelta(0)))}
        return Moment(what=_("Started"), at=run.started_at, remark=waited)
    if not run.is_over and now > since:
        return Moment(what=_("Started"), at=None, remark=_("not yet, after %(time)s") % {"time": duration(now - since)})
    return None


def _finished(run: Run, *, now: datetime) -> Moment | None:
    if run.finished_at is not None:
        ran = _("ran %(time)s") % {"time": duration(run.duration)} if run.duration is not None else ""
        return Moment(what=_("Finished"), at=run.finished_at, remark=ran)
    if run.started_at is not None:
        ran = _("not yet, after %(time)s") % {"time": duration(now - run.started_at)}
        return Moment(what=_("Finished"), at=None, remark=ran)
    return None
