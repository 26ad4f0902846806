"""next_after against two oracles, on random expressions in zones with odd transitions, mostly close to one.

The first is tests/cron_oracle.py, which looks at every minute; the second is cronsim, wherever its rules are ours.
SISY_TEST_CRON_EXAMPLES=20000 tries that many expressions in each test, instead of a few hundred.
"""

import os
import re
from datetime import UTC, datetime, time, timedelta
from functools import cache
from itertools import islice, takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from hypothesis import HealthCheck, assume, example, given, reject, settings
from hypothesis import strategies as st

from sisy.cron import Schedule
from sisy.errors import InvalidSchedule
from tests.cron_oracle import MONTHS, WEEKDAYS, Oracle, changes, wall_clock

ZONES = [
    "America/New_York",
    "Australia/Lord_Howe",  # 30 minutes
    "Europe/Dublin",  # winter time is the exception, not summer time
    "Asia/Beirut",  # changes at midnight
    "Africa/Casablanca",  # twice in the year, around Ramadan
    "Pacific/Apia",  # left out 30 December 2011
    "Asia/Kolkata",  # +05:30, no change since 1945
    "Pacific/Chatham",  # +12:45
    "America/Santiago",  # changes at midnight
    "Antarctica/Troll",  # 2 hours
    "Atlantic/Azores",  # changes at midnight, one offset is 0
    "Africa/Cairo",  # changes at midnight, has given it up and taken it up again
]
MOST = 250  # slots to compare in one example
EXAMPLES = os.environ.get("SISY_TEST_CRON_EXAMPLES")


def examples(usual: int) -> settings:
    """A number of examples that suits a test's costs, or the one asked for."""
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(max_examples=int(EXAMPLES or usual), deadline=None, suppress_health_check=slow)


Names = tuple[str, ...]
Values = tuple[int, ...]


class Case(NamedTuple):
    """An expression in a zone, and the stretch of time to look at."""

    expression: str
    zone: str
    after: datetime
    until: datetime


# -- expressions ----------------------------------------------------------------------------------


@cache  # building strategies costs more than drawing from them
def texts(low: int, high: int, *, stars: int, names: Names = (), near: Values = ()) -> st.SearchStrategy[str]:
    """A whole field, which is `*` in `stars` of ten cases; `near` are values of the date looked at, to hit it often."""
    number = st.sampled_from(near) | st.integers(low, high) if near else st.integers(low, high)
    value = number.map(lambda n: names[(n - low) % len(names)] if names and n % 2 else str(n))
    step = st.integers(1, high + 5) | st.integers(1, 6)
    span = st.tuples(value, value).map("-".join)
    item = st.one_of(
        value,
        span,
        st.tuples(span, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        st.tuples(value, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        step.map(lambda n: f"*/{n}"),
    )
    listed = st.lists(item | st.just("*"), min_size=2, max_size=4).map(",".join)
    return st.integers(1, 10).flatmap(lambda n: st.just("*") if n <= stars else item if n < 9 else listed)


@st.composite
def expressions(draw: st.DrawFn, date: datetime, seconds: bool = False) -> str:
    days = tuple(day for day in range(date.day - 1, date.day + 3) if 1 <= day <= 31)
    fields = [
        draw(texts(0, 59, stars=4 if seconds else 2)),
        draw(texts(0, 23, near=(0, 1, 2, 3, 23), stars=4)),
        draw(texts(1, 31, near=days, stars=6)),
        draw(texts(1, 12, names=tuple(MONTHS), near=(date.month,), stars=7)),
        draw(texts(0, 7, names=tuple(WEEKDAYS), near=(date.isoweekday(),), stars=6)),
    ]
    return " ".join([*fields, draw(texts(0, 59, stars=2))] if seconds else fields)


@st.composite
def moments(draw: st.DrawFn, zone: str, reach: timedelta) -> datetime:
    """An instant within `reach` of one of the zone's changes, half of them much closer; sometimes any instant."""
    around = draw(st.sampled_from(changes(zone)))
    if draw(st.integers(1, 10)) == 1:
        around = draw(st.datetimes(datetime(1970, 1, 1), datetime(2060, 1, 1))).replace(tzinfo=UTC)
    seconds = int(reach.total_seconds()) // draw(st.sampled_from([1, 16]))
    return around + timedelta(seconds=draw(st.integers(-seconds, seconds)))


@st.composite
def cases(draw: st.DrawFn, zones: list[str], *, reach: timedelta, most: timedelta, seconds: bool = False) -> Case:
    zone = draw(st.sampled_from(zones))
    after = draw(moments(zone, reach))
    until = after + draw(st.floats(0.3, 1)) * most
    date = after.astimezone(ZoneInfo(zone))
    return Case(draw(expressions(date, seconds)), zone, after, until)


def schedule(expression: str, zone: str) -> Schedule:
    try:
        return Schedule(expression, timezone=zone)
    except InvalidSchedule as refused:
        # Refused because croniter would get them wrong, or no date is meant; test_cron.py has the table.
        if not re.search("whole field|miscounts|never fires", str(refused)):
            raise
    reject()


def slots(ours: Schedule, case: Case) -> list[datetime]:
    moment = timedelta(microseconds=1)  # from (after, until] to [start, end)
    return list(islice(ours.between(case.after + moment, case.until + moment), MOST))


def agree(case: Case, data: st.DataObject) -> None:
    ours, oracle = schedule(case.expression, case.zone), Oracle(case.expression, case.zone)
    expected = list(islice(oracle.slots(case.after, case.until), MOST))
    assert slots(ours, case) == expected
    # From instants that are no slots either, such as one in the second pass of a repeated hour.
    seconds = int((case.until - case.after).total_seconds())
    inner = data.draw(st.lists(st.integers(0, seconds), min_size=3, max_size=3))
    for instant in [case.after + timedelta(seconds=second, microseconds=second) for second in inner]:
        rest = [slot for slot in expected if slot > instant]
        if rest:
            assert ours.next_after(instant) == rest[0]
    until = min([case.after + timedelta(seconds=inner[0]), *expected[MOST - 1 :]])
    passed = [slot for slot in expected if slot <= until]
    assert ours.latest(after=case.after, until=until) == (passed[-1] if passed else None)
    assert ours.count(after=case.after, until=until, cap=50) == min(len(passed), 50)


# -- the tests ------------------------------------------------------------------------------------


@examples(150)
@given(case=cases(ZONES, reach=timedelta(days=2), most=timedelta(days=3)), data=st.data())
def test_every_slot_of_five_fields_is_the_one_found_minute_by_minute(case: Case, data: st.DataObject) -> None:
    agree(case, data)


@examples(50)
@given(case=cases(ZONES, reach=timedelta(hours=2), most=timedelta(hours=2), seconds=True), data=st.data())
def test_every_slot_of_six_fields_is_the_one_found_second_by_second(case: Case, data: st.DataObject) -> None:
    agree(case, data)


@examples(80)
@given(
    zone=st.sampled_from(ZONES),
    which=st.integers(0, 10_000),
    days_before=st.integers(3, 300),
    minute=texts(0, 59, stars=2),
    hour=texts(0, 23, near=(0, 1, 2, 3, 23), stars=4),
)
@example(zone="America/New_York", which=-1, days_before=240, minute="*/60", hour="1")
def test_the_first_slot_after_months_is_the_one_found_by_walking_its_day(
    zone: str, which: int, days_before: int, minute: str, hour: str
) -> None:
    """Other changes of the offset may lie between, and cancel each other."""
    change = changes(zone)[which % len(changes(zone))]
    date = change.astimezone(ZoneInfo(zone))
    expression = f"{minute} {hour} {date.day} {date.month} *"
    day_before = change - timedelta(days=2)
    expected = next(Oracle(expression, zone).slots(day_before, change + timedelta(days=2)), None)
    assume(expected is not None)
    assert schedule(expression, zone).next_after(day_before - timedelta(days=days_before)) == expected


def is_for_cronsim(case: Case) -> bool:
    """Leave out what cronsim reads differently, and where it fails the rule that it follows itself.

    `*/2` beside another day is a union here; 1/2 as weekdays goes up to 6; it starts over when asked from the second
    pass of a repeated hour. A wildcard job goes back to the full hour and on to the next one or to midnight, without a
    look at where it lands if the clock is changed on the way: `* 0 30 * *` runs at 01:00 after a hidden midnight, and
    `* 3 * * *` loses the rest of an hour that begins at 03:45 (Chatham) or 02:30 (Lord Howe).
    """
    minute, hour, day, _, weekday = case.expression.split()
    both = day != "*" and weekday != "*"
    if (both and "*" in day + weekday) or re.search(r"\w/", weekday):
        return False
    if case.after.astimezone(ZoneInfo(case.zone)).fold:
        return False
    fixed = not minute.startswith("*") and not hour.startswith("*")
    return fixed or not any(is_odd(change, case.zone) for change in changes(case.zone) if near(case, change))


def near(case: Case, change: datetime) -> bool:
    return case.after - timedelta(hours=1) < change <= case.until


def is_odd(change: datetime, zone: str) -> bool:
    """Say whether the clock is changed within an hour, or hides a midnight."""
    second = timedelta(seconds=1)
    begins, ends = wall_clock(change - second, ZoneInfo(zone)) + second, wall_clock(change, ZoneInfo(zone))
    midnights = [datetime.combine(begins.date() + timedelta(days=days), time(0)) for days in (0, 1)]
    return bool(begins.minute or ends.minute) or any(begins <= midnight < ends for midnight in midnights)


@examples(100)
@given(
    case=cases(ZONES, reach=timedelta(days=2), most=timedelta(days=4)),
)
def test_cronsim_finds_the_same_slots_where_its_rules_are_ours(case: Case) -> None:
    assume(is_for_cronsim(case))
    try:
        theirs = CronSim(case.expression, case.after.astimezone(ZoneInfo(case.zone)))
    except CronSimError:  # such as a range over the end, 22-2
        reject()
    instants = takewhile(lambda slot: slot <= case.until, (slot.astimezone(UTC) for slot in theirs))
    assert slots(schedule(case.expression, case.zone), case) == list(islice(instants, MOST))
