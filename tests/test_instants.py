import warnings
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
import pytz

from sisy.errors import InvalidTime, SisyTimezoneWarning
from sisy.instants import to_duration, to_utc

NEW_YORK = pytz.timezone("America/New_York")


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def quietly(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return to_utc(value, field="start_running")


# Aware datetimes, whatever their zone is made of


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        (datetime(2026, 1, 1, 12, tzinfo=UTC), "2026-01-01 12:00"),
        (datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=45))), "2026-01-01 06:15"),
        (datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("Europe/Paris")), "2026-01-01 11:00"),
        (datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris")), "2026-07-01 10:00"),
        (datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Paris")), "2026-10-25 00:30"),
        (datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")), "2026-10-25 01:30"),
        (datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC), "2026-01-01 12:00:00.123456"),
        (datetime(2026, 1, 1, 12, tzinfo=pytz.utc), "2026-01-01 12:00"),
        (datetime(2026, 1, 1, 12, tzinfo=pytz.FixedOffset(330)), "2026-01-01 06:30"),
        (datetime(2026, 1, 1, 12, tzinfo=pytz.timezone("Etc/GMT+5")), "2026-01-01 17:00"),
        (NEW_YORK.localize(datetime(2026, 1, 1, 12)), "2026-01-01 17:00"),
        (NEW_YORK.localize(datetime(2026, 7, 1, 12)), "2026-07-01 16:00"),
        (NEW_YORK.localize(datetime(2026, 11, 1, 1, 30), is_dst=True), "2026-11-01 05:30"),
        (NEW_YORK.localize(datetime(2026, 11, 1, 1, 30), is_dst=False), "2026-11-01 06:30"),
        (NEW_YORK.localize(datetime(2026, 3, 8, 2, 30), is_dst=False), "2026-03-08 07:30"),
        (NEW_YORK.normalize(NEW_YORK.localize(datetime(2026, 11, 1)) + timedelta(hours=2)), "2026-11-01 06:00"),
        (datetime(2026, 7, 1, 16, tzinfo=UTC).astimezone(NEW_YORK), "2026-07-01 16:00"),
        (pytz.timezone("Australia/Lord_Howe").localize(datetime(2026, 7, 1, 12)), "2026-07-01 01:30"),
    ],
)
def test_an_aware_datetime_becomes_utc_without_a_warning(value, instant):
    result = quietly(value)
    assert result == utc(instant)
    assert result.tzinfo is UTC


# pytz's trap


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        (datetime(2026, 1, 1, 12, tzinfo=NEW_YORK), "2026-01-01 17:00"),
        (datetime(2026, 7, 1, 12, tzinfo=NEW_YORK), "2026-07-01 16:00"),
        (datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=pytz.timezone("Europe/Paris")), "2026-01-01 11:00:00.000005"),
        (datetime(2026, 1, 1, 12, tzinfo=pytz.timezone("Asia/Kolkata")), "2026-01-01 06:30"),
        (datetime(2026, 1, 1, 12, tzinfo=pytz.timezone("Australia/Lord_Howe")), "2026-01-01 01:00"),
        (datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK), "2026-11-01 05:30"),
    ],
)
def test_a_pytz_zone_given_as_tzinfo_keeps_the_wall_clock_and_warns_once(value, instant):
    with pytest.warns(SisyTimezoneWarning) as caught:
        assert to_utc(value, field="delay_until") == utc(instant)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert text.startswith(f"delay_until is {value!r}: {value.tzinfo.zone} never has its offset {value:%z} then")
    assert f"Use pytz.timezone({value.tzinfo.zone!r}).localize(datetime(...)) instead." in text


def test_a_pytz_instant_that_was_moved_without_normalize_keeps_the_wall_clock_and_is_not_called_local_mean_time():
    moved = NEW_YORK.localize(datetime(2026, 1, 1, 12)) + timedelta(days=181)  # July, and still EST
    with pytest.warns(SisyTimezoneWarning, match="-0500") as caught:
        assert to_utc(moved, field="start_running") == utc("2026-07-01 16:00")
    assert "is local mean time" not in str(caught[0].message)


def test_what_was_mended_is_not_complained_about_again():
    with pytest.warns(SisyTimezoneWarning):
        mended = to_utc(datetime(2026, 1, 1, 12, tzinfo=NEW_YORK), field="start_running")
    assert quietly(mended) == mended


def test_no_zone_that_pytz_offers_keeps_its_local_mean_time():
    naive = datetime(2026, 1, 15, 12)
    for name in pytz.common_timezones:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SisyTimezoneWarning)
            right = to_utc(naive.replace(tzinfo=pytz.timezone(name)), field="start_running")
        assert right == naive.replace(tzinfo=ZoneInfo(name)), name
        assert quietly(pytz.timezone(name).localize(naive)) == right, name


# What is refused


@pytest.mark.parametrize(
    "value", [None, "2026-01-01", "2026-01-01T12:00:00Z", 1767225600, date(2026, 1, 1), time(12), timedelta(1)]
)
def test_what_is_no_datetime_is_refused(value):
    with pytest.raises(InvalidTime) as caught:
        to_utc(value, field="end_running")
    assert str(caught.value) == (f"end_running must be an aware datetime, not {value!r}. Use django.utils.timezone.")
    assert caught.value.field == "end_running"


def test_a_naive_datetime_is_refused():
    with pytest.raises(InvalidTime) as caught:
        to_utc(datetime(2026, 1, 1, 12), field="delay_until")
    assert str(caught.value) == (
        "delay_until is datetime.datetime(2026, 1, 1, 12, 0), which is naive: sisy cannot know which zone's clock it "
        "means. Use django.utils.timezone.now() or make_aware(value)."
    )
    assert caught.value.field == "delay_until"


@pytest.mark.parametrize(
    "value",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    ],
    ids=["before the year 1", "after the year 9999"],
)
def test_an_instant_that_utc_can_not_say_is_refused(value):
    with pytest.raises(InvalidTime, match="end_running"):
        to_utc(value, field="end_running")


# Durations


@pytest.mark.parametrize(
    ("value", "duration"),
    [
        (0, timedelta(0)),
        (90, timedelta(seconds=90)),
        (0.25, timedelta(milliseconds=250)),
        (-0.0, timedelta(0)),
        (timedelta(days=2), timedelta(days=2)),
        (timedelta(0), timedelta(0)),
        (999_999_999, timedelta(seconds=999_999_999)),
    ],
)
def test_a_duration_is_seconds_or_a_timedelta(value, duration):
    assert to_duration(value, field="timeout") == duration


@pytest.mark.parametrize("value", [None, "60", True, [60], float("nan"), float("inf"), 1e300, 10**400])
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(InvalidTime) as caught:
        to_duration(value, field="jitter")
    assert str(caught.value) == f"jitter must be a timedelta or a number of seconds, not {value!r}."
    assert caught.value.field == "jitter"


@pytest.mark.parametrize("value", [-1, -0.001, timedelta(microseconds=-1)])
def test_a_negative_duration_is_refused(value):
    with pytest.raises(InvalidTime, match=r"^timeout is .*, which is negative\. Give 0 or more seconds\.$") as caught:
        to_duration(value, field="timeout")
    assert caught.value.field == "timeout"


def test_a_timedelta_that_no_database_can_hold_is_refused():
    # DurationField stores microseconds in 64 bits; timedelta.max has more.
    with pytest.raises(InvalidTime, match="timeout"):
        to_duration(timedelta.max, field="timeout")
