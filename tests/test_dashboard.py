"""The overview and live regions: what they show, to whom, at what cost; and what answers when the script asks."""

import dataclasses
import math
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

import sisy
from sisy import layer
from sisy.admin import chart, live, overview, traceback
from sisy.admin.overview import Minute
from sisy.admin.run import RunAdmin
from sisy.messages import changed
from sisy.models import Heartbeat, Run, RunStatus, Task, Worker, task_with_callable
from sisy.testing import drain
from tests.admin_pages import Page

pytestmark = pytest.mark.django_db

OVERVIEW = "/admin/sisy/dashboard/"
RUNS = "/admin/sisy/run/"
NOTE, FAIL = "tests.project.shop.tasks.note", "tests.project.shop.tasks.fail"
NEVER = "0 0 1 1 *"
STATIC = Path(sisy.__file__).parent / "static" / "sisy"


def user_with(*permissions):
    user = User.objects.create_user("ada", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def saved(label="Digest", path=NOTE, **columns):
    task = task_with_callable(path, label=label, schedule=NEVER, **columns)
    task.save()
    return task


def failed(label="Broken", times=1):
    task = saved(label, FAIL)
    for _ in range(times):
        task.run_asap()
        drain()
    return task


def region(client, name, url=OVERVIEW):
    response = client.get(f"{url}fragment/{name}/")
    assert response.status_code == 200
    return Page(response)


def words(page):
    return " ".join(page.text.split())


def run_that_is(status, **columns):
    now = timezone.now()
    given = {"label": "one", "callable": "x", "enqueued_at": now, "run_after": now, "status": status}
    if status == "RUNNING":
        given |= {"claim": uuid.uuid4(), "lease_expires_at": now + timedelta(minutes=1)}
        given |= {"started_at": now - timedelta(seconds=75)}
    else:
        given |= {"finished_at": now}
    return Run.objects.create(**{**given, **columns})


# The overview --------------------------------------------------------------------------------------------------------


def test_without_a_heartbeat_and_a_worker_the_overview_says_what_is_missing(admin_client):
    saved()
    text = words(region(admin_client, "health"))
    assert "Something is broken" in text
    assert "No worker is alive. Start manage.py sisy_worker" in text


def test_the_numbers_lead_to_what_they_count(admin_client):
    failed(times=2)
    Task.run_once(NOTE)
    drain()
    saved("Paused").pause()
    page = region(admin_client, "counts")
    links = {tag["href"] for name, tag in page.tags if name == "a"}
    assert "2 Failed" in words(page)
    assert "1 Successful" in words(page)
    assert "1 Paused" in words(page)
    assert f"{RUNS}?status__exact=FAILED&enqueued=day" in links
    for link in links:
        assert admin_client.get(link).status_code == 200


def test_what_runs_is_shown_with_its_worker_its_time_and_how_far_it_is(admin_client):
    now = timezone.now()
    worker = Worker.objects.create(
        id="0" * 32, host="web-1", pid=7, version="2", concurrency=4, started_at=now, seen_at=now
    )
    run = run_that_is("RUNNING", label="Export", worker=worker.pk, progress={"fraction": 0.62, "text": "page 5"})
    page = region(admin_client, "running")
    assert "Export" in page.text
    assert "web-1:7" in page.text
    assert "1 min 15 s" in page.text
    assert "62 %" in page.text
    assert "page 5" in page.text
    assert page.posts == [f"{RUNS}{run.pk}/verb/cancel/"]
    Run.objects.filter(pk=run.pk).update(cancel_requested_at=now)
    overview.forget()
    page = region(admin_client, "running")
    assert "stopping" in page.text
    assert page.posts == []


def test_failures_are_grouped_by_callable_and_exception(admin_client):
    failed("one", times=3)
    task = failed("two")
    page = region(admin_client, "failures")
    assert "4×RuntimeError in tests.project.shop.tasks.fail" in words(page)
    assert reverse("admin:sisy_run_change", args=[task.runs.latest("pk").pk]) in [
        tag.get("href") for _name, tag in page.tags
    ]


def test_running_again_what_failed_runs_each_task_once(admin_client):
    failed("one", times=3), failed("two")
    address = next(post for post in region(admin_client, "failures").posts if "retry" in post)
    response = admin_client.post(address, headers={"Sisy-Live": "1"})
    assert "2 runs were created now" in response.content.decode()
    assert Run.objects.filter(status=RunStatus.READY).count() == 2
    assert LogEntry.objects.count() == 2
    assert admin_client.post(address).status_code == 302
    assert admin_client.get(address).status_code == 405


def test_running_again_needs_its_permission():
    failed()
    client = user_with("view_dashboard", "view_run")
    assert region(client, "failures").posts == []
    address = f"{OVERVIEW}retry/?callable={FAIL}&exception=RuntimeError"
    assert client.post(address).status_code == 403
    assert not Run.objects.filter(status=RunStatus.READY).exists()


def test_the_tasks_that_are_due_next_count_down(admin_client):
    task = saved("Yearly")
    page = region(admin_client, "upcoming")
    assert "Yearly" in page.text
    clock = next(tag for name, tag in page.tags if name == "time")
    assert float(clock["data-sisy-until"]) == task.next_run.timestamp()


def test_the_last_hour_is_drawn_and_told(admin_client):
    failed(times=2)
    page = region(admin_client, "throughput")
    titles = [tag for name, tag in page.tags if name == "rect" and tag.get("class") == "sisy-bar-bad"]
    assert titles
    assert "2 failed" in words(page)
    assert "0 successful, 2 failed, 0 others" in page.text


def test_what_was_missed_or_lost_is_a_click_away(admin_client):
    assert "nothing was missed" in region(admin_client, "health").text
    for status, label in (("MISSED", "gone by"), ("LOST", "gone with it"), ("FAILED", "another matter")):
        run_that_is(status, label=label)
    overview.forget()
    tile = region(admin_client, "health")
    assert "1, 1" in words(tile)
    (url,) = [tag["href"] for name, tag in tile.tags if name == "a"]
    found = Page(admin_client.get(url)).text
    assert "gone by" in found
    assert "gone with it" in found
    assert "another matter" not in found


def test_clocks_that_differ_are_told_beside_the_heartbeat(admin_client, monkeypatch):
    seen = overview.read(timezone.now())
    far = dataclasses.replace(seen, health=dataclasses.replace(seen.health, clock_difference=timedelta(seconds=-7)))
    monkeypatch.setattr(overview._kept, "_until", math.inf)
    monkeypatch.setattr(overview._kept, "_survey", far)
    assert "clocks differ by 7 s" in region(admin_client, "health").text


def test_the_minutes_of_the_chart_are_those_in_which_runs_ended():
    now = timezone.now().replace(second=30, microsecond=0)
    for minutes, status in ((0, "SUCCESSFUL"), (5, "FAILED"), (59, "LOST"), (61, "SUCCESSFUL")):
        run_that_is(status, finished_at=now - timedelta(minutes=minutes))
    found = overview.read(now).minutes
    assert [(n, minute.good, minute.bad) for n, minute in enumerate(found) if minute.good + minute.bad] == [
        (0, 0, 1), (54, 0, 1), (59, 1, 0),
    ]  # fmt: skip
    assert found[-1].at == now.replace(second=0)


def test_a_single_run_beside_a_thousand_is_seen():
    now = timezone.now()
    minutes = [Minute(at=now, good=999, bad=1, other=0), Minute(at=now, good=0, bad=0, other=0)]
    drawn = chart.chart(minutes)
    assert [part["height"] for part in drawn["bars"][0]["parts"]] == ["119.9", "3.0"]
    assert drawn["bars"][1]["parts"] == []
    assert (drawn["top"], drawn["good"], drawn["bad"], drawn["total"]) == (1000, 999, 1, 1000)


def test_the_overview_costs_ten_queries_at_most_and_is_small(admin_client):
    for number in range(12):
        saved(f"task {number}")
        run_that_is("RUNNING", label=f"run {number}")
        run_that_is("FAILED", reason=f"KeyError{number}: x")
    Task.objects.filter(label="task 1").update(next_run=timezone.now() - timedelta(seconds=5))
    Worker.objects.sign(uuid.uuid4(), queues=None, concurrency=4)
    Heartbeat.objects.sign(uuid.uuid4(), interval=timedelta(minutes=1))
    overview.forget()
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(OVERVIEW)
    assert response.status_code == 200
    assert len(queries) <= 10, [query["sql"] for query in queries]
    assert len(response.content) < 80 * 1024
    assert Page(response).violations == []


def test_the_script_is_small():
    assert len((STATIC / "live.js").read_bytes()) < 16 * 1024


def test_a_survey_is_kept_for_a_moment_unless_this_process_changes_something(admin_client):
    region(admin_client, "health")
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(f"{OVERVIEW}fragment/running+failures/")
    assert len(queries) == 2  # the session and its user
    assert float(response["Sisy-Age"]) > 0
    layer.publish(changed([1]))
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(f"{OVERVIEW}fragment/running/")
    assert len(queries) > 2
    assert float(response["Sisy-Age"]) == 0


def test_where_runs_are_executed_a_survey_is_kept_although_things_change_all_the_time(admin_client):
    def bell(_message):
        pass

    region(admin_client, "health")
    layer.add_bell(bell)
    try:
        layer.publish(changed([1]))
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(f"{OVERVIEW}fragment/running/")
    finally:
        layer.remove_bell(bell)
    assert len(queries) == 2  # the session and its user


def test_regions_are_rendered_once_for_all_who_see_the_same_of_a_survey(admin_client, monkeypatch):
    rendered = []
    render = live.LivePage._render
    monkeypatch.setattr(
        live.LivePage, "_render", lambda page, name, *rest: rendered.append(name) or render(page, name, *rest)
    )
    run_that_is("RUNNING", label="export")
    monkeypatch.setattr(overview._kept, "_until", math.inf)
    survey = overview.read(timezone.now())
    monkeypatch.setattr(overview._kept, "_survey", survey)
    address = f"{OVERVIEW}fragment/running+counts/"
    first, second = admin_client.get(address), admin_client.get(address)
    assert first.content == second.content
    assert b"/cancel/" in first.content
    assert rendered == ["running", "counts"]
    assert b"/cancel/" not in user_with("view_dashboard", "view_run").get(address).content
    with translation.override("de"):
        assert b"Abbrechen" in admin_client.get(address).content
    assert rendered == ["running", "counts"] * 3
    monkeypatch.setattr(overview._kept, "_survey", overview.read(timezone.now()))
    admin_client.get(address)
    assert rendered == ["running", "counts"] * 4


def test_the_round_trip_of_the_layer_is_measured_beside_the_page(admin_client, settings, monkeypatch):
    for trip, said in (
        (layer.RoundTrip(reaches="all processes", time=timedelta(milliseconds=2)), "2 ms"),
        (layer.RoundTrip(reaches="all processes", error="ConnectionError: refused"), "no answer"),
    ):
        monkeypatch.setattr(overview, "_ping", overview._Ping())
        monkeypatch.setattr(layer, "round_trip", lambda trip=trip: trip)
        overview.forget()
        assert said in region(admin_client, "health").text
    monkeypatch.setattr(overview, "_ping", overview._Ping())
    monkeypatch.setattr(layer, "round_trip", lambda: time.sleep(0.3))
    overview.forget()
    assert "being measured" in region(admin_client, "health").text
    settings.CHANNEL_LAYERS = {}
    overview.forget()
    assert "workers look by themselves" in region(admin_client, "health").text
    overview._ping._thread.join()


# Regions -------------------------------------------------------------------------------------------------------------


def test_a_region_is_what_the_page_shows(admin_client):
    saved()
    page = admin_client.get(OVERVIEW).content.decode()
    for name in ("counts", "running", "failures", "upcoming"):
        assert admin_client.get(f"{OVERVIEW}fragment/{name}/").content.decode() in page


def test_several_regions_come_in_one_answer_and_unknown_ones_do_not(admin_client):
    page = region(admin_client, "counts+running")
    assert [tag["id"] for _name, tag in page.tags if "data-sisy-url" in tag] == ["sisy-counts", "sisy-running"]
    assert admin_client.get(f"{OVERVIEW}fragment/counts+secrets/").status_code == 404
    assert admin_client.get(f"{OVERVIEW}fragment/changelist_view/").status_code == 404
    assert admin_client.post(f"{OVERVIEW}fragment/counts/").status_code == 405
    run = Task.run_once(NOTE).runs.get()
    assert admin_client.get(f"{RUNS}{run.pk}/fragment/summary+log/").status_code == 200
    assert admin_client.get(f"{RUNS}{run.pk + 1}/fragment/summary/").status_code == 404
    assert admin_client.get(f"{RUNS}fragment/summary/").status_code == 404


def test_regions_need_the_permission_of_their_page():
    run = Task.run_once(NOTE).runs.get()
    addresses = {
        "view_dashboard": f"{OVERVIEW}fragment/health/",
        "view_run": f"{RUNS}{run.pk}/fragment/summary/",
        "view_task": "/admin/sisy/task/fragment/results/",
        "view_worker": "/admin/sisy/worker/fragment/results/",
    }
    for permission in addresses:
        client = user_with(permission)
        allowed = [name for name, url in addresses.items() if client.get(url).status_code == 200]
        assert allowed == [permission]
        User.objects.all().delete()
    assert Client().get(addresses["view_run"]).status_code == 302
    assert user_with().get(OVERVIEW).status_code == 403


def test_a_list_keeps_its_filters_when_it_is_fetched_again(admin_client):
    Task.run_once(NOTE, label="waits")
    failed("broke")
    page = Page(admin_client.get(f"{RUNS}?status__exact=FAILED"))
    address = next(tag["data-sisy-url"] for _name, tag in page.tags if "data-sisy-url" in tag)
    text = Page(admin_client.get(address)).text
    assert "broke" in text
    assert "waits" not in text


def test_a_list_that_is_shorter_than_it_was_is_shown_from_its_beginning(admin_client, monkeypatch):
    monkeypatch.setattr(RunAdmin, "list_per_page", 2)
    for number in range(3):
        run_that_is("SUCCESSFUL", label=f"done {number}")
    address = f"{RUNS}fragment/results/"
    assert "done 0" in Page(admin_client.get(address, {"p": "2"})).text
    Run.objects.filter(label="done 0").delete()
    assert "done 1" in Page(admin_client.get(address, {"p": "2"})).text
    assert admin_client.get(address, {"status__exact__nonsense": "x"}).status_code == 404


def test_what_changes_while_a_survey_is_read_is_in_the_next_one(admin_client, monkeypatch):
    read = overview.read

    def read_and_change(now):
        survey = read(now)
        run_that_is("RUNNING", label="meanwhile")
        overview.forget()
        return survey

    overview.forget()
    monkeypatch.setattr(overview, "read", read_and_change)
    assert "meanwhile" not in region(admin_client, "running").text
    monkeypatch.setattr(overview, "read", read)
    assert "meanwhile" in region(admin_client, "running").text


def test_an_answer_shows_one_survey_and_tells_its_age(admin_client, monkeypatch):
    old = dataclasses.replace(overview.read(timezone.now()), read_at=time.monotonic() - 7)
    surveys = [old]
    monkeypatch.setattr(overview, "survey", surveys.pop)  # asked for once
    response = admin_client.get(f"{OVERVIEW}fragment/health+counts+running/")
    assert float(response["Sisy-Age"]) >= 7


def test_a_list_on_its_page_is_read_once(admin_client):
    Task.run_once(NOTE)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(RUNS)
    lists = [query["sql"] for query in queries if "reason" in query["sql"]]
    assert len(lists) == 1


# Answers to the script, and to those without it ----------------------------------------------------------------------


def test_what_destroys_asks_first(admin_client):
    run = Task.run_once(NOTE).runs.get()
    address = f"{RUNS}{run.pk}/verb/cancel/"
    asked = Page(admin_client.post(address))
    assert "Are you sure?" in asked.text
    assert asked.violations == []
    assert Run.objects.get().status == RunStatus.READY
    admin_client.post(address, {"confirmed": "1"})
    assert Run.objects.get().status == RunStatus.CANCELLED


def test_an_action_on_selected_rows_asks_first_and_remembers_them(admin_client):
    runs = [Task.run_once(NOTE).runs.get() for _ in range(3)]
    chosen = {"action": "cancel", "_selected_action": [run.pk for run in runs[:2]]}
    page = admin_client.post(RUNS, chosen)
    hidden = [(tag["name"], tag["value"]) for name, tag in Page(page).tags if tag.get("type") == "hidden"]
    assert ("_selected_action", f"{runs[1].pk}") in hidden
    assert ("confirmed", "1") in hidden
    admin_client.post(RUNS, {**chosen, "confirmed": "1"})
    assert Run.objects.filter(status=RunStatus.CANCELLED).count() == 2


def test_the_script_gets_messages_and_where_to_go(admin_client):
    task = saved()
    answer = admin_client.post(f"/admin/sisy/task/{task.pk}/verb/pause/", headers={"Sisy-Live": "1"})
    assert (answer.status_code, "A task was paused" in answer.content.decode()) == (200, True)
    once = Task.run_once(NOTE, delay_until=timezone.now() + timedelta(days=1))
    answer = admin_client.post(
        f"/admin/sisy/task/{once.pk}/verb/cancel_runs/", {"confirmed": "1"}, headers={"Sisy-Live": "1"}
    )
    assert (answer.status_code, answer["Sisy-Location"]) == (204, "/admin/sisy/task/")
    assert "Cancelled for a task" in Page(admin_client.get("/admin/sisy/task/")).text


# The page of a run ---------------------------------------------------------------------------------------------------


def test_a_run_shows_the_newest_lines_of_its_log(admin_client, monkeypatch):
    monkeypatch.setattr("sisy.admin.run_page._MOST_LINES", 3)
    run = Task.run_once(NOTE).runs.get()
    for number in range(5):
        run.log(f"line {number}")
    text = words(region(admin_client, "log", f"{RUNS}{run.pk}/"))
    assert "The newest 3 lines" in text
    assert "line 1" not in text
    assert "line 4" in text


def test_retry_is_what_it_is_called_after_a_failure(admin_client):
    good, bad = Task.run_once(NOTE).runs.get(), failed().runs.get()
    drain()
    assert "Run again" in region(admin_client, "buttons", f"{RUNS}{good.pk}/").text
    assert "Retry" in region(admin_client, "buttons", f"{RUNS}{bad.pk}/").text


def test_frames_of_others_can_be_told_apart():
    text = (
        "Traceback (most recent call last):\n"
        '  File "/usr/lib/python3.12/threading.py", line 1, in run\n    self()\n    ^^^^\n'
        '  File "/srv/shop/tasks.py", line 3, in sell\n    raise KeyError\n'
        "KeyError\n\nDuring handling of the above exception, another exception occurred:\n\n"
        '  File "/srv/venv/lib/python3.12/site-packages/stripe.py", line 9, in pay\n'
        "stripe.Refused: no\n"
    )
    found = traceback.pieces(text)
    assert "".join(piece.text for piece in found) == text
    assert [piece.text.split()[1] for piece in found if piece.is_theirs] == [
        '"/usr/lib/python3.12/threading.py",', '"/srv/venv/lib/python3.12/site-packages/stripe.py",',
    ]  # fmt: skip
    assert all("shop" not in piece.text and "handling" not in piece.text for piece in found if piece.is_theirs)
