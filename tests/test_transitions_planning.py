"""planning: each change of a task's next slot and each new run is guarded, and is announced once it is committed."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from sisy import policy, scheduler, signals
from sisy.errors import TaskExhausted, TaskGone, TaskParked
from sisy.models import Run, Task
from sisy.transitions import planning
from sisy.transitions.atomic import locked, write
from tests.project.shop import chores
from tests.project.shop.rows import NOON, at, claim, every_minute, put_in, slots, statuses, stored, tick_and_claim

pytestmark = pytest.mark.django_db


@pytest.fixture
def news():
    """What the two doors say: (event, number of rows), in order."""
    heard = []

    def on_runs(event, runs, **_):
        heard.append((event, len(runs)))

    def on_tasks(event, tasks, **_):
        heard.append((event, len(tasks)))

    signals.runs_changed.connect(on_runs)
    signals.tasks_changed.connect(on_tasks)
    yield heard
    signals.runs_changed.disconnect(on_runs)
    signals.tasks_changed.disconnect(on_tasks)


def enqueue(*tasks, now):
    """As a tick does, but with tasks that the test has chosen."""
    with write():
        rows = list(locked(Task.objects.filter(pk__in=[task.pk for task in tasks]).order_by("pk")))
        return planning.enqueue([(row, policy.plan(row.timetable(), now=now)) for row in rows], now=now)


# -- enqueue ---------------------------------------------------------------------------------------


def test_a_plan_with_nothing_to_run_creates_nothing():
    task = every_minute()
    assert enqueue(task, now=at(-1)).all() == []
    assert stored(task).next_run == NOON


def test_enqueueing_no_tasks_is_nothing():
    assert planning.enqueue([], now=NOON).all() == []


def test_the_same_plan_twice_creates_one_run_and_counts_once():
    """Two ticks cannot hold one task's lock; but what the first one did must be seen by the second."""
    task = every_minute(overlap="allow")
    enqueue(task, now=NOON)
    Task.objects.filter(pk=task.pk).update(next_run=NOON)
    enqueue(task, now=NOON)
    assert (slots(), stored(task).runs_created, stored(task).next_run) == ([0], 1, at(1))


@pytest.mark.parametrize("status", ["SKIPPED", "MISSED", "CANCELLED"])
def test_a_slot_with_a_row_of_any_state_is_taken(status):
    task = every_minute()
    Run.objects.create(
        task=task, label="x", callable="x", slot=NOON, status=status, enqueued_at=NOON, finished_at=NOON, run_after=NOON
    )
    scheduler.tick(NOON)
    assert slots() == [0]
    assert stored(task).next_run == at(1)


def test_the_database_itself_refuses_a_second_run_for_a_slot():
    task = every_minute()
    scheduler.tick(NOON)
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.create(task=task, label="x", callable="x", slot=NOON, enqueued_at=NOON, run_after=NOON)


def test_many_missed_slots_that_are_taken_already_are_not_made_up_for_again():
    task = every_minute(misfire="all", overlap="allow")
    scheduler.tick(at(80))
    Task.objects.filter(pk=task.pk).update(next_run=NOON)
    scheduler.tick(at(90))
    assert sorted(slots()) == list(range(91))


def test_next_slots_are_written_for_all_tasks_of_a_batch():
    hourly, minutely = every_minute(schedule="0 * * * *"), every_minute()
    done = every_minute(iterations=1)
    enqueue(hourly, minutely, done, now=NOON)
    assert [stored(task).next_run for task in (hourly, minutely, done)] == [at(60), at(1), None]


def test_what_a_tick_did_is_announced_after_the_commit(news, django_capture_on_commit_callbacks):
    every_minute()
    every_minute(overlap="allow")
    tick_and_claim(NOON)
    with django_capture_on_commit_callbacks() as callbacks:
        scheduler.tick(at(2))
        assert news == []
    for callback in callbacks:
        callback()
    assert news == [("enqueued", 1), ("finished", 3)]  # one ready; one skipped and two missed rows


def test_a_tick_that_is_rolled_back_announces_nothing_and_leaves_nothing(django_capture_on_commit_callbacks):
    task = every_minute()

    def tick_and_fail():
        with transaction.atomic():
            scheduler.tick(NOON)
            raise KeyError

    with django_capture_on_commit_callbacks() as callbacks:
        pytest.raises(KeyError, tick_and_fail)
    assert (callbacks, slots(), stored(task).next_run) == ([], [], NOON)


def test_a_receiver_that_raises_disturbs_nobody(caplog, django_capture_on_commit_callbacks):
    def receiver(**_):
        raise RuntimeError("receiver")

    signals.runs_changed.connect(receiver)
    try:
        every_minute()
        with django_capture_on_commit_callbacks(execute=True):
            scheduler.tick(NOON)
    finally:
        signals.runs_changed.disconnect(receiver)
    assert statuses() == ["READY"]
    assert "receiver" in caplog.text


# -- ad hoc runs -----------------------------------------------------------------------------------


def test_an_ad_hoc_run_is_for_no_slot_and_leaves_the_next_one():
    task = every_minute()
    run = planning.enqueue_now(task, now=at(-3))
    assert (run.slot, run.run_after, run.enqueued_at, run.status) == (None, at(-3), at(-3), "READY")
    row = stored(task)
    assert (row.next_run, row.last_run, row.runs_created) == (NOON, at(-3), 1)
    assert (task.last_run, task.runs_created) == (at(-3), 1)


def test_many_ad_hoc_runs_of_one_task_may_exist():
    task = every_minute(overlap="allow")
    for _ in range(3):
        planning.enqueue_now(task, now=at(-3))
    assert (slots(), stored(task).runs_created) == ([None] * 3, 3)


def test_an_ad_hoc_run_is_judged_by_the_row_and_not_by_a_stale_instance():
    stale = every_minute(iterations=5)
    row = stored(stale)
    row.iterations, row.queue = 1, "mail"
    row.save()
    assert planning.enqueue_now(stale, now=at(-3)).queue == "mail"
    with pytest.raises(TaskExhausted):
        planning.enqueue_now(stale, now=at(-3))


def test_the_last_iteration_as_an_ad_hoc_run_leaves_no_slot():
    task = every_minute(iterations=1)
    planning.enqueue_now(task, now=at(-3))
    assert (task.next_run, stored(task).next_run) == (None, None)


@pytest.mark.parametrize(("overlap", "states"), [
    ("skip", ["RUNNING", "SKIPPED"]),
    ("queue", ["RUNNING", "READY"]),
    ("allow", ["RUNNING", "READY"]),
    ("replace", ["RUNNING", "READY"]),
])  # fmt: skip
def test_an_ad_hoc_run_keeps_to_the_overlap_policy(overlap, states):
    task = every_minute(overlap=overlap)
    tick_and_claim(NOON)
    run = planning.enqueue_now(task, now=at(0.5))
    assert statuses() == states
    assert len(claim(at(0.5))) == (1 if overlap == "allow" else 0)
    assert (run.finished_at is None) == (overlap != "skip")


def test_a_skipped_ad_hoc_run_changes_nothing_of_its_task():
    task = every_minute()
    tick_and_claim(NOON)
    planning.enqueue_now(task, now=at(0.5))
    row = stored(task)
    assert (row.runs_created, row.last_run, row.next_run) == (1, NOON, at(1))


def test_an_ad_hoc_run_of_a_parked_or_deleted_task_is_refused_with_its_reason():
    parked, gone = every_minute(), every_minute(label="gone")
    with write():
        planning.park({parked.pk: "the moon is full"})
    Task.objects.filter(pk=gone.pk).delete()
    with pytest.raises(TaskParked, match="the moon is full"):
        planning.enqueue_now(parked, now=NOON)
    with pytest.raises(TaskGone, match="'gone'"):
        planning.enqueue_now(gone, now=NOON)
    assert slots() == []


def test_an_ad_hoc_run_is_announced_once(news, django_capture_on_commit_callbacks):
    task = every_minute()
    with django_capture_on_commit_callbacks(execute=True):
        planning.enqueue_now(task, now=at(-3))
    assert news == [("enqueued", 1)]


# -- reschedule, pause, park -----------------------------------------------------------------------


def test_rescheduling_computes_from_the_row_and_from_now():
    stale = every_minute()
    row = stored(stale)
    row.schedule = "*/10 * * * *"
    row.save()
    before = stored(stale).schedule_version
    planning.reschedule(stale, now=at(3))
    assert (stale.next_run, stored(stale).next_run) == (at(10), at(10))
    assert stored(stale).schedule_version == before + 1


def test_rescheduling_does_not_enable_a_paused_task():
    task = every_minute()
    stored(task).pause()
    planning.reschedule(task, now=at(3))
    assert (task.enabled, stored(task).enabled) == (False, False)


def test_rescheduling_keeps_to_the_window_and_the_count():
    late = every_minute(end_running=at(5))
    planning.reschedule(late, now=at(4))
    assert stored(late).next_run is None
    used_up = every_minute(iterations=1)
    planning.enqueue_now(used_up, now=NOON)
    planning.reschedule(used_up, now=at(1))
    assert stored(used_up).next_run is None


def test_pausing_says_whether_it_was_this_call_that_paused():
    task = every_minute()
    assert (planning.pause(task), planning.pause(stored(task))) == (True, False)
    Task.objects.all().delete()
    with pytest.raises(TaskGone):
        planning.pause(task)


def test_a_paused_task_is_not_planned_even_if_it_was_seen_due_before():
    task = every_minute()
    due = Task.objects.due(NOON)
    assert due.exists()
    planning.pause(task)
    scheduler.tick(NOON)
    assert slots() == []


def test_parking_disables_the_task_and_keeps_why(news, django_capture_on_commit_callbacks):
    task = every_minute()
    with django_capture_on_commit_callbacks(execute=True), write():
        planning.park({task.pk: "the moon is full"})
    row = stored(task)
    assert (row.enabled, row.error, list(Task.objects.parked())) == (False, "the moon is full", [task])
    assert news == [("parked", 1)]


def test_the_database_itself_refuses_an_enabled_task_with_an_error():
    task = every_minute()
    with pytest.raises(IntegrityError), transaction.atomic():
        put_in(task, error="the moon is full")


# -- first runs ------------------------------------------------------------------------------------


def test_the_run_of_a_new_one_shot_is_in_the_same_transaction(django_capture_on_commit_callbacks, news):
    with django_capture_on_commit_callbacks(execute=True):
        with transaction.atomic():
            task = Task.run_once(chores.nothing, queue="mail")
            run = Run.objects.get()
        assert news == []
    assert (run.task_id, run.queue, run.slot, run.status) == (task.pk, "mail", None, "READY")
    assert ("enqueued", 1) in news


def test_a_task_with_a_slot_soon_is_announced_as_scheduled(django_capture_on_commit_callbacks, news):
    with django_capture_on_commit_callbacks(execute=True):
        Task.run_once(chores.nothing, delay_until=timezone.now() + timedelta(seconds=5))
    assert news == [("scheduled", 1)]


def test_a_bulk_creation_is_announced_in_batches(django_capture_on_commit_callbacks, news):
    with django_capture_on_commit_callbacks(execute=True):
        Task.bulk_run_once(chores.nothing, [{}] * 50)
    assert news == [("enqueued", 50)]
