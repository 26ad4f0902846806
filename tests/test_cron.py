"""What a schedule means, as tables: what is accepted, when it fires, what is refused and how it is put into words.

Random schedules are judged in test_cron_oracle.py.
"""

import copy
import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from sisy.cron import MAX_LENGTH, Schedule
from sisy.errors import InvalidSchedule, InvalidTime

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday
SECOND = timedelta(seconds=1)


def at(text: str, zone: str = "UTC") -> datetime:
    """Read "2026-03-08 03:00" (with "fold" behind it for the second pass of a repeated hour), in UTC."""
    wall, _, fold = text.partition(" fold")
    return datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(zone), fold=int(text != wall)).astimezone(UTC)


def refusal(text: object, **options: object) -> InvalidSchedule:
    with pytest.raises(InvalidSchedule) as caught:
        Schedule(text, **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    return caught.value


# -- when it fires: daylight saving ---------------------------------------------------------------

NY, HOWE, APIA, TROLL = "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Antarctica/Troll"
BEIRUT, AZORES, SANTIAGO, CAIRO = "Asia/Beirut", "Atlantic/Azores", "America/Santiago", "Africa/Cairo"

GAPS_AND_REPEATED_HOURS = [
    # expression, zone, after, the next ones; all of them local
    # New York: 02:00 to 03:00 is left out on 8 March 2026, 01:00 to 02:00 comes twice on 1 November
    ("30 2 * * *", NY, "2026-03-07 02:30", ["2026-03-08 03:00", "2026-03-09 02:30"]),
    ("30 1 * * *", NY, "2026-11-01 00:00", ["2026-11-01 01:30", "2026-11-02 01:30"]),
    ("30 1 * * *", NY, "2026-11-01 01:15 fold", ["2026-11-02 01:30"]),
    ("*/15 * * * *", NY, "2026-03-08 01:30", ["2026-03-08 01:45", "2026-03-08 03:00", "2026-03-08 03:15"]),
    ("*/30 * * * *", NY, "2026-11-01 00:30", ["2026-11-01 01:00", "2026-11-01 01:30", "2026-11-01 01:00 fold"]),
    ("*/30 2 * * *", NY, "2026-03-07 02:30", ["2026-03-09 02:00", "2026-03-09 02:30"]),
    ("0 */2 * * *", NY, "2026-03-07 23:00", ["2026-03-08 00:00", "2026-03-08 04:00", "2026-03-08 06:00"]),
    ("0 */1 * * *", NY, "2026-11-01 00:00", ["2026-11-01 01:00", "2026-11-01 01:00 fold", "2026-11-01 02:00"]),
    ("30 2 * * * 15", NY, "2026-03-07 12:00", ["2026-03-08 03:00", "2026-03-09 02:30:15"]),
    ("30 1 * * * 15", NY, "2026-11-01 00:00", ["2026-11-01 01:30:15", "2026-11-02 01:30:15"]),
    ("10,30,50 2 * * *", NY, "2026-03-08 00:00", ["2026-03-08 03:00", "2026-03-09 02:10"]),
    ("0,30 2-3 * * *", NY, "2026-03-08 00:00", ["2026-03-08 03:00", "2026-03-08 03:30", "2026-03-09 02:00"]),
    ("5,*/30 1 * * *", NY, "2026-11-01 00:00", ["2026-11-01 01:00", "2026-11-01 01:05", "2026-11-01 01:30"]),
    ("@daily", NY, "2026-11-01 00:00", ["2026-11-02 00:00"]),
    ("@hourly", NY, "2026-11-01 00:30", ["2026-11-01 01:00", "2026-11-01 01:00 fold", "2026-11-01 02:00"]),
    # Two changes between `after` and the slot cancel each other: the second pass must not be lost
    ("*/60 1 1 11 *", NY, "2026-01-01 00:00", ["2026-11-01 01:00", "2026-11-01 01:00 fold", "2027-11-01 01:00"]),
    ("*/60 1 1 11 *", NY, "2026-11-01 01:00", ["2026-11-01 01:00 fold", "2027-11-01 01:00"]),
    # Lord Howe: 30 minutes, 01:30 to 02:00 comes twice on 5 April 2026, 02:00 to 02:30 is left out on 4 October
    ("* 2 * * *", HOWE, "2026-04-05 01:00", ["2026-04-05 02:00", "2026-04-05 02:01"]),
    ("45 1 * * *", HOWE, "2026-04-05 01:00", ["2026-04-05 01:45", "2026-04-06 01:45"]),
    ("45 * * * *", HOWE, "2026-04-05 01:00", ["2026-04-05 01:45", "2026-04-05 01:45 fold", "2026-04-05 02:45"]),
    ("15 2 * * *", HOWE, "2026-10-04 00:00", ["2026-10-04 02:30", "2026-10-05 02:15"]),
    # Apia left out 30 December 2011
    ("0 12 30 12 *", APIA, "2011-12-29 12:00", ["2011-12-31 00:00", "2012-12-30 12:00"]),
    ("*/30 12 30 12 *", APIA, "2011-12-29 12:00", ["2012-12-30 12:00"]),
    ("0 */12 * * *", APIA, "2011-12-29 12:00", ["2011-12-31 00:00", "2011-12-31 12:00"]),
    # Troll: 01:00 to 03:00 is left out on 29 March 2026, 01:00 to 03:00 comes twice on 25 October
    ("30 1,2 * * *", TROLL, "2026-03-29 00:00", ["2026-03-29 03:00", "2026-03-30 01:30"]),
    ("30 1,2 * * *", TROLL, "2026-10-25 00:00", ["2026-10-25 01:30", "2026-10-25 02:30", "2026-10-26 01:30"]),
    # at midnight
    ("0 0 * * *", BEIRUT, "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:00"]),
    ("30 0 * * *", AZORES, "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:30"]),
    ("0 0 * * *", SANTIAGO, "2026-09-05 12:00", ["2026-09-06 01:00", "2026-09-07 00:00"]),
    ("30 23 * * *", SANTIAGO, "2026-04-04 12:00", ["2026-04-04 23:30", "2026-04-05 23:30"]),
    ("0 0 24 4 *", CAIRO, "2026-04-23 12:00", ["2026-04-24 01:00", "2027-04-24 00:00"]),
]


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), GAPS_AND_REPEATED_HOURS)
def test_gaps_and_repeated_hours_follow_debians_rule(
    expression: str, zone: str, after: str, expected: list[str]
) -> None:
    slots = Schedule(expression, timezone=zone).upcoming(at(after, zone), len(expected))
    assert slots == [at(text, zone) for text in expected]
    assert all(slot.tzinfo is UTC for slot in slots)


def test_h_counts_as_a_fixed_time() -> None:
    schedule = Schedule("H 2 * * *", timezone=NY, hash_id="a")
    assert schedule.upcoming(at("2026-03-08 00:00", NY), 1) == [at("2026-03-08 03:00", NY)]


def test_a_dense_fixed_job_skips_the_second_pass_in_one_step(count_of_croniter_calls: list[int]) -> None:
    schedule = Schedule("0-59 1 * * * *", timezone=NY)
    count_of_croniter_calls.clear()
    assert schedule.next_after(at("2026-11-01 01:00 fold", NY)) == at("2026-11-02 01:00", NY)
    assert len(count_of_croniter_calls) == 1


# -- when it fires: syntax ------------------------------------------------------------------------

ACCEPTED = [
    # expression, the next ones after 2026-01-01 00:00 UTC
    ("*/5 * * * *", ["2026-01-01 00:05", "2026-01-01 00:10"]),
    ("  */5\t* * *  *\n", ["2026-01-01 00:05", "2026-01-01 00:10"]),
    ("0 9 * * fri", ["2026-01-02 09:00", "2026-01-09 09:00"]),
    ("0 9 * * FRI", ["2026-01-02 09:00", "2026-01-09 09:00"]),
    ("0 9 * JAN,jul *", ["2026-01-01 09:00", "2026-01-02 09:00"]),
    ("0 9 1 2,4-5 *", ["2026-02-01 09:00", "2026-04-01 09:00", "2026-05-01 09:00"]),
    ("0 9 L * *", ["2026-01-31 09:00", "2026-02-28 09:00", "2026-03-31 09:00"]),
    ("0 9 l * *", ["2026-01-31 09:00", "2026-02-28 09:00"]),
    ("0 9 29-L 2 *", ["2028-02-29 09:00"]),
    ("0 9 * * 5#2", ["2026-01-09 09:00", "2026-02-13 09:00"]),
    ("0 9 * * mon-tue#1", ["2026-01-05 09:00", "2026-01-06 09:00", "2026-02-02 09:00"]),
    ("0 9 * * L5", ["2026-01-30 09:00", "2026-02-27 09:00"]),
    ("0 9 * * 5#3,L5", ["2026-01-16 09:00", "2026-01-30 09:00", "2026-02-20 09:00"]),
    ("0 9 15W * *", ["2026-01-15 09:00", "2026-02-16 09:00"]),
    ("0 9 w15 * ?", ["2026-01-15 09:00", "2026-02-16 09:00"]),
    ("0 9 ? * mon", ["2026-01-05 09:00", "2026-01-12 09:00"]),
    ("0 9 * * 7", ["2026-01-04 09:00"]),
    ("0 9 * * 0", ["2026-01-04 09:00"]),
    ("0 9 * * 0-7", ["2026-01-01 09:00", "2026-01-02 09:00"]),
    ("0 9 * * sat-mon", ["2026-01-03 09:00", "2026-01-04 09:00", "2026-01-05 09:00", "2026-01-10 09:00"]),
    ("0 22-2 * * *", ["2026-01-01 01:00", "2026-01-01 02:00", "2026-01-01 22:00"]),
    ("0 0 1 apr-jan/3 *", ["2026-04-01 00:00", "2026-07-01 00:00", "2026-10-01 00:00", "2027-01-01 00:00"]),
    # both days restricted: either will do, also with a step
    ("0 0 2 * mon", ["2026-01-02 00:00", "2026-01-05 00:00", "2026-01-12 00:00"]),
    ("0 0 */10 * mon", ["2026-01-05 00:00", "2026-01-11 00:00", "2026-01-12 00:00"]),
    # these two were something else before croniter 7
    ("59/15 * * * *", ["2026-01-01 00:59", "2026-01-01 01:59"]),
    ("0 0 * * 6/1", ["2026-01-03 00:00", "2026-01-10 00:00"]),
    ("*/90 * * * *", ["2026-01-01 01:00"]),
    ("* * * * * */20", ["2026-01-01 00:00:20", "2026-01-01 00:00:40", "2026-01-01 00:01:00"]),
    ("0 12 * * * 5", ["2026-01-01 12:00:05", "2026-01-02 12:00:05"]),
    ("@hourly", ["2026-01-01 01:00"]),
    ("@daily", ["2026-01-02 00:00"]),
    ("@midnight", ["2026-01-02 00:00"]),
    ("@weekly", ["2026-01-04 00:00"]),
    ("@monthly", ["2026-02-01 00:00"]),
    ("@yearly", ["2027-01-01 00:00"]),
    ("@Annually", ["2027-01-01 00:00"]),
    ("@every 90s", ["2026-01-01 00:01:30", "2026-01-01 00:03:00"]),
]


@pytest.mark.parametrize(("expression", "expected"), ACCEPTED)
def test_croniters_syntax_is_understood(expression: str, expected: list[str]) -> None:
    assert Schedule(expression).upcoming(NEW_YEAR, len(expected)) == [at(text) for text in expected]


def test_h_is_stable_and_differs_from_task_to_task() -> None:
    def first(hash_id: str) -> datetime | None:
        return Schedule("H H * * *", hash_id=hash_id).next_after(NEW_YEAR)

    assert first("digest") == at("2026-01-01 09:54")  # these must never change, or every such task would move
    assert first("clean-up") == at("2026-01-01 12:48")
    assert len({first(str(n)) for n in range(50)}) > 40
    assert first("") == Schedule("H H * * *").next_after(NEW_YEAR)  # the text is the id


def test_hash_id_leaves_aliases_as_they_are() -> None:
    assert Schedule("@daily", hash_id="digest").next_after(NEW_YEAR) == at("2026-01-02 00:00")


# -- what is refused ------------------------------------------------------------------------------

REFUSED = [
    # the text, what the message has to tell
    ("", ["empty", "*/5 * * * *"]),
    ("   ", ["empty"]),
    (None, ["NoneType", "'*/5 * * * *'", "timedelta"]),
    (5, ["int"]),
    (b"* * * * *", ["bytes"]),
    ("* * * * \u0665", ["'\u0665'", "ASCII"]),
    ("*\u00a0* * * *", ["ASCII"]),
    ("* " * 128, ["128 fields"]),
    ("0," * 128 + "0 * * * *", ["265 characters", str(MAX_LENGTH)]),
    ("*", ["1 field.", "Write 5", "or 6", "second last"]),
    ("* * * *", ["4 fields", "minute, hour, day of month, month, day of week"]),
    ("* * * * * * 2026", ["7 fields", "year field is not supported"]),
    # out of range: field, value, allowed range, remedy
    ("60 * * * *", ["minute", "'60'", "out of range", "0 to 59", "full hour is minute 0"]),
    ("0 24 * * *", ["hour", "'24'", "0 to 23", "midnight is hour 0"]),
    ("0 9-24 * * *", ["hour", "'9-24'", "24 is out of range", "0 to 23"]),
    ("0 0 0 * *", ["day of month", "'0'", "1 to 31"]),
    ("0 0 32 * *", ["day of month", "'32'", "1 to 31", "L for the last day"]),
    ("0 0 32W * *", ["day of month", "'32W'", "1 to 31"]),
    ("0 0 1 13 *", ["month", "'13'", "1 to 12 or jan to dec"]),
    ("0 0 1 0 *", ["month", "'0'", "1 to 12"]),
    ("0 0 * * 8", ["day of week", "'8'", "0 to 7", "Sunday"]),
    ("0 0 * * L8", ["day of week", "'L8'", "0 to 7"]),
    ("0 0 * * * 60", ["second", "'60'", "0 to 59", "last of six"]),
    ("-5 * * * *", ["minute", "'-5'", "not a value", "0 to 59"]),
    ("5.5 * * * *", ["minute", "'5.5'"]),
    ("1" * 200 + " * * * *", ["minute", "out of range"]),
    # names
    ("0 9 * * monday", ["day of week", "'monday'", "did you mean 'mon'", "sun to sat"]),
    ("0 9 * * frj", ["day of week", "did you mean 'fri'"]),
    ("0 9 * febr *", ["month", "did you mean 'feb'"]),
    ("0 9 * mon *", ["month", "'mon'", "jan to dec"]),
    ("x * * * *", ["minute", "'x' is not known", "0 to 59"]),
    # steps
    ("*/0 * * * *", ["minute", "'*/0'", "step '0'", "from 1 on"]),
    ("0 1-5/0 * * *", ["hour", "step '0'"]),
    ("*/x * * * *", ["minute", "step 'x'"]),
    ("*/ * * * *", ["minute", "'*/'"]),
    ("*/5/5 * * * *", ["minute", "'*/5/5'", "*/5"]),
    ("H/0 * * * *", ["minute", "step '0'"]),
    # ranges that croniter reads otherwise than they are written
    ("5-5 * * * *", ["minute", "'5-5'", "whole field", "write '5'"]),
    ("5-5/2 * * * *", ["minute", "'5-5/2'", "whole field", "write '5'"]),
    ("0 0 * * mon-mon", ["day of week", "'mon-mon'", "whole field", "write 'mon'"]),
    ("0 0 * * MON-1", ["day of week", "'MON-1'", "whole field"]),
    ("0 0 * * 7-0", ["day of week", "'7-0'", "whole field"]),
    ("0 0 * * sun-sun", ["day of week", "whole field"]),
    ("0 0 31-L * *", ["day of month", "'31-L'", "whole field"]),
    ("0 0 1 jan-1 *", ["month", "whole field"]),
    ("1,5-5 * * * *", ["minute", "'1,5-5'", "write '5'"]),
    ("0 22-6/5 * * *", ["hour", "'22-6/5'", "miscounts", "'22,3'"]),
    ("0 0 * * sat-tue/2", ["day of week", "'6,1'"]),
    ("*-5 * * * *", ["minute", "range can't begin with *"]),
    # R, and H where it can't be
    ("R * * * *", ["minute", "'R'", "R draws another value each time", "H"]),
    ("0 r(1-5) * * *", ["hour", "'r(1-5)'", "R draws"]),
    ("0 0 * * R/2", ["day of week", "R draws"]),
    ("0 0 1,R * *", ["day of month", "R draws"]),
    ("0 0 * R *", ["month", "R draws"]),
    ("0 0 * * * R(0-29)/5", ["second", "R draws"]),
    ("H,5 * * * *", ["minute", "alone in its field", "H(0-29)"]),
    ("H(5-5) * * * *", ["minute", "'H(5-5)'", "smaller"]),
    ("H(9-5) * * * *", ["minute", "the first number of 9-5"]),
    ("H(0-60) * * * *", ["minute", "60 is out of range", "0 to 59"]),
    # L, #, W, ?
    ("0 0 LW * *", ["day of month", "use L"]),
    ("0 0 15W,20 * *", ["day of month", "W takes one day"]),
    ("0 0 L/2 * *", ["day of month", "'L/2'"]),
    ("0 0 * * L", ["day of week", "L5"]),
    ("0 0 * * 5L", ["day of week", "'5L'", "last Friday of the month is L5"]),
    ("0 0 * * 5#6", ["day of week", "'6' after the #", "1 to 5"]),
    ("0 0 * * 1-5#2", ["day of week", "mon-fri"]),
    ("0 0 * * 1,5#2", ["day of week", "in one list"]),
    ("0 0 13 * 5#2", ["day of month '13'", "day of week '5#2'", "ignore", "two tasks"]),
    ("0 0 15W * 1", ["day of month '15W'", "day of week '1'", "ignore"]),
    ("? * * * *", ["minute", "'?' is for the day of month or the day of week"]),
    ("0 0 9 * * ?", ["second", "'?'", "seconds are the last of six"]),
    ("0 0 1? * *", ["day of month", "'?'"]),
    # lists
    ("1,,2 * * * *", ["minute", "'1,,2'", "comma"]),
    ("1, * * * *", ["minute", "comma"]),
    # dates that don't exist
    ("0 0 31 2 *", ["never fires", "day of month '31'", "month '2'", "L"]),
    ("0 0 30-31 feb *", ["never fires", "'30-31'", "'feb'"]),
    ("0 0 31 4,6,9,11 *", ["never fires"]),
    # aliases
    ("@reboot", ["'@reboot' is not available", "Task.run_once"]),
    ("@dayly", ["'@dayly'", "'@daily'"]),
    ("@fortnightly", ["'@fortnightly'"]),
    ("@xyz", ["@hourly", "@daily", "@every", "@once"]),
    ("@daily 5", ["'@daily'"]),
    ("@once", ["anchor", "Task.run_once"]),
    ("@every", ["90s", "1h30m"]),
    ("@every 90", ["'@every 90'", "90s"]),
    ("@every 5x", ["1h30m"]),
    ("@every 30m1h", ["1h30m"]),
    ("@every 0s", ["1 second"]),
    ("@every 99999999999999999999d", ["36525 days"]),
    (timedelta(0), ["timedelta(0)", "1 second"]),
    (timedelta(seconds=-5), ["1 second"]),
    (timedelta(seconds=1.5), ["whole number of seconds"]),
    (timedelta.max, ["whole number"]),
    (timedelta(days=40_000), ["36525 days"]),
]


@pytest.mark.parametrize(("text", "parts"), REFUSED)
def test_bad_schedules_are_refused_with_the_reason_and_the_remedy(text: object, parts: list[str]) -> None:
    error = refusal(text)
    assert error.field == "schedule"
    assert [part for part in parts if part not in str(error)] == [], str(error)
    assert len(str(error)) < 800


ZONES = [
    ("Europe/Pariss", "Did you mean 'Europe/Paris'?"),
    ("europe/paris", "Did you mean 'Europe/Paris'?"),
    ("New_York", "Did you mean 'America/New_York'?"),
    ("", "IANA"),
    ("Mars/Olympus", "not a known time zone"),
    ("America", "not a known time zone"),
    ("../etc/passwd", "not a known time zone"),
    ("/etc/localtime", "not a known time zone"),
    ("localtime", "not a known time zone"),
    ("right/Europe/Paris", "not a known time zone"),
    ("a\0b", "not a known time zone"),
    ("x" * 5000, "not a known time zone"),
    ("\udcff", "not a known time zone"),
    (None, "timezone is None"),
    (UTC, "IANA name"),
]


@pytest.mark.parametrize(("zone", "part"), ZONES)
def test_unknown_zones_are_refused_with_the_nearest_name(zone: object, part: str) -> None:
    error = refusal("* * * * *", timezone=zone)
    assert error.field == "timezone"
    assert part in str(error)
    assert len(str(error)) < 300


def test_naive_instants_are_refused() -> None:
    schedule = Schedule("* * * * *")
    naive = datetime(2026, 1, 1)
    for call in (
        lambda: schedule.next_after(naive),
        lambda: schedule.upcoming(naive, 1),
        lambda: list(schedule.between(naive, NEW_YEAR)),
        lambda: list(schedule.between(NEW_YEAR, naive)),
        lambda: schedule.latest(after=NEW_YEAR, until=naive),
        lambda: schedule.count(after=naive, until=NEW_YEAR, cap=1),
        lambda: Schedule("@once", anchor=naive),
        lambda: schedule.next_after("2026-01-01"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidTime, match="not an aware datetime"):
            call()


CRON_CHARACTERS = "0123456789*/,-#?LWHRlwhr()@ abcdefjnorstuy"
FIELDS = st.sampled_from(["*", "*/2", "1", "0", "5", "31", "L", "H", "1-5", "22-2", "*/0", "mon", "feb", "5#2", "?"])


@settings(max_examples=400, deadline=None)
@given(st.text() | st.text(CRON_CHARACTERS, max_size=30) | st.lists(FIELDS, min_size=4, max_size=8).map(" ".join))
def test_whatever_the_text_only_invalid_schedule_is_raised(text: str) -> None:
    try:
        schedule = Schedule(text, timezone=NY, hash_id="x", anchor=NEW_YEAR + SECOND)
    except InvalidSchedule:
        return
    slot = schedule.next_after(NEW_YEAR)
    assert slot is not None
    assert slot > NEW_YEAR
    assert schedule.describe()
    assert Schedule(schedule.text, timezone=NY, hash_id="x", anchor=NEW_YEAR + SECOND) == schedule


@pytest.mark.parametrize("trouble", [ValueError, OverflowError, TypeError, KeyError, AttributeError, AssertionError])
def test_whatever_croniter_raises_the_schedule_is_refused(
    trouble: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise trouble("boom")

    monkeypatch.setattr("sisy.cron.croniter", fail)
    assert "'17 3 5 5 5' is not understood" in str(refusal("17 3 5 5 5"))


# -- intervals and one-shots ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_text", "canonical"),
    [
        (timedelta(seconds=90), "@every 90s"),
        (timedelta(days=2), "@every 172800s"),
        ("@every 90s", "@every 90s"),
        ("@every 5m", "@every 300s"),
        ("@every 1h30m", "@every 5400s"),
        ("  @EVERY  1h 30m 5s ", "@every 5405s"),
        ("@every 2d", "@every 172800s"),
        ("@DAILY", "@daily"),
        (" 0  9 * *\tMON ", "0 9 * * MON"),
    ],
)
def test_the_text_is_made_canonical(given_text: str | timedelta, canonical: str) -> None:
    assert Schedule(given_text).text == canonical
    assert Schedule(canonical).text == canonical


def test_an_interval_counts_from_its_anchor() -> None:
    anchor = at("2026-01-01 00:00:07")
    schedule = Schedule(timedelta(minutes=5), anchor=anchor)
    assert schedule.next_after(NEW_YEAR - timedelta(days=400)) == anchor
    assert schedule.next_after(anchor - SECOND) == anchor
    assert schedule.next_after(anchor) == anchor + timedelta(minutes=5)
    assert schedule.next_after(anchor + timedelta(seconds=299)) == anchor + timedelta(minutes=5)
    assert schedule.next_after(anchor + timedelta(minutes=5)) == anchor + timedelta(minutes=10)


def test_an_interval_without_an_anchor_counts_from_1970() -> None:
    assert Schedule("@every 1h").next_after(at("2026-01-01 00:10")) == at("2026-01-01 01:00")


def test_an_interval_takes_no_notice_of_daylight_saving() -> None:
    schedule = Schedule("@every 1d", timezone=NY, anchor=at("2026-03-07 12:00", NY))
    assert schedule.upcoming(at("2026-03-07 12:00", NY), 1) == [at("2026-03-08 13:00", NY)]


def test_once_fires_once() -> None:
    anchor = at("2026-11-27 09:00", "Europe/Paris").replace(microsecond=250_000)
    schedule = Schedule("@once", timezone="Europe/Paris", anchor=anchor)
    assert schedule.next_after(NEW_YEAR) == anchor
    assert schedule.next_after(anchor - timedelta(microseconds=1)) == anchor
    assert schedule.next_after(anchor) is None
    assert schedule.upcoming(NEW_YEAR, 5) == [anchor]
    assert list(schedule.between(anchor, anchor + SECOND)) == [anchor]
    assert list(schedule.between(NEW_YEAR, anchor)) == []
    assert schedule.latest(after=NEW_YEAR, until=anchor) == anchor
    assert schedule.latest(after=anchor, until=anchor + SECOND) is None
    assert schedule.count(after=NEW_YEAR, until=anchor, cap=9) == 1


# -- the edges of a stretch of time ---------------------------------------------------------------


def test_next_is_after_the_instant_to_the_microsecond() -> None:
    schedule = Schedule("* * * * *")
    slot = at("2026-01-01 00:01")
    assert schedule.next_after(slot - timedelta(microseconds=1)) == slot
    assert schedule.next_after(slot) == slot + timedelta(minutes=1)
    assert schedule.next_after(slot + timedelta(microseconds=1)) == slot + timedelta(minutes=1)


def test_instants_of_any_zone_are_understood() -> None:
    assert Schedule("0 12 * * *").next_after(datetime(2026, 1, 1, 20, 59, tzinfo=ZoneInfo("Asia/Tokyo"))) == at(
        "2026-01-01 12:00"
    )


def test_between_has_its_start_and_not_its_end() -> None:
    schedule = Schedule("0 * * * *")
    nine, twelve = at("2026-01-01 09:00"), at("2026-01-01 12:00")
    assert [slot.hour for slot in schedule.between(nine, twelve)] == [9, 10, 11]
    moment = timedelta(microseconds=1)
    assert [slot.hour for slot in schedule.between(nine + moment, twelve + moment)] == [10, 11, 12]
    assert list(schedule.between(twelve, nine)) == []
    assert next(iter(schedule.between(nine, at("9999-12-31 00:00")))) == nine  # lazy


def test_latest_and_count_have_their_end_and_not_their_start() -> None:
    schedule = Schedule("0 * * * *")
    nine, twelve = at("2026-01-01 09:00"), at("2026-01-01 12:00")
    assert schedule.latest(after=nine, until=twelve) == twelve
    assert schedule.latest(after=nine, until=twelve - SECOND) == at("2026-01-01 11:00")
    assert schedule.latest(after=nine, until=at("2026-01-01 09:59")) is None
    assert schedule.latest(after=twelve, until=nine) is None
    assert schedule.count(after=nine, until=twelve, cap=100) == 3
    assert schedule.count(after=nine, until=twelve, cap=2) == 2
    assert schedule.count(after=nine, until=twelve, cap=0) == 0
    assert schedule.count(after=twelve, until=nine, cap=100) == 0


@pytest.fixture
def count_of_croniter_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = croniter.get_next

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(croniter, "get_next", counted)
    return calls


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", "2026-06-01 12:00"),
        ("* * * * * *", "2026-06-01 12:00:30"),
        ("0 9 * * mon-fri", "2026-06-01 09:00"),
        ("* * 1 1 * *", "2026-01-01 23:59:59"),
        ("0 0 29 2 *", "2024-02-29 00:00"),
        ("@every 90s", "2026-06-01 12:00"),
    ],
)
def test_latest_is_found_in_few_steps_over_decades(
    expression: str, expected: str, count_of_croniter_calls: list[int]
) -> None:
    schedule = Schedule(expression)
    count_of_croniter_calls.clear()
    until = at("2026-06-01 12:00:30") + timedelta(microseconds=5)
    assert schedule.latest(after=at("1996-01-01 00:00"), until=until) == at(expected)
    assert len(count_of_croniter_calls) < 80


def test_count_stops_at_its_cap(count_of_croniter_calls: list[int]) -> None:
    schedule = Schedule("* * * * *")
    count_of_croniter_calls.clear()
    assert schedule.count(after=at("1996-01-01 00:00"), until=NEW_YEAR, cap=50) == 50
    assert len(count_of_croniter_calls) <= 51


@pytest.mark.parametrize("zone", ["UTC", NY, "Pacific/Kiritimati"])
@pytest.mark.parametrize("expression", ["* * * * *", "0 0 1 1 *", "0 0 29 2 *", "@every 7d", "0 0 1 * mon"])
def test_at_the_end_of_time_there_is_no_next(expression: str, zone: str) -> None:
    schedule = Schedule(expression, timezone=zone)
    assert schedule.next_after(datetime.max.replace(tzinfo=UTC)) is None
    for slot in islice(schedule._after(at("9999-12-31 20:00")), 300):
        assert slot > at("9999-12-31 20:00")


@pytest.mark.parametrize("zone", ["UTC", NY, "Pacific/Kiritimati"])
@pytest.mark.parametrize("expression", ["* * * * *", "0 0 1 2 *", "@every 7d"])
def test_at_the_beginning_of_time_there_is_a_next(expression: str, zone: str) -> None:
    start = datetime.min.replace(tzinfo=UTC)
    schedule = Schedule(expression, timezone=zone)
    slot = schedule.next_after(start)
    assert slot is not None
    assert slot > start
    assert next(schedule.between(start, NEW_YEAR)) == slot


def test_an_instant_that_is_outside_of_datetime_in_utc_is_refused() -> None:
    with pytest.raises(InvalidTime, match="1 to 9999"):
        Schedule("* * * * *").next_after(datetime.max.replace(tzinfo=ZoneInfo(NY)))


# -- a value --------------------------------------------------------------------------------------

SAMPLES = [
    Schedule("*/15 9-17 * * mon-fri", timezone="Europe/Paris"),
    Schedule("H H * * *", hash_id="digest"),
    Schedule("@daily", timezone=ZoneInfo(NY)),
    Schedule("@every 90s", anchor=NEW_YEAR),
    Schedule("@once", timezone=NY, anchor=NEW_YEAR),
]


@pytest.mark.parametrize("schedule", SAMPLES, ids=lambda schedule: schedule.text)
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    same = Schedule(schedule.text, timezone=schedule.timezone, hash_id=schedule.hash_id, anchor=schedule.anchor)
    before = NEW_YEAR - SECOND
    for twin in (same, pickle.loads(pickle.dumps(schedule)), copy.copy(schedule), copy.deepcopy(schedule)):  # noqa: S301 - our own
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert twin.next_after(before) == schedule.next_after(before)
    with pytest.raises(AttributeError):
        schedule.text = "* * * * *"  # type: ignore[misc]


def test_schedules_are_equal_when_they_fire_alike() -> None:
    assert Schedule("* * * * *", anchor=NEW_YEAR, hash_id="a") == Schedule("* * * * *", hash_id="b")
    assert Schedule("0 0 * * thu", hash_id="a") == Schedule("0 0 * * thu")
    assert Schedule("* * * * *", timezone=NY) == Schedule("* * * * *", timezone=ZoneInfo(NY))
    assert Schedule("@every 1m") == Schedule(timedelta(seconds=60))
    assert Schedule("* * * * *", timezone=NY) != Schedule("* * * * *")
    assert Schedule("H * * * *", hash_id="a") != Schedule("H * * * *", hash_id="b")
    assert Schedule("@every 1m", anchor=NEW_YEAR) != Schedule("@every 1m")
    assert len({*SAMPLES, *SAMPLES}) == len(SAMPLES)


def test_threads_can_share_a_schedule() -> None:
    schedule = Schedule("*/7 1-20 * * mon-fri", timezone=NY)
    starts = [NEW_YEAR + timedelta(days=13 * n, minutes=n) for n in range(16)]
    expected = [schedule.upcoming(start, 40) for start in starts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda start: schedule.upcoming(start, 40), starts * 2))
    finally:
        sys.setswitchinterval(interval)
    assert results == expected * 2


# -- in words -------------------------------------------------------------------------------------

DESCRIPTIONS = [
    ("* * * * *", "Every minute"),
    ("*/1 * * * *", "Every minute"),
    ("*/5 * * * *", "Every 5 minutes"),
    ("*/15 9-17 * * mon-fri", "Every 15 minutes from 09:00 to 17:45, Monday to Friday"),
    ("5/15 9-17 * * *", "Every 15 minutes from 09:05 to 17:50"),
    ("* 9-17 * * *", "Every minute from 09:00 to 17:59"),
    ("*/15 9-11,14-16 * * *", "Every 15 minutes from 09:00 to 11:45 and from 14:00 to 16:45"),
    ("0-29 9 * * *", "Every minute from 09:00 to 09:29"),
    ("*/7 * * * *", "Every 7 minutes from minute 0 to 56 of every hour"),
    ("2/6 * * * *", "Every 6 minutes from minute 2 to 56 of every hour"),
    ("0 * * * *", "Every hour"),
    ("1 * * * *", "At 1 minute past every hour"),
    ("5,20 * * * *", "At 5 and 20 minutes past every hour"),
    ("0 */2 * * *", "Every 2 hours"),
    ("0 9-17 * * *", "Every hour from 09:00 to 17:00"),
    ("15 1-23/2 * * *", "Every 2 hours from 01:15 to 23:15"),
    ("0 9 * * *", "At 09:00"),
    ("0 9,17 * * *", "At 09:00 and 17:00"),
    ("30 8,12,18 * * *", "At 08:30, 12:30 and 18:30"),
    ("0,30 9 * * *", "At 09:00 and 09:30"),
    ("@hourly", "Every hour"),
    ("@daily", "At 00:00"),
    ("@weekly", "At 00:00, on Sunday"),
    ("@monthly", "At 00:00, on the 1st"),
    ("@yearly", "At 00:00, on the 1st, in January"),
    ("0 9 * * mon", "At 09:00, on Monday"),
    ("0 9 * * 1,3,5", "At 09:00, on Monday, Wednesday and Friday"),
    ("0 9 * * sat-sun", "At 09:00, on Saturday and Sunday"),
    ("0 9 * * fri-mon", "At 09:00, Friday to Monday"),
    ("0 9 * * 1-3,6", "At 09:00, on Monday to Wednesday and Saturday"),
    ("0 9 * * 5#2", "At 09:00, on the 2nd Friday of the month"),
    ("0 9 * * 1#1,L1", "At 09:00, on the last Monday and the 1st Monday of the month"),
    ("0 9 1,15 * *", "At 09:00, on the 1st and 15th"),
    ("0 9 1-7 * *", "At 09:00, on the 1st to 7th"),
    ("0 9 2,3,11,12,13,21,22,23 * *", "At 09:00, on the 2nd, 3rd, 11th to 13th and 21st to 23rd"),
    ("0 9 L * *", "At 09:00, on the last day of the month"),
    ("0 9 15,L * *", "At 09:00, on the 15th and the last day of the month"),
    ("0 9 15W * *", "At 09:00, on the weekday nearest to the 15th"),
    ("0 9 1 * mon", "At 09:00, on the 1st or on Monday"),
    ("0 9 13 * mon-fri", "At 09:00, on the 13th or Monday to Friday"),
    ("0 9 * jul *", "At 09:00, in July"),
    ("0 9 1 1,7 *", "At 09:00, on the 1st, in January and July"),
    ("0 9 * 6-8 *", "At 09:00, from June to August"),
    ("0 9 * nov-feb *", "At 09:00, from November to February"),
    ("* * * * * *", "Every second"),
    ("* * * * * */10", "Every 10 seconds"),
    ("* 9-17 * * * */10", "Every 10 seconds from 09:00:00 to 17:59:50"),
    ("30 1 * * * *", "Every second from 01:30:00 to 01:30:59"),
    ("0 9 * * * 0", "At 09:00"),
    ("0 9 * * * 15", "At 09:00:15"),
    ("*/5 * * * * 30", "Every 5 minutes, at second 30"),
    ("H H * * *", "At 09:54"),
    ("H/15 * * * *", "At 9, 24, 39 and 54 minutes past every hour"),
    # by cron_descriptor
    ("1,2,4,8,16,32,50 * * * *", "At 1, 2, 4, 8, 16, 32, and 50 minutes past the hour"),
    ("* * * * * 1,2,4,8,16,32,50", "At 1, 2, 4, 8, 16, 32, and 50 seconds past the minute"),
    ("1,7,22 2,3,9,14 * * fri", "At 1, 7, and 22 minutes past the hour, at 02:00, 03:00, 09:00, and 14:00, on Friday"),
    ("*/7 9-17 * * *", "Every 7 minutes, minutes 0 through 56 past the hour, between 09:00 and 17:59"),
]


@pytest.mark.parametrize(("expression", "words"), DESCRIPTIONS)
def test_a_schedule_is_put_into_words(expression: str, words: str) -> None:
    assert Schedule(expression, timezone="Europe/Paris", hash_id="digest").describe() == f"{words}, Europe/Paris"
    assert Schedule(expression, hash_id="digest").describe() == f"{words}, UTC"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@every 1s", "Every second"),
        ("@every 90s", "Every 90 seconds"),
        ("@every 1m", "Every minute"),
        ("@every 5m", "Every 5 minutes"),
        ("@every 1h30m", "Every 90 minutes"),
        ("@every 1h", "Every hour"),
        ("@every 2d", "Every 2 days"),
    ],
)
def test_an_interval_is_put_into_words_without_a_zone(text: str, words: str) -> None:
    assert Schedule(text, timezone="Europe/Paris").describe() == words


def test_once_is_put_into_words_in_its_zone() -> None:
    anchor = at("2026-11-27 09:00", "Europe/Paris")
    schedule = Schedule("@once", timezone="Europe/Paris", anchor=anchor)
    assert schedule.describe() == "Once, on 27 November 2026 at 09:00, Europe/Paris"
    schedule = Schedule("@once", anchor=anchor + timedelta(seconds=5))
    assert schedule.describe() == "Once, on 27 November 2026 at 08:00:05, UTC"


def test_a_description_survives_a_failure_of_cron_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> str:
        raise KeyError("boom")

    monkeypatch.setattr("sisy.describe.get_description", fail)
    assert Schedule("1,7,22 2,3,9,14 * * fri").describe() == "At 1,7,22 2,3,9,14 * * *, on Friday, UTC"


def test_descriptions_of_long_schedules_stay_readable() -> None:
    text = ",".join(map(str, range(1, 60, 2))) + " " + ",".join(map(str, range(0, 24, 5))) + " 1,3,5,7,9 * 1,3,5"
    assert re.search("^.{20,400}$", Schedule(text).describe())
