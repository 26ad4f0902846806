"""What stands above a task's form, what its log tells, and the buttons in the list."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import sisy
from sisy.admin.policies import policies_of
from sisy.models import Run, Task, task_with_callable
from tests.admin_pages import Page, fill, messages_of
from tests.past import write_run
from tests.test_admin import user_with

NOTE = "tests.project.shop.tasks.note"
TASKS = "/admin/sisy/task/"

pytestmark = pytest.mark.django_db


def saved(**fields):
    task = task_with_callable(NOTE, **fields)
    task.save()
    return task


def address(task):
    return f"{TASKS}{task.pk}/change/"


def words(response):
    return " ".join(Page(response).text.split())


# The page ------------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_was_and_what_comes(admin_client):
    task, now = saved(schedule="0 9 * * *", label="Digest"), timezone.now()
    for hours in range(12, 0, -1):
        write_run(task, at=now - timedelta(hours=hours), seconds=hours)
    failed = write_run(task, "FAILED", at=now, reason="ValueError: no list 7")
    response = admin_client.get(address(task))
    text = words(response)
    assert "p506 sp9512 s" in text.replace(" p95", "p95")
    assert "ValueError: no list 7" in text
    assert "Runs in the past 90 days" in str(response.content)
    links = [tag.get("href") for name, tag in Page(response).tags if name == "a"]
    assert links.count(f"/admin/sisy/run/{failed.pk}/change/") == 3  # in the strip, the list and the durations
    assert Page(response).violations == []


def test_the_page_costs_the_same_for_a_thousand_runs_as_for_one(admin_client):
    task, now = saved(), timezone.now()

    def cost():
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(address(task)).status_code == 200
        return len(queries)

    write_run(task, at=now)
    admin_client.get(address(task))
    few = cost()
    for hours in range(1, 50):
        write_run(task, at=now - timedelta(hours=hours))
    assert cost() == few


def test_the_calendar_leads_to_the_runs_of_a_day(admin_client):
    task, now = saved(label="Digest"), timezone.now()
    run = write_run(task, at=now)
    write_run(task, at=now - timedelta(days=3))
    page = Page(admin_client.get(address(task)))
    days = [tag["href"] for name, tag in page.tags if name == "a" and "sisy-day-" in tag.get("class", "")]
    assert len(days) == 2
    listed = admin_client.get(days[-1])
    assert [row.pk for row in listed.context["cl"].result_list] == [run.pk]


def test_the_region_is_for_those_who_may_see_tasks(admin_client):
    url = f"{TASKS}{saved().pk}/fragment/page/"
    assert admin_client.get(url).status_code == 200
    assert user_with("view_run").get(url).status_code == 403


def test_who_may_only_look_sees_no_secret(admin_client):
    task = saved(userdata={"api_key": "k-5c1e", "list": 7})
    text = user_with("view_task").get(address(task)).content.decode()
    assert "k-5c1e" not in text
    assert "list" in text


@pytest.mark.parametrize("column", ["overlap", "misfire", "timezone", "schedule", "label", "queue"])
def test_whatever_is_in_the_row_the_page_comes(admin_client, column):
    task = saved()
    QuerySet(Task).filter(pk=task.pk).update(**{column: "<b>?"})
    response = admin_client.get(address(task))
    assert response.status_code == 200
    assert "<b>?" not in response.content.decode()


def test_policies_are_explained_with_the_numbers_of_the_task():
    task = saved(
        overlap="queue", misfire="skip", max_attempts=3, retry_backoff=timedelta(seconds=90), at_most_once=True
    )
    texts = {policy.name: policy.text for policy in policies_of(task)}
    assert texts["Overlap"].startswith("One run waits")
    assert texts["Misfire"].endswith("none runs that is older than 1 min 0 s.")
    assert "up to 3 times, first after 1 min 30 s" in texts["Retries"]
    assert "never starts a second time" in texts["Crashes"]
    task.timeout, task.jitter = timedelta(seconds=30), timedelta(minutes=5)
    texts = {policy.name: policy.text for policy in policies_of(task)}
    assert (texts["Timeout"], texts["Place"]) == (
        "A run is stopped after 30 s.",
        "Queue default, priority 0. Each run is delayed by up to 5 min 0 s.",
    )


# The log -------------------------------------------------------------------------------------------------------------


def test_the_log_tells_the_values_before_and_after(admin_client):
    task = saved(schedule="0 9 * * *", userdata={"token": "old"})
    changes = {"schedule": "0 10 * * *", "overlap": "queue", "timeout": "00:10:00", "_extra_data": '{"token": "new"}'}
    fill(admin_client, address(task), **changes)
    message = json.loads(LogEntry.objects.get().change_message)
    assert message[0]["changed"]["sisy"] == {
        "schedule": ["0 9 * * *", "0 10 * * *"], "overlap": ["skip", "queue"], "timeout": [None, "00:10:00"],
    }  # fmt: skip
    for url in (address(task), f"{TASKS}{task.pk}/history/"):
        text = words(admin_client.get(url))
        assert "Schedulebefore: 0 9 * * * → now: 0 10 * * *" in text
        assert "before: Skip the new run → now: Let one run wait" in text
        assert "admin" in text
    assert "old" not in LogEntry.objects.get().change_message


def test_entries_that_sisy_did_not_write_are_shown_as_they_are(admin_client, admin_user):
    task = saved()
    messages = ("a text", "[1]", '[{"changed": {"fields": ["x"], "sisy": 3}}]', '[{"changed": {"sisy": {"a": 1}}}]')
    for message in messages:
        LogEntry.objects.log_actions(admin_user.pk, [task], 2, message)
    text = words(admin_client.get(address(task)))
    assert "a text" in text
    assert "Changed x." in text
    LogEntry.objects.exclude(change_message__in=messages[:1] + messages[2:3]).delete()  # Django can't show them
    assert "a text" in words(admin_client.get(f"{TASKS}{task.pk}/history/"))


# The buttons in the list ---------------------------------------------------------------------------------------------


def buttons(client, **query):
    """Return the addresses that the buttons in the list post to."""
    tags = Page(client.get(TASKS, query)).tags
    return [tag["formaction"] for name, tag in tags if name == "button" and "/verb/" in tag.get("formaction", "")]


def test_a_row_has_the_buttons_that_fit_it_for_who_may_use_them(admin_client):
    task, paused = saved(label="a"), saved(label="b")
    paused.pause()
    verbs = {url.split("/sisy/task/")[1] for url in buttons(admin_client)}
    assert verbs == {
        f"{task.pk}/verb/run_now/", f"{task.pk}/verb/pause/", f"{paused.pk}/verb/run_now/", f"{paused.pk}/verb/resume/",
    }  # fmt: skip
    assert [url.split("/")[-2] for url in buttons(user_with("view_task", "pause_task"))] != []
    assert {url.split("/")[-2] for url in buttons(user_with("view_task", "run_task"))} == {"run_now"}


def test_a_button_in_the_list_leads_back_to_the_list_as_it_was_filtered(admin_client):
    task = saved(label="Digest")
    url = next(url for url in buttons(admin_client, q="dig") if "/run_now/" in url)
    response = admin_client.post(url, {"_back_to_list": "1"}, follow=True)
    assert response.redirect_chain[-1][0] == f"{TASKS}?q=dig"
    assert messages_of(response) == ["A run was created now: “Digest”."]
    assert Run.objects.get().task == task


def test_the_scripts_of_the_pages_are_small():
    static = Path(sisy.__file__).parent / "static" / "sisy"
    assert max(path.stat().st_size for path in static.glob("*.js")) < 16 * 1024
