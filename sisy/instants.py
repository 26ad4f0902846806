"""Times given by users -> aware UTC instants, and durations -> timedelta.

The models' verbs and fields call this at the edge; everything below works in UTC. pytz is understood here and nowhere
else: a pytz zone attached with tzinfo= has the offset of local mean time, which nobody meant.
"""

import warnings
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytz

from sisy.errors import InvalidTime, SisyTimezoneWarning

_LONGEST = timedelta(seconds=1_000_000_000)  # 31 years; databases hold 292,000


def to_utc(value: object, *, field: str) -> datetime:
    """Return an aware datetime as UTC.

    Args:
        value: an aware datetime; pytz's and zoneinfo's zones are both understood.
        field: what the value is for; errors name it.

    Raises:
        InvalidTime: value is not a datetime, or it is naive.

    >>> to_utc(datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("Europe/Paris")), field="start_running")
    datetime.datetime(2026, 1, 1, 11, 0, tzinfo=datetime.timezone.utc)
    """
    if not isinstance(value, datetime):
        raise InvalidTime(f"{field} must be an aware datetime, not {value!r}. Use django.utils.timezone.", field=field)
    if value.utcoffset() is None:
        raise InvalidTime(
            f"{field} is {value!r}, which is naive: sisy cannot know which zone's clock it means. "
            "Use django.utils.timezone.now() or make_aware(value).",
            field=field,
        )
    try:
        return _without_pytz_trap(value, field=field).astimezone(UTC)
    except OverflowError:
        raise InvalidTime(
            f"{field} is {value!r}, which UTC cannot say. Give a year from 2 to 9998.", field=field
        ) from None


def to_later(value: object, *, field: str, now: datetime) -> datetime | None:
    """Return an aware datetime that is still to come as UTC; None stays None.

    Raises:
        InvalidTime: as for `to_utc`, or it is not after `now`.

    >>> to_later(None, field="delay_until", now=datetime(2026, 1, 1, tzinfo=UTC)) is None
    True
    """
    if value is None:
        return None
    instant = to_utc(value, field=field)
    if instant <= now:
        raise InvalidTime(f"{field} is {instant.isoformat()}, which is in the past. Give a later instant.", field=field)
    return instant


def to_duration(value: object, *, field: str) -> timedelta:
    """Return seconds (int or float) or a timedelta as a timedelta that is not negative.

    Raises:
        InvalidTime: value is neither, or it is negative.

    >>> to_duration(1.5, field="timeout")
    datetime.timedelta(seconds=1, microseconds=500000)
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LONGEST.total_seconds():
        value = timedelta(seconds=value)
    if not isinstance(value, timedelta):
        raise InvalidTime(f"{field} must be a timedelta or a number of seconds, not {value!r}.", field=field)
    if value > _LONGEST:
        raise InvalidTime(f"{field} is {value!r}, which is too long. Give at most {_LONGEST.days} days.", field=field)
    if value < timedelta(0):
        raise InvalidTime(f"{field} is {value!r}, which is negative. Give 0 or more seconds.", field=field)
    return value


def _without_pytz_trap(value: datetime, *, field: str) -> datetime:
    """Mend a datetime that was built with tzinfo=pytz.timezone(...), keeping the wall clock that its author wrote."""
    zone_name = getattr(value.tzinfo, "zone", None)
    if zone_name is None or not hasattr(value.tzinfo, "localize"):
        return value
    base = pytz.timezone(zone_name)
    naive = value.replace(tzinfo=None)
    good_offsets = {base.localize(naive).utcoffset(), base.normalize(value).utcoffset()}
    if value.utcoffset() in good_offsets:
        return value
    warnings.warn(
        f"{field} is {value!r}: {zone_name} never has its offset {value.strftime('%z')} then, because a pytz zone was "
        f"attached with tzinfo=, or the value was moved without normalize(). sisy keeps the wall clock. "
        f"Use pytz.timezone({zone_name!r}).localize(datetime(...)) instead.",
        SisyTimezoneWarning,
        stacklevel=2,
    )
    return naive.replace(tzinfo=ZoneInfo(zone_name))
