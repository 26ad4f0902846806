"""A task's last runs as a strip of bars: those that went well stand up, those that failed hang down.

So the outcome is told by the direction and the shape, and by colour besides. The height says how long a run took, in
proportion to the square root, so that one long run does not flatten the others. Everything here is geometry and text;
templates/admin/sisy/task/strip.html draws it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import sqrt
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sisy.admin import shown
from sisy.admin.history import PastRun
from sisy.models import RunStatus

LENGTH: Final = 30
"""Runs that a strip shows."""

_PITCH, _WIDTH = 7, 5
_BASE, _UP, _DOWN = 20, 18, 10  # pixels: where the base line is, how far bars go up and down from it
_LEAST: Final = 3


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One run.

    Args:
        key: the run's.
        kind: its state, in lower case.
        path: its outline, as SVG's path data.
        column: the whole column it stands in, which is where the mouse finds it.
        text: what there is to say of it.
    """

    key: str
    kind: str
    path: str
    column: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A strip: its bars, the oldest first; where no bars are yet; and all of it in words."""

    bars: tuple[Bar, ...]
    empty: str
    summary: str
    width: int = LENGTH * _PITCH
    height: int = _BASE + _DOWN + 2
    base: int = _BASE


def strip(runs: Sequence[PastRun]) -> Strip:
    """Draw the newest thirty of some runs, which come with the oldest first."""
    runs = runs[-LENGTH:]
    free = LENGTH - len(runs)
    longest = max((run.duration or timedelta(0) for run in runs), default=timedelta(0))
    bars = tuple(_bar(run, x=(free + place) * _PITCH, longest=longest) for place, run in enumerate(runs))
    ticks = "".join(f"M{place * _PITCH + 1} {_BASE}h3" for place in range(free))
    return Strip(bars=bars, empty=ticks, summary=_summary(runs))


def said(run: PastRun) -> str:
    """Say in a line what became of a run."""
    parts = [f"#{run.pk} {RunStatus(run.status).label}", shown.local(run.at)]
    if run.slot is None:
        parts[1] += f" ({_('ad hoc')})"
    if run.status == RunStatus.MISSED and run.missed_count > 1:
        missed = ngettext("%(count)d slot", "%(count)d slots", run.missed_count)
        parts.append(missed % {"count": run.missed_count})
    if run.duration is not None:
        parts.append(shown.duration(run.duration))
    text = ", ".join(parts)
    return f"{text}: {shown.short(run.reason)}" if run.reason else text


def _bar(run: PastRun, *, x: int, longest: timedelta) -> Bar:
    share = sqrt((run.duration or timedelta(0)) / longest) if longest else 0
    return Bar(
        key=str(run.pk),
        kind=run.status.lower(),
        path=_outline(run.status, x=x + 1, share=share),
        column=f"M{x} 0h{_PITCH}v{_BASE + _DOWN + 2}h-{_PITCH}z",
        text=said(run),
    )


def _outline(status: str, *, x: int, share: float) -> str:
    """Return the shape of a state: no two have the same."""
    if status == RunStatus.SUCCESSFUL:  # up, with a round top
        height = max(_LEAST, round(_UP * share))
        return f"M{x} {_BASE}v-{height - 2}q0-2 2-2h1q2 0 2 2v{height - 2}z"
    if status == RunStatus.FAILED:  # down, with a point
        height = max(_LEAST + 2, round(_DOWN * share))
        return f"M{x} {_BASE}v{height - 3}l2.5 3l2.5-3v-{height - 3}z"
    if status == RunStatus.LOST:  # down, a cross
        return f"M{x} {_BASE + 2}l5 6m0-6l-5 6"
    if status == RunStatus.RUNNING:  # up, open
        return f"M{x + 0.5} {_BASE}v-{_UP - 1}h4v{_UP - 1}"
    if status == RunStatus.READY:  # a ring
        return f"M{x + 0.5} {_BASE - 2}a2 2 0 1 1 4 0a2 2 0 1 1-4 0z"
    if status == RunStatus.MISSED:  # a gap
        return f"M{x + 2.5} {_BASE - 9}v18"
    if status == RunStatus.SKIPPED:  # a small chevron
        return f"M{x + 1} {_BASE - 3}l3 3l-3 3"
    return f"M{x + 0.5} {_BASE - 2}h4v4h-4z"  # cancelled: a square


def _summary(runs: Sequence[PastRun]) -> str:
    if not runs:
        return _("No runs yet")
    counts = Counter(run.status for run in runs)
    states = ", ".join(f"{RunStatus(status).label} {counts[status]}" for status in RunStatus if counts[status])
    newest = ngettext("The last run: %(states)s", "The last %(count)d runs: %(states)s", len(runs))
    return newest % {"count": len(runs), "states": states}
