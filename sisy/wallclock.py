"""What the clock on the wall of a time zone shows, and which instant that is: gaps, repeated hours, changes of offset.

cron.py is the only caller. Arithmetic is in UTC; offsets come from zoneinfo.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_ZERO = timedelta(0)
_SECOND = timedelta(seconds=1)
_PROBE = timedelta(days=5)  # less than any offset lasts in the tz database, where the shortest is just under 7 days


def wall_from(zone: ZoneInfo, after: datetime) -> datetime:
    """Return the wall clock time after which a fixed job's next time is; what a repeated hour repeats is skipped."""
    local = after.astimezone(zone)
    if not local.fold:
        return local.replace(tzinfo=None)
    first_pass = local.replace(fold=0).astimezone(UTC)
    repeated_until = next_change(zone, first_pass, after) or after
    return (repeated_until + offset_at(zone, first_pass) - _SECOND).replace(tzinfo=None)


def instant_of(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return when the clock shows `wall` (for the first time), or the first instant after the gap that hides it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    # In a gap, fold=0 reckons with the offset before it, which gives an instant after it; fold=1 the other way round.
    return next_change(zone, wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant) or instant


def next_change(zone: ZoneInfo, start: datetime, end: datetime) -> datetime | None:
    """Return the first instant in (start, end] at which the offset is another than at `start`.

    It looks every few days: comparing the two ends alone would miss a summer time that begins and ends between them.
    """
    offset = offset_at(zone, start)
    while start < end:
        probe = min(start + _PROBE, end)
        if offset_at(zone, probe) != offset:
            break
        start = probe
    else:
        return None
    while probe - start > _SECOND:
        middle = start + timedelta(seconds=(probe - start) // _SECOND // 2)
        if offset_at(zone, middle) == offset:
            start = middle
        else:
            probe = middle
    return probe


def offset_at(zone: ZoneInfo, instant: datetime) -> timedelta:
    """Return a zone's offset from UTC at an instant."""
    return instant.astimezone(zone).utcoffset() or _ZERO
