"""Schedule: a text and a time zone become instants.

The only module that imports croniter, and croniter sees nothing but naive local times, where it has no DST code:
which instant a wall clock time is, is decided here, by Debian cron's rule. A job whose minute or hour field starts
with `*` follows real time; any other one that falls into a gap runs once, right after it, and in a repeated hour once,
the first time. Used by the models, the policy and the admin. No clock.
"""

import re
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache, partial
from itertools import islice, takewhile
from typing import Any, Protocol
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter

from sisy.cronfields import check_fields, refuse
from sisy.describe import LAST, CronFields, cron_in_words, once_in_words, period_in_words
from sisy.errors import InvalidSchedule, InvalidTime
from sisy.wallclock import instant_of, next_change, offset_at, wall_from

MAX_LENGTH = 255
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(1, 1, 3, tzinfo=UTC)  # before it, local time may be in the year 0
_ZERO = timedelta(0)
_SECOND = timedelta(seconds=1)
_LONGEST_PERIOD = 36_525 * 86_400  # a century: @every has to fire within the years that datetime knows


@dataclass(frozen=True, init=False)
class Schedule:
    """Read a schedule; equal arguments give equal, hashable, immutable schedules, which may be shared by threads.

    Args:
        text: cron with 5 fields, or 6 with the seconds last, in croniter's syntax (names, ranges, steps, L, #, W, ?,
            H); @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually; "@every 1h30m"; a timedelta of
            whole seconds, which is the same; "@once".
        timezone: an IANA name or a ZoneInfo.
        hash_id: what H is derived from, stable for one task; the text itself if empty.
        anchor: the aware instant at which "@once" fires, and from which "@every" counts (None: 1970).

    Raises:
        InvalidSchedule: the text or the zone can't be used (`field` is "schedule" or "timezone"), or it never fires.
        InvalidTime: the anchor is naive.

    >>> Schedule("*/15 9-17 * * mon-fri", timezone="Europe/Paris").timezone
    'Europe/Paris'
    >>> Schedule(timedelta(minutes=5)).text
    '@every 300s'
    """

    text: str
    timezone: str
    hash_id: str
    anchor: datetime | None
    _rule: "_Rule" = field(repr=False, compare=False)

    def __init__(
        self,
        text: str | timedelta,
        *,
        timezone: str | ZoneInfo = "UTC",
        hash_id: str = "",
        anchor: datetime | None = None,
    ) -> None:
        zone = _zone(timezone)
        text = _period_text(text) if isinstance(text, timedelta) else _canonical(text)
        cron = not text.startswith(("@every", "@once"))
        # What does not matter is dropped, so that schedules are equal when they fire alike.
        anchor = None if cron or anchor is None else _utc(anchor)
        hash_id = hash_id if cron and re.search(r"(^| )[hH]", text) else ""
        rule = _cron_rule(text, zone, hash_id) if cron else _anchored_rule(text, zone, anchor)
        self.__dict__.update(text=text, timezone=zone.key, hash_id=hash_id, anchor=anchor, _rule=rule)

    def __reduce__(self) -> tuple[Any, ...]:
        again = partial(Schedule, timezone=self.timezone, hash_id=self.hash_id, anchor=self.anchor)
        return again, (self.text,)

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot after `instant`, in UTC; None if there is none before the year 10000.

        A microsecond part of `instant` makes no difference but for "@once" and "@every", which keep their anchor's.

        >>> str(Schedule("30 2 * * *", timezone="America/New_York").next_after(datetime(2026, 3, 8, 6, tzinfo=UTC)))
        '2026-03-08 07:00:00+00:00'
        """
        return self._rule.next_after(_utc(instant))

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Return the slots with start <= slot < end, like `range`, computed as they are asked for.

        >>> [slot.hour for slot in Schedule("0 */8 * * *").between(datetime(2026, 1, 1, tzinfo=UTC),
        ...     datetime(2026, 1, 2, tzinfo=UTC))]
        [0, 8, 16]
        """
        end = _utc(end)
        slots = self._after(max(_utc(start), _EARLIEST) - timedelta(microseconds=1))
        return takewhile(lambda slot: slot < end, slots)

    def latest(self, *, after: datetime, until: datetime) -> datetime | None:
        """Return the newest slot with after < slot <= until, or None; as fast over years as over minutes.

        >>> str(Schedule("* * * * *").latest(after=_EPOCH, until=datetime(2026, 1, 1, 12, 0, 59, tzinfo=UTC)))
        '2026-01-01 12:00:00+00:00'
        """
        until = _utc(until)
        newest = self.next_after(after)
        if newest is None or newest > until:
            return None
        # Gallop back from `until`, then halve. `newest` is a slot, and after `clear` none is left; slots lie at least a
        # second apart.
        clear, farthest, reach = until, until - newest, timedelta(minutes=1)
        while clear - newest >= _SECOND:
            reach = min(4 * reach, farthest)
            probe = max(newest + (clear - newest) // 2, until - reach)
            slot = self.next_after(probe)
            if slot is not None and slot <= until:
                newest = slot
            else:
                clear = probe
        return newest

    def count(self, *, after: datetime, until: datetime, cap: int) -> int:
        """Count the slots with after < slot <= until, up to `cap`.

        >>> Schedule("@hourly").count(after=_EPOCH, until=_EPOCH + timedelta(days=1), cap=1000)
        24
        """
        until = _utc(until)
        return sum(1 for _ in islice(takewhile(lambda slot: slot <= until, self._after(after)), cap))

    def upcoming(self, instant: datetime, n: int) -> list[datetime]:
        """Return the next `n` slots after `instant`, fewer if there are no more.

        >>> [slot.day for slot in Schedule("0 9 * * fri").upcoming(datetime(2026, 11, 27, tzinfo=UTC), 3)]
        [27, 4, 11]
        """
        return list(islice(self._after(instant), n))

    def describe(self) -> str:
        """Say in the active language when it fires.

        >>> Schedule("*/15 9-17 * * mon-fri", timezone="Europe/Paris").describe()
        'Every 15 minutes from 09:00 to 17:45, Monday to Friday, Europe/Paris'
        """
        return self._rule.describe()

    def _after(self, instant: datetime) -> Iterator[datetime]:
        slot = self.next_after(instant)
        while slot is not None:
            yield slot
            slot = self._rule.next_after(slot)


# -- three rules ---------------------------------------------------------------------------------


class _Rule(Protocol):
    def next_after(self, after: datetime) -> datetime | None: ...

    def describe(self) -> str: ...


@dataclass(frozen=True)
class _Once:
    anchor: datetime
    zone: ZoneInfo

    def next_after(self, after: datetime) -> datetime | None:
        return self.anchor if self.anchor > after else None

    def describe(self) -> str:
        return f"{once_in_words(self.anchor.astimezone(self.zone))}, {self.zone.key}"


@dataclass(frozen=True)
class _Every:
    anchor: datetime
    period: timedelta

    def next_after(self, after: datetime) -> datetime | None:
        passed = max((after - self.anchor) // self.period, -1)
        try:
            return self.anchor + (passed + 1) * self.period
        except OverflowError:
            return None

    def describe(self) -> str:
        return period_in_words(int(self.period.total_seconds()))


@dataclass(frozen=True, eq=False)
class _Cron:
    parsed: "_Parsed"
    zone: ZoneInfo

    def next_after(self, after: datetime) -> datetime | None:
        return self._answer(max(after.replace(microsecond=0), _EARLIEST))

    @lru_cache(maxsize=4096)  # noqa: B019 - rules are kept anyway; a thousand tasks that are due together ask the same
    def _answer(self, after: datetime) -> datetime | None:
        try:
            return self._next_fixed(after) if self.parsed.fixed else self._next_wildcard(after)
        except OverflowError:  # the end of the year 9999
            return None

    def describe(self) -> str:
        return f"{cron_in_words(self.parsed.fields)}, {self.zone.key}"

    def _next_fixed(self, after: datetime) -> datetime | None:
        wall = self.parsed.next_wall(wall_from(self.zone, after))
        while wall is not None:
            slot = instant_of(self.zone, wall)
            if slot > after:
                return slot
            wall = self.parsed.next_wall(wall)
        return None

    def _next_wildcard(self, after: datetime) -> datetime | None:
        start, back = after, _ZERO
        while True:
            offset = offset_at(self.zone, start)
            wall = self.parsed.next_wall((start + offset).replace(tzinfo=None) - back)
            if wall is None:
                return None
            slot = (wall - offset).replace(tzinfo=UTC)
            change = next_change(self.zone, start, slot)
            if change is None:
                return slot
            start, back = change, _SECOND  # the first instant of the new offset may itself be a slot


def _utc(instant: datetime) -> datetime:
    if not isinstance(instant, datetime) or instant.utcoffset() is None:
        raise InvalidTime(f"{instant!r} is not an aware datetime. Give it a time zone, such as tzinfo=datetime.UTC.")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise InvalidTime(f"{instant!r} is outside of the years 1 to 9999 in UTC.") from None


# -- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Parsed:
    walker: "croniter[datetime]"
    fixed: bool
    fields: CronFields

    def next_wall(self, wall: datetime) -> datetime | None:
        # A croniter remembers where it is. A copy for each call (3 us) needs no lock, and so survives a fork too.
        try:
            return copy(self.walker).get_next(datetime, start_time=wall)
        except (ValueError, OverflowError):  # nothing within 50 years, or the year 10000
            return None


@lru_cache(maxsize=1024)
def _named_zone(name: str) -> ZoneInfo:
    try:
        # Both of these differ from machine to machine, and "right/" counts leap seconds.
        if name.startswith(("posix", "right/")) or name in ("localtime", "Factory"):
            raise ValueError(name)
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # what ZoneInfo raises for unknown names, "../x" and folders
        pass
    zones = {known.lower(): known for known in available_timezones()}
    near = get_close_matches(name.lower()[:80], zones, n=1)
    hint = f"Did you mean {zones[near[0]]!r}?" if near else "Use an IANA name such as 'Europe/Paris', or 'UTC'."
    raise InvalidSchedule(f"{name[:80]!r} is not a known time zone. {hint}", field="timezone")


def _zone(given: str | ZoneInfo) -> ZoneInfo:
    name = given.key if isinstance(given, ZoneInfo) else given
    if isinstance(name, str):
        return _named_zone(name.strip())
    raise InvalidSchedule(
        f"timezone is {given!r}; it has to be an IANA name such as 'Europe/Paris', or a ZoneInfo with one.",
        field="timezone",
    )


@lru_cache(maxsize=4096)
def _cron_rule(text: str, zone: ZoneInfo, hash_id: str) -> _Rule:
    return _Cron(_parse(text, hash_id or text), zone)


def _anchored_rule(text: str, zone: ZoneInfo, anchor: datetime | None) -> _Rule:
    if text != "@once":
        return _Every(anchor or _EPOCH, timedelta(seconds=int(text[len("@every ") : -1])))
    if anchor is None:
        refuse("'@once' never fires without an instant. Give it as anchor=, or use Task.run_once(..., delay_until=).")
    return _Once(anchor, zone)


def _canonical(text: str) -> str:
    if not isinstance(text, str):
        refuse(f"A schedule is a text such as '*/5 * * * *', or a timedelta; not a {type(text).__name__}.")
    if not text.isascii():
        odd = next(character for character in text if not character.isascii())
        refuse(f"{text[:80]!r} has {odd!r} in it. A schedule is written in ASCII: type that character again.")
    text = " ".join(text.split())
    if not text:
        refuse("The schedule is empty. Write one such as '*/5 * * * *' (every 5 minutes) or '@daily'.")
    if len(text) > MAX_LENGTH:
        refuse(f"{text[:40]!r}... has {len(text)} characters; {MAX_LENGTH} are allowed. Make it two tasks.")
    return _canonical_alias(text.lower()) if text.startswith("@") else text


def _canonical_alias(text: str) -> str:
    name, _, rest = text.partition(" ")
    if text in ALIASES or text == "@once":
        return text
    if name == "@every":
        parts = re.fullmatch(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", rest.replace(" ", ""))
        if not parts:
            refuse(f"{text!r}: after @every comes a period such as 90s, 5m, 1h30m or 2d.")
        sizes = zip(parts.groups("0"), (86_400, 3600, 60, 1), strict=True)
        return _every_text(sum(int(number) * size for number, size in sizes), text)
    if name == "@reboot":
        refuse("'@reboot' is not available: several processes may start at any time. Use Task.run_once(...).")
    near = get_close_matches(name, [*ALIASES, "@every", "@once"], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Allowed are {', '.join(ALIASES)}, @every and @once."
    refuse(f"{text!r} is not a known alias. {hint}")


def _period_text(period: timedelta) -> str:
    if period % _SECOND:
        refuse(f"{period!r} is not a whole number of seconds. Round it, for example to timedelta(seconds=1).")
    return _every_text(period // _SECOND, repr(period))


def _every_text(seconds: int, given: str) -> str:
    if not 1 <= seconds <= _LONGEST_PERIOD:
        refuse(f"{given} is out of range: a period lasts from 1 second to {_LONGEST_PERIOD // 86_400} days.")
    return f"@every {seconds}s"


@lru_cache(maxsize=4096)
def _parse(text: str, hash_id: str) -> _Parsed:
    expression = ALIASES.get(text, text)  # croniter's own aliases have other times when there is a hash_id
    fields = expression.split()
    check_fields(text, fields)
    start = datetime(2000, 1, 1)  # any day will do: every date with its weekday comes back within 50 years
    try:
        walker = croniter(expression, start, ret_type=datetime, hash_id=hash_id)
    except Exception as error:  # whatever it is that croniter trips over, it is the text that made it
        refuse(f"{text!r} is not understood: {error}")
    fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
    parsed = _Parsed(walker=walker, fixed=fixed, fields=_cron_fields(walker))
    _check_dates(text, fields, parsed.fields)
    if parsed.next_wall(start) is None:
        refuse(
            f"{text!r} never fires: no date has day of month {fields[2]!r} in month {fields[3]!r}"
            f" (day of week {fields[4]!r}). Allowed are days that exist; L is the last day of each month."
        )
    return parsed


def _cron_fields(walker: "croniter[datetime]") -> CronFields:
    expanded: list[list[Any]] = [*walker.expanded, [0]]  # without a seconds field: second 0
    values = [None if "*" in field else tuple(v for v in field if v != "l") for field in expanded]
    weekdays: dict[Any, Any] = walker.nth_weekday_of_month
    nth = ((day, LAST if n == "l" else n) for day, ns in weekdays.items() for n in ns)
    return CronFields(
        seconds=tuple(range(60)) if values[5] is None else values[5],
        minutes=tuple(range(60)) if values[0] is None else values[0],
        hours=tuple(range(24)) if values[1] is None else values[1],
        days=values[2],
        last_day="l" in expanded[2],
        nearest_weekday=next(iter(walker.nearest_weekday), None),
        months=values[3],
        weekdays=values[4],
        nth=tuple(sorted(nth)),
    )


def _check_dates(text: str, fields: list[str], parsed: CronFields) -> None:
    both = parsed.days is not None and parsed.weekdays is not None
    if both and (parsed.nth or parsed.nearest_weekday):
        refuse(
            f"{text!r}: day of month {fields[2]!r} and day of week {fields[4]!r} can't be combined, because croniter"
            " would ignore one of the two beside #, L or W. Write * in the other field, or make it two tasks."
        )
