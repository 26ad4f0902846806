"""A parsed cron expression as an English phrase, for people who check what they have written.

Schedule.describe() in cron.py is the only caller; it adds the name of the zone. Everything here is made of the plain
values that the fields expand to, so that names, steps, aliases and H read alike. The shapes people write have words
of our own; a time of day that fits none of them goes to the cron_descriptor package.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from cron_descriptor import Options, get_description  # type: ignore[import-untyped]  # has no annotations

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
LAST = 0  # in `nth`: the last such weekday of the month

_MOST_LISTED = 6  # more clock times than this are hard to read as a list


@dataclass(frozen=True, kw_only=True)
class CronFields:
    """What the fields of a cron expression expand to: sorted values, None where any value will do."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...] | None
    last_day: bool
    nearest_weekday: int | None
    months: tuple[int, ...] | None
    weekdays: tuple[int, ...] | None
    nth: tuple[tuple[int, int], ...]  # (weekday, 1 to 5, or LAST)


def cron_in_words(fields: CronFields) -> str:
    """Say when `fields` fire, without the zone.

    >>> cron_in_words(CronFields(seconds=(0,), minutes=(0,), hours=(9, 17), days=(1,), last_day=False, months=None,
    ...     nearest_weekday=None, weekdays=None, nth=()))
    'At 09:00 and 17:00, on the 1st'
    """
    dates = [_days(fields), _weekdays(fields)]
    date = " or ".join(words for words in dates if words)
    return ", ".join(words for words in (_time(fields), date, _months(fields)) if words)


def period_in_words(seconds: int) -> str:
    """Say how often something happens that is repeated every `seconds`, in the largest unit that divides it.

    >>> period_in_words(90), period_in_words(86400)
    ('Every 90 seconds', 'Every day')
    """
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds % size == 0:
            return _every(seconds // size, unit)
    return _every(seconds, "second")


def instant_in_words(local: datetime) -> str:
    """Say when `local` is, to the second where it has seconds.

    >>> instant_in_words(datetime(2026, 11, 27, 9, 0))
    '27 November 2026 at 09:00'
    """
    clock = f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
    return f"{local.day} {MONTHS[local.month - 1]} {local.year} at {clock}"


# -- the time of day -----------------------------------------------------------------------------


def _time(fields: CronFields) -> str:
    seconds, minutes, hours = fields.seconds, fields.minutes, fields.hours
    if seconds != (0,):
        return _with_seconds(seconds, minutes, hours)
    return _hours_and_minutes(minutes, hours)


def _with_seconds(seconds: Sequence[int], minutes: Sequence[int], hours: Sequence[int]) -> str:
    if len(seconds) * len(minutes) * len(hours) <= _MOST_LISTED:
        clocks = [f"{h:02}:{m:02}:{s:02}" for h, m, s in product(hours, minutes, seconds)]
        return f"At {_and(clocks)}"
    step = _step(seconds, 60)
    whole_hours = len(minutes) == 60
    if step and whole_hours and len(hours) == 24 and seconds[0] == 0:
        return _every(step, "second")
    if step and whole_hours and len(_runs(hours)) <= 3:
        first, last = f":00:{seconds[0]:02}", f":59:{seconds[-1]:02}"
        return f"{_every(step, 'second')} {_spans([(f'{a:02}{first}', f'{b:02}{last}') for a, b in _runs(hours)])}"
    if step and len(hours) == 1 and len(_runs(minutes)) == 1:
        first, last = f"{minutes[0]:02}:{seconds[0]:02}", f"{minutes[-1]:02}:{seconds[-1]:02}"
        return f"{_every(step, 'second')} from {hours[0]:02}:{first} to {hours[0]:02}:{last}"
    if len(seconds) <= _MOST_LISTED:
        noun = "second" if len(seconds) == 1 else "seconds"
        return f"{_hours_and_minutes(minutes, hours)}, at {noun} {_and(map(str, seconds))}"
    return _by_cron_descriptor(seconds, minutes, hours)


def _hours_and_minutes(minutes: Sequence[int], hours: Sequence[int]) -> str:
    shapes: tuple[Callable[[Sequence[int], Sequence[int]], str], ...] = (
        _even_minutes,
        _all_hours,
        _even_hours,
        _clock_times,
        _one_hour,
    )
    phrases = (shape(minutes, hours) for shape in shapes)
    return next(filter(None, phrases), "") or _by_cron_descriptor((0,), minutes, hours)


def _even_minutes(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """Every 15 minutes from 09:00 to 17:45."""
    step, runs = _step(minutes, 60), _runs(hours)
    if not step or len(runs) > 3 or len(minutes) * len(hours) <= 4:
        return ""
    if len(hours) < 24:
        first, last = f":{minutes[0]:02}", f":{minutes[-1]:02}"
        return f"{_every(step, 'minute')} {_spans([(f'{a:02}{first}', f'{b:02}{last}') for a, b in runs])}"
    return _every(step, "minute") if minutes[0] == 0 else ""


def _all_hours(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """At 5 and 20 minutes past every hour."""
    if len(hours) < 24:
        return ""
    if tuple(minutes) == (0,):
        return "Every hour"
    if len(minutes) <= _MOST_LISTED:
        return f"At {_and(map(str, minutes))} {'minute' if minutes[-1] == 1 else 'minutes'} past every hour"
    gap = _gap(minutes)
    return f"{_every(gap, 'minute')} from minute {minutes[0]} to {minutes[-1]} of every hour" if gap else ""


def _even_hours(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """Every 2 hours, or Every hour from 09:00 to 17:00."""
    gap = _gap(hours)
    if len(minutes) != 1 or not gap:
        return ""
    if tuple(minutes) == (0,) and hours[0] == 0 and _step(hours, 24) and len(hours) > 2:
        return _every(gap, "hour")
    if len(hours) <= (3 if gap == 1 else _MOST_LISTED):
        return ""
    return f"{_every(gap, 'hour')} from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[0]:02}"


def _clock_times(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """At 09:00 and 17:00."""
    if len(minutes) * len(hours) > _MOST_LISTED:
        return ""
    return f"At {_and(f'{h:02}:{m:02}' for h, m in product(hours, minutes))}"


def _one_hour(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """Every minute from 09:00 to 09:29."""
    gap = _gap(minutes)
    if len(hours) != 1 or not gap:
        return ""
    return f"{_every(gap, 'minute')} from {hours[0]:02}:{minutes[0]:02} to {hours[0]:02}:{minutes[-1]:02}"


def _by_cron_descriptor(seconds: Sequence[int], minutes: Sequence[int], hours: Sequence[int]) -> str:
    fields = [_cron_text(minutes, 60), _cron_text(hours, 24), "* * *"]
    if tuple(seconds) != (0,):
        fields.insert(0, _cron_text(seconds, 60))  # that package has the seconds first
    expression = " ".join(fields)
    try:
        return str(get_description(expression, Options(use_24hour_time_format=True, locale_code="en_US")))
    except Exception:  # a description is a courtesy: whatever goes wrong in there, the plain fields are an answer
        return f"At {expression}"


def _cron_text(values: Sequence[int], size: int) -> str:
    if len(values) == size:
        return "*"
    gap = _gap(values)
    if gap > 1 and len(values) > 3:
        return f"{values[0]}-{values[-1]}/{gap}"
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in _short_runs(values))


# -- the date ------------------------------------------------------------------------------------


def _days(fields: CronFields) -> str:
    if fields.nearest_weekday:
        return f"on the weekday nearest to the {_ordinal(fields.nearest_weekday)}"
    if fields.days is None:
        return ""
    days = [_span(_ordinal(a), _ordinal(b)) for a, b in _short_runs(fields.days)]
    if fields.last_day:
        days.append("last day of the month" if not days else "the last day of the month")
    return f"on the {_and(days)}"


def _weekdays(fields: CronFields) -> str:
    if fields.nth:
        named = [f"the {'last' if n == LAST else _ordinal(n)} {WEEKDAYS[day]}" for day, n in fields.nth]
        return f"on {_and(named)} of the month"
    if fields.weekdays is None:
        return ""
    runs = _short_runs(fields.weekdays, cycle=7)
    words = _and(_span(WEEKDAYS[a], WEEKDAYS[b]) for a, b in runs)
    return words if len(runs) == 1 and runs[0][0] != runs[0][1] else f"on {words}"


def _months(fields: CronFields) -> str:
    if fields.months is None:
        return ""
    runs = _short_runs([month - 1 for month in fields.months], cycle=12)
    words = _and(_span(MONTHS[a], MONTHS[b]) for a, b in runs)
    return f"from {words}" if len(runs) == 1 and runs[0][0] != runs[0][1] else f"in {words}"


# -- words and runs ------------------------------------------------------------------------------


def _every(count: int, unit: str) -> str:
    return f"Every {unit}" if count == 1 else f"Every {count} {unit}s"


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def _spans(ends: Iterable[tuple[str, str]]) -> str:
    return _and(f"from {first} to {last}" for first, last in ends)


def _ordinal(number: int) -> str:
    suffix = "th" if 10 < number < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _step(values: Sequence[int], size: int) -> int:
    """Return the distance between `values` if they go evenly round a dial of `size`, else 0."""
    gap = _gap(values)
    return gap if gap * len(values) == size else 0


def _gap(values: Sequence[int]) -> int:
    """Return the distance between neighbours if it is the same for all, else 0."""
    gaps = {b - a for a, b in zip(values, values[1:], strict=False)}
    return gaps.pop() if len(gaps) == 1 else 0


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and last value of each stretch without a hole."""
    starts = [v for v in values if v - 1 not in values]
    ends = [v for v in values if v + 1 not in values]
    return list(zip(starts, ends, strict=True))


def _short_runs(values: Sequence[int], cycle: int = 0) -> list[tuple[int, int]]:
    """Return runs of three and more as such, all else value by value; in a cycle a run may go over its end."""
    runs = _runs(values)
    if cycle and len(runs) > 1 and runs[0][0] == 0 and runs[-1][1] == cycle - 1:
        runs = [*runs[1:-1], (runs[-1][0], runs[0][1])]
    parts: list[tuple[int, int]] = []
    for first, last in runs:
        length = (last - first) % cycle + 1 if cycle else last - first + 1
        parts += [(first, last)] if length > 2 else [(v, v) for v in dict.fromkeys((first, last))]
    return parts
