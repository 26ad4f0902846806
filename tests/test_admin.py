"""The admin's lists: what they show, what they cost, how they filter; and who may do what."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from sisy.admin.paginator import BoundedPaginator
from sisy.models import Run, Task, Worker, task_with_callable
from sisy.testing import drain
from tests.admin_pages import Page

NOTE = "tests.project.shop.tasks.note"
TASKS = "/admin/sisy/task/"
RUNS = "/admin/sisy/run/"
WORKERS = "/admin/sisy/worker/"

pytestmark = pytest.mark.django_db


def saved(**fields):
    task = task_with_callable(fields.pop("path", NOTE), **fields)
    task.save()
    return task


def put(task, **values):
    """Write into a row what the model would refuse."""
    QuerySet(Task).filter(pk=task.pk).update(**values)


def rows(client, url, **query):
    """Return the labels in a list."""
    response = client.get(url, query)
    assert response.status_code == 200
    return [row.label for row in response.context["cl"].result_list]


def user_with(*permissions):
    user = User.objects.create_user(f"somebody {User.objects.count()}", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="sisy", codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


# Tasks ---------------------------------------------------------------------------------------------------------------


def test_a_task_is_shown_with_its_schedule_in_words_and_its_last_runs(admin_client):
    task = saved(label="Digest", schedule="0 9 * * mon-fri", timezone="Europe/Paris")
    for _ in range(7):
        task.run_asap()
        drain()
    page = Page(admin_client.get(TASKS))
    assert "At 09:00, Monday to Friday, Europe/Paris" in page.text
    assert "0 9 * * mon-fri · Europe/Paris" in [tag.get("title") for _name, tag in page.tags]
    bars = [tag for name, tag in page.tags if name == "a" and "sisy-bar" in tag.get("class", "")]
    runs = Run.objects.order_by("pk")
    assert [bar["href"] for bar in bars] == [reverse("admin:sisy_run_change", args=[run.pk]) for run in runs]
    assert page.text.count("Successful, ") == len(bars)
    assert [bar.get("tabindex") for bar in bars] == ["-1"] * 6 + [None]  # the arrow keys lead to the others


@pytest.mark.parametrize(("url", "make_runs"), [(TASKS, True), (RUNS, True), (WORKERS, False)])
def test_a_list_costs_the_same_number_of_queries_for_thirty_rows_as_for_three(admin_client, url, make_runs):
    def make(count):
        for _ in range(count):
            worker = Worker.objects.create(
                id=f"00000000-0000-0000-0000-{Worker.objects.count():012}", host="h", pid=1, version="2", concurrency=1,
                started_at=timezone.now(), seen_at=timezone.now(),
            )  # fmt: skip
            task = saved(wait_for_schedule=False)
            task.runs.update(worker=worker.pk)

    def cost():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert len(admin_client.get(url).context["cl"].result_list) in (3, 30)
        return len(queries)

    make(3)
    admin_client.get(url)  # content types and the like are asked for once
    few = cost()
    make(27)
    assert cost() == few


def test_a_bad_row_shows_its_error_and_the_others_their_schedule(admin_client):
    put(saved(label="bad"), schedule="61 * * * *")
    put(saved(label="lost"), timezone="Mars/Olympus")
    put(saved(label="parked"), schedule="x", enabled=False, error="this one was parked")
    saved(label="good", schedule="@every 90s")
    text = Page(admin_client.get(TASKS)).text
    assert "61 is out of range" in text
    assert "Mars/Olympus" in text
    assert "this one was parked" in text
    assert "Every 90 seconds" in text


def test_tasks_are_filtered_by_state(admin_client):
    saved(label="enabled")
    saved(label="paused").pause()
    put(saved(label="parked"), enabled=False, error="bad")
    for state in ("enabled", "paused", "parked"):
        assert rows(admin_client, TASKS, state=state) == [state]
    assert len(rows(admin_client, TASKS, state="nonsense")) == 3


def test_tasks_are_filtered_by_overlap_queue_and_callable(admin_client):
    saved(label="one", overlap="allow", queue="mail")
    saved(label="two", path="tests.project.shop.tasks.fail")
    assert rows(admin_client, TASKS, overlap__exact="allow") == ["one"]
    assert rows(admin_client, TASKS, queue="mail") == ["one"]
    assert rows(admin_client, TASKS, queue="none") == []
    assert rows(admin_client, TASKS, callable="tests.project.shop.tasks.fail") == ["two"]
    text = Page(admin_client.get(TASKS)).text
    assert "mail" in text
    assert "By queue" in text


def test_tasks_are_found_by_label_and_callable(admin_client):
    saved(label="Digest")
    saved(label="Import", path="tests.project.shop.tasks.fail")
    assert rows(admin_client, TASKS, q="digest") == ["Digest"]
    assert rows(admin_client, TASKS, q="tasks.fail") == ["Import"]


def test_tasks_come_by_their_next_run_and_those_without_one_last(admin_client):
    saved(label="later", schedule="0 0 1 1 *")
    one_shot = Task.run_once(NOTE, label="running")
    saved(label="soon", schedule="* * * * *")
    assert one_shot.next_run is None
    assert rows(admin_client, TASKS) == ["soon", "later", "running"]
    assert rows(admin_client, TASKS, o="1") == ["later", "running", "soon"]


@pytest.mark.parametrize("key", ["_extra_data__token__startswith", "_extra_data", "runs__userdata__token"])
def test_tasks_are_not_filtered_by_their_secrets(admin_client, key):
    assert admin_client.get(TASKS, {key: "a"}).status_code in (302, 400)


# Runs ----------------------------------------------------------------------------------------------------------------


def test_runs_are_shown_the_newest_first_with_their_reasons(admin_client):
    Task.run_once(NOTE, label="fine")
    Task.run_once("tests.project.shop.tasks.fail", label="burning")
    drain()
    page = Page(admin_client.get(RUNS))
    assert page.text.index("burning") < page.text.index("fine")
    assert "RuntimeError: the shop is on fire" in page.text
    assert all(text in page.text for text in ("✓ Successful", "✗ Failed"))


def test_runs_are_filtered_and_found(admin_client):
    task = saved(label="Digest of the day", queue="mail")
    run = task.run_asap()
    Task.run_once("tests.project.shop.tasks.fail", label="burning")
    drain()
    assert rows(admin_client, RUNS, status__exact="FAILED") == ["burning"]
    assert rows(admin_client, RUNS, queue="mail") == ["Digest of the day"]
    assert rows(admin_client, RUNS, task=task.pk) == ["Digest of the day"]
    assert rows(admin_client, RUNS, q="Digest") == ["Digest of the day"]
    assert rows(admin_client, RUNS, q="of the day") == []
    assert rows(admin_client, RUNS, q=NOTE) == ["Digest of the day"]
    assert rows(admin_client, RUNS, q=f" {run.pk} ") == ["Digest of the day"]
    assert rows(admin_client, RUNS, q="9" * 400) == []
    Run.objects.exclude(pk=run.pk).update(worker=None)
    assert rows(admin_client, RUNS, worker=Run.objects.get(pk=run.pk).worker) == ["Digest of the day"]


def test_runs_are_filtered_by_age(admin_client):
    old, young = saved(label="old").run_asap(), saved(label="young").run_asap()
    Run.objects.filter(pk=old.pk).update(enqueued_at=timezone.now() - timedelta(hours=2))
    assert rows(admin_client, RUNS, enqueued="hour") == ["young"]
    assert rows(admin_client, RUNS, enqueued="day") == ["young", "old"]
    assert rows(admin_client, RUNS, enqueued="nonsense") == ["young", "old"]
    assert young.pk > old.pk


@pytest.mark.parametrize("column", ["userdata", "args", "kwargs", "result", "errors", "progress"])
def test_runs_are_not_filtered_by_their_secrets(admin_client, column):
    assert admin_client.get(RUNS, {f"{column}__token__startswith": "a"}).status_code == 400


def test_a_list_counts_no_further_than_somebody_would_turn_pages(admin_client, monkeypatch):
    monkeypatch.setattr("sisy.admin.paginator.MOST_COUNTED", 3)
    for _ in range(5):
        Task.run_once(NOTE)
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(RUNS)
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"] and "sisy_run" in query["sql"]]
    assert counts
    assert all("LIMIT 3" in sql for sql in counts)
    assert "Only the first 3 are listed" in Page(response).text
    assert BoundedPaginator(Run.objects.order_by("pk"), 2).num_pages == 2


# Workers -------------------------------------------------------------------------------------------------------------


def test_workers_are_shown_with_what_they_have_in_hand(admin_client):
    now = timezone.now()
    names = {"host": "web-1", "version": "2.0.0", "concurrency": 4, "started_at": now}
    alive = Worker.objects.create(id="0" * 32, pid=1, seen_at=now, **names)
    Worker.objects.create(id="1" * 32, pid=2, seen_at=now - timedelta(hours=1), queues=["mail"], **names)
    Worker.objects.create(id="2" * 32, pid=3, seen_at=now, stopped_at=now, **names)
    for _ in range(2):
        Task.run_once(NOTE)
    Run.objects.update(
        status="RUNNING", worker=alive.pk, claim=alive.pk, lease_expires_at=now + timedelta(minutes=1), started_at=now
    )
    text = Page(admin_client.get(WORKERS)).text
    assert "web-1:1● Alive2.0.0all 2 of 4" in text
    assert "web-1:2! Silent2.0.0mail 0 of 4" in text
    assert text.count(NOTE) == 2  # what it executes, by name
    assert "web-1:3■ Stopped" in text
    page = admin_client.get(reverse("admin:sisy_worker_change", args=[alive.pk]))
    assert f"{RUNS}?worker={Worker.objects.get(pid=1).pk}" in [tag.get("href") for _name, tag in Page(page).tags]


# Permissions ---------------------------------------------------------------------------------------------------------


def test_the_admin_has_four_pages_of_sisy():
    registered = [model.__name__ for model in admin.site._registry if model._meta.app_label == "sisy"]
    assert sorted(registered) == ["Dashboard", "Run", "Task", "Worker"]


def test_who_may_only_look_finds_no_buttons_and_no_actions():
    client = user_with("view_task", "view_run", "view_worker")
    task = saved()
    run = task.run_asap()
    for url in (TASKS, RUNS, WORKERS, f"{TASKS}{task.pk}/change/", f"{RUNS}{run.pk}/change/"):
        page = Page(client.get(url))
        assert "action" not in page.choices
        assert not [address for address in page.posts if "/verb/" in address]


@pytest.mark.parametrize("verb", ["run_now", "pause", "resume", "cancel_runs"])
def test_who_may_only_look_is_refused_what_changes_tasks(verb):
    client, task = user_with("view_task", "change_task", "delete_task", "add_task"), saved()
    assert client.post(f"{TASKS}{task.pk}/verb/{verb}/").status_code == 403
    client.post(TASKS, {"action": verb, "_selected_action": [task.pk]})
    task.refresh_from_db()
    assert (task.enabled, task.runs.count()) == (True, 0)


@pytest.mark.parametrize("verb", ["cancel", "run_again"])
def test_who_may_only_look_is_refused_what_changes_runs(verb):
    client, run = user_with("view_run", "delete_run"), saved().run_asap()
    assert client.post(f"{RUNS}{run.pk}/verb/{verb}/").status_code == 403
    client.post(RUNS, {"action": verb, "_selected_action": [run.pk]})
    run.refresh_from_db()
    assert (run.status, Run.objects.count()) == ("READY", 1)


@pytest.mark.parametrize(
    ("permission", "verb"), [("run_task", "run_now"), ("pause_task", "pause"), ("cancel_run", "cancel_runs")]
)
def test_each_verb_has_a_permission_of_its_own(permission, verb):
    client, task = user_with("view_task", permission), saved()
    task.run_asap()
    offered = [
        address.split("/")[-2] for address in Page(client.get(f"{TASKS}{task.pk}/change/")).posts if "/verb/" in address
    ]
    assert offered == [verb]
    assert client.post(f"{TASKS}{task.pk}/verb/{verb}/", {"confirmed": "1"}).status_code == 302
    assert client.post(f"{TASKS}{task.pk}/change/", {"label": "x"}).status_code == 403


def test_a_permission_to_act_is_none_to_look():
    client, task = user_with("run_task"), saved()
    assert client.post(f"{TASKS}{task.pk}/verb/run_now/").status_code == 403
    assert client.get(TASKS).status_code == 403


def test_verbs_are_posts_with_a_token(admin_user):
    client, task = Client(enforce_csrf_checks=True), saved()
    client.force_login(admin_user)
    assert client.get(f"{TASKS}{task.pk}/verb/run_now/").status_code == 405
    assert client.post(f"{TASKS}{task.pk}/verb/run_now/").status_code == 403
    token = Page(client.get(f"{TASKS}{task.pk}/change/")).fields["csrfmiddlewaretoken"]
    assert client.post(f"{TASKS}{task.pk}/verb/run_now/", {"csrfmiddlewaretoken": token}).status_code == 302
    assert task.runs.count() == 1


def test_nobody_is_sent_to_log_in_first(client):
    response = client.post(f"{TASKS}{saved().pk}/verb/run_now/")
    assert response.status_code == 302
    assert "/login/" in response["Location"]
    assert not Run.objects.exists()


def test_runs_and_workers_are_neither_made_nor_changed(admin_client):
    run = saved().run_asap()
    assert admin_client.get(f"{RUNS}add/").status_code == 403
    assert admin_client.post(f"{RUNS}{run.pk}/change/", {"status": "SUCCESSFUL"}).status_code == 403
    assert admin_client.get(f"{WORKERS}add/").status_code == 403


def test_a_run_is_deleted_once_it_is_over_and_not_before(admin_client):
    run = saved().run_asap()
    delete = {"post": "yes"}
    assert admin_client.post(f"{RUNS}{run.pk}/delete/", delete).status_code == 403
    admin_client.post(RUNS, {"action": "delete_selected", "_selected_action": [run.pk], **delete})
    assert Run.objects.count() == 1
    drain()
    admin_client.post(f"{RUNS}{run.pk}/delete/", delete)
    assert not Run.objects.exists()


def test_a_deleted_task_leaves_its_history(admin_client):
    task = saved()
    task.run_asap()
    drain()
    admin_client.post(f"{TASKS}{task.pk}/delete/", {"post": "yes"})
    assert (Task.objects.count(), Run.objects.get().task) == (0, None)
