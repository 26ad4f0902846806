"""The task form of the admin: what can be chosen, what is refused and where it says so, what it leaves alone."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sisy import registry
from sisy.models import Run, Task, task_with_callable
from sisy.testing import drain
from tests.admin_pages import Page, errors, fill, messages_of
from tests.project.shop.models import Country, Ledger, Order, Parcel

NOTE = "tests.project.shop.tasks.note"
UNREGISTERED = "tests.project.shop.tasks.decorated"
REMIND = "tests.project.shop.models.Order.remind"
ADD = "/admin/sisy/task/add/"

pytestmark = pytest.mark.django_db


def address(task):
    return reverse("admin:sisy_task_change", args=[task.pk])


def saved(path=NOTE, **fields):
    task = task_with_callable(path, **fields)
    task.save()
    return task


@pytest.fixture
def row_method(monkeypatch):
    """Order.remind is registered, as @sisy.task in the model's class would do."""
    monkeypatch.setitem(registry._labels, REMIND, "Remind of an order")
    return REMIND


# Creating ------------------------------------------------------------------------------------------------------------


def test_a_task_is_created_and_active(admin_client):
    response = fill(admin_client, ADD, callable=NOTE, schedule="0 9 * * *", timezone="Asia/Tokyo", label="Morning")
    task = Task.objects.get()
    assert "was added successfully" in messages_of(response)[0]
    assert (task.label, task.callable, task.timezone, task.enabled) == ("Morning", NOTE, "Asia/Tokyo", True)
    assert task.next_run.hour == 0  # 09:00 in Tokyo


def test_a_task_that_does_not_wait_for_its_schedule_runs_at_once(admin_client):
    fill(admin_client, ADD, callable=NOTE, schedule="0 9 * * *", wait_for_schedule=None)
    assert [run.status for run in drain()] == ["SUCCESSFUL"]
    assert Ledger.objects.get().task_label == NOTE


def test_a_one_shot_needs_no_iterations(admin_client):
    start = timezone.localtime() + timedelta(days=1)
    fill(
        admin_client, ADD, callable=NOTE, schedule="@once",
        start_running_0=start.date().isoformat(), start_running_1="12:00:00",
    )  # fmt: skip
    task = Task.objects.get()
    assert (task.is_one_shot, task.iterations, task.next_run.hour) == (True, 1, 12)


def test_a_new_task_needs_a_callable(admin_client):
    response = fill(admin_client, ADD, callable="")
    assert errors(response) == {"callable": ["This field is required."]}
    assert not Task.objects.exists()


def test_a_window_without_a_slot_is_refused_at_its_field(admin_client):
    end = timezone.localtime() + timedelta(seconds=1)
    response = fill(
        admin_client, ADD, callable=NOTE, schedule="0 0 29 2 *",
        end_running_0=(end + timedelta(days=1)).date().isoformat(), end_running_1="12:00:00",
    )  # fmt: skip
    assert "has no slot before end_running" in errors(response)["end_running"][0]
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("schedule", "61 * * * *", "61 is out of range"),
        ("schedule", "0 0 30 2 *", "never"),
        ("timezone", "Mars/Olympus", "not one of the available choices"),
        ("queue", "a b", "ASCII letters"),
        ("priority", "101", "less than or equal to 100"),
        ("max_attempts", "0", "greater than or equal to 1"),
        ("iterations", "-1", "greater than or equal to 0"),
        ("timeout", "0", "give a longer one"),
        ("misfire_grace", "-1", "negative"),
        ("overlap", "both", "not one of the available choices"),
        ("label", "x" * 256, "at most 255"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(admin_client, field, value, reason):
    response = fill(admin_client, ADD, **{"callable": NOTE, field: value})
    assert list(errors(response)) == [field]
    assert reason in errors(response)[field][0]
    assert not Task.objects.exists()


def test_an_empty_jitter_is_none(admin_client):
    fill(admin_client, ADD, callable=NOTE, jitter="")
    assert Task.objects.get().jitter == timedelta(0)


# Callables -----------------------------------------------------------------------------------------------------------


def offered(client, url=ADD):
    return set(Page(client.get(url)).choices["callable"]) - {""}


def test_registered_callables_are_offered_and_others_not(admin_client):
    saved(UNREGISTERED)
    assert offered(admin_client) == set(registry.registered())


def test_what_the_settings_allow_is_offered(admin_client, settings):
    saved(UNREGISTERED)
    saved("tests.project.shop.models.Order.archive")
    named = "tests.project.shop.models.Order.audit"
    settings.SISY = {"ALLOWED_CALLABLES": ["tests.project.shop.tasks.*", named]}
    assert offered(admin_client) == {*registry.registered(), UNREGISTERED, named}


@pytest.mark.parametrize(
    "path", ["os.system", "subprocess.call", UNREGISTERED, REMIND, "django.core.management.call_command"]
)
def test_a_callable_that_is_not_offered_is_refused(admin_client, path):
    task = saved()
    for url in (ADD, address(task)):
        assert "not one of the available choices" in errors(fill(admin_client, url, callable=path))["callable"][0]
    assert Task.objects.get().callable == NOTE


def test_a_callable_that_is_not_registered_stays_as_it_is(admin_client):
    task = saved(UNREGISTERED, schedule="0 9 * * *")
    assert "callable" not in Page(admin_client.get(address(task))).choices
    response = fill(admin_client, address(task), callable="os.system", instance_pk="1", schedule="0 10 * * *")
    task.refresh_from_db()
    assert "changed successfully" in messages_of(response)[0]
    assert (task.callable, task.instance_pk, task.schedule) == (UNREGISTERED, None, "0 10 * * *")


def test_a_callable_that_is_gone_is_shown_with_the_reason_and_no_change_is_saved(admin_client):
    task = saved()
    Task.objects.filter(pk=task.pk).update(callable="tests.project.shop.tasks.gone")
    response = fill(admin_client, address(task), label="New")
    assert "has no 'gone'" in errors(response)["__all__"][0]


def test_the_key_of_a_row_is_asked_for_only_if_a_method_of_rows_is_registered(admin_client, monkeypatch):
    assert "instance_pk" not in Page(admin_client.get(ADD)).fields
    monkeypatch.setitem(registry._labels, REMIND, "")
    assert "instance_pk" in Page(admin_client.get(ADD)).fields


def test_a_method_of_a_row_is_called_on_that_row(admin_client, row_method):
    order = Order.objects.create(name="first")
    fill(admin_client, ADD, callable=row_method, instance_pk=f" {order.pk} ", wait_for_schedule=None)
    assert Task.objects.get().instance_pk == str(order.pk)
    drain()
    assert Ledger.objects.get().note == "Order.remind first"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "Give the row's primary key"),
        ("99", "There is no order with the primary key '99'"),
        ("x", "can't be the primary key"),
    ],
)
def test_a_key_that_leads_to_no_row_is_refused(admin_client, row_method, key, reason):
    response = fill(admin_client, ADD, callable=row_method, instance_pk=key)
    assert list(errors(response)) == ["instance_pk"]
    assert reason in errors(response)["instance_pk"][0]


def test_a_key_without_a_method_of_rows_is_refused(admin_client, row_method):
    response = fill(admin_client, ADD, callable=NOTE, instance_pk="1")
    assert list(errors(response)) == ["instance_pk"]


@pytest.mark.parametrize(("model", "name"), [(Parcel, "Parcel"), (Country, "Country")])
def test_keys_of_other_kinds_are_read_as_their_model_does(admin_client, monkeypatch, model, name):
    path = f"tests.project.shop.models.{name}.remind"
    monkeypatch.setitem(registry._labels, path, "")
    row = model.objects.create(name="x", **({"code": "fr"} if model is Country else {}))
    fill(admin_client, ADD, callable=path, instance_pk=str(row.pk).upper() if model is Parcel else row.pk)
    assert Task.objects.get().instance_pk == str(row.pk)


def test_the_callable_of_a_task_can_be_changed_from_a_method_to_a_function(admin_client, row_method):
    task = saved(Order.objects.create(name="first").remind)
    response = fill(admin_client, address(task), callable=NOTE)
    assert list(errors(response)) == ["instance_pk"]
    fill(admin_client, address(task), callable=NOTE, instance_pk="")
    task.refresh_from_db()
    assert (task.callable, task.instance_pk, task.instance_db) == (NOTE, None, "")


# Zones ---------------------------------------------------------------------------------------------------------------


def test_the_common_zones_are_offered_and_a_rare_one_is_kept(admin_client):
    task = saved(timezone="Etc/GMT+5")
    zones = Page(admin_client.get(address(task))).choices["timezone"]
    assert {"", "Europe/Paris", "Asia/Kolkata", "Etc/GMT+5"} <= set(zones)
    fill(admin_client, address(task), label="New")
    assert Task.objects.get().timezone == "Etc/GMT+5"


# userdata ------------------------------------------------------------------------------------------------------------


def test_bad_userdata_is_refused_where_it_is_and_what_was_typed_is_not_lost(admin_client):
    response = fill(admin_client, ADD, callable=NOTE, _extra_data='{"a": [1, NaN]}')
    assert list(errors(response)) == ["_extra_data"]
    assert 'userdata["a"][1] is nan' in errors(response)["_extra_data"][0]
    assert Page(response).fields["_extra_data"] == '{"a": [1, NaN]}'


def test_userdata_is_shown_and_changed(admin_client):
    task = saved(userdata={"list": 7, "name": "Zoë"})
    assert '"name": "Zoë"' in Page(admin_client.get(address(task))).fields["_extra_data"]
    fill(admin_client, address(task), _extra_data='{"list": 8}')
    task.refresh_from_db()
    assert task.userdata == {"list": 8}


def test_empty_userdata_is_an_empty_dict(admin_client):
    task = saved(userdata={"list": 7})
    fill(admin_client, address(task), _extra_data="  ")
    task.refresh_from_db()
    assert task.userdata == {}


# Others write too ----------------------------------------------------------------------------------------------------


def test_what_a_run_did_to_userdata_since_the_page_was_loaded_is_kept(admin_client):
    task = saved("tests.project.shop.tasks.count", userdata={"n": 1})
    fields = Page(admin_client.get(address(task))).fields
    task.run_asap()
    drain()
    admin_client.post(address(task), {**fields, "label": "Counter"})
    task.refresh_from_db()
    assert (task.label, task.userdata) == ("Counter", {"n": 2})


def test_a_task_that_was_paused_since_the_page_was_loaded_stays_paused(admin_client):
    task = saved()
    fields = Page(admin_client.get(address(task))).fields
    task.pause()
    admin_client.post(address(task), {**fields, "label": "New"})
    task.refresh_from_db()
    assert (task.label, task.enabled) == ("New", False)


def test_microseconds_that_the_form_does_not_show_are_kept(admin_client):
    task = Task.run_once(NOTE, delay_until=timezone.now() + timedelta(days=1, microseconds=17))
    version = task.schedule_version
    fill(admin_client, address(task), label="New")
    task.refresh_from_db()
    assert (task.label, task.schedule_version) == ("New", version)


def test_a_post_without_what_the_page_had_shown_counts_as_it_is(admin_client):
    task = saved(start_running=timezone.now())
    fields = Page(admin_client.get(address(task))).fields
    plain = {name: value for name, value in fields.items() if not name.startswith("initial-")}
    del plain["enabled"]
    admin_client.post(address(task), {**plain, "start_running_0": "", "start_running_1": ""})
    task.refresh_from_db()
    assert (task.enabled, task.start_running) == (False, None)


def test_a_task_that_was_deleted_before_the_form_is_posted_is_said_to_be_gone(admin_client):
    task = saved()
    fields = Page(admin_client.get(address(task))).fields
    task.delete()
    response = admin_client.post(address(task), fields, follow=True)
    assert response.status_code == 200
    assert "doesn’t exist" in messages_of(response)[0]


def test_a_task_that_is_deleted_while_it_is_saved_is_said_to_be_gone(admin_client, monkeypatch):
    task, save = saved(), Task.save

    def save_after_deletion(self, **options):
        Task.objects.filter(pk=self.pk).delete()
        save(self, **options)

    monkeypatch.setattr(Task, "save", save_after_deletion)
    response = fill(admin_client, address(task), label="New")
    # The deletion was part of the transaction that was rolled back, so the task is here again, and the form with it.
    assert "does not exist any more" in errors(response)["__all__"][0]


def test_a_constraint_that_others_break_first_is_told_and_no_crash(admin_client, monkeypatch):
    def refuse(self, **options):
        raise IntegrityError("CHECK constraint failed: sisy_task_ends_after_start")

    task = saved()
    monkeypatch.setattr(Task, "save", refuse)
    response = fill(admin_client, address(task), label="New")
    assert "sisy_task_ends_after_start" in errors(response)["__all__"][0]


# The page of a task --------------------------------------------------------------------------------------------------


def test_the_page_shows_the_plan_and_what_is_used(admin_client):
    task = Task.run_iterations(NOTE, iterations=3, schedule="0 12 * * *", timezone="Asia/Tokyo", label="Thrice")
    task.run_asap()
    text = Page(admin_client.get(address(task))).text
    assert "At 12:00, Asia/Tokyo" in text
    assert text.count("12:00 JST03:00in ") == 2
    assert "1 of 3 iterations used" in text


def test_a_paused_task_shows_the_slots_that_it_would_have_if_it_were_resumed(admin_client):
    task = saved(schedule="0 12 * * *")
    task.pause()
    QuerySet(Task).filter(pk=task.pk).update(next_run=timezone.now() - timedelta(days=400))
    text = Page(admin_client.get(address(task))).text
    assert "None of these will run before the task is resumed" in text
    assert text.count("12:00 UTC12:00in ") == 5


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "61 * * * *"},
        {"schedule": ""},
        {"timezone": "Mars/Olympus"},
        {"timezone": "../../etc/passwd"},
        {"_extra_data": [1]},
    ],
)
def test_a_bad_row_has_a_page_on_which_it_can_be_mended(admin_client, values):
    task = saved()
    QuerySet(Task).filter(pk=task.pk).update(**values, enabled=False, error="bad row")
    assert "bad row" in Page(admin_client.get(address(task))).text
    fill(admin_client, address(task), schedule="0 9 * * *", timezone="", _extra_data="{}", enabled="on")
    task.refresh_from_db()
    assert (task.enabled, task.error, task.schedule) == (True, "", "0 9 * * *")


def test_an_edit_that_leaves_no_run_says_so(admin_client):
    task = saved(schedule="0 9 * * *")
    task.run_asap()
    response = fill(admin_client, address(task), iterations="1")
    assert "No run is left" in messages_of(response)[0]


def test_an_invalid_form_shows_the_task_as_it_is(admin_client):
    task = saved(schedule="0 9 * * *", label="Old")
    response = fill(admin_client, address(task), schedule="61 * * * *", label="New")
    assert "At 09:00" in Page(response).text
    assert response.context["title"] == "Old"


def test_pausing_by_the_form_needs_the_permission_to_pause(db):
    user = User.objects.create_user("editor", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_task", "change_task"]))
    client = Client()
    client.force_login(user)
    task = saved()
    fill(client, address(task), enabled=None, label="New")
    task.refresh_from_db()
    assert (task.label, task.enabled) == ("New", True)


def test_who_may_only_look_sees_no_secrets(db):
    user = User.objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_task"))
    client = Client()
    client.force_login(user)
    task = saved(userdata={"smtp": {"PASSWORD": "hunter2", "host": "mail"}})
    response = client.get(address(task))
    assert b"hunter2" not in response.content
    assert b"mail" in response.content
    assert client.post(address(task), {}).status_code == 403
    assert client.get(ADD).status_code == 403
    assert Run.objects.count() == 0


def test_a_one_shot_that_is_not_saved_yet_passes_full_clean():
    Task(callable=NOTE, schedule="@once", iterations=1).full_clean()
