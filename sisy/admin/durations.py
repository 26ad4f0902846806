"""How long the last runs of one task took: a mark a run, a ring where it went well and a cross where it failed.

Lines say what half of them, and 95 of 100, stayed below. The scale is logarithmic when the longest took more than
fifty times as long as the shortest. Geometry and text; templates/admin/sisy/task/durations.html draws it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import log10
from typing import Final

from sisy.admin import shown
from sisy.admin.history import PastRun, Typical, typical
from sisy.admin.strip import said
from sisy.models import RunStatus

MOST: Final = 120
"""Runs that the chart shows."""

_WIDTH, _HEIGHT = 520, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 34, 10, 14
_LOGARITHMIC_FROM: Final = 50
_LEAST_SECONDS: Final = 0.0001
_STEPS: Final = (1, 2, 5, 10, 15, 30)
_MOST_TICKS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Point:
    """A run: its key, its kind (successful, failed), its outline as path data, and what there is to say of it."""

    key: str
    kind: str
    path: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A horizontal line, its text at the left: a tick of the scale, or (`kind`) p50 or p95."""

    kind: str
    y: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Durations:
    """The chart."""

    points: tuple[Point, ...]
    ticks: tuple[Line, ...]
    lines: tuple[Line, ...]
    typical: Typical
    summary: str
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT


def durations(runs: Sequence[PastRun]) -> Durations | None:
    """Draw the newest of some runs, which come with the oldest first; None if none of them succeeded."""
    ran = [run for run in runs if run.status in (RunStatus.SUCCESSFUL, RunStatus.FAILED) and run.duration is not None]
    ran = ran[-MOST:]
    usual = typical(ran)
    if usual is None:
        return None
    seconds = [_seconds(run) for run in ran]
    scale, values = _scale(min(seconds), max(seconds))
    across = _WIDTH - _LEFT - _RIGHT
    points = tuple(
        _point(run, x=_LEFT + across * (place + 0.5) / len(ran), y=scale(_seconds(run)))
        for place, run in enumerate(ran)
    )
    lines = tuple(
        Line(kind=kind, y=round(scale(max(time.total_seconds(), _LEAST_SECONDS))), text=kind)
        for kind, time in (("p50", usual.p50), ("p95", usual.p95))
    )
    return Durations(
        points=points,
        ticks=tuple(
            Line(kind="tick", y=round(scale(value)), text=shown.duration(timedelta(seconds=value)) if value else "0")
            for value in values
        ),
        lines=lines,
        typical=usual,
        summary=usual.meaning,
    )


def _seconds(run: PastRun) -> float:
    assert run.duration is not None  # noqa: S101 - the caller has chosen those that ran
    return max(run.duration.total_seconds(), _LEAST_SECONDS)


def _scale(least: float, most: float) -> tuple[Callable[[float], float], list[float]]:
    """Return the function from seconds to pixels, and the values to write beside it."""
    floor, ceiling = _HEIGHT - _BOTTOM, _TOP
    if most > least * _LOGARITHMIC_FROM:
        low, high = log10(least / 1.3), log10(most * 1.3)
        ticks = [10.0**power for power in range(-4, 7) if low <= power <= high]
        every = -(-len(ticks) // _MOST_TICKS) or 1
        return lambda value: floor - (floor - ceiling) * (log10(value) - low) / (high - low), ticks[::every]
    top = most * 1.1
    step = _step(top)
    return lambda value: floor - (floor - ceiling) * value / top, [step * n for n in range(int(top / step) + 1)]


def _step(top: float) -> float:
    """Return a round number of seconds that goes into `top` at most four times."""
    unit = 10.0 ** int(log10(top) - 6) if top < 1 else 1.0
    while True:
        for size in _STEPS:
            if top / (size * unit) <= _MOST_TICKS:
                return size * unit
        unit *= 60 if unit >= 1 else 10


def _point(run: PastRun, *, x: float, y: float) -> Point:
    if run.status == RunStatus.SUCCESSFUL:
        path = f"M{x - 2.5:.1f} {y:.1f}a2.5 2.5 0 1 1 5 0a2.5 2.5 0 1 1-5 0z"
    else:
        path = f"M{x - 3:.1f} {y - 3:.1f}l6 6m0-6l-6 6"
    return Point(key=str(run.pk), kind=run.status.lower(), path=path, text=said(run))
