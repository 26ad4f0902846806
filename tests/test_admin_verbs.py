"""The admin's actions and buttons: what each does to each kind of row, what it tells, what the history says of it."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from sisy.models import Run, RunStatus, Task, task_with_callable
from sisy.testing import drain
from tests.admin_pages import Page, messages_of
from tests.project.shop.models import Ledger, Order

NOTE = "tests.project.shop.tasks.note"
TASKS = "/admin/sisy/task/"
RUNS = "/admin/sisy/run/"
SURE = {"confirmed": "1"}  # what live.js or the page that asks adds

pytestmark = pytest.mark.django_db


def saved(label="Digest", path=NOTE, **fields):
    task = task_with_callable(path, label=label, **fields)
    task.save()
    return task


def put(task, **values):
    """Write into a row what the model would refuse."""
    QuerySet(Task).filter(pk=task.pk).update(**values)


def act(client, verb, *rows):
    """Choose an action for rows in their list; return what the user is told."""
    url = RUNS if isinstance(rows[0], Run) else TASKS
    response = client.post(url, {"action": verb, "_selected_action": [row.pk for row in rows], **SURE}, follow=True)
    assert response.status_code == 200
    return messages_of(response)


def press(client, verb, row):
    """Press a button on the page of a row; return what the user is told."""
    return messages_of(
        client.post(f"{RUNS if isinstance(row, Run) else TASKS}{row.pk}/verb/{verb}/", SURE, follow=True)
    )


def buttons(client, row):
    name = "run" if isinstance(row, Run) else "task"
    posts = Page(client.get(reverse(f"admin:sisy_{name}_change", args=[row.pk]))).posts
    return [address.split("/")[-2] for address in posts if "/verb/" in address]


def claimed(run):
    """Make a run look as if a worker had it."""
    Run.objects.filter(pk=run.pk).update(
        status=RunStatus.RUNNING, claim=uuid.uuid4(), worker=uuid.uuid4(), started_at=timezone.now(),
        lease_expires_at=timezone.now() + timedelta(minutes=1),
    )  # fmt: skip


# Tasks ---------------------------------------------------------------------------------------------------------------


def test_running_now_tells_what_happened_to_each_kind_of_task(admin_client):
    fine, other = saved("fine"), saved("other")
    paused, parked = saved("paused"), saved("parked")
    paused.pause()
    put(parked, enabled=False, error="minute is 61")
    busy, patient = saved("busy"), saved("patient", overlap="queue")
    busy.run_asap()
    patient.run_asap()
    used_up = Task.run_iterations(NOTE, iterations=1, label="used up")
    used_up.run_asap()
    told = act(admin_client, "run_now", fine, other, paused, parked, busy, patient, used_up)
    assert {text.replace("“other”, “fine”", "“fine”, “other”") for text in told} == {
        "2 runs were created now: “fine”, “other”.",
        "A paused task was run anyway, and stays paused: “paused”.",
        "A parked task was not run; mend and resume it first. “parked”: minute is 61",
        "A run was created that waits for an earlier run of its task: “patient”.",
        "A run was skipped, as the task's overlap policy says: “busy”: the previous run of this task was not over.",
        "A task was not run, as it has no iteration left: “used up”.",
    }
    assert not Task.objects.get(pk=paused.pk).enabled
    assert {entry.object_repr for entry in LogEntry.objects.all()} == {"fine", "other", "paused", "busy", "patient"}
    assert "A run was created now: “fine”." in {entry.get_change_message() for entry in LogEntry.objects.all()}


def test_what_was_run_now_runs(admin_client):
    press(admin_client, "run_now", saved())
    drain()
    assert Ledger.objects.get().task_label == "Digest"


def test_pausing_and_resuming(admin_client):
    task, parked = saved("Digest", schedule="0 9 * * *"), saved("parked")
    put(parked, enabled=False, error="minute is 61", schedule="61 * * * *")
    assert sorted(act(admin_client, "pause", task, parked)) == [
        "A task is parked, so there is nothing to pause. “parked”: minute is 61",
        "A task was paused: “Digest”.",
    ]
    assert act(admin_client, "pause", task) == ["A task was paused already: “Digest”."]
    told = act(admin_client, "resume", task, parked)
    assert any(text.startswith("A task was resumed: “Digest”: next run ") for text in told)
    assert any("stays as it is until its error is mended" in text and "61 is out of range" in text for text in told)
    assert act(admin_client, "resume", task) == ["A task was not paused: “Digest”."]
    assert Task.objects.get(pk=task.pk).enabled
    assert Task.objects.get(pk=parked.pk).error


def test_resuming_a_task_that_is_not_paused_does_not_forget_the_slot_that_is_due(admin_client):
    task, slot = saved(), timezone.now() - timedelta(seconds=30)
    put(task, next_run=slot)
    press(admin_client, "resume", task)
    assert Task.objects.get().next_run == slot


def test_resuming_a_parked_task_whose_row_was_mended_forgets_its_error(admin_client):
    task = saved()
    put(task, enabled=False, error="minute is 61")
    press(admin_client, "resume", task)
    task.refresh_from_db()
    assert (task.enabled, task.error) == (True, "")


def test_resuming_a_task_whose_window_is_closed_says_so(admin_client):
    task = saved(end_running=timezone.now() + timedelta(days=1))
    task.pause()
    put(task, end_running=timezone.now() - timedelta(days=1))
    assert "no run is left" in press(admin_client, "resume", task)[0]


def test_cancelling_the_runs_of_a_task(admin_client):
    task = saved(overlap="allow")
    assert press(admin_client, "cancel_runs", task) == ["A task has no run that could be cancelled: “Digest”."]
    task.run_asap()
    claimed(task.run_asap())
    assert press(admin_client, "cancel_runs", task) == ["Cancelled for a task: “Digest”: 2 runs."]
    assert Run.objects.filter(cancel_requested_at=None).get().status == RunStatus.CANCELLED
    assert Task.objects.get().next_run is not None


def test_cancelling_a_delayed_one_shot_leaves_its_run_and_leads_to_the_list(admin_client):
    task = Task.run_once(NOTE, delay_until=timezone.now() + timedelta(days=1))
    response = admin_client.post(f"{TASKS}{task.pk}/verb/cancel_runs/", SURE)
    assert response["Location"] == TASKS
    assert Run.objects.get().status == RunStatus.CANCELLED
    assert not Task.objects.exists()
    assert "Cancelled for a task" in LogEntry.objects.get().get_change_message()


def test_the_buttons_are_those_that_fit(admin_client):
    task = saved()
    assert buttons(admin_client, task) == ["run_now", "pause"]
    task.run_asap()
    assert buttons(admin_client, task) == ["run_now", "pause", "cancel_runs"]
    drain()
    task.pause()
    assert buttons(admin_client, task) == ["run_now", "resume"]
    put(task, enabled=False, error="bad")
    assert buttons(admin_client, task) == ["resume"]


def test_a_button_keeps_the_filters_of_the_list(admin_client):
    task = saved()
    url = f"{TASKS}{task.pk}/change/?_changelist_filters=state%3Denabled"
    address = next(post for post in Page(admin_client.get(url)).posts if "/verb/pause/" in post)
    assert admin_client.post(address)["Location"] == url


@pytest.mark.parametrize("verb", ["run_now", "pause", "resume", "cancel_runs"])
def test_a_task_that_is_gone_is_said_to_be_gone(admin_client, verb):
    task = saved()
    task.delete()
    task.pk = 7
    assert "does not exist any more" in press(admin_client, verb, task)[0]


@pytest.mark.parametrize("verb", ["run_now", "pause", "resume"])
def test_a_task_that_is_deleted_at_the_same_time_is_said_to_be_gone(admin_client, monkeypatch, verb):
    task, called = saved(), {"run_now": "run_asap"}.get(verb, verb)
    if verb == "resume":
        task.pause()
    method = getattr(Task, called)

    def after_deletion(self):
        Task.objects.filter(pk=self.pk).delete()
        return method(self)

    monkeypatch.setattr(Task, called, after_deletion)
    assert press(admin_client, verb, task) == ["“Digest” does not exist any more."]


def test_other_methods_are_no_verbs(admin_client):
    task = saved()
    for name in ("delete_view", "get_urls", "delete_selected", "answer"):
        assert admin_client.post(f"{TASKS}{task.pk}/verb/{name}/").status_code == 404


def test_more_rows_than_one_request_can_change_are_refused(admin_client, monkeypatch):
    monkeypatch.setattr("sisy.admin.verb_admin._MOST", 2)
    assert "More than 2 rows" in act(admin_client, "pause", saved(), saved(), saved())[0]
    assert Task.objects.filter(enabled=True).count() == 3


def test_a_message_names_only_the_first_rows(admin_client):
    assert "and 2 others" in act(admin_client, "pause", *(saved(f"task {n}") for n in range(7)))[0]


# Runs ----------------------------------------------------------------------------------------------------------------


def test_cancelling_runs_tells_what_happened_to_each(admin_client):
    waiting, running, over = saved("waiting").run_asap(), saved("running").run_asap(), saved("over").run_asap()
    Run.objects.filter(pk=over.pk).update(status=RunStatus.SUCCESSFUL, finished_at=timezone.now())
    claimed(running)
    assert sorted(act(admin_client, "cancel", waiting, running, over)) == [
        f"A run was cancelled: “waiting” (#{waiting.pk}).",
        f"A run was over already: “over” (#{over.pk}).",
        f"The worker of a running run was asked to stop it: “running” (#{running.pk}).",
    ]
    assert Run.objects.get(pk=waiting.pk).status == RunStatus.CANCELLED
    assert Run.objects.get(pk=running.pk).cancel_requested_at


def test_a_run_of_a_task_that_is_there_runs_that_task_again(admin_client):
    task = saved()
    run = task.run_asap()
    assert "not over yet" in press(admin_client, "run_again", run)[0]
    drain()
    assert press(admin_client, "run_again", run) == [f"A run was created now: “Digest” (#{run.pk})."]
    assert task.runs.count() == 2
    task.pause()
    drain()
    assert "was run anyway, and stays paused" in press(admin_client, "run_again", run)[0]


def test_a_one_shot_that_is_gone_is_created_again(admin_client):
    order = Order.objects.create(name="first")
    Task.run_once(order.remind, userdata={"n": 1}, label="Remind", queue="mail", priority=5, at_most_once=True)
    drain()
    run = Run.objects.get()
    assert run.task is None
    assert "new one-shot was created: “Remind”" in press(admin_client, "run_again", run)[0]
    task = Task.objects.get()
    assert (task.instance_pk, task.userdata, task.queue, task.priority, task.at_most_once, task.instance_db) == (
        str(order.pk), {"n": 1}, "mail", 5, True, "default",
    )  # fmt: skip
    drain()
    assert Ledger.objects.count() == 2


def test_a_one_shot_that_is_not_allowed_any_more_is_not_created_again(admin_client, settings):
    Task.run_once("tests.project.shop.tasks.decorated")
    drain()
    settings.SISY = {"ALLOWED_CALLABLES": []}
    told = press(admin_client, "run_again", Run.objects.get())[0]
    assert "can't be run again" in told
    assert "is not allowed as a task" in told
    assert not Task.objects.exists()


def test_a_run_whose_task_was_deleted_with_its_userdata_is_not_run_with_other_input(admin_client):
    task = saved(userdata={"n": 1})
    task.run_asap()
    drain()
    task.delete()
    assert "its input with it" in press(admin_client, "run_again", Run.objects.get())[0]


def test_running_many_runs_again(admin_client):
    for number in range(3):
        Task.run_once(NOTE, label=f"once {number}")
    drain()
    told = act(admin_client, "run_again", *Run.objects.all())
    assert told[0].startswith("The tasks of 3 runs are gone, so new one-shots were created")
    assert len(drain()) == 3


def test_the_button_of_a_run_is_the_one_that_fits(admin_client):
    run = saved().run_asap()
    assert buttons(admin_client, run) == ["cancel"]
    drain()
    assert buttons(admin_client, run) == ["run_again"]
