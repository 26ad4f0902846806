"""The admin's page of one run: its story, its errors, its data without secrets."""

import uuid
from datetime import timedelta

import pytest
from django.contrib import admin
from django.urls import reverse
from django.utils import timezone

from sisy.admin.timeline import timeline
from sisy.models import Run, RunStatus, Task, Worker, task_with_callable
from sisy.testing import drain
from tests.admin_pages import Page
from tests.project.shop.models import Order

NOTE = "tests.project.shop.tasks.note"
NOW = timezone.now().replace(microsecond=0)


def page_of(client, run):
    response = client.get(reverse("admin:sisy_run_change", args=[run.pk]))
    assert response.status_code == 200
    return Page(response)


def moments(now=NOW, **values):
    """Return the story of a run of values that need no database, as text."""
    run = Run(**{"enqueued_at": NOW, "run_after": NOW, **values})
    return [(str(moment.what), moment.at, str(moment.remark)) for moment in timeline(run, now=now)]


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def test_the_story_of_a_run_that_is_over():
    story = moments(slot=NOW, started_at=after(2), finished_at=after(77), status=RunStatus.SUCCESSFUL)
    assert story == [
        ("Slot", NOW, ""),
        ("Enqueued", NOW, ""),
        ("Due", NOW, ""),
        ("Started", after(2), "waited 2 s"),
        ("Finished", after(77), "ran 1 min 15 s"),
    ]


def test_the_story_of_a_run_that_waits():
    assert moments(now=after(5), run_after=None)[0] == ("Slot", None, "ad hoc: for no slot of the schedule")
    assert ("Due", None, "waits for an earlier run of its task") in moments(now=after(5), run_after=None)
    assert ("Started", None, "not yet, after 5 s") in moments(now=after(5))
    assert [what for what, _at, _remark in moments(run_after=after(60))] == ["Slot", "Enqueued", "Due"]


def test_the_story_of_a_run_that_runs_and_should_stop():
    story = moments(now=after(9), started_at=after(1), cancel_requested_at=after(8), status=RunStatus.RUNNING)
    assert story[-3:] == [
        ("Started", after(1), "waited 1 s"),
        ("Cancel requested", after(8), ""),
        ("Finished", None, "not yet, after 8 s"),
    ]


def test_the_story_of_missed_slots():
    story = moments(slot=NOW, missed_count=4, missed_since=after(-90), finished_at=NOW, status=RunStatus.MISSED)
    assert story[0] == ("Slot", NOW, "the last of 4 missed slots")
    assert story[-1] == ("Finished", NOW, "")


@pytest.mark.django_db
def test_every_attempt_is_shown_with_its_traceback(admin_client):
    task = task_with_callable("tests.project.shop.tasks.fail", max_attempts=2, retry_backoff=timedelta(0))
    task.save()
    run = task.run_asap()
    drain()
    text = page_of(admin_client, run).text
    assert "Attempt 1: builtins.RuntimeError" in text
    assert "Attempt 2: builtins.RuntimeError" in text
    assert text.count("RuntimeError: the shop is on fire") >= 2
    assert "Traceback (most recent call last)" in text


@pytest.mark.django_db
def test_secrets_in_its_data_are_not_shown(admin_client):
    run = Task.run_once(NOTE).runs.get()
    secrets = {"list": [{"api_token": "hunter2"}], "shown": "plain"}
    columns = dict.fromkeys(("userdata", "kwargs", "result", "progress"), secrets) | {"args": [secrets]}
    Run.objects.filter(pk=run.pk).update(**columns)
    text = page_of(admin_client, run).text
    assert "hunter2" not in text
    assert text.count("plain") == 5


@pytest.mark.django_db
def test_the_row_and_the_worker_are_shown(admin_client):
    order = Order.objects.create(name="first")
    run = Task.run_once(order.remind, userdata={}).runs.get()
    now = timezone.now()
    worker = Worker.objects.create(
        id=uuid.uuid4(), host="web-1", pid=7, version="2", concurrency=1, started_at=now, seen_at=now
    )
    Run.objects.filter(pk=run.pk).update(worker=worker.pk)
    page = page_of(admin_client, run)
    assert f"tests.project.shop.models.Order.remind #{order.pk} @default" in page.text
    assert "web-1:7" in page.text
    assert reverse("admin:sisy_worker_change", args=[worker.pk]) in [tag.get("href") for _name, tag in page.tags]
    assert reverse("admin:sisy_task_change", args=[run.task_id]) in [tag.get("href") for _name, tag in page.tags]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "errors",
    [
        [],
        {},
        ["text"],
        [{}],
        [{"attempt": None, "traceback": [1]}],
        "text",
        3,
        [{"at": "2026-01-01"}],
        [{"at": "9999-12-31T23:59:59-12:00"}],
    ],
)
def test_errors_that_somebody_else_wrote_are_no_crash(admin_client, errors):
    run = Task.run_once(NOTE).runs.get()
    Run.objects.filter(pk=run.pk).update(errors=errors)
    page_of(admin_client, run)


def test_a_task_that_is_used_up_while_its_run_is_shown_is_no_crash(rf, admin_user):
    run = Task.run_once(NOTE).runs.get()
    Task.objects.all().delete()
    request = rf.get("/")
    request.user = admin_user
    shown = admin.site.get_model_admin(Run).summary(request, run)
    assert (shown["attempts"], run.task_id is None) == (None, False)
