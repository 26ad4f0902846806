"""Creating tasks from every kind of callable, as an object and as a path, and running them at their slot."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from sisy.models import Run, Task, task_with_callable, taskinfo_with_label
from sisy.testing import run_due
from tests.project.shop import chores, heard, tasks
from tests.project.shop.models import Country, HiddenOrder, Order, OrderProxy, Parcel, RushOrder
from tests.project.shop.rows import NOON, at, every_minute, slots, statuses

pytestmark = pytest.mark.django_db(databases=["default", "other"])

SHOP = "tests.project.shop"
MODELS = f"{SHOP}.models"


@pytest.fixture(autouse=True)
def _nothing_heard():
    heard.calls.clear()


@dataclass(frozen=True)
class Sample:
    """A callable, its path, what says of which row it is (as keywords), and the note that it writes."""

    function: Callable[..., Any]
    path: str
    of_row: dict[str, Any]
    note: str


FUNCTIONS = {
    "function": (tasks.note, "tasks.note", "note"),
    "async function": (tasks.anote, "tasks.anote", "anote"),
    "decorated function": (tasks.decorated, "tasks.decorated", "decorated"),
    "decorated async function": (tasks.adecorated, "tasks.adecorated", "adecorated"),
    "function decorated without @": (chores.politely_note, "chores.politely_note", "politely_note"),
    "class method": (chores.Clerk.file, "chores.Clerk.file", "Clerk.file"),
    "async class method": (chores.Clerk.afile, "chores.Clerk.afile", "Clerk.afile"),
    "decorated class method": (chores.Clerk.file_politely, "chores.Clerk.file_politely", "Clerk.file_politely"),
    "decorated async class method": (
        chores.Clerk.afile_politely,
        "chores.Clerk.afile_politely",
        "Clerk.afile_politely",
    ),
    "inherited class method": (chores.Apprentice.file, "chores.Apprentice.file", "Apprentice.file"),
    "class method of a model": (Order.archive, "models.Order.archive", "Order.archive"),
    "async class method of a model": (Order.aarchive, "models.Order.aarchive", "Order.aarchive"),
    "class method of a proxy": (OrderProxy.archive, "models.OrderProxy.archive", "OrderProxy.archive"),
    "static method": (chores.Clerk.stamp, "chores.Clerk.stamp", "Clerk.stamp"),
    "async static method": (chores.Clerk.astamp, "chores.Clerk.astamp", "Clerk.astamp"),
    "decorated static method": (chores.Clerk.stamp_politely, "chores.Clerk.stamp_politely", "Clerk.stamp_politely"),
    "decorated async static method": (
        chores.Clerk.astamp_politely,
        "chores.Clerk.astamp_politely",
        "Clerk.astamp_politely",
    ),
    "static method of a model": (Order.audit, "models.Order.audit", "Order.audit"),
    "async static method of a model": (Order.aaudit, "models.Order.aaudit", "Order.aaudit"),
    "nested class method": (Order.Desk.open, "models.Order.Desk.open", "Order.Desk.open"),
    "nested async class method": (Order.Desk.aopen, "models.Order.Desk.aopen", "Order.Desk.aopen"),
    "nested static method": (Order.Desk.close, "models.Order.Desk.close", "Order.Desk.close"),
    "nested async static method": (Order.Desk.aclose, "models.Order.Desk.aclose", "Order.Desk.aclose"),
    "twice nested class method": (
        chores.Clerk.Drawer.Folder.open,
        "chores.Clerk.Drawer.Folder.open",
        "Clerk.Drawer.Folder.open",
    ),
    "twice nested decorated static method": (
        chores.Clerk.Drawer.Folder.close,
        "chores.Clerk.Drawer.Folder.close",
        "Clerk.Drawer.Folder.close",
    ),
}


def order_on_other() -> Order:
    """A row on the second database, and one with the same key on the first."""
    row = Order.objects.using("other").create(name="right")
    Order.objects.create(pk=row.pk, name="wrong")
    return row


def child_of_another_parent() -> RushOrder:
    Order.objects.create(name="wrong")
    return RushOrder.objects.create(name="right", fee=1)


def proxy_row() -> OrderProxy:
    return OrderProxy.objects.get(pk=Order.objects.create(name="right").pk)


ROWS: dict[str, Callable[[], Any]] = {
    "integer key": lambda: Order.objects.create(name="right"),
    "UUID key": lambda: Parcel.objects.create(name="right", id=uuid.UUID(int=7)),
    "string key": lambda: Country.objects.create(name="right", code="Côte d'Or/2; %s"),
    "second database": order_on_other,
    "proxy": proxy_row,
    "multi-table child": child_of_another_parent,
    "hidden by its manager": lambda: HiddenOrder.objects.create(name="right"),
}
METHODS = ("remind", "aremind", "remind_politely", "aremind_politely")
KINDS = [*FUNCTIONS, *(f"{row}, {method}" for row in ROWS for method in METHODS)]
BY_PATH = [kind for kind in KINDS if not kind.startswith("second database")]  # a path does not say which database
CASES = [*((kind, "object") for kind in KINDS), *((kind, "path") for kind in BY_PATH)]


def sample_of(kind: str) -> Sample:
    if kind in FUNCTIONS:
        function, path, note = FUNCTIONS[kind]
        return Sample(function, f"{SHOP}.{path}", {}, note)
    name, method = kind.rsplit(", ", 1)
    row = ROWS[name]()
    if name != "second database":  # a neighbour, which must be left alone
        type(row)._base_manager.create(**{"name": "wrong"} | ({"code": "ZZ"} if isinstance(row, Country) else {}))
    owner = type(row).__name__
    path, note = f"{MODELS}.{owner}.{method}", f"{owner}.{method} right"
    return Sample(getattr(row, method), path, {"pk_override": row.pk}, note)


@pytest.mark.parametrize(("kind", "given"), CASES)
def test_each_kind_of_callable_runs_at_its_slot_with_the_message_and_nothing_else(kind, given):
    sample = sample_of(kind)
    columns = {"schedule": "* * * * *", "start_running": NOON, "userdata": {"list": 7}}
    if given == "object":
        task = task_with_callable(sample.function, **columns)
    else:
        task = task_with_callable(sample.path, **sample.of_row, **columns)
    assert (task.pk, Task.objects.count()) == (None, 0)
    task.save()

    assert run_due(at(-0.01)) == []
    assert heard.calls == []
    (run,) = run_due(NOON)

    assert (run.status, run.traceback) == ("SUCCESSFUL", "")
    assert heard.notes() == [sample.note]
    message = heard.calls[0].message
    assert set(message) == {"task", "message"}
    assert isinstance(message["task"], Task)
    assert (message["task"].pk, message["task"].userdata) == (task.pk, {"list": 7})
    assert type(message["message"]) is dict
    assert message["message"]["type"].startswith("sisy.")
    assert (run.slot, run.callable, run.label, run.task_id) == (NOON, sample.path, sample.path, task.pk)


@pytest.mark.parametrize("kind", BY_PATH)
def test_an_object_and_its_path_give_the_same_row(kind):
    sample = sample_of(kind)
    from_object, from_path = task_with_callable(sample.function), task_with_callable(sample.path, **sample.of_row)
    columns = ("callable", "instance_pk", "label")
    assert [getattr(from_object, c) for c in columns] == [getattr(from_path, c) for c in columns]
    assert from_path.instance_db in (from_object.instance_db, "")


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_the_info_of_an_instance_method_has_the_key_in_its_own_type(make):
    row = make()
    task_with_callable(row.remind, label="reminder").save()
    info = taskinfo_with_label("reminder")
    name = type(row).__name__
    assert info == {
        "func_type": "instancemethod",
        "module_name": MODELS,
        "class_name": name,
        "class_path": f"{MODELS}.{name}",
        "model_pk": row.pk,
        "func_name": "remind",
        "func_path": f"{MODELS}.{name}.remind",
    }
    assert type(info["model_pk"]) is type(row.pk)


@pytest.mark.parametrize(
    ("kind", "func_type", "class_name"),
    [
        ("function", "function", None),
        ("class method", "classmethod", "Clerk"),
        ("static method", "staticmethod", "Clerk"),
        ("nested class method", "classmethod", "Desk"),
    ],
)
def test_the_info_of_other_callables_has_no_key(kind, func_type, class_name):
    sample = sample_of(kind)
    task_with_callable(sample.function, label="it").save()
    info = taskinfo_with_label("it")
    assert (info["func_type"], info["func_path"]) == (func_type, sample.path)
    assert info.get("class_name") == class_name
    assert "model_pk" not in info


def test_the_info_of_an_unknown_label_says_that_there_is_none():
    with pytest.raises(Task.DoesNotExist):
        taskinfo_with_label("nobody")


COLUMNS = {
    "label": "digest",
    "schedule": "0 9-17 * * mon-fri",
    "userdata": {"list": [1, {"deep": None}]},
    "enabled": False,
    "iterations": 7,
    "start_running": NOON,
    "end_running": at(60 * 24 * 365),
    "wait_for_schedule": False,
    "timezone": "Europe/Paris",
    "queue": "mail",
    "priority": 9,
    "overlap": "queue",
    "misfire": "all",
    "misfire_grace": timedelta(seconds=5),
    "max_attempts": 4,
    "retry_backoff": timedelta(seconds=3),
    "timeout": timedelta(minutes=2),
    "at_most_once": True,
    "jitter": timedelta(seconds=30),
}


def test_every_field_of_a_task_can_be_given_as_a_keyword_and_is_stored():
    task = task_with_callable(chores.nothing, **COLUMNS)
    task.save()
    row = Task.objects.get()
    assert {name: getattr(row, name) for name in COLUMNS} == COLUMNS


def test_the_columns_of_the_callable_can_be_given_as_keywords_too():
    """A path of a row on another database needs to say which."""
    row = Order.objects.using("other").create(name="right")
    Order.objects.create(pk=row.pk, name="wrong")
    task_with_callable(f"{MODELS}.Order.remind", pk_override=row.pk, instance_db="other", start_running=NOON).save()
    run_due(NOON)
    assert heard.notes() == ["Order.remind right"]


def test_durations_may_be_given_as_seconds():
    task = task_with_callable(chores.nothing, timeout=1.5, jitter=3, retry_backoff=20, misfire_grace=0)
    task.save()
    row = Task.objects.get()
    assert (row.timeout, row.jitter) == (timedelta(seconds=1.5), timedelta(seconds=3))
    assert (row.retry_backoff, row.misfire_grace) == (timedelta(seconds=20), timedelta(0))


def test_a_timedelta_is_a_schedule():
    task = every_minute(schedule=timedelta(seconds=90))
    for minutes in (0, 1.5, 3):
        run_due(at(minutes))
    assert slots() == [0, 1.5, 3]
    assert task_with_callable(chores.nothing, schedule=task.schedule).schedule == "@every 90s"


def test_without_a_label_and_a_schedule_it_has_the_path_and_the_default(settings):
    settings.SISY = {"DEFAULT_SCHEDULE": "7 * * * *"}
    task = task_with_callable(chores.nothing)
    task.save()
    assert (task.label, task.schedule) == (f"{SHOP}.chores.nothing", "7 * * * *")
    assert (str(task), task.userdata, task.iterations) == (task.label, {}, 0)


def test_the_default_schedule_may_be_a_timedelta(settings):
    settings.SISY = {"DEFAULT_SCHEDULE": timedelta(minutes=5)}
    assert task_with_callable(chores.nothing).schedule == "@every 300s"
    assert Task(callable="x.y").schedule == "@every 300s"


def test_userdata_given_by_the_caller_is_copied():
    mine = {"list": [1]}
    task = task_with_callable(chores.nothing, userdata=mine)
    mine["list"].append(2)
    assert task.userdata == {"list": [1]}


def test_a_task_made_with_the_manager_is_active_as_well():
    Task.objects.create(callable=f"{SHOP}.tasks.note", schedule="* * * * *", start_running=NOON)
    run_due(NOON)
    assert heard.notes() == ["note"]


def test_tasks_made_in_bulk_are_active_as_well():
    made = Task.objects.bulk_create(
        [task_with_callable(tasks.note, label=f"{n}", start_running=NOON, schedule="* * * * *") for n in range(3)]
        + [task_with_callable(tasks.note, label="at once", iterations=1, wait_for_schedule=False)]
    )
    assert [task.pk for task in made] == list(Task.objects.order_by("pk").values_list("pk", flat=True))
    assert statuses(label="at once") == ["READY"]
    run_due(NOON)
    assert sorted(Run.objects.filter(slot=NOON).values_list("label", flat=True)) == ["0", "1", "2"]


def test_nothing_is_stored_when_one_of_a_bulk_is_bad():
    good, bad = task_with_callable(chores.nothing), task_with_callable(chores.nothing)
    bad.schedule = "61 * * * *"
    with pytest.raises(ValueError, match="61"):
        Task.objects.bulk_create([good, bad])
    assert Task.objects.count() == Run.objects.count() == 0


def test_a_rolled_back_creation_leaves_nothing_and_tells_nobody(django_capture_on_commit_callbacks):
    def create_and_fail():
        with transaction.atomic():
            Task.run_once(tasks.note)
            Task.run_iterations(tasks.note, iterations=3, run_immediately=True)
            every_minute(tasks.note)
            Task.bulk_run_once(tasks.note, [{}, {}])
            raise KeyError("the caller's own trouble")

    with django_capture_on_commit_callbacks() as callbacks:
        pytest.raises(KeyError, create_and_fail)
    assert (callbacks, Task.objects.count(), Run.objects.count()) == ([], 0, 0)
    assert run_due(NOON) == []


def test_a_failed_creation_does_not_break_the_callers_transaction():
    with pytest.raises(ValueError, match="iterations"):
        Task.run_iterations(tasks.note, iterations=-1)
    Task.run_once(tasks.note)
    assert statuses() == ["READY"]


def test_a_copy_of_a_task_begins_anew():
    """As Django's documentation copies a row: no key, and marked as new."""
    task = every_minute(iterations=2)
    run_due(NOON)
    copy = Task.objects.get(pk=task.pk)
    copy.pk, copy._state.adding = None, True
    copy.save()
    assert (copy.runs_created, copy.next_run, copy.last_run) == (0, NOON, None)
    assert Task.objects.count() == 2


def test_for_callable_finds_the_tasks_of_a_function_or_of_one_row():
    first, second = Order.objects.create(name="a"), Order.objects.create(name="b")
    there = Order.objects.using("other").create(pk=first.pk, name="c")
    of_first = every_minute(first.remind, label="first")
    every_minute(second.remind, label="second")
    every_minute(there.remind, label="there")
    every_minute(tasks.note, label="note")
    assert [task.label for task in Task.objects.for_callable(tasks.note)] == ["note"]
    assert list(Task.objects.for_callable(first.remind)) == [of_first]
    assert [task.label for task in Task.objects.for_callable(there.remind)] == ["there"]
    assert Task.objects.for_callable(f"{MODELS}.Order.remind").count() == 3
    assert not Task.objects.for_callable(Order.archive).exists()


def test_due_gives_enabled_tasks_whose_slot_has_come_oldest_first():
    late, early = every_minute(schedule="2 * * * *"), every_minute(schedule="1 * * * *")
    every_minute(schedule="1 * * * *", enabled=False)
    assert list(Task.objects.due(at(0.99))) == []
    assert list(Task.objects.due(at(1))) == [early]
    assert list(Task.objects.due(at(2))) == [early, late]
    assert list(Task.objects.due()) == []
