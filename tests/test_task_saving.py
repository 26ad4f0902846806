"""Saving, editing, pausing and resuming: what an instance writes, what it leaves alone, and where the next slot goes.

The verbs of a task ask the clock, so these tests say what it shows with `the_clock_shows`.
"""

import contextlib
from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.db.models import F
from django.utils import timezone

from sisy.errors import InvalidInput, TaskExhausted, TaskGone, TaskParked
from sisy.models import Run, Task, task_with_callable
from sisy.testing import run_due
from tests.project.shop import chores
from tests.project.shop.rows import NOON, at, claim, end, every_minute, put_in, slots, statuses, stored, tick_and_claim

pytestmark = pytest.mark.django_db

OWNED_BY_THE_SCHEDULER = ("next_run", "last_run", "runs_created")


@pytest.fixture
def the_clock_shows(monkeypatch):
    def show(minutes):
        monkeypatch.setattr(timezone, "now", lambda: at(minutes))

    return show


def of_the_scheduler(task):
    return [getattr(stored(task), name) for name in OWNED_BY_THE_SCHEDULER]


# -- what a save writes ----------------------------------------------------------------------------


def test_a_stale_save_repeats_no_slot():
    stale = every_minute()
    run_due(NOON)
    stale.label = "renamed"
    stale.save()
    run_due(NOON)
    run_due(at(1))
    assert slots() == [0, 1]
    assert stored(stale).label == "renamed"


def test_a_stale_save_loses_no_slot():
    task = every_minute()
    run_due(NOON)
    ahead = stored(task)
    run_due(at(1))
    ahead.priority = 3
    ahead.next_run = at(1000)
    ahead.save()
    run_due(at(2))
    assert slots() == [0, 1, 2]


@pytest.mark.parametrize("values", [{"next_run": at(500)}, {"last_run": at(500)}, {"runs_created": 99}])
@pytest.mark.parametrize("update_fields", [None, "theirs"])
def test_save_never_writes_what_the_scheduler_owns(values, update_fields):
    task = every_minute(iterations=5)
    run_due(NOON)
    before = of_the_scheduler(task)
    for name, value in values.items():
        setattr(task, name, value)
    task.save(update_fields=update_fields and list(values))
    assert of_the_scheduler(task) == before


def test_a_stale_save_does_not_undo_what_somebody_else_changed():
    mine = every_minute()
    theirs = stored(mine)
    theirs.priority, theirs.queue, theirs.schedule, theirs.userdata = 7, "mail", "*/5 * * * *", {"n": 1}
    theirs.save()
    mine.label = "mine"
    mine.save()
    row = stored(mine)
    assert (row.label, row.priority, row.queue, row.schedule) == ("mine", 7, "mail", "*/5 * * * *")
    assert row.userdata == {"n": 1}


def test_a_stale_save_does_not_resume_a_paused_task():
    stale = every_minute()
    stored(stale).pause()
    stale.label = "renamed"
    stale.save()
    assert stored(stale).enabled is False


def test_a_save_of_an_unchanged_task_changes_nothing():
    task = stored(every_minute())
    stored(task).pause()
    task.save()
    assert stored(task).enabled is False
    assert of_the_scheduler(task)[0] == NOON


def test_setting_a_value_to_what_it_is_loses_no_due_slot(the_clock_shows):
    task = every_minute()
    the_clock_shows(0.5)
    task.schedule, task.start_running = "* * * * *", NOON
    task.save()
    assert stored(task).next_run == NOON


def test_saving_twice_in_a_row_writes_each_change():
    task = every_minute()
    task.priority = 1
    task.save()
    task.priority = 0
    task.save()
    assert stored(task).priority == 0


def test_a_refused_edit_writes_nothing():
    task = every_minute()
    task.priority, task.schedule = 5, "99 * * * *"
    with pytest.raises(InvalidInput, match="99"):
        task.save()
    row = stored(task)
    assert (row.priority, row.schedule, row.next_run) == (0, "* * * * *", NOON)


def test_a_refused_edit_is_still_there_to_be_mended():
    task = every_minute()
    task.priority, task.schedule = 5, "99 * * * *"
    pytest.raises(InvalidInput, task.save)
    task.schedule = "9 * * * *"
    task.save()
    row = stored(task)
    assert (row.priority, row.schedule, row.next_run) == (5, "9 * * * *", at(9))


def test_update_fields_limits_what_is_written():
    task = every_minute()
    task.priority, task.queue = 5, "mail"
    task.save(update_fields=["priority"])
    assert (stored(task).priority, stored(task).queue) == (5, "default")
    task.save()
    assert stored(task).queue == "mail"


@pytest.mark.parametrize("name", ["userdata", "_extra_data"])
def test_update_fields_takes_both_names_of_userdata(name):
    task = every_minute()
    task.userdata["n"] = 1
    task.save(update_fields=[name])
    assert stored(task).userdata == {"n": 1}


def test_refreshing_one_field_does_not_forget_changes_of_others():
    """Model.refresh_from_db(fields=...) leaves the other fields as they are in the instance."""
    task = every_minute()
    task.schedule = "*/5 * * * *"
    task.refresh_from_db(fields=["label"])
    task.save()
    assert stored(task).schedule == "*/5 * * * *"


def test_reading_a_deferred_field_does_not_forget_changes_of_others():
    task = Task.objects.only("label").get(pk=every_minute().pk)
    task.label = "renamed"
    assert task.queue == "default"
    task.save()
    assert stored(task).label == "renamed"


def test_reading_a_deferred_field_does_not_forget_changes_of_userdata():
    task = Task.objects.defer("queue").get(pk=every_minute(userdata={"n": 1}).pk)
    task.userdata["n"] = 2
    assert task.queue == "default"
    task.save()
    assert stored(task).userdata == {"n": 2}


def test_an_instance_with_deferred_fields_writes_only_what_was_changed():
    task = Task.objects.only("pk").get(pk=every_minute(priority=3).pk)
    task.label = "renamed"
    task.save()
    row = stored(task)
    assert (row.label, row.priority, row.next_run) == ("renamed", 3, NOON)


def test_a_whole_refresh_forgets_changes():
    task = every_minute()
    task.label, task.userdata["n"] = "renamed", 1
    task.refresh_from_db()
    assert (task.label, task.userdata) == ("task", {})
    task.save()
    assert stored(task).label == "task"


def test_saving_a_deleted_task_does_not_bring_it_back():
    task = every_minute()
    Task.objects.all().delete()
    task.label = "renamed"
    with pytest.raises(TaskGone, match="does not exist any more"):
        task.save()
    assert not Task.objects.exists()


def test_two_edits_that_only_together_are_wrong_end_in_an_error_about_that():
    mine = every_minute(end_running=at(100))
    theirs = stored(mine)
    theirs.start_running = at(90)
    theirs.save()
    mine.end_running = at(50)
    with pytest.raises((InvalidInput, IntegrityError), match=r"end_running|sisy_task_ends_after_start"):
        mine.save()
    assert stored(mine).end_running == at(100)


def test_a_task_that_is_created_or_updated_at_each_start_of_a_program_keeps_its_slots(the_clock_shows):
    """As many projects set up their tasks: update_or_create in a command."""
    defaults = {"callable": "tests.project.shop.chores.nothing", "schedule": "* * * * *", "start_running": NOON}
    task, created = Task.objects.update_or_create(label="set up", defaults=defaults)
    assert (created, task.next_run) == (True, NOON)
    the_clock_shows(0.5)
    task, created = Task.objects.update_or_create(label="set up", defaults=defaults)
    assert (created, stored(task).next_run) == (False, NOON)
    task, created = Task.objects.update_or_create(label="set up", defaults={**defaults, "schedule": "*/5 * * * *"})
    assert (created, stored(task).next_run) == (False, at(5))
    task, created = Task.objects.get_or_create(label="set up", defaults={**defaults, "schedule": "*/7 * * * *"})
    assert (created, stored(task).schedule) == (False, "*/5 * * * *")


def test_update_or_create_takes_userdata():
    defaults = {"callable": "tests.project.shop.chores.nothing", "schedule": "* * * * *"}
    for number in (1, 2):
        Task.objects.update_or_create(label="set up", defaults={**defaults, "userdata": {"n": number}})
    assert Task.objects.get().userdata == {"n": 2}


# -- where the next slot goes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "next_run"),
    [
        ({"schedule": "*/5 * * * *"}, at(15)),
        ({"start_running": at(30)}, at(30)),
        ({"timezone": "Asia/Kolkata", "schedule": "0 18 * * *"}, at(30)),
        ({"end_running": at(11)}, None),
        ({"iterations": 1}, None),
        ({"iterations": 2}, at(11)),
    ],
)
def test_an_edit_of_the_timing_moves_the_next_slot_from_now(the_clock_shows, change, next_run):
    task = every_minute()
    end(*tick_and_claim(NOON))
    the_clock_shows(10)
    for name, value in change.items():
        setattr(task, name, value)
    task.save()
    assert (stored(task).next_run, task.next_run) == (next_run, next_run)


@pytest.mark.parametrize("change", [{"label": "x"}, {"priority": 1}, {"queue": "mail"}, {"userdata": {"n": 1}}])
def test_other_edits_leave_the_next_slot_where_it_is(the_clock_shows, change):
    task = every_minute()
    the_clock_shows(10)
    for name, value in change.items():
        setattr(task, name, value)
    task.save()
    assert stored(task).next_run == NOON


def test_an_edit_never_back_fires(the_clock_shows):
    task = every_minute()
    run_due(NOON)
    the_clock_shows(60.5)
    task.schedule = "*/2 * * * *"
    task.save()
    run_due(at(60.5))
    run_due(at(62))
    assert slots() == [0, 62]


def test_update_of_the_schedule_moves_the_next_slot(the_clock_shows):
    tasks = [every_minute(), every_minute()]
    the_clock_shows(1)
    assert Task.objects.update(schedule="*/5 * * * *") == 2
    assert [stored(task).next_run for task in tasks] == [at(5), at(5)]


def test_update_moves_the_tasks_that_matched_before_it(the_clock_shows):
    task = every_minute()
    the_clock_shows(1)
    Task.objects.filter(schedule="* * * * *").update(schedule="*/5 * * * *")
    assert stored(task).next_run == at(5)


def test_update_of_something_else_moves_nothing(the_clock_shows):
    task = every_minute()
    the_clock_shows(1)
    Task.objects.update(priority=F("priority") + 1)
    assert (stored(task).priority, stored(task).next_run) == (1, NOON)


def test_bulk_update_of_the_schedule_moves_the_next_slot(the_clock_shows):
    task = every_minute()
    the_clock_shows(1)
    task.schedule = "*/5 * * * *"
    Task.objects.bulk_update([task], ["schedule"])
    assert stored(task).next_run == at(5)


@pytest.mark.django_db(transaction=True)
def test_update_with_a_bad_schedule_is_refused_and_writes_nothing():
    task, other = every_minute(), every_minute()
    with pytest.raises(InvalidInput, match="99"):
        Task.objects.update(schedule="99 * * * *")
    assert [stored(row).schedule for row in (task, other)] == ["* * * * *"] * 2


def test_update_that_pauses_and_resumes_computes_the_slot_from_the_resumption(the_clock_shows):
    task = every_minute()
    Task.objects.update(enabled=False)
    the_clock_shows(10.5)
    Task.objects.update(enabled=True)
    assert stored(task).next_run == at(11)


# -- pause and resume ------------------------------------------------------------------------------


def test_a_paused_task_gets_no_runs_and_a_resumed_one_gets_the_next_slot(the_clock_shows):
    task = every_minute()
    run_due(NOON)
    assert task.pause() is True
    assert task.enabled is False
    for minutes in (1, 2, 3):
        run_due(at(minutes))
    the_clock_shows(3.5)
    task.resume()
    assert (task.enabled, task.next_run) == (True, at(4))
    run_due(at(4))
    assert (slots(), statuses()) == ([0, 4], ["SUCCESSFUL"] * 2)


def test_pausing_twice_says_so():
    task = every_minute()
    assert (task.pause(), task.pause(), stored(task).pause()) == (True, False, False)


def test_pausing_leaves_what_is_running_alone():
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    task.pause()
    assert end(run)
    assert statuses() == ["SUCCESSFUL"]


def test_resuming_a_task_that_is_not_paused_loses_no_slot(the_clock_shows):
    """Somebody presses the button between a slot and the tick that comes a little late."""
    task = every_minute()
    the_clock_shows(0.01)
    task.resume()
    run_due(at(0.02))
    assert slots() == [0]


def test_enabling_tasks_that_are_enabled_loses_no_slot(the_clock_shows):
    every_minute()
    the_clock_shows(0.01)
    Task.objects.update(enabled=True)
    run_due(at(0.02))
    assert slots() == [0]


def test_a_one_shot_whose_time_passed_while_it_was_paused_runs_after_resume(the_clock_shows):
    the_clock_shows(-1)
    task = Task.run_once(chores.does, delay_until=NOON)
    task.pause()
    run_due(at(5))
    the_clock_shows(10)
    task.resume()
    run_due(at(10))
    assert statuses() == ["SUCCESSFUL"]


def test_disabling_and_enabling_by_save_does_the_same_as_pause_and_resume(the_clock_shows):
    task = every_minute()
    task.enabled = False
    task.save()
    run_due(at(1))
    the_clock_shows(5.5)
    task.enabled = True
    task.save()
    run_due(at(6))
    assert slots() == [6]


@pytest.mark.parametrize("verb", ["pause", "resume", "run_asap"])
def test_a_verb_on_a_task_that_is_gone_says_so(verb):
    task = every_minute()
    Task.objects.all().delete()
    with pytest.raises(TaskGone, match="'task'"):
        getattr(task, verb)()


def test_the_verbs_work_on_instances_with_deferred_fields():
    task = Task.objects.only("label").get(pk=every_minute().pk)
    task.pause()
    task.resume()
    task.run_asap()
    assert statuses() == ["READY"]


# -- parked tasks ----------------------------------------------------------------------------------


@pytest.fixture
def parked():
    task = every_minute()
    put_in(task, schedule="99 * * * *")
    run_due(NOON)
    task = stored(task)
    assert (task.enabled, bool(task.error)) == (False, True)
    return task


def test_a_parked_task_does_not_run_by_hand(parked):
    with pytest.raises(TaskParked, match="99"):
        parked.run_asap()
    assert not Run.objects.exists()


def test_a_parked_task_can_be_mended_and_enabled_in_one_save(parked):
    parked.schedule, parked.enabled = "* * * * *", True
    parked.save()
    row = stored(parked)
    assert (row.enabled, row.error, row.next_run) == (True, "", NOON)


def test_a_parked_task_that_is_mended_and_saved_can_run(parked):
    """As the text of TaskParked says: mend and save it, then run it."""
    parked.schedule = "* * * * *"
    parked.save()
    assert stored(parked).error == ""
    assert parked.run_asap().status == "READY"


def test_a_parked_task_that_is_not_mended_is_not_enabled(parked):
    for attempt in (parked.resume, lambda: setattr(parked, "enabled", True) or parked.save()):
        with pytest.raises(InvalidInput, match="99"):
            attempt()
        assert stored(parked).enabled is False
        assert "99" in stored(parked).error


def test_a_parked_task_can_be_mended_by_update(parked):
    Task.objects.filter(pk=parked.pk).update(schedule="* * * * *", enabled=True)
    row = stored(parked)
    assert (row.enabled, row.error, row.next_run) == (True, "", NOON)


# -- run_asap --------------------------------------------------------------------------------------


def test_run_asap_runs_now_and_does_not_move_the_next_slot(the_clock_shows):
    task = every_minute()
    the_clock_shows(-5)
    run = task.run_asap()
    assert (run.slot, run.run_after, run.status) == (None, at(-5), "READY")
    assert (task.next_run, stored(task).next_run) == (NOON, NOON)
    (executed,) = run_due(at(-5))
    assert executed.pk == run.pk
    run_due(NOON)
    assert slots() == [None, 0]


def test_run_asap_of_a_paused_task_runs_and_leaves_it_paused():
    task = every_minute(enabled=False)
    task.run_asap()
    assert statuses() == ["READY"]
    assert stored(task).enabled is False


def test_run_asap_counts_as_an_iteration(the_clock_shows):
    task = every_minute(iterations=2)
    the_clock_shows(-5)
    task.run_asap()
    run_due(at(-5))
    run_due(NOON)
    run_due(at(1))
    assert slots() == [None, 0]
    assert not Task.objects.exists()


def test_run_asap_without_an_iteration_left_says_so():
    task = every_minute(iterations=1)
    task.run_asap()
    with pytest.raises(TaskExhausted, match="1 iteration"):
        task.run_asap()
    assert statuses() == ["READY"]


def test_run_asap_keeps_to_the_overlap_policy_and_a_skipped_run_does_not_count():
    task = every_minute(iterations=5)
    first, second = task.run_asap(), task.run_asap()
    assert (first.status, second.status) == ("READY", "SKIPPED")
    assert second.reason
    assert stored(task).runs_created == 1


def test_run_asap_of_a_delayed_one_shot_uses_it_up():
    task = Task.run_once(chores.does, delay_until=timezone.now() + timedelta(days=1))
    task.run_asap()
    run_due()
    assert statuses() == ["SUCCESSFUL"]
    assert not Task.objects.exists()


# -- cancel ----------------------------------------------------------------------------------------


def test_cancel_ends_what_waits_and_asks_what_runs():
    task = every_minute(overlap="allow")
    task.run_asap()
    (running,) = claim(timezone.now())
    task.run_asap()
    assert task.cancel() == 2
    assert statuses() == ["RUNNING", "CANCELLED"]
    assert stored(running).cancel_requested_at is not None
    assert Run.objects.get(status="CANCELLED").reason


def test_cancel_leaves_the_schedule():
    task = every_minute()
    assert task.cancel() == 0
    run_due(NOON)
    assert statuses() == ["SUCCESSFUL"]


def test_cancel_of_a_delayed_one_shot_deletes_it_and_keeps_a_cancelled_run():
    task = Task.run_once(chores.does, userdata={"n": 1}, delay_until=NOON, label="later")
    assert task.cancel() == 1
    run = Run.objects.get()
    assert (run.status, run.label, run.userdata, run.task_id) == ("CANCELLED", "later", {"n": 1}, None)
    assert run.reason
    assert not Task.objects.exists()


def test_cancel_of_a_one_shot_that_waits_for_a_worker_deletes_it():
    task = Task.run_once(chores.does, userdata={"n": 1})
    assert task.cancel() == 1
    run = Run.objects.get()
    assert (run.status, run.userdata, run.task_id) == ("CANCELLED", {"n": 1}, None)
    assert not Task.objects.exists()


def test_cancel_twice_cancels_nothing_the_second_time():
    task = every_minute()
    task.run_asap()
    assert (task.cancel(), task.cancel()) == (1, 0)


def test_cancel_of_a_task_that_is_gone_cancels_nothing():
    task = every_minute()
    Task.objects.all().delete()
    with contextlib.suppress(TaskGone):
        assert task.cancel() == 0


def test_an_unsaved_task_that_is_saved_by_its_manager_has_one_row_only():
    task = task_with_callable(chores.nothing)
    task.save()
    task.save()
    assert Task.objects.count() == 1
