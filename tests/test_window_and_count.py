"""When tasks begin and end: start and end, iterations, one-shots, and what is left when a task is used up."""

import math
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections
from django.db.models.signals import post_delete
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sisy import scheduler
from sisy.errors import Cancelled
from sisy.models import Run, Task, task_with_callable
from sisy.testing import drain, run_due
from sisy.transitions import claims
from tests.project.shop import chores, heard, tasks
from tests.project.shop.models import Order, RushOrder
from tests.project.shop.rows import (
    NOON,
    at,
    claim,
    end,
    every_minute,
    expire,
    put_in,
    slots,
    statuses,
    stored,
    tick_and_claim,
)

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
PATH = "tests.project.shop.chores.does"


@pytest.fixture(autouse=True)
def _nothing_heard():
    heard.calls.clear()


def run_each(minutes):
    for minute in minutes:
        run_due(at(minute))


# -- the window ------------------------------------------------------------------------------------


def test_the_first_slot_may_be_at_the_start_and_none_is_at_the_end():
    every_minute(start_running=at(2), end_running=at(5))
    run_each(range(10))
    assert slots() == [2, 3, 4]


@pytest.mark.parametrize(("start", "end_at", "minutes"), [(0, 3, [1, 2, 3]), (-0.5, 0, [0])])
def test_the_window_is_kept_to_the_microsecond(start, end_at, minutes):
    moment = timedelta(microseconds=1)
    every_minute(start_running=at(start) + moment, end_running=at(end_at) + moment)
    run_each(range(5))
    assert slots() == minutes


def test_a_start_between_two_slots_begins_with_the_next_one():
    every_minute(start_running=at(2.5), end_running=at(4.5))
    run_each(range(10))
    assert slots() == [3, 4]


def test_the_task_is_deleted_once_the_last_run_before_its_end_is_over():
    task = every_minute(end_running=at(1), userdata={"n": 1}, label="closing")
    (run,) = tick_and_claim(at(0))
    assert stored(task).next_run is None
    scheduler.tick(at(5))
    assert Task.objects.count() == 1
    end(run, now=at(6))
    assert Task.objects.count() == 0
    row = Run.objects.get()
    assert (row.task_id, row.label, row.callable, row.userdata) == (None, "closing", PATH, {"n": 1})


def test_the_end_comes_before_the_count():
    every_minute(iterations=10, end_running=at(3))
    run_each(range(20))
    assert slots() == [0, 1, 2]
    assert not Task.objects.exists()


def test_the_count_comes_before_the_end():
    every_minute(iterations=2, end_running=at(10))
    run_each(range(20))
    assert slots() == [0, 1]
    assert not Task.objects.exists()


def test_no_run_comes_after_an_end_that_lay_in_an_outage():
    every_minute(end_running=at(3))
    scheduler.tick(at(60))
    assert slots(status="READY") == [2]
    missed = Run.objects.get(status="MISSED")
    assert (missed.missed_count, missed.missed_since, missed.slot) == (2, at(0), at(1))


def test_a_task_whose_last_slots_were_missed_is_deleted_by_the_tick():
    every_minute(end_running=at(3), misfire="skip", misfire_grace=0)
    scheduler.tick(at(60))
    assert statuses() == ["MISSED"]
    assert not Task.objects.exists()


def test_a_task_without_a_slot_in_its_window_is_refused():
    with pytest.raises(ValueError, match="no slot before end_running"):
        every_minute(schedule="0 0 * * *", end_running=at(60))
    assert not Task.objects.exists()


def test_a_start_in_the_past_begins_now():
    task = every_minute(start_running=timezone.now() - DAY)
    assert task.next_run > timezone.now()


# -- the count -------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow", "replace"])
def test_there_are_exactly_as_many_runs_as_iterations(overlap):
    every_minute(iterations=3, overlap=overlap)
    run_each(range(8))
    assert (slots(), statuses()) == ([0, 1, 2], ["SUCCESSFUL"] * 3)
    assert not Task.objects.exists()
    assert set(Run.objects.values_list("task", "label", "callable")) == {(None, "task", PATH)}


def test_a_failed_run_counts_too():
    every_minute(tasks.fail, iterations=2)
    run_each(range(5))
    assert statuses() == ["FAILED"] * 2
    assert not Task.objects.exists()


def test_a_run_that_is_cancelled_or_lost_counts_too():
    every_minute(iterations=2, at_most_once=True)
    end(*tick_and_claim(at(0)), error=Cancelled("stop"))
    (run,) = tick_and_claim(at(1))
    claims.start([run], now=at(1))
    expire(run)
    run_each(range(2, 6))
    assert statuses() == ["CANCELLED", "LOST"]
    assert not Task.objects.exists()


def test_attempts_of_one_run_count_once():
    every_minute(tasks.fail, iterations=2, max_attempts=3, retry_backoff=0)
    run_each(range(6))
    assert [(run.status, run.attempt) for run in Run.objects.all()] == [("FAILED", 3)] * 2


def test_a_run_that_the_overlap_policy_skipped_does_not_use_up_an_iteration():
    every_minute(iterations=3)
    (slow,) = tick_and_claim(at(0))
    for minutes in (1, 2, 3):
        scheduler.tick(at(minutes))
    end(slow, now=at(3.5))
    run_each(range(4, 9))
    assert slots(status="SUCCESSFUL") == [0, 4, 5]
    assert slots(status="SKIPPED") == [1, 2, 3]
    assert not Task.objects.exists()


def test_missed_slots_do_not_use_up_iterations():
    every_minute(iterations=3)
    run_each([0, 10, 11, 12])
    assert slots(status="SUCCESSFUL") == [0, 10, 11]


def test_making_up_for_missed_slots_does_not_go_past_the_count():
    every_minute(iterations=3, misfire="all")
    run_each([10, 11, 12])
    assert slots() == [0, 1, 2]
    assert not Task.objects.exists()


def test_a_missed_slot_that_is_made_up_for_waits_for_the_run_before_it_also_when_one_iteration_is_left():
    """It was skipped, and the slots behind it, for which a run was left then, came to nothing at all."""
    every_minute(iterations=2, misfire="all")
    (first,) = tick_and_claim(at(0))
    scheduler.tick(at(4))
    assert (slots(), statuses()) == ([0, 1], ["RUNNING", "READY"])
    end(first, now=at(4))
    drain(at(4))
    assert statuses() == ["SUCCESSFUL"] * 2
    assert not Task.objects.exists()


def test_a_slot_that_has_a_run_already_uses_up_no_iteration():
    """A clock was set back, the task resumed, and the clock set forward again."""
    task = every_minute(iterations=3, misfire="all", overlap="allow")
    run_each([0])
    put_in(task, next_run=at(0))
    scheduler.tick(at(3))
    assert slots() == [0, 1, 2]


def test_a_waiting_run_counts_when_it_is_created():
    every_minute(iterations=2, overlap="queue")
    (first,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    scheduler.tick(at(2))
    assert slots() == [0, 1]
    end(first, now=at(2.5))
    assert Task.objects.count() == 1
    drain(at(2.5))
    assert statuses() == ["SUCCESSFUL"] * 2
    assert not Task.objects.exists()


def test_the_task_lives_until_its_last_run_is_over():
    every_minute(iterations=1, max_attempts=2, retry_backoff=0)
    (run,) = tick_and_claim(at(0))
    end(run, now=at(0), error=RuntimeError("no"))
    scheduler.tick(at(1))
    assert Task.objects.count() == 1
    drain(at(1))
    assert (statuses(), Task.objects.count()) == (["SUCCESSFUL"], 0)


def test_history_keeps_each_runs_own_columns_when_the_task_is_deleted():
    every_minute(iterations=2, label="counted")
    run_each([0, 1])
    assert slots(task=None, label="counted") == [0, 1]


def test_zero_iterations_means_no_limit():
    task = every_minute(iterations=0)
    run_each(range(5))
    assert (len(slots()), stored(task).next_run) == (5, at(5))


def test_raising_the_iterations_while_the_last_run_is_going_on_keeps_the_task():
    task = every_minute(iterations=1)
    (run,) = tick_and_claim(at(0))
    task.iterations = 2
    task.save()
    end(run, now=at(0.5))
    assert Task.objects.count() == 1


def test_lowering_the_iterations_ends_the_task():
    task = every_minute(iterations=5)
    run_each([0, 1])
    task.iterations = 2
    task.save()
    run_each([2, 3])
    assert slots() == [0, 1]
    assert not Task.objects.exists()


# -- upcoming and describe ----------------------------------------------------------------------------


def test_upcoming_gives_the_next_slots():
    task = every_minute(schedule="*/5 * * * *")
    assert task.upcoming(3) == [at(0), at(5), at(10)]
    run_due(at(0))
    assert stored(task).upcoming(2) == [at(5), at(10)]
    assert task.upcoming(0) == []


def test_upcoming_keeps_to_the_end_and_the_count():
    assert every_minute(end_running=at(2)).upcoming(5) == [at(0), at(1)]
    task = every_minute(iterations=3)
    assert task.upcoming(5) == [at(0), at(1), at(2)]
    run_due(at(0))
    assert stored(task).upcoming(5) == [at(1), at(2)]


def test_upcoming_works_before_the_task_is_saved():
    task = task_with_callable(chores.nothing, schedule="* * * * *", start_running=NOON)
    assert task.upcoming(2) == [at(0), at(1)]


def test_upcoming_of_a_one_shot_is_its_instant_or_nothing():
    assert Task.run_once(chores.nothing, delay_until=NOON).upcoming(5) == [NOON]
    assert Task.run_once(chores.nothing).upcoming(5) == []


def test_describe_says_the_schedule_in_words():
    task = task_with_callable(chores.nothing, schedule="*/15 9-17 * * mon-fri", timezone="Europe/Paris")
    assert task.describe() == "Every 15 minutes from 09:00 to 17:45, Monday to Friday, Europe/Paris"
    assert "2100" in Task.run_once(chores.nothing, delay_until=NOON).describe()


def test_renaming_a_task_does_not_move_what_h_stands_for():
    """H is a stable hash of the task; a renamed one would run twice on one day."""
    task = every_minute(schedule="H H * * *", label="before")
    slots_before = task.upcoming(3)
    task.label = "after"
    task.save()
    assert stored(task).upcoming(3) == slots_before
    run_due(slots_before[0])
    assert stored(task).next_run == slots_before[1]


def test_h_spreads_the_tasks_of_one_callable():
    tasks_of_one = [every_minute(schedule="H H * * *", label=f"{number}") for number in range(10)]
    assert len({task.next_run for task in tasks_of_one}) > 5


# -- without waiting for the schedule --------------------------------------------------------------


def test_a_task_that_does_not_wait_for_its_schedule_runs_at_once_and_then_by_it():
    before = timezone.now()
    task = task_with_callable(chores.nothing, schedule="0 0 1 1 *", wait_for_schedule=False)
    task.save()
    run = Run.objects.get()
    assert (run.slot, run.status, run.task_id) == (None, "READY", task.pk)
    assert before <= run.run_after <= timezone.now() < stored(task).next_run
    assert stored(task).runs_created == 1


def test_a_task_that_waits_for_its_start_but_not_its_schedule_runs_at_its_start():
    every_minute(schedule="30 * * * *", wait_for_schedule=False)
    run_each([-1, 0, 1, 30])
    assert slots() == [0, 30]


# -- one-shots -------------------------------------------------------------------------------------


def test_a_one_shot_runs_now_and_is_deleted_and_can_be_read_in_history():
    task = Task.run_once(tasks.note, userdata={"shop": 3}, label="once")
    assert (task.pk, statuses()) == (Task.objects.get().pk, ["READY"])
    drain()
    assert heard.notes() == ["note"]
    assert heard.calls[0].message["task"].userdata == {"shop": 3}
    assert not Task.objects.exists()
    run = Run.objects.get()
    assert (run.status, run.task_id, run.label, run.userdata) == ("SUCCESSFUL", None, "once", {"shop": 3})
    assert run.callable == "tests.project.shop.tasks.note"


def test_a_one_shot_is_not_ticked_again():
    Task.run_once(tasks.note)
    run_due(NOON)
    run_due(at(60))
    assert statuses() == ["SUCCESSFUL"]


def test_a_failed_one_shot_is_deleted_too_and_can_be_read_in_history():
    Task.run_once(tasks.fail, userdata={"shop": 3})
    drain()
    run = Run.objects.get()
    assert (run.status, run.task_id, run.userdata) == ("FAILED", None, {"shop": 3})
    assert "the shop is on fire" in run.traceback
    assert not Task.objects.exists()


def test_history_of_a_one_shot_has_the_userdata_with_which_it_was_created():
    """So that it can be run again."""
    Task.run_once(tasks.count, userdata={"n": 1})
    drain()
    assert Run.objects.get().userdata == {"n": 1}


def test_a_delayed_one_shot_runs_at_its_instant_to_the_microsecond():
    instant = NOON + timedelta(seconds=1, microseconds=234567)
    Task.run_once(tasks.note, delay_until=instant, userdata={"n": 1})
    assert statuses() == []
    run_due(instant - timedelta(microseconds=1))
    assert statuses() == []
    run_due(instant)
    run = Run.objects.get()
    assert (run.status, run.slot, run.userdata) == ("SUCCESSFUL", instant, {"n": 1})
    assert not Task.objects.exists()


def test_a_delayed_one_shot_runs_however_late_the_tick_comes():
    Task.run_once(tasks.note, delay_until=NOON)
    run_due(at(60 * 24 * 100))
    assert statuses() == ["SUCCESSFUL"]


def test_a_one_shot_of_a_bound_method_of_a_row():
    row = RushOrder.objects.create(name="right", fee=1)
    Task.run_once(row.remind, delay_until=NOON)
    Task.run_once("tests.project.shop.models.Order.remind", pk_override=row.pk)
    run_due(NOON)
    assert sorted(heard.notes()) == ["Order.remind right", "RushOrder.remind right"]


def test_a_lost_one_shot_keeps_its_userdata():
    Task.run_once(tasks.note, userdata={"shop": 3}, at_most_once=True)
    (run,) = claim(timezone.now())
    claims.start([run], now=timezone.now())
    expire(run)
    scheduler.tick(timezone.now())
    row = Run.objects.get()
    assert (row.status, row.task_id, row.userdata) == ("LOST", None, {"shop": 3})
    assert not Task.objects.exists()


def test_a_missed_one_shot_keeps_its_userdata():
    Task.run_once(tasks.note, userdata={"shop": 3}, delay_until=NOON, misfire="skip")
    scheduler.tick(at(10))
    row = Run.objects.get()
    assert (row.status, row.task_id, row.userdata) == ("MISSED", None, {"shop": 3})
    assert not Task.objects.exists()


def test_a_one_shot_cancelled_while_it_ran_keeps_its_userdata():
    task = Task.run_once(tasks.note, userdata={"shop": 3})
    (run,) = claim(timezone.now())
    task.cancel()
    expire(run)
    scheduler.tick(timezone.now())
    row = Run.objects.get()
    assert (row.status, row.userdata) == ("CANCELLED", {"shop": 3})


def test_run_once_takes_every_other_field():
    task = Task.run_once(chores.nothing, queue="mail", priority=7, max_attempts=3, timeout=5, label="x")
    row = stored(task)
    assert (row.queue, row.priority, row.max_attempts, row.timeout) == ("mail", 7, 3, timedelta(seconds=5))
    assert Run.objects.get().queue == "mail"


# -- run_iterations --------------------------------------------------------------------------------


def test_run_iterations_waits_for_its_schedule():
    task = Task.run_iterations(tasks.note, schedule="0 7-19 * * *", iterations=10, userdata={"n": 1}, label="ten")
    assert statuses() == []
    row = stored(task)
    assert (row.schedule, row.iterations, row.userdata, row.label) == ("0 7-19 * * *", 10, {"n": 1}, "ten")
    assert row.wait_for_schedule is True


def test_run_iterations_can_begin_at_once_and_that_run_counts():
    Task.run_iterations(tasks.note, 2, schedule="0 0 1 1 *", run_immediately=True)
    assert statuses() == ["READY"]
    assert len(drain()) == 1
    next_run = Task.objects.get().next_run
    run_due(next_run)
    assert statuses()[-1] == "SUCCESSFUL"
    assert len(heard.notes()) == 2
    assert not Task.objects.exists()


def test_one_iteration_at_once_is_one_run():
    Task.run_iterations(tasks.note, run_immediately=True, schedule="* * * * *")
    run_each(range(3))
    assert heard.notes() == ["note"]
    assert not Task.objects.exists()


def test_run_iterations_can_be_delayed():
    Task.run_iterations(tasks.note, 2, schedule="*/10 * * * *", delay_until=at(5))
    run_each(range(31))
    assert slots() == [10, 20]


def test_run_iterations_delayed_and_immediate_begins_at_that_instant():
    Task.run_iterations(tasks.note, 2, schedule="*/10 * * * *", delay_until=at(5), run_immediately=True)
    run_each(range(31))
    assert slots() == [5, 10]


# -- the async twins -------------------------------------------------------------------------------


def test_the_async_twins_do_the_same():
    async_to_sync(Task.arun_once)(tasks.note, userdata={"n": 1})
    async_to_sync(Task.arun_iterations)(tasks.note, iterations=2, run_immediately=True)
    async_to_sync(Task.abulk_run_once)(tasks.note, [{"n": 2}, {"n": 3}])
    assert statuses() == ["READY"] * 4
    task = every_minute()
    assert async_to_sync(task.arun_asap)().status == "READY"
    assert async_to_sync(task.acancel)() == 1
    assert async_to_sync(task.apause)() is True
    async_to_sync(task.aresume)()
    assert stored(task).enabled is True


@pytest.mark.django_db(transaction=True)
async def test_the_async_twins_work_in_an_event_loop():
    task = await Task.arun_once("tests.project.shop.tasks.anote", userdata={"n": 1})
    assert (await Task.objects.aget()).pk == task.pk
    task.label = "renamed"
    await task.asave()
    assert [run.label async for run in Run.objects.filter(task=task)] == ["tests.project.shop.tasks.anote"]
    await sync_to_async(connections.close_all)()


# -- many at once ----------------------------------------------------------------------------------


def test_bulk_run_once_creates_one_run_for_each_userdata_in_a_few_statements():
    userdatas = [{"n": n} for n in range(2500)]
    with CaptureQueriesContext(connection) as queries:
        created = Task.bulk_run_once(tasks.note, userdatas, queue="mail", label="many")
    assert len(created) == Task.objects.count() == Run.objects.filter(status="READY", queue="mail").count() == 2500
    assert sorted(task.userdata["n"] for task in Task.objects.all()) == list(range(2500))
    assert Run.objects.values("task").distinct().count() == 2500
    assert len(queries) <= most_statements(2500)


def most_statements(rows):
    """What the database's own limit on parameters asks for, and ten more."""
    inserts = 0
    for model in (Task, Run):
        fields = [field for field in model._meta.concrete_fields if not field.primary_key]
        size = connection.ops.bulk_batch_size(fields, [None] * rows) or rows
        inserts += math.ceil(rows / min(size, 1000))
    return inserts + 10


def test_bulk_run_once_runs_each_with_its_own_userdata():
    Task.bulk_run_once(tasks.note, ({"n": n} for n in range(3)))
    drain()
    assert sorted(call.message["task"].userdata["n"] for call in heard.calls) == [0, 1, 2]
    assert sorted(run.userdata["n"] for run in Run.objects.filter(status="SUCCESSFUL")) == [0, 1, 2]
    assert not Task.objects.exists()


@pytest.mark.parametrize("bad", [{"x": float("nan")}, [1], None, {"x": object()}])
def test_bulk_run_once_stores_nothing_when_one_is_bad(bad):
    with pytest.raises(ValueError, match="userdata"):
        Task.bulk_run_once(tasks.note, [{}] * 1500 + [bad])
    assert Task.objects.count() == Run.objects.count() == 0


def test_bulk_run_once_of_nothing_is_nothing():
    assert Task.bulk_run_once(tasks.note, []) == []


def test_bulk_run_once_of_a_method_of_a_row():
    row = Order.objects.create(name="right")
    Task.bulk_run_once(row.remind, [{}, {}])
    drain()
    assert heard.notes() == ["Order.remind right"] * 2


def test_bulk_run_once_keeps_to_a_start_that_is_given():
    """As its documentation says: any other field of Task."""
    Task.bulk_run_once(tasks.note, [{"n": 1}, {"n": 2}], start_running=NOON)
    assert statuses() == []
    run_due(NOON)
    assert sorted(call.message["task"].userdata["n"] for call in heard.calls) == [1, 2]
    assert not Task.objects.exists()


def test_bulk_run_once_of_paused_tasks_runs_nothing():
    Task.bulk_run_once(tasks.note, [{}], enabled=False)
    assert drain() == []


def test_bulk_run_once_works_where_an_insert_does_not_return_its_keys(monkeypatch):
    """MySQL's, for one; MariaDB's, PostgreSQL's and SQLite's do."""
    monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)
    Task.bulk_run_once(tasks.note, [{"n": 1}, {"n": 2}])
    monkeypatch.undo()
    drain()
    assert sorted(call.message["task"].userdata["n"] for call in heard.calls) == [1, 2]


# -- what is left ----------------------------------------------------------------------------------


def test_a_task_with_an_error_is_not_deleted_even_without_a_slot_left():
    task = every_minute(iterations=1)
    run_each([0])
    other = every_minute()
    put_in(other, schedule="99 * * * *")
    run_each([1])
    put_in(other, next_run=None)
    run_each([2])
    assert [row.pk for row in Task.objects.all()] == [other.pk]
    assert task.pk != other.pk


def test_receivers_of_djangos_deletion_signal_hear_of_a_used_up_task():
    deleted = []
    post_delete.connect(lambda instance, **_: deleted.append(instance.label), sender=Task, weak=False, dispatch_uid="t")
    try:
        Task.run_once(tasks.note, label="gone")
        drain()
    finally:
        post_delete.disconnect(sender=Task, dispatch_uid="t")
    assert deleted == ["gone"]
    assert Run.objects.get().task_id is None
