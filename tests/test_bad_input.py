"""Bad input: refused where it is given, with what was given, why and what to do; parked where it came by SQL."""

import functools
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
import pytz
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction
from django.forms import modelform_factory

import tests.project.shop.tasks
from sisy import scheduler
from sisy.errors import (
    CallableNotAllowed,
    CallableNotFound,
    InvalidCallable,
    InvalidInput,
    InvalidSchedule,
    InvalidTime,
    InvalidUserdata,
    SisyTimezoneWarning,
)
from sisy.models import Run, Task, task_with_callable
from sisy.testing import run_due
from tests.project.shop import chores, heard, tasks
from tests.project.shop.models import Order
from tests.project.shop.rows import at, claim, every_minute, put_in, slots, statuses, stored

pytestmark = pytest.mark.django_db

SHOP = "tests.project.shop"


@pytest.fixture(autouse=True)
def _nothing_heard():
    heard.calls.clear()


def nested():
    def inner(message):
        """In a function."""

    return inner


def in_main(message):
    """As if it had been written in the script itself."""


in_main.__module__ = "__main__"


def two_parameters(message, other):
    """One too many."""


def another_name(payload):
    """Another name."""


class Plain:
    def method(self, message):
        """Of an object that no worker can find."""


def saved_order():
    return Order.objects.create(name="a")


# what, how to give it, and what the text says: the reason, and the remedy
CALLABLES = {
    "a lambda": (lambda: lambda message: None, "lambda", "def"),
    "a nested function": (nested, "nested", "Move it to a module"),
    "a partial": (lambda: functools.partial(two_parameters, other=1), "partial", "userdata"),
    "a function of __main__": (lambda: in_main, "started with", "Move it to a module"),
    "a class": (lambda: Order, "it is a class", "class or static methods"),
    "a module": (lambda: tests.project.shop.tasks, "it is a module", "function"),
    "an unbound instance method": (lambda: Order.remind, "without an instance", "pk_override"),
    "a method of a plain object": (lambda: Plain().method, "Plain", "saved row"),
    "a method of an unsaved row": (lambda: Order(name="a").remind, "not been saved", "Save the row first"),
    "a method of an unsaved row with a key": (lambda: Order(pk=7, name="a").remind, "not been saved", "Save"),
    "Django's own method": (lambda: saved_order().delete, "Django's own", "method that you write"),
    "a private method": (lambda: saved_order().__str__, "underscores", "path"),
    "two parameters": (lambda: two_parameters, r"\(message, other\)", r"\(message\)"),
    "a parameter of another name": (lambda: another_name, r"\(payload\)", r"\(message\)"),
    "a built-in": (lambda: print, "built in", "function of your own"),
    "None": (lambda: None, "nothing to call", "dotted path"),
    "a number": (lambda: 7, "can't be called", "dotted path"),
    "the path of a class": (lambda: f"{SHOP}.models.Order", "class", "methods"),
    "the path of a module": (lambda: f"{SHOP}.tasks", "module", "function"),
    "the path of an instance method": (lambda: f"{SHOP}.models.Order.remind", "instance", "pk_override"),
    "a path without a dot": (lambda: "remind", "dot", "shop.jobs"),
    "an empty path": (lambda: "", "empty", "path"),
    "a path with a space": (lambda: f"{SHOP}.tasks.note ", "characters", "path"),
    "a path of another language": (lambda: "shop/tasks:note", "characters", "path"),
    "a path through an imported module": (lambda: f"{SHOP}.tasks.asyncio.run", "asyncio", "path"),
}
NOT_FOUND = {
    "an unknown module": ("shopp.tasks.note", "no module", "spelling"),
    "an unknown submodule": (f"{SHOP}.taks.note", "has no 'taks'", f"{SHOP}.tasks.note"),
    "a typo in the last part": (f"{SHOP}.tasks.nota", "has no 'nota'", f"{SHOP}.tasks.note"),
    "a typo in a method": (f"{SHOP}.models.Order.archiv", "has no 'archiv'", f"{SHOP}.models.Order.archive"),
}


@pytest.mark.parametrize("create", [task_with_callable, Task.run_once, Task.run_iterations])
@pytest.mark.parametrize(("make", "why", "remedy"), CALLABLES.values(), ids=CALLABLES)
def test_a_callable_that_no_worker_could_call_is_refused(make, why, remedy, create):
    given = make()
    with pytest.raises(InvalidCallable, match=why) as caught:
        create(given)
    assert isinstance(caught.value, ValueError)
    assert caught.value.field == "callable"
    with pytest.raises(InvalidCallable, match=remedy):
        create(given)
    assert Task.objects.count() == Run.objects.count() == 0


@pytest.mark.parametrize(("path", "why", "nearest"), NOT_FOUND.values(), ids=NOT_FOUND)
def test_a_path_that_leads_nowhere_is_refused_with_the_nearest_name(path, why, nearest):
    with pytest.raises(CallableNotFound) as caught:
        task_with_callable(path)
    text = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.field == "callable"
    assert repr(path) in text
    assert why in text
    assert nearest in text


def test_a_module_that_raises_when_imported_is_refused_with_what_it_raised(tmp_path, monkeypatch):
    (tmp_path / "sisy_test_broken.py").write_text("raise SystemExit('no way')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CallableNotFound, match=r"SystemExit: no way.*Mend"):
        task_with_callable("sisy_test_broken.work")


@pytest.mark.parametrize("pk", ["seven", 1.5, object(), "", Order(name="a"), [1]])
def test_a_key_that_the_model_can_not_have_is_refused(pk):
    with pytest.raises(InvalidCallable, match="Order") as caught:
        task_with_callable(f"{SHOP}.models.Order.remind", pk_override=pk)
    assert caught.value.field == "pk_override"


@pytest.mark.parametrize("pk", ["x" * 256, "a\x00b", "a\ud800b"])
def test_a_key_that_the_tasks_row_can_not_hold_is_refused(pk):
    with pytest.raises(InvalidCallable, match="Country") as caught:
        Task.run_once(f"{SHOP}.models.Country.remind", pk_override=pk)
    assert caught.value.field == "pk_override"


def test_a_key_for_a_callable_without_rows_is_refused():
    with pytest.raises(InvalidCallable, match="pk_override is for instance methods") as caught:
        task_with_callable(tasks.note, pk_override=1)
    assert caught.value.field == "pk_override"


def test_what_is_not_allowed_is_refused_and_said_how_to_allow_it(settings):
    settings.SISY = {"ALLOWED_CALLABLES": ["shop.*"]}
    with pytest.raises(CallableNotAllowed, match=r"chores\.nothing.*ALLOWED_CALLABLES.*@sisy\.task"):
        Task.run_once(chores.nothing)
    Task.run_once(tasks.note)  # registered


# value, and what the text names besides it
SCHEDULES = {
    "R": ("R * * * *", "R"),
    "seven fields": ("* * * * * * *", "7"),
    "four fields": ("* * * *", "4"),
    "an equal range": ("5-5 * * * *", "5-5"),
    "an equal range in hours": ("0 7-7 * * *", "7-7"),
    "a minute out of range": ("61 * * * *", "0 to 59"),
    "an hour out of range": ("0 24 * * *", "0 to 23"),
    "a day out of range": ("0 0 32 * *", "1 to 31"),
    "a month out of range": ("0 0 1 13 *", "1 to 12"),
    "a weekday out of range": ("0 0 * * 8", "0 to 7"),
    "a second out of range": ("* * * * * 60", "0 to 59"),
    "a step of zero": ("*/0 * * * *", "0"),
    "an unknown name": ("0 0 * * mno", "mon"),
    "an unknown alias": ("@dayly", "@daily"),
    "too long": ("0," * 150 + "0 * * * *", "255"),
    "not ASCII": ("５ * * * *", "ASCII"),
    "a dash that is not a hyphen": ("0 9\u201317 * * *", "ASCII"),
    "empty": ("", "empty"),
    "blank": ("   ", "empty"),
    "the 30th of February": ("0 0 30 2 *", "never"),
    "the 31st of a short month": ("0 0 31 4,6,9,11 *", "never"),
    "not a text": (7, "text"),
    "no time at all": (timedelta(0), "second"),
    "a negative time": (timedelta(seconds=-5), "second"),
    "half a second": (timedelta(seconds=0.5), "second"),
    "a bad interval": ("@every 5 apples", "@every"),
}


@pytest.mark.parametrize(("schedule", "named"), SCHEDULES.values(), ids=SCHEDULES)
def test_a_bad_schedule_is_refused_where_it_is_given(schedule, named):
    for create in (task_with_callable, functools.partial(Task.run_iterations, iterations=2)):
        with pytest.raises(InvalidSchedule) as caught:
            create(chores.nothing, schedule=schedule)
        assert isinstance(caught.value, ValueError)
        assert caught.value.field == "schedule"
        assert named.lower() in str(caught.value).lower()
    assert not Task.objects.exists()


@pytest.mark.parametrize(("schedule", "named"), SCHEDULES.values(), ids=SCHEDULES)
def test_a_bad_schedule_is_a_validation_error_of_its_field(schedule, named):
    task = task_with_callable(chores.nothing)
    task.schedule = schedule
    with pytest.raises(ValidationError) as caught:
        task.full_clean()
    assert set(caught.value.message_dict) == {"schedule"}
    if isinstance(schedule, str) and 0 < len(schedule.strip()) < 255:  # else Django's own check of the field speaks
        assert named.lower() in " ".join(caught.value.message_dict["schedule"]).lower()
    with pytest.raises(InvalidSchedule):
        task.save()


@pytest.mark.parametrize("zone", ["Europe/Pariss", "CEST5", "../etc/passwd", "localtime", "+02:00"])
def test_an_unknown_zone_is_refused(zone):
    with pytest.raises(InvalidSchedule) as caught:
        task_with_callable(chores.nothing, timezone=zone)
    assert caught.value.field == "timezone"
    assert repr(zone) in str(caught.value)
    task = task_with_callable(chores.nothing)
    task.timezone = zone
    with pytest.raises(ValidationError) as invalid:
        task.full_clean()
    assert set(invalid.value.message_dict) == {"timezone"}


def test_an_unknown_zone_comes_with_the_nearest_one():
    with pytest.raises(InvalidSchedule, match="Europe/Paris"):
        task_with_callable(chores.nothing, timezone="Europe/Pariss")


NAIVE = datetime(2100, 1, 1)
PAST = datetime(2001, 1, 1, tzinfo=UTC)
VALUES = {
    "a naive start": ("start_running", {"start_running": NAIVE}, "naive"),
    "a naive end": ("end_running", {"end_running": NAIVE}, "naive"),
    "a start that is no instant": ("start_running", {"start_running": "tomorrow"}, "tomorrow"),
    "an end before the start": ("end_running", {"start_running": at(1), "end_running": at(0)}, "start_running"),
    "an end at the start": ("end_running", {"start_running": at(1), "end_running": at(1)}, "start_running"),
    "negative iterations": ("iterations", {"iterations": -1}, "-1"),
    "iterations that are no number": ("iterations", {"iterations": "many"}, "many"),
    "half an iteration": ("iterations", {"iterations": 1.5}, "1.5"),
    "too many iterations": ("iterations", {"iterations": 2**40}, str(2**40)),
    "a negative timeout": ("timeout", {"timeout": -1}, "negative"),
    "no timeout at all": ("timeout", {"timeout": 0}, "None"),
    "a negative jitter": ("jitter", {"jitter": timedelta(seconds=-1)}, "negative"),
    "a backoff that is no duration": ("retry_backoff", {"retry_backoff": "soon"}, "soon"),
    "a negative grace": ("misfire_grace", {"misfire_grace": -1}, "negative"),
    "too high a priority": ("priority", {"priority": 101}, "100"),
    "no attempts": ("max_attempts", {"max_attempts": 0}, "1"),
    "an unknown overlap": ("overlap", {"overlap": "wait"}, "queue"),
    "an unknown misfire": ("misfire", {"misfire": "never"}, "latest"),
    "a queue with a space": ("queue", {"queue": "my queue"}, "my queue"),
    "a queue that is too long": ("queue", {"queue": "q" * 256}, "qqqq"),
    "an empty queue": ("queue", {"queue": ""}, "''"),
    "a label that is too long": ("label", {"label": "x" * 256}, "255"),
    "a label with a NUL": ("label", {"label": "a\x00b"}, "NUL"),
    "a label with a lone surrogate": ("label", {"label": "a\ud800b"}, "surrogate"),
    "enabled that is no boolean": ("enabled", {"enabled": "yes"}, "yes"),
    "userdata that is a list": ("userdata", {"userdata": [1]}, "dict"),
    "userdata that is a text": ("userdata", {"userdata": "x"}, "dict"),
    "userdata that is not JSON": ("userdata", {"userdata": {"a": [{"b": object()}]}}, 'userdata["a"][0]["b"]'),
    "a NaN": ("userdata", {"userdata": {"a": {"b": float("nan")}}}, 'userdata["a"]["b"]'),
    "an infinity": ("userdata", {"userdata": {"a": float("inf")}}, 'userdata["a"]'),
    "a key that is no text": ("userdata", {"userdata": {"a": {1: 2}}}, 'userdata["a"]'),
    "bytes": ("userdata", {"userdata": {"a": b"x"}}, 'userdata["a"]'),
    "a NUL": ("userdata", {"userdata": {"a": "\x00"}}, 'userdata["a"]'),
    "a lone surrogate": ("userdata", {"userdata": {"a": "\ud800"}}, 'userdata["a"]'),
    "too much": ("userdata", {"userdata": {"a": "x" * 65536}}, "65536"),
    "too long a number": ("userdata", {"userdata": {"a": 10**5000}}, 'userdata["a"]'),
}


@pytest.mark.parametrize(("field", "columns", "named"), VALUES.values(), ids=VALUES)
def test_a_bad_value_is_refused_where_it_is_given_and_named(field, columns, named):
    for create in (task_with_callable, Task.run_iterations):
        with pytest.raises(InvalidInput) as caught:
            create(chores.nothing, **columns)
        assert isinstance(caught.value, ValueError)
        assert caught.value.field == field
        assert field in str(caught.value)
        assert named in str(caught.value)
    assert Task.objects.count() == Run.objects.count() == 0


# What Django's own fields make of these before sisy is asked: 1.5 becomes 1, and the others raise.
LEFT_TO_DJANGO = {
    "half an iteration",
    "too long a number",
    "a negative timeout",
    "no timeout at all",
    "a negative grace",
}


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind not in LEFT_TO_DJANGO])
def test_a_bad_value_is_a_validation_error_of_its_field(kind):
    field, columns, _ = VALUES[kind]
    task = task_with_callable(chores.nothing)
    for name, value in columns.items():
        setattr(task, "_extra_data" if name == "userdata" else name, value)
    with pytest.raises(ValidationError) as caught:
        task.full_clean()
    assert set(caught.value.message_dict) <= {field, "_extra_data"}


@pytest.mark.parametrize("kind", [InvalidTime, InvalidUserdata])
def test_the_kinds_of_error_can_be_caught_apart(kind):
    columns = {"end_running": NAIVE} if kind is InvalidTime else {"userdata": []}
    with pytest.raises(kind):
        task_with_callable(chores.nothing, **columns)


@pytest.mark.parametrize("create", [Task.run_once, Task.run_iterations])
@pytest.mark.parametrize(("delay", "named"), [(PAST, "in the past"), (NAIVE, "naive"), (60, "datetime")])
def test_a_delay_that_is_no_instant_to_come_is_refused(create, delay, named):
    with pytest.raises(InvalidTime, match=named) as caught:
        create(chores.nothing, delay_until=delay)
    assert caught.value.field == "delay_until"
    assert "delay_until" in str(caught.value)
    assert Task.objects.count() == Run.objects.count() == 0


def test_a_pytz_zone_that_was_attached_wrongly_keeps_the_wall_clock_and_warns_with_the_remedy():
    wrong = datetime(2099, 7, 1, 12, tzinfo=pytz.timezone("America/New_York"))
    with pytest.warns(SisyTimezoneWarning, match="localize"):
        task = Task.run_once(chores.nothing, delay_until=wrong)
    assert task.next_run == datetime(2099, 7, 1, 16, tzinfo=UTC)


def test_an_unknown_field_is_refused():
    with pytest.raises((TypeError, ValueError), match="shedule"):
        task_with_callable(chores.nothing, shedule="* * * * *")


def test_a_one_shot_schedule_without_an_instant_says_how_to_make_one():
    with pytest.raises(InvalidInput, match="run_once"):
        task_with_callable(chores.nothing, schedule="@once")


@pytest.mark.parametrize(("data", "field"), [
    ({"_extra_data": "[1]"}, "_extra_data"),
    ({"schedule": "99 * * * *"}, "schedule"),
    ({"timezone": "Mars"}, "timezone"),
    ({"queue": "a b"}, "queue"),
    ({"start_running": "2100-01-02 00:00", "end_running": "2100-01-01 00:00"}, "end_running"),
])  # fmt: skip
def test_a_form_shows_what_is_wrong_at_its_field(data, field):
    form_class = modelform_factory(Task, fields="__all__")
    task = every_minute()
    plain = {name: form_class(instance=task).initial[name] for name in form_class.base_fields}
    filled = {name: value for name, value in plain.items() if value is not None}
    filled["_extra_data"] = json.dumps(task.userdata)
    form = form_class({**filled, **data}, instance=task)
    assert not form.is_valid()
    assert field in form.errors
    right = form_class(filled, instance=stored(task))
    assert right.is_valid(), right.errors


# -- the same, put in by SQL -----------------------------------------------------------------------

BY_SQL = {
    "a bad schedule": {"schedule": "99 * * * *"},
    "a schedule that never fires": {"schedule": "0 0 30 2 *"},
    "an empty schedule": {"schedule": ""},
    "an unknown zone": {"timezone": "Mars/Olympus"},
    "a callable that is gone": {"callable": f"{SHOP}.tasks.gone"},
    "a module that is gone": {"callable": "gone.tasks.note"},
    "a callable with other parameters": {"callable": "tests.test_bad_input.two_parameters"},
    "a method whose row is not named": {"callable": f"{SHOP}.models.Order.remind"},
    "a key that the model can not have": {"callable": f"{SHOP}.models.Order.remind", "instance_pk": "seven"},
    "userdata that is a list": {"_extra_data": [1]},
}


@pytest.mark.parametrize("columns", BY_SQL.values(), ids=BY_SQL)
def test_what_was_put_in_by_sql_parks_that_task_and_the_others_go_on(
    columns, caplog, django_capture_on_commit_callbacks
):
    bad = every_minute(tasks.note, label="bad")
    every_minute(tasks.note, label="good")
    put_in(bad, **columns)
    with caplog.at_level(logging.WARNING, "sisy"), django_capture_on_commit_callbacks(execute=True):
        run_due(at(0))
        run_due(at(1))
    row = stored(bad)
    assert row.enabled is False
    value = next(iter(columns.values()))
    assert str(value) in row.error
    assert slots(label="good", status="SUCCESSFUL") == [0, 1]
    lines = [record for record in caplog.records if "bad" in record.getMessage()]
    assert 1 <= len(lines) <= 2  # that it was parked, and that a run failed if that is how it was found
    assert sum("set aside" in record.getMessage() for record in lines) == 1


def test_code_that_moved_parks_its_task_and_mending_the_row_brings_it_back(monkeypatch):
    task = every_minute(tasks.note, label="moved")
    monkeypatch.delattr(tasks, "note")
    run_due(at(0))
    assert (stored(task).enabled, f"{SHOP}.tasks.note" in stored(task).error) == (False, True)
    monkeypatch.undo()
    stored(task).resume()
    run_due(at(2))
    assert heard.notes() == ["note"]


@pytest.mark.parametrize("columns", [{"overlap": "wait"}, {"misfire": "never"}, {"queue": "my queue"}])
def test_other_values_put_in_by_sql_do_not_stop_the_others(columns):
    put_in(every_minute(tasks.note, label="bad"), **columns)
    every_minute(tasks.note, label="good")
    run_due(at(0))
    run_due(at(1))
    assert slots(label="good", status="SUCCESSFUL") == [0, 1]
    assert set(statuses(label="bad")) <= {"SUCCESSFUL"}


def test_a_run_of_the_old_callable_does_not_park_a_task_that_was_mended_meanwhile(monkeypatch):
    task = every_minute(tasks.note, label="moved")
    scheduler.tick(at(0))
    task.callable = f"{SHOP}.chores.nothing"
    task.save()
    monkeypatch.delattr(tasks, "note")
    run_due(at(1))
    row = stored(task)
    assert (row.enabled, row.error) == (True, "")
    run_due(at(2))
    assert statuses(label="moved", slot=at(2)) == ["SUCCESSFUL"]


IMPOSSIBLE = {  # what each database takes by SQL, and Python can't have
    "sqlite": "2100-02-30 00:00:00",
    "postgresql": "infinity",
    "mysql": "0000-00-00 00:00:00",
}
READS_NULL = connection.vendor == "mysql"  # its driver makes None of that


@pytest.mark.parametrize("column", ["start_running", "end_running", "last_run"])
def test_an_impossible_date_does_not_stop_the_others(column):
    bad = every_minute(tasks.note, label="bad", start_running=at(0))
    every_minute(tasks.note, label="good")
    try:
        with transaction.atomic():
            put_in(bad, **{column: IMPOSSIBLE[connection.vendor]})
    except DatabaseError:
        return  # this database refuses it by itself
    run_due(at(0))
    run_due(at(1))
    assert slots(label="good", status="SUCCESSFUL") == [0, 1]


def test_a_task_that_can_not_be_read_does_not_keep_other_runs_from_being_claimed():
    bad = every_minute(tasks.note, label="bad", priority=1)
    every_minute(tasks.note, label="good")
    every_minute(tasks.note, label="urgent", priority=2)
    scheduler.tick(at(0))
    try:
        with transaction.atomic():
            put_in(bad, last_run=IMPOSSIBLE[connection.vendor])
    except DatabaseError:
        return  # this database refuses it by itself
    runs = claim(at(0))
    assert [run.label for run in runs] == ["urgent", "bad", "good"]
    assert [run.label for run in runs if run.task is None] == ([] if READS_NULL else ["bad"])
    assert {stored(run).claim for run in runs} == {runs[0].claim}


def test_a_run_that_can_not_be_read_fails_and_does_not_keep_others_from_being_claimed(caplog):
    for label, priority in (("bad", 1), ("good", 0), ("urgent", 2)):
        every_minute(tasks.note, label=label, priority=priority)
    scheduler.tick(at(0))
    bad = Run.objects.get(label="bad")
    try:
        with transaction.atomic():
            put_in(bad, declined_at=IMPOSSIBLE[connection.vendor])
    except DatabaseError:
        return  # this database refuses it by itself
    if READS_NULL:
        assert [run.label for run in claim(at(0))] == ["urgent", "bad", "good"]
        return
    assert [run.label for run in claim(at(0))] == ["urgent", "good"]
    row = Run.objects.filter(pk=bad.pk).values("status", "reason", "claim", "finished_at").get()
    assert (row["status"], row["claim"], row["finished_at"]) == ("FAILED", None, at(0))
    assert "can't be read" in row["reason"]
    assert f"Run {bad.pk} has FAILED" in caplog.text


def test_a_jitter_beyond_the_end_of_time_is_refused_or_does_not_stop_the_others():
    try:
        every_minute(tasks.note, label="bad", jitter=timedelta(days=100_000_000))
    except InvalidInput as error:
        assert error.field == "jitter"  # noqa: PT017 - either is right
    every_minute(tasks.note, label="good")
    run_due(at(0))
    assert statuses(label="good") == ["SUCCESSFUL"]


def test_a_task_that_can_not_be_planned_does_not_stop_the_others(monkeypatch):
    bad, _ = every_minute(label="bad"), every_minute(label="good")
    plan = scheduler._plan

    def failing(task, **how):
        if task.pk == bad.pk:
            task.misfire_grace = None
            task.misfire = "skip"
        return plan(task, **how)

    monkeypatch.setattr(scheduler, "_plan", failing)
    scheduler.tick(at(0))
    assert slots(label="good") == [0]
    assert stored(bad).enabled is False
    assert "TypeError" in stored(bad).error


def test_a_parked_task_is_not_due_and_costs_nothing_any_more():
    bad = every_minute(label="bad")
    put_in(bad, schedule="99 * * * *")
    assert scheduler.tick(at(0)).parked == 1
    assert scheduler.tick(at(1)).parked == 0
    assert slots() == []
