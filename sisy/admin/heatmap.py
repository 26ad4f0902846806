"""Ninety days of one task as a calendar: a column a week, a square a day, darker the more runs there were.

A day with failures has another colour and a notch as well; one with missed slots is hollow. Geometry and text only;
templates/admin/sisy/task/heatmap.html draws it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from math import ceil
from typing import Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.utils import formats
from django.utils.dates import MONTHS_3, WEEKDAYS_ABBR
from django.utils.translation import gettext as _

from sisy.admin.history import PastRun
from sisy.models import RunStatus

DAYS: Final = 90

_PITCH, _SIDE = 15, 12
_LEFT, _TOP = 34, 18
_LEVELS: Final = 4
_ENDED_BADLY: Final = frozenset({RunStatus.FAILED, RunStatus.LOST})


@dataclass(frozen=True, kw_only=True)
class Day:
    """One day.

    Args:
        day: which.
        kind: ok, bad, missed, none, or unkept for days whose runs are not kept any more.
        level: 1 to 4, by the number of runs; 0 where there were none.
        x: where it is drawn.
        y: where it is drawn.
        text: what there is to say of it.
        zone: where it begins and ends.
    """

    day: date
    kind: str
    level: int
    x: int
    y: int
    text: str
    zone: ZoneInfo

    @property
    def query(self) -> str:
        """What filters the list of runs for those that were enqueued on it."""
        since, until = (datetime.combine(day, time(0), self.zone) for day in (self.day, self.day + timedelta(days=1)))
        return urlencode({"enqueued_at__gte": since.isoformat(), "enqueued_at__lt": until.isoformat()})

    @property
    def is_linked(self) -> bool:
        """Whether there are runs to look at."""
        return self.level > 0 or self.kind == "missed"

    @property
    def notch(self) -> str:
        """The corner that is cut out of a day with failures, as path data."""
        return f"M{self.x + _SIDE - 6} {self.y}h6v6z" if self.kind == "bad" else ""


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text beside the squares."""

    text: str
    x: int
    y: int


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """The calendar; `summary` is all of it in words, `reachable` the newest day with a link, which Tab leads to."""

    days: tuple[Day, ...]
    labels: tuple[Label, ...]
    summary: str
    width: int
    reachable: date | None
    height: int = _TOP + 7 * _PITCH
    side: int = _SIDE


def heatmap(runs: Iterable[PastRun], *, today: date, zone: ZoneInfo, kept_since: date) -> Heatmap:
    """Draw the ninety days that end with a given one.

    Args:
        runs: the task's runs that are kept.
        today: the last day.
        zone: where the days begin and end.
        kept_since: runs of earlier days may have been deleted.
    """
    counts = _counts(runs, zone)
    first = today - timedelta(days=DAYS - 1)
    first_column = first - timedelta(days=_weekday(first))
    most = max((sum(count.values()) for count in counts.values()), default=0)
    days = []
    for number in range(DAYS):
        day = first + timedelta(days=number)
        x = _LEFT + (day - first_column).days // 7 * _PITCH
        y = _TOP + _weekday(day) * _PITCH
        kind, text = _became(counts.get(day, Counter()), is_kept=day >= kept_since)
        level = ceil(_LEVELS * sum(counts.get(day, Counter()).values()) / most) if most else 0
        said = f"{formats.date_format(day)}: {text}"
        days.append(Day(day=day, kind=kind, level=level, x=x, y=y, text=said, zone=zone))
    weeks = (today - first_column).days // 7 + 1
    return Heatmap(
        days=tuple(days),
        labels=_labels(days),
        summary=_summary(days, counts),
        width=_LEFT + weeks * _PITCH,
        reachable=max((day.day for day in days if day.is_linked), default=None),
    )


def _counts(runs: Iterable[PastRun], zone: ZoneInfo) -> Mapping[date, Counter[str]]:
    """Count states by day. Missed slots are one row for many, so each of its days has them."""
    counts: dict[date, Counter[str]] = {}
    for run in runs:
        last = _local_day(run.at, zone)
        first = last if run.missed_since is None else max(_local_day(run.missed_since, zone), last - timedelta(DAYS))
        for number in range((last - first).days + 1):
            counts.setdefault(first + timedelta(days=number), Counter())[run.status] += 1
    return counts


def _local_day(instant: datetime, zone: ZoneInfo) -> date:
    return instant.astimezone(zone).date()


def _weekday(day: date) -> int:
    """Return the row of a day: its place in the week as it begins in the active language."""
    first = int(formats.get_format("FIRST_DAY_OF_WEEK"))  # 0: Sunday
    return (day.isoweekday() - first) % 7


def _became(count: Counter[str], *, is_kept: bool) -> tuple[str, str]:
    """Return the kind of a day with these runs, and what to say of them."""
    if not count:
        return ("none", _("no runs")) if is_kept else ("unkept", _("no runs, or not kept any more"))
    if any(count[status] for status in _ENDED_BADLY):
        return "bad", _states(count)
    did_not_run = set(count) <= {RunStatus.MISSED, RunStatus.SKIPPED, RunStatus.CANCELLED}
    return ("missed" if did_not_run else "ok"), _states(count)


def _states(count: Counter[str]) -> str:
    return ", ".join(f"{RunStatus(status).label} {count[status]}" for status in RunStatus if count[status])


def _labels(days: Sequence[Day]) -> tuple[Label, ...]:
    """Name every second row by its weekday, and each column in which a month begins by the month."""
    labels = []
    for row in (0, 2, 4):
        day = next(day for day in days if day.y == _TOP + row * _PITCH)
        labels.append(Label(text=str(WEEKDAYS_ABBR[day.day.weekday()]), x=0, y=day.y + _SIDE - 2))
    for day in days:
        if day.day.day == 1:
            labels.append(Label(text=str(MONTHS_3[day.day.month]).capitalize(), x=day.x, y=_TOP - 6))
    return tuple(labels)


def _summary(days: Sequence[Day], counts: Mapping[date, Counter[str]]) -> str:
    shown = {day.day for day in days}
    whole = sum((count for day, count in counts.items() if day in shown), Counter[str]())
    if not whole:
        return _("No runs in the past %(days)d days") % {"days": DAYS}
    return _("Runs in the past %(days)d days: %(states)s") % {"days": DAYS, "states": _states(whole)}
