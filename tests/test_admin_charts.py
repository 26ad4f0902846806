"""What the admin draws of a task's past: strips, the calendar, durations. Plain values, no database."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import translation

from sisy.admin.durations import durations
from sisy.admin.heatmap import DAYS, heatmap
from sisy.admin.strip import LENGTH, strip
from sisy.models import RunStatus
from tests.past import past_run

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)  # a Monday
TODAY = date(2026, 6, 15)


def ends(path):
    """Return how far a bar goes up (above 0) or down (below 0) from the base line."""
    steps = [float(step) for step in re.findall(r"v(-?[\d.]+)", path)]
    return -steps[0]


# Strips --------------------------------------------------------------------------------------------------------------


def test_what_went_well_stands_up_and_what_failed_hangs_down():
    good, bad = strip([past_run(at=NOON, seconds=5), past_run("FAILED", at=NOON, seconds=5)]).bars
    assert ends(good.path) > 0 > ends(bad.path)
    assert "q" in good.path  # round
    assert "q" not in bad.path


def test_no_two_states_have_the_same_shape():
    bars = strip([past_run(status, at=NOON) for status in RunStatus.values]).bars
    shapes = {re.sub(r"M[\d.]+ [\d.]+", "", bar.path) for bar in bars}
    assert len(shapes) == len(RunStatus.values)
    assert [bar.kind for bar in bars] == [status.lower() for status in RunStatus.values]


def test_a_longer_run_is_higher_and_a_very_long_one_does_not_flatten_the_others():
    heights = [ends(bar.path) for bar in strip([past_run(at=NOON, seconds=s) for s in (0, 10, 40, 160)]).bars]
    assert heights == sorted(heights)
    assert heights[0] >= 1
    assert heights[2] > heights[3] / 3


def test_a_strip_is_filled_from_the_right_and_shows_thirty():
    few = strip([past_run(at=NOON)] * 2)
    assert [bar.column.split(" ")[0] for bar in few.bars] == ["M196", "M203"]
    assert few.empty.count("M") == LENGTH - 2
    assert len(strip([past_run(at=NOON)] * 40).bars) == LENGTH


def test_a_strip_says_in_words_what_it_draws():
    runs = [past_run(at=NOON, seconds=2.5, pk=7), past_run("MISSED", at=NOON, missed_count=3, reason="nothing ticked")]
    drawn = strip(runs)
    assert drawn.summary == "The last 2 runs: Successful 1, Missed 1"
    assert drawn.bars[0].text == "#7 Successful, 2026-06-15 12:00:00, 2.5 s"
    assert drawn.bars[1].text == "#1 Missed, 2026-06-15 12:00:00, 3 slots: nothing ticked"
    assert strip([]).summary == "No runs yet"
    assert "(ad hoc)" in strip([past_run(at=NOON, slot=None)]).bars[0].text


# The calendar --------------------------------------------------------------------------------------------------------


def days(runs, **options):
    given = {"today": TODAY, "zone": ZoneInfo("UTC"), "kept_since": date.min, **options}
    return {day.day: day for day in heatmap(runs, **given).days}


def test_the_calendar_has_ninety_days_in_columns_of_weeks():
    drawn = days([])
    assert len(drawn) == DAYS
    assert max(drawn) == TODAY
    columns = {day.x for day in drawn.values()}
    assert len(columns) == 14
    monday, sunday = drawn[TODAY], drawn[TODAY - timedelta(days=1)]
    assert (monday.x, monday.y - sunday.y) == (sunday.x, 15)  # in American English a week begins on Sunday


def test_the_week_begins_as_the_language_has_it():
    with translation.override("de"):
        drawn = days([])
    assert drawn[TODAY].x - drawn[TODAY - timedelta(days=1)].x == 15


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        (["SUCCESSFUL", "SUCCESSFUL"], "ok"),
        (["SUCCESSFUL", "FAILED"], "bad"),
        (["LOST"], "bad"),
        (["MISSED", "SKIPPED"], "missed"),
        (["SUCCESSFUL", "SKIPPED"], "ok"),
        ([], "none"),
    ],
)
def test_a_day_looks_as_its_runs_ended(statuses, kind):
    day = days([past_run(status, at=NOON) for status in statuses])[TODAY]
    assert day.kind == kind
    assert bool(day.notch) == (kind == "bad")
    assert day.is_linked == bool(statuses)


def test_a_day_begins_and_ends_in_the_zone_of_the_task():
    late = datetime(2026, 6, 14, 23, 30, tzinfo=UTC)
    assert days([past_run(at=late)])[TODAY].kind == "none"
    assert days([past_run(at=late)], zone=ZoneInfo("Europe/Paris"))[TODAY].kind == "ok"


def test_a_row_for_many_missed_slots_is_seen_on_each_of_their_days():
    row = past_run("MISSED", at=NOON, missed_since=NOON - timedelta(days=2), missed_count=50)
    drawn = days([row])
    assert [drawn[TODAY - timedelta(days=n)].kind for n in range(4)] == ["missed"] * 3 + ["none"]
    ancient = past_run("MISSED", at=NOON, missed_since=datetime(1990, 1, 1, tzinfo=UTC), missed_count=50)
    assert {day.kind for day in days([ancient]).values()} == {"missed"}


def test_days_of_which_no_runs_are_kept_say_so():
    drawn = days([], kept_since=TODAY - timedelta(days=13))
    assert drawn[TODAY - timedelta(days=13)].text.endswith("no runs")
    assert drawn[TODAY - timedelta(days=14)].text.endswith("no runs, or not kept any more")


def test_the_calendar_says_in_words_what_it_draws():
    runs = [past_run(at=NOON), past_run("FAILED", at=NOON - timedelta(days=80)), past_run(at=NOON - timedelta(days=99))]
    drawn = heatmap(runs, today=TODAY, zone=ZoneInfo("UTC"), kept_since=date.min)
    assert drawn.summary == "Runs in the past 90 days: Successful 1, Failed 1"
    assert drawn.reachable == TODAY


# Durations -----------------------------------------------------------------------------------------------------------


def test_durations_need_a_run_that_succeeded():
    assert durations([past_run("FAILED", at=NOON, seconds=3), past_run(at=NOON)]) is None


@pytest.mark.parametrize("seconds", [(1, 2, 3), (0.001, 0.002), (0, 0), (100, 4000, 9), (0.01, 5000), (86400 * 3, 10)])
def test_durations_fit_their_frame_with_a_few_round_ticks(seconds):
    drawn = durations([past_run(at=NOON, seconds=value) for value in seconds])
    heights = [float(re.match(r"M[\d.]+ (-?[\d.]+)", point.path)[1]) for point in drawn.points]
    assert all(0 <= y <= drawn.height for y in heights)
    assert all(0 <= line.y <= drawn.height for line in (*drawn.ticks, *drawn.lines))
    assert 1 <= len(drawn.ticks) <= 6
    slower = sorted(zip(seconds, heights, strict=True))
    assert [y for _seconds, y in slower] == sorted(heights, reverse=True)


def test_a_failed_run_is_a_cross_among_rings():
    good, bad = durations([past_run(at=NOON, seconds=1), past_run("FAILED", at=NOON, seconds=2)]).points
    assert "a2.5" in good.path
    assert "a2.5" not in bad.path
    assert (good.kind, bad.kind) == ("successful", "failed")
