"""A parsed cron expression as a phrase in the active language, for people who check what they have written.

Schedule.describe() in cron.py is the only caller; it adds the name of the zone. Everything here is made of the plain
values that the fields expand to, so that names, steps, aliases and H read alike. The shapes people write have words
of our own; a time of day that fits none of them goes to the cron_descriptor package. A phrase is put together from
parts that are translated one by one; the contexts say what each part stands beside.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from cron_descriptor import Options, get_description  # type: ignore[import-untyped]  # has no annotations
from django.utils.dates import MONTHS, WEEKDAYS
from django.utils.translation import get_language, ngettext, pgettext
from django.utils.translation import gettext as _

LAST = 0  # in `nth`: the last such weekday of the month

_LOCALES = {"de": "de_DE", "fr": "fr_FR"}  # cron_descriptor's names of the languages that sisy has
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
    either = pgettext("schedule", "or")
    date = f" {either} ".join(words for words in dates if words)
    return ", ".join(words for words in (_time(fields), date, _months(fields)) if words)


def period_in_words(seconds: int) -> str:
    """Say how often something happens that is repeated every `seconds`, in the largest unit that divides it.

    >>> period_in_words(90), period_in_words(86400)
    ('Every 90 seconds', 'Every day')
    """
    if seconds % 86400 == 0:
        return _every_days(seconds // 86400)
    if seconds % 3600 == 0:
        return _every_hours(seconds // 3600)
    return _every_seconds(seconds) if seconds % 60 else _every_minutes(seconds // 60)


def once_in_words(local: datetime) -> str:
    """Say that something happens once, at an instant."""
    return _("Once, on %(instant)s") % {"instant": instant_in_words(local)}


def instant_in_words(local: datetime) -> str:
    """Say when `local` is, to the second where it has seconds.

    >>> instant_in_words(datetime(2026, 11, 27, 9, 0))
    '27 November 2026 at 09:00'
    """
    clock = f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
    date = {"day": local.day, "month": MONTHS[local.month], "year": local.year, "clock": clock}
    return _("%(day)s %(month)s %(year)s at %(clock)s") % date


# -- the time of day -----------------------------------------------------------------------------


def _time(fields: CronFields) -> str:
    seconds, minutes, hours = fields.seconds, fields.minutes, fields.hours
    if seconds != (0,):
        return _with_seconds(seconds, minutes, hours)
    return _hours_and_minutes(minutes, hours)


def _with_seconds(seconds: Sequence[int], minutes: Sequence[int], hours: Sequence[int]) -> str:
    if len(seconds) * len(minutes) * len(hours) <= _MOST_LISTED:
        clocks = [f"{h:02}:{m:02}:{s:02}" for h, m, s in product(hours, minutes, seconds)]
        return _at(clocks)
    step = _step(seconds, 60)
    whole_hours = len(minutes) == 60
    if step and whole_hours and len(hours) == 24 and seconds[0] == 0:
        return _every_seconds(step)
    if step and whole_hours and len(_runs(hours)) <= 3:
        first, last = f":00:{seconds[0]:02}", f":59:{seconds[-1]:02}"
        return f"{_every_seconds(step)} {_spans([(f'{a:02}{first}', f'{b:02}{last}') for a, b in _runs(hours)])}"
    if step and len(hours) == 1 and len(_runs(minutes)) == 1:
        first, last = f"{minutes[0]:02}:{seconds[0]:02}", f"{minutes[-1]:02}:{seconds[-1]:02}"
        return f"{_every_seconds(step)} {_spans([(f'{hours[0]:02}:{first}', f'{hours[0]:02}:{last}')])}"
    if len(seconds) <= _MOST_LISTED:
        at = ngettext("at second %(seconds)s", "at seconds %(seconds)s", len(seconds))
        return f"{_hours_and_minutes(minutes, hours)}, {at % {'seconds': _and(map(str, seconds))}}"
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
        return f"{_every_minutes(step)} {_spans([(f'{a:02}{first}', f'{b:02}{last}') for a, b in runs])}"
    return _every_minutes(step) if minutes[0] == 0 else ""


def _all_hours(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """At 5 and 20 minutes past every hour."""
    if len(hours) < 24:
        return ""
    if tuple(minutes) == (0,):
        return _every_hours(1)
    if len(minutes) <= _MOST_LISTED:
        past = ngettext("At %(minutes)s minute past every hour", "At %(minutes)s minutes past every hour", minutes[-1])
        return past % {"minutes": _and(map(str, minutes))}
    gap = _gap(minutes)
    span = _("from minute %(first)s to %(last)s of every hour") % {"first": minutes[0], "last": minutes[-1]}
    return f"{_every_minutes(gap)} {span}" if gap else ""


def _even_hours(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """Every 2 hours, or Every hour from 09:00 to 17:00."""
    gap = _gap(hours)
    if len(minutes) != 1 or not gap:
        return ""
    if tuple(minutes) == (0,) and hours[0] == 0 and _step(hours, 24) and len(hours) > 2:
        return _every_hours(gap)
    if len(hours) <= (3 if gap == 1 else _MOST_LISTED):
        return ""
    ends = (f"{hours[0]:02}:{minutes[0]:02}", f"{hours[-1]:02}:{minutes[0]:02}")
    return f"{_every_hours(gap)} {_spans([ends])}"


def _clock_times(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """At 09:00 and 17:00."""
    if len(minutes) * len(hours) > _MOST_LISTED:
        return ""
    return _at(f"{h:02}:{m:02}" for h, m in product(hours, minutes))


def _one_hour(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """Every minute from 09:00 to 09:29."""
    gap = _gap(minutes)
    if len(hours) != 1 or not gap:
        return ""
    ends = (f"{hours[0]:02}:{minutes[0]:02}", f"{hours[0]:02}:{minutes[-1]:02}")
    return f"{_every_minutes(gap)} {_spans([ends])}"


def _by_cron_descriptor(seconds: Sequence[int], minutes: Sequence[int], hours: Sequence[int]) -> str:
    fields = [_cron_text(minutes, 60), _cron_text(hours, 24), "* * *"]
    if tuple(seconds) != (0,):
        fields.insert(0, _cron_text(seconds, 60))  # that package has the seconds first
    expression = " ".join(fields)
    try:
        locale = _LOCALES.get((get_language() or "")[:2], "en_US")
        return str(get_description(expression, Options(use_24hour_time_format=True, locale_code=locale)))
    except Exception:  # a description is a courtesy: whatever goes wrong in there, the plain fields are an answer
        return _at([expression])


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
        return _("on the weekday nearest to the %(day)s") % {"day": _day_of_month(fields.nearest_weekday)}
    if fields.days is None:
        return ""
    span = pgettext("days of the month", "%(first)s to %(last)s")
    days = [_span(_day_of_month(a), _day_of_month(b), span) for a, b in _short_runs(fields.days)]
    if fields.last_day:
        days.append(_("the last day of the month") if days else pgettext("on the", "last day of the month"))
    return _("on the %(days)s") % {"days": _and(days)}


def _weekdays(fields: CronFields) -> str:
    if fields.nth:
        named = (_nth_weekday(n) % {"weekday": _weekday(day)} for day, n in fields.nth)
        return _("on %(weekdays)s of the month") % {"weekdays": _and(named)}
    if fields.weekdays is None:
        return ""
    runs = _short_runs(fields.weekdays, cycle=7)
    span = pgettext("weekdays", "%(first)s to %(last)s")
    words = _and(_span(_weekday(a), _weekday(b), span) for a, b in runs)
    is_span = len(runs) == 1 and runs[0][0] != runs[0][1]
    return words if is_span else pgettext("weekdays", "on %(days)s") % {"days": words}


def _months(fields: CronFields) -> str:
    if fields.months is None:
        return ""
    runs = _short_runs([month - 1 for month in fields.months], cycle=12)
    span = pgettext("months", "%(first)s to %(last)s")
    words = _and(_span(str(MONTHS[a + 1]), str(MONTHS[b + 1]), span) for a, b in runs)
    if len(runs) == 1 and runs[0][0] != runs[0][1]:
        return pgettext("months", "from %(span)s") % {"span": words}
    return pgettext("months", "in %(months)s") % {"months": words}


# -- words and runs ------------------------------------------------------------------------------


def _every_seconds(count: int) -> str:
    return ngettext("Every second", "Every %(count)d seconds", count) % {"count": count}


def _every_minutes(count: int) -> str:
    return ngettext("Every minute", "Every %(count)d minutes", count) % {"count": count}


def _every_hours(count: int) -> str:
    return ngettext("Every hour", "Every %(count)d hours", count) % {"count": count}


def _every_days(count: int) -> str:
    return ngettext("Every day", "Every %(count)d days", count) % {"count": count}


def _at(clocks: Iterable[str]) -> str:
    return pgettext("clock times", "At %(times)s") % {"times": _and(clocks)}


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return _("%(most)s and %(last)s") % {"most": ", ".join(most), "last": last} if most else last


def _span(first: str, last: str, words: str) -> str:
    return first if first == last else words % {"first": first, "last": last}


def _spans(ends: Iterable[tuple[str, str]]) -> str:
    span = pgettext("clock times", "from %(first)s to %(last)s")
    return _and(span % {"first": first, "last": last} for first, last in ends)


def _weekday(day: int) -> str:
    """Return the name of a weekday; cron's week begins with Sunday, Django's with Monday."""
    return str(WEEKDAYS[(day - 1) % 7])


def _day_of_month(number: int) -> str:
    if number == 1:
        return pgettext("day of the month", "1st")
    if 10 < number < 14 or number % 10 not in (1, 2, 3):
        return pgettext("day of the month", "%(number)dth") % {"number": number}
    ordinals = {
        1: pgettext("day of the month", "%(number)dst"),
        2: pgettext("day of the month", "%(number)dnd"),
        3: pgettext("day of the month", "%(number)drd"),
    }
    return ordinals[number % 10] % {"number": number}


def _nth_weekday(n: int) -> str:
    """Return the text for the nth weekday of a month, which names the weekday."""
    return {
        LAST: _("the last %(weekday)s"),
        1: _("the 1st %(weekday)s"),
        2: _("the 2nd %(weekday)s"),
        3: _("the 3rd %(weekday)s"),
        4: _("the 4th %(weekday)s"),
        5: _("the 5th %(weekday)s"),
    }[n]


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
