"""Slots on days on which clocks are changed: what people should know of them before it happens.

Pure, on top of sisy.wallclock; the plan of a task, its preview and the page of upcoming runs show it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

from sisy.wallclock import next_change, offset_at

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class ClockChange:
    """A change of a zone's offset.

    Args:
        at: the first instant of the new offset, UTC.
        before: what the clock would show then without the change.
        after: what it shows.
    """

    at: datetime
    before: datetime
    after: datetime

    @property
    def is_forward(self) -> bool:
        """Whether an hour, or part of one, is left out; otherwise it comes twice."""
        return self.after > self.before

    def describe(self) -> str:
        """Say it in words."""
        clock = {"before": _clock(self.before), "after": _clock(self.after)}
        if self.is_forward:
            return _("Clocks go forward from %(before)s to %(after)s on this day") % clock
        return _("Clocks go back from %(before)s to %(after)s on this day") % clock


def change_on_day_of(instant: datetime, zone: ZoneInfo) -> ClockChange | None:
    """Return the change of clocks on an instant's local day, or None.

    >>> change_on_day_of(datetime(2026, 3, 29, 12, tzinfo=UTC), ZoneInfo("Europe/Paris")).describe()
    'Clocks go forward from 02:00 to 03:00 on this day'
    """
    try:
        day = instant.astimezone(zone).date()
        first = datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)
        last = datetime.combine(day + timedelta(days=1), time(0), tzinfo=zone).astimezone(UTC)
        return change_between(first - _SECOND, last - _SECOND, zone)
    except OverflowError:  # the years 1 and 9999
        return None


def change_between(start: datetime, end: datetime, zone: ZoneInfo) -> ClockChange | None:
    """Return the first change of clocks in (start, end], or None."""
    at = next_change(zone, start, end)
    if at is None:
        return None
    wall = at.replace(tzinfo=None)
    return ClockChange(at=at, before=wall + offset_at(zone, at - _SECOND), after=wall + offset_at(zone, at))


def note_on(slot: datetime, zone: ZoneInfo) -> str:
    """Say what a change of clocks does to a slot's day; an empty text on other days."""
    change = change_on_day_of(slot, zone)
    if change is None:
        return ""
    if change.is_forward and slot == change.at:
        return _("%(change)s; a time that is left out runs right then") % {"change": change.describe()}
    local = slot.astimezone(zone)
    if not change.is_forward and change.after <= local.replace(tzinfo=None) < change.before:
        which = _("the second time") if local.fold else _("the first time")
        return _("%(change)s; this clock time comes twice, this is %(which)s") % {
            "change": change.describe(),
            "which": which,
        }
    return change.describe()


def _clock(value: datetime) -> str:
    return f"{value:%H:%M:%S}" if value.second else f"{value:%H:%M}"
