"""Cron by brute force, to judge sisy.cron by: every minute (or second) is looked at, in UTC, one after the other.

It shares nothing with sisy.cron: a parser of its own for plain expressions (numbers, names, lists, ranges, steps, *),
and Debian cron's rule word by word. A job whose minute or hour field starts with `*` runs in each real minute whose
wall clock matches. Any other one runs when the wall clock matches for the first time, and in the first minute after a
gap when any minute hidden by the gap matches.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


class Oracle:
    """An expression of 5 fields, or 6 with the seconds last, in a zone."""

    def __init__(self, expression: str, zone: str) -> None:
        texts = expression.lower().split()
        self.zone = ZoneInfo(zone)
        self.step = timedelta(minutes=1) if len(texts) == 5 else timedelta(seconds=1)
        self.wildcard = texts[0].startswith("*") or texts[1].startswith("*")
        self.minutes = values(texts[0], 0, 59)
        self.hours = values(texts[1], 0, 23)
        self.days = values(texts[2], 1, 31)
        self.months = values(texts[3], 1, 12, MONTHS)
        self.weekdays = values(texts[4], 0, 6, WEEKDAYS)
        self.seconds = values(texts[5], 0, 59) if len(texts) == 6 else {0}
        self.any_day = is_any(texts[2], self.days, 31, texts[4])
        self.any_weekday = is_any(texts[4], self.weekdays, 7, texts[2])

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield every slot with after < slot <= until."""
        instant = after.replace(microsecond=0)
        if self.step > timedelta(seconds=1):
            instant = instant.replace(second=0)
        before = wall_clock(instant, self.zone)
        while (instant := instant + self.step) <= until:
            now = wall_clock(instant, self.zone)
            if self.fires(before, now):
                yield instant
            before = now

    def fires(self, before: datetime, now: datetime) -> bool:
        if self.wildcard:
            return self.matches(now)
        if self.matches(now) and now.fold == 0:
            return True
        hidden = before.replace(fold=0) + self.step  # naive: the clock as it would have gone on
        while hidden < now:
            if self.matches(hidden):
                return True
            hidden += self.step
        return False

    def matches(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.second in self.seconds
            and wall.month in self.months
            and self.matches_date(wall)
        )

    def matches_date(self, wall: datetime) -> bool:
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return (self.any_day or day) and (self.any_weekday or weekday)
        return day or weekday


def wall_clock(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)  # keeps fold


def values(text: str, low: int, high: int, names: list[str] | None = None) -> set[int]:
    found: set[int] = set()
    for item in text.split(","):
        body, _, step = item.partition("/")
        found.update(stretch(body, bool(step), low, high, names or [])[:: int(step or 1)])
    return found


def stretch(body: str, stepped: bool, low: int, high: int, names: list[str]) -> list[int]:
    if body == "*":
        return list(range(low, high + 1))
    first, *rest = (number(token, low, high, names) for token in body.split("-"))
    if not rest:
        return list(range(first, high + 1)) if stepped else [first]
    if first <= rest[0]:
        return list(range(first, rest[0] + 1))
    return [*range(first, high + 1), *range(low, rest[0] + 1)]  # over the end of the field: 22-2, fri-mon


def number(token: str, low: int, high: int, names: list[str]) -> int:
    value = names.index(token) + low if token in names else int(token)
    return 0 if names is not MONTHS and high == 6 and value == 7 else value


def is_any(text: str, found: set[int], size: int, other: str) -> bool:
    """Say whether a day field restricts nothing, as croniter sees it: with both restricted, either one will do.

    `*/2` restricts. So does a field that lists all its values (`1-31`, `*/1`), but not beside a field with a `*` in it.
    """
    return "*" in text.split(",") or (len(found) == size and "*" in other)


@cache
def changes(zone: str) -> list[datetime]:
    """Return the instants at which the offset of `zone` changed or will change, from 1940 to 2037."""
    tz, found = ZoneInfo(zone), []
    day, end = datetime(1940, 1, 1, tzinfo=UTC), datetime(2037, 1, 1, tzinfo=UTC)
    while day < end:
        tomorrow = day + timedelta(days=1)
        if offset(day, tz) != offset(tomorrow, tz):
            found.append(narrow(day, tomorrow, tz))
        day = tomorrow
    return found


def narrow(low: datetime, high: datetime, tz: ZoneInfo) -> datetime:
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low).total_seconds() // 2)
        low, high = (middle, high) if offset(middle, tz) == offset(low, tz) else (low, middle)
    return high


def offset(instant: datetime, tz: ZoneInfo) -> timedelta | None:
    return instant.astimezone(tz).utcoffset()
