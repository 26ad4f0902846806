from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sisy.cron import Schedule
from sisy.policy import (
    Missed,
    Plan,
    Timetable,
    admit,
    after_crash,
    backoff,
    first_slot,
    jitter_of,
    must_write_start_first,
    next_boundary,
    plan,
)

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
SIX_HOURS = timedelta(hours=6)


def at(text):
    """Return an instant of 2026-01-01 as "12:03" or "12:03:05.5", or of another day as "2026-01-02 12:03"."""
    return datetime.fromisoformat(text if "-" in text else f"2026-01-01 {text}").replace(tzinfo=UTC)


def maybe_at(text):
    return None if text is None else at(text)


def timetable(schedule="* * * * *", *, next_run="12:00", start=None, end=None, **values):
    defaults = {"runs_left": None, "misfire": "latest", "misfire_grace": MINUTE, "misfire_cap": 1000}
    return Timetable(
        schedule=schedule if isinstance(schedule, Schedule) else Schedule(schedule),
        next_run=maybe_at(next_run),
        start=maybe_at(start),
        end=maybe_at(end),
        **(defaults | values),
    )


def shown(instant):
    return instant if instant is None else f"{instant:%H:%M:%S}".removesuffix(":00")


def planned(now, schedule="* * * * *", **values):
    """Return a plan in short: the slots, (how many were missed, the first, the last), and the next slot."""
    result = plan(timetable(schedule, **values), now=at(now))
    missed = result.missed and (result.missed.count, shown(result.missed.first), shown(result.missed.last))
    return [shown(slot) for slot in result.slots], missed, shown(result.next_run)


# plan: what is due, and what comes next


@pytest.mark.parametrize(
    ("now", "slots", "next_run"),
    [
        ("11:59:59.999999", [], "12:00"),
        ("12:00", ["12:00"], "12:01"),
        ("12:00:00.000001", ["12:00"], "12:01"),
        ("12:00:59.999999", ["12:00"], "12:01"),
    ],
)
def test_a_slot_is_due_from_its_instant_on(now, slots, next_run):
    assert planned(now) == (slots, None, next_run)


def test_a_task_without_a_next_slot_has_nothing_to_do():
    assert planned("12:00", next_run=None) == ([], None, None)


# plan: misfire. The task runs each minute from 12:00 on; `now` is 12:03:05, four slots later


@pytest.mark.parametrize(
    ("misfire", "values", "slots", "missed"),
    [
        ("latest", {}, ["12:03"], (3, "12:00", "12:02")),
        ("all", {}, ["12:00", "12:01", "12:02", "12:03"], None),
        ("all", {"misfire_cap": 4}, ["12:00", "12:01", "12:02", "12:03"], None),
        ("all", {"misfire_cap": 3}, ["12:01", "12:02", "12:03"], (1, "12:00", "12:00")),
        ("all", {"misfire_cap": 1}, ["12:03"], (3, "12:00", "12:02")),
        ("skip", {}, ["12:03"], (3, "12:00", "12:02")),
        ("skip", {"misfire_grace": 5 * SECOND}, ["12:03"], (3, "12:00", "12:02")),
        ("skip", {"misfire_grace": 4 * SECOND}, [], (4, "12:00", "12:03")),
        ("skip", {"misfire_grace": timedelta(0)}, [], (4, "12:00", "12:03")),
    ],
)
def test_slots_that_passed_run_or_are_missed_by_the_policy(misfire, values, slots, missed):
    assert planned("12:03:05", misfire=misfire, **values) == (slots, missed, "12:04")


@pytest.mark.parametrize("misfire", ["latest", "all", "skip"])
def test_with_one_slot_due_in_time_the_policy_makes_no_difference(misfire):
    assert planned("12:00:30", misfire=misfire) == (["12:00"], None, "12:01")


def test_one_slot_that_is_too_old_is_missed_alone():
    assert planned("13:30", "0 * * * *", misfire="skip") == ([], (2, "12:00", "13:00"), "14:00")
    assert planned("12:30", "0 * * * *", misfire="skip") == ([], (1, "12:00", "12:00"), "13:00")


@pytest.mark.parametrize("misfire", ["latest", "all", "skip"])
@settings(max_examples=40)
@given(seconds=st.integers(0, 7200), cap=st.integers(1, 50), runs_left=st.none() | st.integers(0, 30))
def test_each_slot_runs_or_is_missed_and_none_is_both(misfire, seconds, cap, runs_left):
    now = at("12:00") + timedelta(seconds=seconds)
    table = timetable(misfire=misfire, misfire_cap=cap, runs_left=runs_left, misfire_grace=10 * SECOND)
    result = plan(table, now=now)
    due = [at("12:00"), *Schedule("* * * * *").between(at("12:00:01"), now + MICROSECOND)]
    missed = [] if result.missed is None else [slot for slot in due if slot <= result.missed.last]
    run = list(result.slots)
    assert len(missed) == (result.missed.count if result.missed else 0)
    assert missed + run == due
    assert result.runs_left == runs_left
    assert result.next_run == Schedule("* * * * *").next_after(now)


# plan: the window. It is start <= slot < end


@pytest.mark.parametrize(
    ("now", "end", "expected"),
    [
        ("12:03:05", "12:03:00.000001", (["12:03"], (3, "12:00", "12:02"), None)),
        ("12:03:05", "12:03", (["12:02"], (2, "12:00", "12:01"), None)),
        ("12:03:05", "12:04", (["12:03"], (3, "12:00", "12:02"), None)),
        ("12:03:05", "12:04:00.000001", (["12:03"], (3, "12:00", "12:02"), "12:04")),
        ("12:03:05", "12:00:00.000001", (["12:00"], None, None)),
        ("12:03:05", "12:00", ([], None, None)),
        ("11:59", "12:00", ([], None, None)),
        ("11:59", "12:00:01", ([], None, "12:00")),
        ("12:00", "12:00:30", (["12:00"], None, None)),
    ],
)
def test_a_slot_at_the_end_is_outside_of_the_window(now, end, expected):
    assert planned(now, end=end) == expected


def test_slots_before_the_end_run_after_it_too():
    assert planned("2026-01-01 18:00", "0 * * * *", end="14:00", misfire="all") == (["12:00", "13:00"], None, None)


@pytest.mark.parametrize(
    ("after", "start", "slot"),
    [
        ("09:30", "12:00", "12:00"),
        ("09:30", "12:00:00.000001", "13:00"),
        ("09:30", "11:59:59.999999", "12:00"),
        ("12:00", "12:00", "13:00"),
        ("11:59:59.999999", "12:00", "12:00"),
        ("12:30", "12:00", "13:00"),
        ("09:30", None, "10:00"),
        ("10:00", None, "11:00"),
    ],
)
def test_a_slot_at_the_start_is_in_the_window(after, start, slot):
    assert shown(first_slot(timetable("0 * * * *", start=start), after=at(after))) == slot


@pytest.mark.parametrize(
    ("start", "end", "slot"),
    [
        (None, "10:00", None),
        (None, "10:00:00.000001", "10:00"),
        ("10:00", "10:00:01", "10:00"),
        ("10:01", "11:00", None),
        ("12:00", "11:00", None),
    ],
)
def test_the_first_slot_lies_before_the_end_or_there_is_none(start, end, slot):
    assert shown(first_slot(timetable("0 * * * *", start=start, end=end), after=at("09:30"))) == slot


def test_a_schedule_that_has_ended_has_no_first_slot():
    once = Schedule("@once", anchor=at("12:00"))
    assert first_slot(timetable(once), after=at("11:59")) == at("12:00")
    assert first_slot(timetable(once), after=at("12:00")) is None


def test_each_second_counts_at_the_start_of_a_window():
    table = timetable("* * * * * *", start="12:00:05.5")
    assert first_slot(table, after=at("11:00")) == at("12:00:06")


# plan: runs that are left


@pytest.mark.parametrize("runs_left", [None, 0, 1, 9])
def test_a_plan_says_how_many_of_its_slots_may_become_runs(runs_left):
    """Which of them do is not known before each meets the overlap policy."""
    result = plan(timetable(misfire="all", runs_left=runs_left), now=at("12:03:05"))
    assert (len(result.slots), result.runs_left) == (4, runs_left)


# plan: a first slot that the schedule does not have


@pytest.mark.parametrize(
    ("misfire", "now", "expected"),
    [
        ("latest", "12:00:20", (["12:00:17"], None, "12:01")),
        ("latest", "12:02:30", (["12:02"], (2, "12:00:17", "12:01"), "12:03")),
        ("all", "12:02:30", (["12:00:17", "12:01", "12:02"], None, "12:03")),
        ("skip", "12:02:30", (["12:02"], (2, "12:00:17", "12:01"), "12:03")),
        ("latest", "12:00:16", ([], None, "12:00:17")),
    ],
)
def test_the_announced_slot_counts_even_off_the_schedule(misfire, now, expected):
    assert planned(now, next_run="12:00:17", misfire=misfire) == expected


@pytest.mark.parametrize("now", ["12:00:00", "12:00:30", "12:01:30"])
def test_a_slot_less_than_a_second_after_one_off_the_schedule_is_made_up_for_too(now):
    found, missed, _ = planned(now, next_run="11:59:59.5", misfire="all")
    assert (found[:2], missed) == (["11:59:59", "12:00"], None)


def test_the_announced_slot_of_a_one_shot_runs_once():
    once = Schedule("@once", anchor=at("12:00:00.25"))
    result = plan(timetable(once, next_run="12:00:00.25"), now=at("15:00"))
    assert result == Plan(slots=(at("12:00:00.25"),), missed=None, next_run=None)


# plan: after years of silence


class CountingRule:
    """A schedule's rule that counts how often it is asked."""

    def __init__(self, rule):
        self.rule, self.asked = rule, 0

    def next_after(self, instant):
        self.asked += 1
        return self.rule.next_after(instant)


def plan_after_years(years, schedule, **values):
    """Return the plan of a task for which nothing ticked, and how often its schedule was asked."""
    parsed = Schedule(schedule)
    rule = CountingRule(parsed._rule)
    object.__setattr__(parsed, "_rule", rule)
    table = timetable(parsed, next_run=f"{2026 - years}-01-01 12:00", misfire_cap=50, **values)
    return plan(table, now=at("2026-01-01 12:00:30")), rule.asked


@pytest.mark.parametrize(
    ("schedule", "misfire"),
    [("@every 1s", "latest"), ("@every 1s", "all"), ("@every 1s", "skip"), ("* * * * *", "latest")],
)
def test_an_outage_of_ten_years_costs_no_more_than_one_of_a_year(schedule, misfire):
    _, asked = plan_after_years(1, schedule, misfire=misfire)
    far, asked_far = plan_after_years(10, schedule, misfire=misfire)
    assert asked_far < asked + 400  # each look for the newest slot gallops a few steps further
    assert far.slots[-1] == Schedule(schedule).latest(after=at("11:00"), until=at("12:00:30"))
    assert far.missed.first == datetime(2016, 1, 1, 12, tzinfo=UTC)
    assert far.missed.last == far.slots[0] - (SECOND if schedule == "@every 1s" else MINUTE)
    assert far.missed.at_least
    assert far.next_run > at("12:00:30")


def test_a_long_outage_does_not_hold_up_the_tick():
    # A tick plans up to 500 tasks in one transaction; asking a cron schedule takes 50 microseconds.
    _, asked = plan_after_years(10, "@every 1s")
    assert asked < 2000


def test_a_few_missed_slots_are_counted_exactly():
    result = plan(timetable("0 9 * * *", next_run="2020-01-01 09:00"), now=at("2021-01-01 08:00"))
    assert result.missed == Missed(count=365, first=at("2020-01-01 09:00"), last=at("2020-12-30 09:00"))
    assert result.slots == (at("2020-12-31 09:00"),)


def test_a_repeated_hour_has_its_slots_twice_for_a_task_that_follows_real_time():
    new_york = Schedule("*/30 * * * *", timezone="America/New_York")
    table = timetable(new_york, next_run="2026-11-01 05:00", misfire="all")
    slots = plan(table, now=at("2026-11-01 06:59")).slots
    assert [shown(slot) for slot in slots] == ["05:00", "05:30", "06:00", "06:30"]


# admit: (policy, active, waiting) -> what becomes of the new run


@pytest.mark.parametrize(
    ("overlap", "alone", "one_active", "one_waits", "both"),
    [
        ("allow", "run", "run", "run", "run"),
        ("skip", "run", "skip", "skip", "skip"),
        ("queue", "run", "wait", "skip", "skip"),
        ("replace", "run", "replace", "replace", "replace"),
    ],
)
def test_what_becomes_of_a_run_while_others_are_not_over(overlap, alone, one_active, one_waits, both):
    found = [admit(overlap, active=active, waiting=waiting) for active, waiting in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert found == [alone, one_active, one_waits, both]


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue", "replace"])
def test_several_active_runs_are_like_one(overlap):
    assert admit(overlap, active=5, waiting=0) == admit(overlap, active=1, waiting=0)


# after_crash: (started, at_most_once, crashes, max_crashes) -> (fate, crashes)


@pytest.mark.parametrize(
    ("started", "at_most_once", "crashes", "max_crashes", "expected"),
    [
        # A run that started: handed out again up to max_crashes times
        (True, False, 0, 3, ("ready", 1)),
        (True, False, 2, 3, ("ready", 3)),
        (True, False, 3, 3, ("lost", 4)),
        (True, False, 0, 0, ("lost", 1)),
        # ... and never, when it may not start twice
        (True, True, 0, 3, ("lost", 1)),
        # No start is written, and would have been: it did not start
        (False, True, 0, 3, ("ready", 0)),
        (False, True, 0, 0, ("ready", 0)),
        (False, False, 1, 3, ("ready", 1)),
        (False, False, 3, 3, ("ready", 3)),
        # The first time, nobody can tell
        (False, False, 0, 3, ("ready", 1)),
        (False, False, 0, 1, ("ready", 1)),
    ],
)
def test_what_becomes_of_a_run_whose_worker_died(started, at_most_once, crashes, max_crashes, expected):
    fate = after_crash(started=started, at_most_once=at_most_once, crashes=crashes, max_crashes=max_crashes)
    assert fate == expected


def test_a_run_that_was_claimed_but_not_started_is_handed_out_again_with_no_crash_allowed_too():
    assert after_crash(started=False, at_most_once=False, crashes=0, max_crashes=0)[0] == "ready"


@pytest.mark.parametrize("max_crashes", [0, 1, 3])
def test_a_run_that_kills_each_worker_is_lost_in_the_end(max_crashes):
    crashes, fates = 0, []
    while not fates or fates[-1] == "ready":
        fate, crashes = after_crash(started=True, at_most_once=False, crashes=crashes, max_crashes=max_crashes)
        fates.append(fate)
    assert fates == ["ready"] * max_crashes + ["lost"]


@pytest.mark.parametrize(
    ("at_most_once", "crashes", "expected"), [(False, 0, False), (False, 1, True), (True, 0, True), (True, 2, True)]
)
def test_when_a_start_is_written_before_the_call(at_most_once, crashes, expected):
    assert must_write_start_first(at_most_once=at_most_once, crashes=crashes) is expected


def test_whoever_has_no_written_start_and_had_to_is_not_counted_as_crashed():
    for at_most_once, crashes in product((False, True), (0, 1, 2)):
        if must_write_start_first(at_most_once=at_most_once, crashes=crashes):
            fate = after_crash(started=False, at_most_once=at_most_once, crashes=crashes, max_crashes=3)
            assert fate == ("ready", crashes)


# backoff


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 80), (12, 20480), (13, 21600)])
def test_the_wait_doubles_up_to_six_hours(attempt, seconds):
    shortest = backoff(attempt=attempt, base=10 * SECOND, chance=0.0)
    assert shortest == timedelta(seconds=seconds) / 2
    assert backoff(attempt=attempt, base=10 * SECOND, chance=0.5) == shortest * 1.5


@given(
    attempt=st.integers(1, 32_767),
    base=st.timedeltas(timedelta(0), timedelta(days=36_500)),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_the_wait_lies_between_half_and_the_whole_of_the_step(attempt, base, chance):
    longest = max(SIX_HOURS, base)  # a wait that somebody asked for is not cut
    whole = longest if attempt > 100 and base else min(base * 2 ** min(attempt - 1, 5), longest)
    wait = backoff(attempt=attempt, base=base, chance=chance)
    assert whole / 2 - MICROSECOND <= wait <= longest
    if attempt <= 6:
        assert wait <= whole


def test_without_a_base_there_is_no_wait():
    assert backoff(attempt=9, base=timedelta(0), chance=0.9) == timedelta(0)


# next_boundary


@pytest.mark.parametrize(
    ("now", "interval", "boundary"),
    [
        ("12:00:30", MINUTE, "12:01"),
        ("12:00", MINUTE, "12:01"),
        ("12:00:00.000001", MINUTE, "12:01"),
        ("11:59:59.999999", MINUTE, "12:00"),
        ("12:00:30.4", SECOND, "12:00:31"),
        ("12:00:30.4", timedelta(milliseconds=250), "12:00:30.5"),
        ("12:07", 5 * MINUTE, "12:10"),
        ("23:59:59", HOUR, "2026-01-02 00:00"),
        ("12:00", timedelta(days=1), "2026-01-02 00:00"),
    ],
)
def test_the_next_boundary(now, interval, boundary):
    assert next_boundary(at(now), interval) == at(boundary)


@given(
    now=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    interval=st.timedeltas(timedelta(milliseconds=100), timedelta(days=1)),
)
def test_a_boundary_is_at_most_one_interval_away_and_boundaries_lie_one_interval_apart(now, interval):
    boundary = next_boundary(now, interval)
    assert now < boundary <= now + interval
    assert next_boundary(boundary, interval) == boundary + interval
    assert next_boundary(boundary - MICROSECOND, interval) == boundary


# jitter_of

slots = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(key=st.text(max_size=20), slot=slots, jitter=st.timedeltas(timedelta(0), timedelta(days=10)))
def test_jitter_delays_by_less_than_itself_and_always_alike(key, slot, jitter):
    delay = jitter_of(task_key=key, slot=slot, jitter=jitter)
    assert timedelta(0) <= delay <= jitter
    assert delay == jitter_of(task_key=key, slot=slot, jitter=jitter)


def test_jitter_stays_the_same_in_every_process_and_version():
    delays = [jitter_of(task_key=key, slot=at("12:00"), jitter=MINUTE).total_seconds() for key in ("1", "2")]
    assert delays == [3.956945, 23.375404]


def test_jitter_spreads_tasks_and_slots_evenly():
    same_slot = [jitter_of(task_key=f"{key}", slot=at("12:00"), jitter=HOUR) for key in range(1000)]
    same_task = [jitter_of(task_key="1", slot=at("12:00") + n * MINUTE, jitter=HOUR) for n in range(1000)]
    for delays in (same_slot, same_task):
        quarters = [sum(n * HOUR / 4 <= delay < (n + 1) * HOUR / 4 for delay in delays) for n in range(4)]
        assert sum(quarters) == 1000
        assert min(quarters) > 200


def test_without_jitter_there_is_no_delay():
    assert jitter_of(task_key="1", slot=at("12:00"), jitter=timedelta(0)) == timedelta(0)
