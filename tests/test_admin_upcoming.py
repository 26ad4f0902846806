"""The next 24 hours: the lanes, their bounds, what is marked on them, and the page."""

import re
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sisy.admin import upcoming
from sisy.admin.lanes import MOST_SINGLE, SPAN, Window, lane, load, stretches_of
from sisy.models import Task, task_with_callable
from tests.admin_pages import Page
from tests.past import write_run
from tests.test_admin import user_with

NOTE = "tests.project.shop.tasks.note"
PAGE = "/admin/sisy/task/upcoming/"
NOW = datetime(2026, 6, 15, 12, 20, tzinfo=UTC)
WINDOW = Window(now=NOW, zone=ZoneInfo("Europe/Paris"))


def planned(schedule, *, now=NOW, **fields):
    """Return an unsaved task with its next slot after an instant."""
    task = Task(callable=NOTE, schedule=schedule, created_at=now, **fields)
    task.next_run = task.slot_after(now)
    return task


def drawn(task, *, window=WINDOW, seconds=None):
    return lane(task, words="", window=window, usual=None if seconds is None else timedelta(seconds=seconds))


# The lanes -----------------------------------------------------------------------------------------------------------


def test_each_slot_of_the_next_day_is_there():
    slots = [stretch.first for stretch in stretches_of(planned("0 */4 * * *"), until=NOW + SPAN)]
    assert [slot.hour for slot in slots] == [16, 20, 0, 4, 8, 12]
    assert slots[0] == datetime(2026, 6, 15, 16, tzinfo=UTC)


def test_the_window_and_the_iterations_end_a_lane():
    until = NOW + SPAN
    assert len(list(stretches_of(planned("0 * * * *", end_running=NOW + timedelta(hours=3)), until=until))) == 3
    assert len(list(stretches_of(planned("0 * * * *", iterations=7, runs_created=5), until=until))) == 2
    assert (
        len(list(stretches_of(planned("@once", start_running=NOW + timedelta(hours=1), iterations=1), until=until)))
        == 1
    )


@pytest.mark.parametrize("schedule", ["* * * * * *", "* * * * *", "*/15 * * * *", "@every 1s", "*/30 * * * *"])
def test_a_dense_schedule_is_one_stretch(schedule):
    (stretch,) = stretches_of(planned(schedule), until=NOW + SPAN)
    assert stretch.is_many
    assert stretch.last - stretch.first > SPAN - timedelta(hours=1)


def test_a_schedule_that_is_dense_in_the_morning_has_a_stretch_there():
    (first, second) = stretches_of(planned("* 8-9,18 * * *"), until=NOW + SPAN)
    assert (first.first.hour, first.last.hour) == (18, 18)
    assert (second.first.hour, second.last.hour) == (8, 9)


def test_a_lane_takes_as_long_for_every_second_as_for_every_minute():
    tasks = [planned("* * * * * *", timezone=zone) for zone in ("Europe/Paris", "Asia/Tokyo", "America/New_York")]
    began = time.perf_counter()
    for task in tasks:
        list(stretches_of(task, until=NOW + SPAN))
    assert time.perf_counter() - began < 3  # 86,400 slots each would take far longer


def test_slots_at_which_the_run_before_is_not_over_are_marked_and_explained():
    short, long = drawn(planned("0 * * * *"), seconds=60), drawn(planned("0 * * * *"), seconds=4000)
    assert {mark.kind for mark in short.marks} == {"slot"}
    assert [mark.kind for mark in long.marks] == ["slot"] + ["overlap"] * 23
    assert "23 slots will find the run before still running. Overlap: Skip the new run" in long.notes[0]
    assert "will probably not be over" in long.marks[1].text
    assert long.marks[1].path != long.marks[0].path  # another shape
    assert drawn(planned("0 * * * *")).notes == ()


def test_slots_on_a_day_on_which_clocks_change_are_marked_and_explained():
    eve = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    autumn = Window(now=eve, zone=ZoneInfo("UTC"))
    paris = drawn(planned("30 2 * * *", timezone="Europe/Paris", now=eve), window=autumn)
    assert paris.notes == ("Europe/Paris: Clocks go back from 03:00 to 02:00 on this day",)
    assert paris.marks[0].clock
    assert "comes twice" in paris.marks[0].text
    tokyo = drawn(planned("30 2 * * *", timezone="Asia/Tokyo", now=eve), window=autumn)
    assert (tokyo.notes, tokyo.marks[0].clock) == ((), "")


def test_what_is_due_stands_at_the_present_and_nothing_leaves_the_frame():
    late = planned("0 * * * *")
    late.next_run = NOW - timedelta(hours=5)
    for task in (late, planned("* * * * *"), planned("0 * * * *")):
        for mark in drawn(task, seconds=7200).marks:
            x = float(mark.path[1:].split(" ")[0])
            assert WINDOW.x(NOW) - 0.1 <= x <= WINDOW.width


def test_the_clock_above_the_lanes_is_that_of_the_site():
    assert WINDOW.hours[:3] == ["14:00", "17:00", "20:00"]
    assert Window(now=NOW, zone=ZoneInfo("Asia/Kolkata")).hours[0] == "17:00"  # half an hour off the full one in UTC


def test_a_bad_row_does_not_hide_the_other_lanes():
    bad = planned("0 * * * *")
    bad.schedule = "61 * * * *"
    assert "61 is out of range" in drawn(bad).error


def test_the_load_says_when_the_most_runs_start():
    lanes = [drawn(planned(schedule)) for schedule in ("0 18 * * *", "0,30 18 * * *", "0 3 * * *")]
    found = load(lanes, window=WINDOW)
    assert (found.most, found.at) == (2, datetime(2026, 6, 15, 18, tzinfo=UTC))
    assert load([], window=WINDOW) is None


# The page ------------------------------------------------------------------------------------------------------------


def saved(**fields):
    task = task_with_callable(NOTE, **fields)
    task.save()
    return task


def labels(client, **query):
    response = client.get(PAGE, query)
    assert response.status_code == 200
    links = [tag for name, tag in Page(response).tags if name == "a" and "/change/" in tag.get("href", "")]
    keys = [int(link["href"].split("/")[-3]) for link in links]
    return [Task.objects.get(pk=key).label for key in keys]


@pytest.mark.django_db
def test_the_page_has_a_lane_for_each_task_that_runs_within_a_day(admin_client):
    saved(label="hourly", schedule="0 * * * *", queue="mail")
    saved(label="each second", schedule="* * * * * *")
    saved(label="in a year", schedule="@once", iterations=1, start_running=timezone.now() + timedelta(days=365))
    saved(label="paused", schedule="* * * * *").pause()
    assert labels(admin_client) == ["each second", "hourly"]
    assert labels(admin_client, q="HOUR") == ["hourly"]
    assert labels(admin_client, queue="mail") == ["hourly"]
    assert labels(admin_client, queue="none") == []


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 50, "²", ""])
def test_any_page_can_be_asked_for(admin_client, page):
    assert admin_client.get(PAGE, {"p": page}).status_code == 200


@pytest.mark.django_db
def test_the_breadcrumbs_end_with_the_page(admin_client):
    html = admin_client.get(PAGE).content.decode()
    assert re.search(r'class="breadcrumbs">.*?Upcoming\s*</(li|div)>', html, re.DOTALL)


@pytest.mark.django_db
def test_the_page_turns(admin_client, monkeypatch):
    monkeypatch.setattr(upcoming, "PER_PAGE", 2)
    for minute in (1, 2, 3):
        saved(label=f"{minute}", schedule=f"{minute} * * * *")
    seen = labels(admin_client, q="") + labels(admin_client, q="", p="2")
    assert sorted(seen) == ["1", "2", "3"]
    links = [
        tag.get("rel")
        for name, tag in Page(admin_client.get(PAGE, {"p": "2"})).tags
        if tag.get("rel") in ("prev", "next")
    ]
    assert links == ["prev"]


@pytest.mark.django_db
def test_the_page_costs_the_same_for_forty_tasks_as_for_three(admin_client):
    def cost():
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(PAGE).status_code == 200
        return len(queries)

    tasks = [saved(label=f"{n}", schedule="0 * * * *") for n in range(3)]
    admin_client.get(PAGE)
    few = cost()
    tasks += [saved(label=f"{n}", schedule="0 * * * *") for n in range(60)]
    for task in tasks:
        write_run(task, at=NOW)
    assert cost() == few


@pytest.mark.django_db
def test_a_row_that_is_bad_is_on_the_page(admin_client):
    task = saved(label="bad", schedule="* * * * *")
    QuerySet(Task).filter(pk=task.pk).update(schedule="61 * * * *")
    assert "61 is out of range" in Page(admin_client.get(PAGE)).text


@pytest.mark.django_db
def test_the_page_passes_a_strict_policy_and_shows_hostile_text_as_text(admin_client):
    hostile = "<script>alert(1)</script>\u202e"
    saved(label=hostile, schedule="* * * * *")
    response = admin_client.get(PAGE, {"q": "<script>"})
    assert Page(response).violations == []
    assert hostile not in response.content.decode()


@pytest.mark.django_db
def test_the_page_is_for_those_who_may_see_tasks():
    assert user_with("view_run").get(PAGE).status_code == 403
    assert user_with("view_task").get(PAGE).status_code == 200


def test_forty_slots_are_the_most_that_are_drawn_one_by_one():
    few, many = planned("*/36 0-23 * * *"), planned("*/30 * * * *")
    assert len(list(stretches_of(planned("0,30 0-19 * * *"), until=NOW + SPAN))) == MOST_SINGLE
    assert not any(stretch.is_many for stretch in stretches_of(planned("0,30 0-19 * * *"), until=NOW + SPAN))
    assert all(stretch.is_many for task in (few, many) for stretch in stretches_of(task, until=NOW + SPAN))
