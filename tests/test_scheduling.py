"""What a tick makes of due tasks: one run for each slot, misfire and overlap policies, zones, jitter, cost."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from sisy import scheduler
from sisy.errors import Cancelled
from sisy.models import Run, Task, task_with_callable
from sisy.testing import run_due
from sisy.transitions import endings
from tests.project.shop import chores
from tests.project.shop.rows import NOON, at, claim, end, every_minute, put_in, slots, statuses, stored, tick_and_claim

pytestmark = pytest.mark.django_db


def missed() -> list[tuple[int, datetime, datetime]]:
    """Count, first and last slot of each MISSED row."""
    rows = Run.objects.filter(status="MISSED").order_by("pk")
    return list(rows.values_list("missed_count", "missed_since", "slot"))


# -- one run for each slot -------------------------------------------------------------------------


def test_a_due_slot_becomes_one_run_and_the_task_moves_on():
    task = every_minute()
    ticked = scheduler.tick(at(0.25))
    run = Run.objects.get()
    assert (run.status, run.slot, run.run_after, run.enqueued_at) == ("READY", NOON, NOON, at(0.25))
    assert (run.task_id, run.started_at, run.finished_at) == (task.pk, None, None)
    row = stored(task)
    assert (row.next_run, row.last_run, row.runs_created) == (at(1), NOON, 1)
    assert (ticked.ready, ticked.skipped, ticked.missed, ticked.parked) == (1, 0, 0, 0)
    assert ticked.next_slot == at(1)


def test_a_slot_is_due_at_its_very_instant_and_not_before():
    every_minute()
    scheduler.tick(NOON - timedelta(microseconds=1))
    assert slots() == []
    scheduler.tick(NOON)
    assert slots() == [0]


def test_a_second_tick_at_the_same_instant_creates_nothing():
    every_minute()
    for _ in range(3):
        scheduler.tick(NOON)
    assert slots() == [0]


def test_a_tick_of_a_clock_that_went_back_repeats_nothing():
    task = every_minute()
    run_due(at(0))
    run_due(at(1))
    for minutes in (-60, 0, 0.5, 1):
        run_due(at(minutes))
    assert slots() == [0, 1]
    assert stored(task).next_run == at(2)


def test_a_next_slot_that_was_set_back_by_hand_repeats_nothing():
    task = every_minute(misfire="all", overlap="allow")
    for minutes in range(3):
        run_due(at(minutes))
    Task.objects.filter(pk=task.pk).update(next_run=NOON)
    run_due(at(3))
    assert slots() == [0, 1, 2, 3]
    assert stored(task).runs_created == 4


def test_seconds_in_a_schedule_are_kept():
    every_minute(schedule="* * * * * */20", overlap="allow")
    for seconds in range(0, 61, 5):
        scheduler.tick(NOON + timedelta(seconds=seconds))
    assert Run.objects.count() == 4
    assert sorted({run.slot.second for run in Run.objects.all()}) == [0, 20, 40]


def test_a_tick_says_which_slot_comes_next_of_all_tasks():
    every_minute(schedule="30 * * * *")
    every_minute(schedule="20 * * * *")
    every_minute(schedule="10 * * * *", enabled=False)
    assert scheduler.tick(NOON).next_slot == at(20)
    assert scheduler.next_slot(at(20)) == at(30)
    Task.objects.all().delete()
    assert scheduler.next_slot(at(20)) is None


def test_the_runs_of_a_task_copy_what_a_worker_needs():
    every_minute(chores.nothing, queue="mail", priority=5, at_most_once=True, label="copied")
    scheduler.tick(NOON)
    run = Run.objects.get()
    assert (run.label, run.callable) == ("copied", "tests.project.shop.chores.nothing")
    assert (run.queue, run.priority, run.at_most_once, run.attempt, run.crashes) == ("mail", 5, True, 1, 0)


def test_a_task_that_is_not_enabled_is_not_due():
    every_minute(enabled=False)
    assert run_due(NOON) == []
    assert slots() == []


def test_slots_follow_the_zone_of_the_task(settings):
    settings.TIME_ZONE = "America/New_York"
    every_minute(schedule="30 17 * * *", timezone="Asia/Kolkata", label="Kolkata")
    every_minute(schedule="15 7 * * *", label="project")
    run_due(NOON)
    run_due(at(15))
    assert (slots(label="Kolkata"), slots(label="project")) == ([0], [15])


def test_a_fixed_time_in_a_gap_runs_once_right_after_it():
    start = datetime(2027, 3, 28, 0, 30, tzinfo=UTC)  # Paris goes from 02:00 to 03:00 at 01:00 UTC
    task_with_callable(chores.nothing, schedule="30 2 * * *", timezone="Europe/Paris", start_running=start).save()
    for minutes in range(0, 180, 15):
        scheduler.tick(start + timedelta(minutes=minutes))
    assert [run.slot for run in Run.objects.all()] == [datetime(2027, 3, 28, 1, 0, tzinfo=UTC)]


def test_a_fixed_time_in_a_repeated_hour_runs_once():
    start = datetime(2027, 10, 31, 0, 0, tzinfo=UTC)  # Paris goes from 03:00 back to 02:00 at 01:00 UTC
    task_with_callable(chores.nothing, schedule="30 2 * * *", timezone="Europe/Paris", start_running=start).save()
    for minutes in range(0, 180, 15):
        scheduler.tick(start + timedelta(minutes=minutes))
    assert [run.slot for run in Run.objects.all()] == [datetime(2027, 10, 31, 0, 30, tzinfo=UTC)]


def test_jitter_delays_the_start_within_its_limit_and_leaves_the_slot_alone():
    for number in range(20):
        every_minute(label=f"{number}", jitter=timedelta(seconds=30))
    scheduler.tick(NOON)
    delays = {run.run_after - run.slot for run in Run.objects.all()}
    assert slots() == [0] * 20
    assert len(delays) > 10
    assert all(timedelta(0) <= delay < timedelta(seconds=30) for delay in delays)


def test_a_delayed_run_is_not_claimed_before_its_time():
    every_minute(jitter=timedelta(seconds=30))
    scheduler.tick(NOON)
    run = Run.objects.get()
    assert claim(run.run_after - timedelta(milliseconds=1)) == []
    assert claim(run.run_after) == [run]


# -- cost ------------------------------------------------------------------------------------------


def statements(function):
    with CaptureQueriesContext(connection) as queries:
        function()
    return [query["sql"] for query in queries]


def test_a_tick_with_nothing_due_costs_the_same_however_many_tasks_there_are():
    every_minute()
    scheduler.tick(at(-2))  # the first tick of a process prunes as well
    few = statements(lambda: scheduler.tick(at(-1.99)))
    Task.objects.bulk_create([task_with_callable(chores.nothing, label=f"{n}", start_running=NOON) for n in range(50)])
    many = statements(lambda: scheduler.tick(at(-1.98)))
    assert len(many) == len(few) == 1
    assert "next_run" in many[0]


def test_the_statements_of_a_tick_do_not_grow_with_the_due_tasks():
    def tick_with(count, minutes):
        for task in Task.objects.all():
            task.delete()
        Task.objects.bulk_create(
            [task_with_callable(chores.nothing, label=f"{n}", start_running=at(minutes)) for n in range(count)]
        )
        return len(statements(lambda: scheduler.tick(at(minutes))))

    tick_with(1, 0)
    assert tick_with(30, 0.25) <= tick_with(2, 0.5) + 3


def test_more_due_tasks_than_one_batch_all_run_in_one_tick(monkeypatch):
    monkeypatch.setattr(scheduler, "_BATCH", 7)
    for number in range(20):
        every_minute(label=f"{number}")
    assert scheduler.tick(NOON).ready == 20
    assert slots() == [0] * 20


# -- misfire ---------------------------------------------------------------------------------------


def test_latest_runs_the_newest_slot_and_writes_the_others_as_one_missed_row():
    task = every_minute()
    run_due(at(0))
    ticked = scheduler.tick(at(5.5))
    assert (slots(), statuses()) == ([0, 5, 4], ["SUCCESSFUL", "READY", "MISSED"])
    assert missed() == [(4, at(1), at(4))]
    assert (ticked.ready, ticked.missed) == (1, 1)
    row = Run.objects.get(status="MISSED")
    assert (row.finished_at, row.task_id) == (at(5.5), task.pk)
    assert "4 slots" in row.reason
    assert (stored(task).next_run, stored(task).runs_created) == (at(6), 2)


def test_latest_with_one_slot_misses_nothing_however_late():
    every_minute(schedule="0 12 * * *")
    scheduler.tick(at(60 * 23))
    assert (slots(), statuses()) == ([0], ["READY"])


def test_a_year_of_outage_is_one_row_and_one_run():
    every_minute()
    scheduler.tick(at(60 * 24 * 365))
    assert sorted(statuses()) == ["MISSED", "READY"]
    row = Run.objects.get(status="MISSED")
    assert (row.missed_since, row.slot) == (NOON, at(60 * 24 * 365 - 1))
    assert row.missed_count >= 1_000
    assert "at least" in row.reason


def test_all_runs_each_slot_one_after_another():
    every_minute(misfire="all")
    heard = []
    with chores.doing(lambda message: heard.append(message["task"].current_run.slot)):
        run_due(at(3.5))
    assert heard == [at(0), at(1), at(2), at(3)]
    assert statuses() == ["SUCCESSFUL"] * 4


def test_all_with_overlap_lets_them_run_together():
    every_minute(misfire="all", overlap="allow")
    scheduler.tick(at(3.5))
    assert [run.slot for run in claim(at(3.5))] == [at(0), at(1), at(2), at(3)]


def test_all_makes_up_for_no_more_slots_than_the_cap(settings):
    settings.SISY = {"MISFIRE_CAP": 3}
    every_minute(misfire="all", overlap="allow")
    scheduler.tick(at(9))
    assert slots(status="READY") == [7, 8, 9]
    assert missed() == [(7, at(0), at(6))]


def test_skip_runs_nothing_that_is_older_than_the_grace():
    task = every_minute(schedule="*/10 * * * *", misfire="skip", misfire_grace=timedelta(minutes=2))
    scheduler.tick(at(12))
    assert slots(status="READY") == [10]
    assert missed() == [(1, at(0), at(0))]
    end(*claim(at(12)))
    scheduler.tick(at(33))
    assert slots(status="READY") == []
    assert missed()[1:] == [(2, at(20), at(30))]
    assert stored(task).next_run == at(40)


def test_a_missed_row_says_why_and_is_told_once(caplog, django_capture_on_commit_callbacks):
    every_minute(misfire="skip", misfire_grace=0)
    with caplog.at_level("INFO", "sisy"), django_capture_on_commit_callbacks(execute=True):
        scheduler.tick(at(1.5))
    lines = [record for record in caplog.records if "MISSED" in record.getMessage()]
    assert len(lines) == 1
    assert "2 slots" in lines[0].getMessage()


# -- overlap ---------------------------------------------------------------------------------------


def test_skip_writes_a_skipped_row_that_says_why():
    task = every_minute()
    (running,) = tick_and_claim(at(0))
    ticked = scheduler.tick(at(1))
    assert (slots(), statuses()) == ([0, 1], ["RUNNING", "SKIPPED"])
    skipped = Run.objects.get(status="SKIPPED")
    assert "not over" in skipped.reason
    assert (skipped.finished_at, ticked.skipped, ticked.ready) == (at(1), 1, 0)
    assert stored(task).next_run == at(2)
    end(running, now=at(1.5))
    assert [run.slot for run in run_due(at(2))] == [at(2)]


def test_a_run_that_nobody_has_claimed_yet_overlaps_too():
    every_minute()
    scheduler.tick(at(0))
    scheduler.tick(at(1))
    assert statuses() == ["READY", "SKIPPED"]


def test_a_run_that_waits_for_its_next_attempt_overlaps_too():
    every_minute(max_attempts=2, retry_backoff=timedelta(hours=1))
    end(*tick_and_claim(at(0)), error=RuntimeError("no"))
    scheduler.tick(at(1))
    assert statuses() == ["READY", "SKIPPED"]


def test_allow_runs_both():
    every_minute(overlap="allow")
    tick_and_claim(at(0))
    assert [run.slot for run in tick_and_claim(at(1))] == [at(1)]
    assert statuses() == ["RUNNING"] * 2


def test_queue_lets_one_run_wait_and_skips_further_ones():
    task = every_minute(overlap="queue")
    (first,) = tick_and_claim(at(0))
    assert tick_and_claim(at(1)) == []
    assert tick_and_claim(at(2)) == []
    assert statuses() == ["RUNNING", "READY", "SKIPPED"]
    assert stored(task).runs_created == 2
    end(first, now=at(2.5))
    assert [run.slot for run in claim(at(2.5))] == [at(1)]


@pytest.mark.parametrize("result", [{"result": 1}, {"error": RuntimeError("no")}, {"error": Cancelled("stop")}])
def test_a_waiting_run_starts_however_the_one_before_ended(result):
    every_minute(overlap="queue")
    (first,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    end(first, now=at(1.5), **result)
    assert [run.slot for run in claim(at(1.5))] == [at(1)]


def test_a_waiting_run_starts_when_the_one_before_is_cancelled_unstarted():
    every_minute(overlap="queue")
    scheduler.tick(at(0))
    scheduler.tick(at(1))
    endings.cancel([Run.objects.get(slot=NOON)], now=at(1.5))
    assert [run.slot for run in claim(at(1.5))] == [at(1)]


def test_a_waiting_run_does_not_start_while_the_one_before_waits_for_its_next_attempt():
    every_minute(overlap="queue", max_attempts=2)
    (first,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    end(first, now=at(1.5), error=RuntimeError("no"))
    assert [run.slot for run in claim(at(2))] == [NOON]


def test_replace_cancels_a_run_that_has_not_started():
    every_minute(overlap="replace")
    scheduler.tick(at(0))
    assert [run.slot for run in tick_and_claim(at(1))] == [at(1)]
    old = Run.objects.get(slot=NOON)
    assert (old.status, old.finished_at) == ("CANCELLED", at(1))
    assert "replaced" in old.reason


def test_replace_asks_a_running_run_to_stop_and_starts_when_it_has():
    every_minute(overlap="replace")
    (old,) = tick_and_claim(at(0))
    assert tick_and_claim(at(1)) == []
    assert stored(old).cancel_requested_at == at(1)
    end(old, now=at(1.25), error=Cancelled("it was cancelled"))
    assert [run.slot for run in claim(at(1.25))] == [at(1)]


def test_a_run_that_was_replaced_while_it_ran_says_so():
    every_minute(overlap="replace")
    (old,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    end(old, now=at(1.25), error=Cancelled("it was cancelled"))
    row = stored(old)
    assert row.status == "CANCELLED"
    assert "replaced" in row.reason


def test_only_the_newest_of_several_replacing_runs_is_left():
    every_minute(overlap="replace")
    (old,) = tick_and_claim(at(0))
    for minutes in (1, 2, 3):
        scheduler.tick(at(minutes))
    end(old, now=at(3.5), error=Cancelled("it was cancelled"))
    assert [run.slot for run in claim(at(3.5))] == [at(3)]
    assert sorted(statuses()) == ["CANCELLED"] * 3 + ["RUNNING"]


def test_runs_of_another_task_never_overlap():
    every_minute(label="one")
    every_minute(label="two")
    tick_and_claim(at(0))
    put_in(Task.objects.get(label="two"), next_run="2100-01-02 00:00:00")
    scheduler.tick(at(1))
    assert (statuses(label="one"), statuses(label="two")) == (["RUNNING", "SKIPPED"], ["RUNNING"])


def test_ended_runs_do_not_overlap():
    every_minute()
    for minutes in range(3):
        end(*tick_and_claim(at(minutes)), now=at(minutes))
    assert statuses() == ["SUCCESSFUL"] * 3
