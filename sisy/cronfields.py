"""What may stand in each field of a cron expression, and what is wrong with what does.

cron.py asks before it hands a text to croniter, whose own messages do not say what would be right.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from sisy.errors import InvalidSchedule


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    allowed: str
    names: tuple[str, ...] = ()


DAY = _Field("day of month", 1, 31, "1 to 31, L for the last day, and 15W for the weekday nearest to the 15th")
WEEKDAY = _Field(
    *("day of week", 0, 7, "0 to 7 (0 and 7 are Sunday) or sun to sat, 5#2 (second Friday) and L5 (last Friday)"),
    names=("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
)
_FIELDS = (
    _Field("minute", 0, 59, "0 to 59; the full hour is minute 0"),
    _Field("hour", 0, 23, "0 to 23; midnight is hour 0"),
    DAY,
    _Field(
        *("month", 1, 12, "1 to 12 or jan to dec"),
        names=("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ),
    WEEKDAY,
    _Field("second", 0, 59, "0 to 59; the seconds are the last of six fields"),
)
_NEVER_AN_ITEM = (
    (r"$", "there is nothing before or after a comma"),
    (r"r(\(|/|$)", "R draws another value each time it is read; use H, which keeps its value"),
    (r"h(\(|/|$)", "H is written H, H(0-29), H/10 or H(0-29)/10, and alone in its field"),
    (r".*\?", "'?' is for the day of month or the day of week, and alone there"),
    (r"lw$", "the last weekday of the month is not available; use L, the last day"),
)


class _FieldError(Exception):
    """What is wrong with a field, to be completed with where it is and what is allowed there."""


def check_fields(text: str, values: list[str]) -> None:
    """Refuse an expression with the wrong number of fields, or a wrong value in one of them.

    Args:
        text: the whole expression, for the error's text.
        values: its fields.

    Raises:
        InvalidSchedule: names the field, the value and what is allowed there.

    >>> check_fields("* * * * *", ["*"] * 5)
    """
    if len(values) not in (5, 6):
        year = " A year field is not supported." if len(values) == 7 else ""
        refuse(
            f"{text!r} has {len(values)} field{'s' * (len(values) > 1)}.{year}"
            " Write 5: minute, hour, day of month, month, day of week; or 6 with the second last."
        )
    for place, value in zip(_FIELDS, values, strict=False):
        try:
            _check_field(place, value.lower())
        except _FieldError as error:
            refuse(f"{text!r}: the {place.name} field has {value!r}: {error}. Allowed are {place.allowed}.")


def _check_field(place: _Field, value: str) -> None:
    if value == "?" and place in (DAY, WEEKDAY):
        return
    if hashed := re.fullmatch(r"h(?:\((\d+)-(\d+)\))?(?:/(\d+))?", value):
        low, high, step = hashed.groups()
        if low and int(low) >= int(high):
            raise _FieldError(f"the first number of {low}-{high} has to be the smaller one")
        return _check_range(place, low or "*", high, step)
    items = value.split(",")
    special = [_check_item(place, item) for item in items]
    if any(special) and not all(special):
        raise _FieldError("a day with # or L can't be in one list with plain days")
    if place is DAY and "w" in value and len(items) > 1:
        raise _FieldError("W takes one day, not a list")


def _check_item(place: _Field, item: str) -> bool:
    """Return whether this is a weekday with # or L, the only two that don't mix with others."""
    for pattern, why in _NEVER_AN_ITEM:
        if re.match(pattern, item):
            raise _FieldError(why)
    if place is DAY and item == "l":
        return False
    plain = item
    if place is DAY and (nearest := re.fullmatch(r"(\d+)w|w(\d+)", item)):
        plain = nearest[1] or nearest[2]
    if place is WEEKDAY:
        plain = _without_nth(item)
    parts = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/(\w+))?", plain)
    if parts is None:
        raise _FieldError(f"{item!r} is not a value, a range such as 1-5, or a step such as */5")
    _check_range(place, *parts.groups())
    return place is WEEKDAY and plain != item


def _without_nth(item: str) -> str:
    if nth := re.fullmatch(r"(.*)#(.*)", item):
        if nth[2] not in ("1", "2", "3", "4", "5"):
            raise _FieldError(f"{item!r} has {nth[2]!r} after the #, which has to be 1 to 5")
        if not re.fullmatch(r"\w+|[a-z]+-[a-z]+", nth[1]):
            raise _FieldError(f"before the # of {item!r} has to be one day, or a range of names such as mon-fri")
        return nth[1]
    if last := re.fullmatch(r"l(\d+)", item):
        return last[1]
    if item.startswith("l") or item.endswith("l"):
        raise _FieldError(f"{item!r} is not understood; the last Friday of the month is L5")
    return item


def _check_range(place: _Field, low: str, high: str | None, step: str | None) -> None:
    if step is not None and (not step.isdigit() or int(step) == 0):
        raise _FieldError(f"the step {step!r} has to be a number from 1 on")
    if low == "*" and high is not None:
        raise _FieldError("a range can't begin with *")
    if low == "*":
        return
    first = _value(place, low)
    if high is None:
        return
    last = 31 if place is DAY and high == "l" else _value(place, high)
    if place is WEEKDAY and (first, last) != (0, 7):
        first, last = first % 7, last % 7
    if first == last:
        raise _FieldError(f"croniter reads {low}-{high} as the whole field; write {low!r} for that value alone")
    if first > last and step is not None:
        _check_wrapped_step(place, first, last, int(step))


def _check_wrapped_step(place: _Field, first: int, last: int, step: int) -> None:
    end = 6 if place is WEEKDAY else place.high
    size = end + 1 - place.low
    values = [(v - place.low) % size + place.low for v in range(first, last + size + 1, step)]
    if (end + 1 - first) % step and values[-1] <= last:  # else croniter counts right
        raise _FieldError(
            f"croniter miscounts a step over the end of the field; write the values, {','.join(map(str, values))!r}"
        )


def _value(place: _Field, token: str) -> int:
    if token in place.names:
        return place.names.index(token) + place.low
    if not token.isdigit():
        near = get_close_matches(token, place.names, n=1, cutoff=0.4)
        raise _FieldError(f"{token!r} is not known" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if not place.low <= int(token) <= place.high:
        raise _FieldError(f"{token} is out of range")
    return int(token)


def refuse(message: str) -> NoReturn:
    """Raise InvalidSchedule for the schedule itself, not for its zone."""
    raise InvalidSchedule(message, field="schedule")
