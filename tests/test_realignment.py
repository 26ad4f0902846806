"""Announced slots that no schedule has: they are brought back, with a warning, and nothing else is touched."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sisy import realignment, scheduler, signals
from sisy.models import Run, Task
from sisy.transitions import planning
from tests.project.shop.rows import NOON, at, every_minute, put_in, slots, stored

pytestmark = pytest.mark.django_db

FAR = datetime(2198, 5, 1, 3, 17, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realignment, "_round", realignment._Round())


def announced(task: Task, slot: datetime) -> Task:
    """Announce a slot for a task, as nobody but the scheduler may."""
    put_in(task, next_run=slot.astimezone(UTC).replace(tzinfo=None).isoformat(" "))
    return stored(task)


def test_a_task_that_a_wrong_clock_sent_far_away_is_brought_back(caplog: pytest.LogCaptureFixture) -> None:
    task = every_minute()
    scheduler.tick(FAR)  # for a moment the clock was wrong
    assert stored(task).next_run > FAR
    scheduler.tick(at(1.5))
    assert stored(task).next_run == at(2)
    (line,) = [record for record in caplog.records if record.name == "sisy.scheduler"]
    assert line.levelno == logging.WARNING
    assert (line.task_id, "its next slot is 2100-01-01 12:02" in line.getMessage()) == (task.pk, True)
    scheduler.tick(at(2))
    assert at(2) in [run.slot for run in Run.objects.all()]


def test_a_clock_that_was_a_day_ahead_costs_no_day() -> None:
    task = every_minute(overlap="allow")
    scheduler.tick(at(24 * 60))
    scheduler.tick(at(0.5))
    assert stored(task).next_run == at(1)
    scheduler.tick(at(1))
    scheduler.tick(at(2))
    assert slots(status="READY") == [24 * 60, 1, 2]


@pytest.mark.parametrize(
    ("schedule", "slot"),
    [
        ("0 0 29 2 *", datetime(2104, 2, 29, tzinfo=UTC)),
        ("0 0 1 1 *", datetime(2101, 1, 1, tzinfo=UTC)),
        ("@every 36500d", NOON + timedelta(days=36500)),
        ("17 3 * * *", NOON.replace(day=2, hour=3, minute=17)),
    ],
)
def test_a_slot_that_is_far_away_by_its_schedule_stays(schedule: str, slot: datetime) -> None:
    task = every_minute(schedule=schedule, overlap="allow")
    scheduler.tick(NOON)
    assert (realignment.realign(at(1)), stored(task).next_run) == ((0, None), slot)


def test_a_first_run_that_its_user_set_far_away_stays() -> None:
    far = every_minute(start_running=FAR)
    at_start = every_minute(start_running=FAR + timedelta(seconds=7), wait_for_schedule=False)
    once = Task.run_once("tests.project.shop.chores.does", delay_until=FAR)
    assert realignment.realign(NOON)[0] == 0
    assert [stored(task).next_run for task in (far, at_start, once)] == [FAR, FAR + timedelta(seconds=7), FAR]


def test_a_paused_task_a_used_up_one_and_one_whose_window_is_over_are_left_alone() -> None:
    paused = announced(every_minute(), FAR)
    planning.pause(paused)
    over = announced(every_minute(end_running=at(5)), FAR)
    assert realignment.realign(at(9))[0] == 0
    assert [stored(task).next_run for task in (paused, over)] == [FAR, FAR]


def test_a_slot_that_new_rules_of_a_zone_have_moved_runs_once_at_its_new_instant() -> None:
    """The row was written when the zone still had another offset: too early by an hour, or too late."""
    zone = ZoneInfo("Europe/Paris")
    nine = datetime(2100, 1, 2, 9, tzinfo=zone).astimezone(UTC)
    for hours in (-1, 1):
        task = every_minute(schedule="0 9 * * *", timezone="Europe/Paris")
        announced(task, nine + timedelta(hours=hours))
        assert realignment.realign(NOON) == (1, None)
        assert stored(task).next_run == nine
        for hour in (8, 9, 10):
            scheduler.tick(datetime(2100, 1, 2, hour, tzinfo=zone))
        assert list(Run.objects.filter(task=task).values_list("slot", flat=True)) == [nine]
        task.delete()


def test_a_slot_that_is_due_is_left_to_the_tick() -> None:
    task = announced(every_minute(schedule="0 * * * *"), at(7))
    assert realignment.realign(at(7)) == (0, None)
    assert stored(task).next_run == at(7)


def test_a_host_whose_clock_is_behind_brings_nothing_back() -> None:
    """The database's clock says that the slots in between have passed."""
    task = every_minute(start_running=None)
    slot = stored(task).next_run
    assert realignment.realign(timezone.now() - timedelta(hours=5)) == (0, None)
    assert stored(task).next_run == slot


def test_a_row_that_can_t_be_read_or_planned_keeps_the_others_from_nothing() -> None:
    bad = announced(every_minute(), FAR)
    put_in(bad, schedule="99 * * * *")
    zoneless = announced(every_minute(), FAR)
    put_in(zoneless, timezone="Middle/Earth")
    good = announced(every_minute(), FAR)
    assert realignment.realign(NOON) == (1, None)
    assert [stored(task).next_run for task in (bad, zoneless, good)] == [FAR, FAR, at(1)]


def test_an_edit_at_the_same_moment_has_the_last_word() -> None:
    task = announced(every_minute(), FAR)
    stale = stored(task)
    put_in(task, next_run="2150-01-01 00:00:00")
    assert planning.correct_slot(stale, NOON) is False
    stale = stored(task)
    put_in(task, schedule_version=77)
    assert planning.correct_slot(stale, NOON) is False
    assert stored(task).next_run == datetime(2150, 1, 1, tzinfo=UTC)


def test_a_host_whose_clock_is_a_little_ahead_announces_slots_that_stay() -> None:
    task = every_minute(schedule="@every 90s", overlap="allow")
    scheduler.tick(NOON + timedelta(seconds=5))  # its host is 20 s ahead of the one that looks next
    assert stored(task).next_run == at(1.5)
    assert realignment.realign(NOON - timedelta(seconds=15)) == (0, None)
    assert stored(task).next_run == at(1.5)


def test_the_heartbeat_hears_of_a_corrected_slot(django_capture_on_commit_callbacks: Any) -> None:
    heard = []
    task = announced(every_minute(), FAR)

    def hear(sender: Any, *, event: str, tasks: list[Task], **_: Any) -> None:
        heard.append((event, [task.next_run for task in tasks]))

    signals.tasks_changed.connect(hear)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            realignment.realign(NOON)
    finally:
        signals.tasks_changed.disconnect(hear)
    assert heard == [("scheduled", [at(1)])]
    assert stored(task).next_run == at(1)


# What it costs --------------------------------------------------------------------------------------------------------


def test_many_tasks_are_looked_at_in_batches_also_those_with_equal_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realignment, "_BATCH", 3)
    tasks = [announced(every_minute(), FAR) for _ in range(7)]
    tasks += [announced(every_minute(), FAR + timedelta(minutes=n)) for n in range(3)]
    for ticks in range(1, 5):
        scheduler.tick(at(-3) + timedelta(seconds=30 * ticks))
        assert sum(stored(task).next_run == NOON for task in tasks) == min(3 * ticks, 10)


def test_all_tasks_are_looked_at_when_a_process_starts_to_tick_and_once_an_hour() -> None:
    task = every_minute(schedule="0 0 * * *")
    slot = stored(task).next_run
    scheduler.tick(NOON)
    announced(task, FAR)
    scheduler.tick(at(59))
    assert stored(task).next_run == FAR
    scheduler.tick(at(60))
    assert stored(task).next_run == slot


def test_a_tick_in_between_asks_the_database_nothing_for_it() -> None:
    every_minute(schedule="0 0 * * *")
    scheduler.tick(NOON)
    with CaptureQueriesContext(connection) as queries:
        scheduler.tick(at(1))
    assert [query["sql"] for query in queries if "database_now" in query["sql"]] == []


def test_a_warning_for_each_of_ten_tasks_and_one_for_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(13):
        announced(every_minute(), FAR)
    realignment.realign(NOON)
    lines = [record.getMessage() for record in caplog.records if record.name == "sisy.scheduler"]
    assert (len(lines), lines[-1]) == (11, "3 more tasks were announced for such slots")
