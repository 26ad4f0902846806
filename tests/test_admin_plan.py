"""What a schedule means: on a task's page, and while it is typed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from sisy.admin import clocks
from sisy.models import Run, Task, task_with_callable
from tests.admin_pages import Page
from tests.test_admin import user_with

NOTE = "tests.project.shop.tasks.note"
PREVIEW = "/admin/sisy/task/preview/"


def text_of(client, **query):
    response = client.get(PREVIEW, query)
    assert response.status_code == 200
    return " ".join(Page(response).text.split())


# Days on which clocks change -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "instant", "said"),
    [
        ("Europe/Paris", datetime(2026, 3, 29, 1, 0), "forward from 02:00 to 03:00 on this day; a time that is left"),
        ("Europe/Paris", datetime(2026, 3, 29, 10, 0), "forward from 02:00 to 03:00 on this day"),
        ("Europe/Paris", datetime(2026, 10, 25, 0, 30), "this clock time comes twice, this is the first time"),
        ("Europe/Paris", datetime(2026, 10, 25, 1, 30), "this clock time comes twice, this is the second time"),
        ("Australia/Lord_Howe", datetime(2026, 10, 3, 18, 0), "forward from 02:00 to 02:30"),
        ("America/Santiago", datetime(2026, 9, 6, 4, 0), "forward from 00:00 to 01:00"),
        ("America/Santiago", datetime(2026, 9, 5, 12, 0), ""),
        ("Europe/Paris", datetime(2026, 3, 28, 12, 0), ""),
        ("UTC", datetime(2026, 3, 29, 1, 0), ""),
        ("Europe/Paris", datetime(9999, 12, 31, 12, 0), ""),
    ],
)
def test_days_on_which_clocks_change_are_noted(zone, instant, said):
    note = clocks.note_on(instant.replace(tzinfo=UTC), ZoneInfo(zone))
    assert said in note
    assert bool(note) == bool(said)


# The preview ---------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.django_db


def test_a_schedule_is_put_in_words_with_its_next_five_runs(admin_client):
    text = text_of(admin_client, schedule="0 9 * * mon-fri", timezone="Asia/Tokyo")
    assert "At 09:00, Monday to Friday, Asia/Tokyo" in text
    assert text.count("09:00 JST00:00in ") == 5


def test_it_uses_the_parser_that_runs_the_task_and_says_what_is_wrong(admin_client):
    assert "61 is out of range" in text_of(admin_client, schedule="61 * * * *")
    assert "never fires" in text_of(admin_client, schedule="0 0 30 2 *")
    assert "Did you mean" in text_of(admin_client, schedule="* * * * *", timezone="Europe/Pariss")
    assert "Write a schedule" in text_of(admin_client, schedule="  ")


@pytest.mark.parametrize(
    ("schedule", "zone"),
    [("*" * 256, ""), ("0 0 1--100000000 * *", ""), ("\x00", ""), ("*/5 * * * *", "Z" * 500), ("🦊 * * * *", "../etc")],
)
def test_whatever_is_typed_is_answered(admin_client, schedule, zone):
    assert text_of(admin_client, schedule=schedule, timezone=zone)


def test_what_is_typed_is_shown_as_text(admin_client):
    response = admin_client.get(PREVIEW, {"schedule": "<img src=x onerror=alert(1)> * * * *"})
    assert "<img" not in response.content.decode()


def test_days_on_which_clocks_change_are_flagged(admin_client):
    page = Page(admin_client.get(PREVIEW, {"schedule": "30 2 * mar,oct L0", "timezone": "Europe/Paris"}))
    assert page.text.count("Clocks go") == 5
    assert [tag["class"] for name, tag in page.tags if name == "tr" and tag.get("class")] == ["sisy-clock-day"] * 5


def test_h_is_what_it_will_be_for_that_very_task(admin_client):
    task = task_with_callable(NOTE, label="one", schedule="H H * * *")
    task.save()
    assert task.describe() in text_of(admin_client, schedule="H H * * *", task=task.pk)
    new = Task(callable=NOTE, label="another", schedule="H H * * *", created_at=timezone.now())
    assert new.describe() in text_of(admin_client, schedule="H H * * *", callable=NOTE, label="another")


def test_a_task_that_is_gone_is_no_reason_to_fail(admin_client):
    assert "Every minute" in text_of(admin_client, schedule="* * * * *", task=99999)
    assert "Every minute" in text_of(admin_client, schedule="* * * * *", task="x")


def test_a_preview_changes_nothing(admin_client):
    task = task_with_callable(NOTE, schedule="0 9 * * *")
    task.save()
    before = Task.objects.values().get()
    text_of(admin_client, schedule="* * * * *", task=task.pk)
    assert (Task.objects.values().get(), Run.objects.count()) == (before, 0)


def test_who_may_not_see_tasks_gets_no_preview():
    assert user_with("view_run").get(PREVIEW, {"schedule": "* * * * *"}).status_code == 403
    assert Client().get(PREVIEW, {"schedule": "* * * * *"}).status_code == 302


def test_the_form_says_where_to_ask(admin_client):
    fields = {tag.get("name"): tag for name, tag in Page(admin_client.get("/admin/sisy/task/add/")).tags}
    assert fields["schedule"]["data-sisy-preview"] == PREVIEW
    assert fields["schedule"]["maxlength"] == "255"
