"""Statements that the ORM does not have, on each database: many changed rows, many new rows, several questions."""

import contextlib
import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.signals import post_init, post_save
from django.utils import timezone

from sisy.models import Run, Task, Worker, task_with_callable
from sisy.models.entry import prepare
from sisy.rows.changes import write_each
from sisy.rows.glance import Glance
from sisy.rows.inserts import copies, insert, insert_both, insert_many, new
from sisy.rows.reading import read
from sisy.transitions import planning
from tests.project.shop import chores

pytestmark = pytest.mark.django_db

NOW = timezone.now()
AWKWARD = ["", "it's", 'a "quote"', "back\\slash", "{curly, comma}", "%s", "NULL", "ü🎈", "line\nbreak"]


def new_task(**columns):
    task = task_with_callable(chores.nothing, **columns)
    task.save()
    return task


def new_runs(count):
    task = new_task(enabled=False)
    return [Run.objects.create(task=task, label=f"{n}", enqueued_at=timezone.now()) for n in range(count)]


def reread(rows):
    return list(type(rows[0])._base_manager.filter(pk__in=[row.pk for row in rows]).order_by("pk"))


def test_each_row_gets_its_own_values():
    runs = new_runs(len(AWKWARD) + 1)
    now = timezone.now()
    for number, (run, text) in enumerate(zip(runs, [*AWKWARD, "last"], strict=True)):
        run.status, run.reason, run.finished_at = "SUCCESSFUL", text, now + timedelta(microseconds=number)
        run.result, run.userdata = {"text": text, "list": [number, None, True]}, None if number % 2 else {"a": text}
        run.task = None if number % 3 else run.task
    write_each(runs, ["status", "reason", "finished_at", "result", "userdata", "task"], using="default")
    for wanted, found in zip(runs, reread(runs), strict=True):
        for column in ("status", "reason", "finished_at", "result", "userdata", "task_id"):
            assert getattr(found, column) == getattr(wanted, column), column


@pytest.mark.parametrize("value", [None, 0, False, "", [], {}, "text", [1, {"a": None}]])
def test_a_json_value_that_all_rows_share_is_read_back_as_it_is(value):
    runs = new_runs(3)
    for run in runs:
        run.result = value
    write_each(runs, ["result"], using="default")
    assert [(run.result, type(run.result)) for run in reread(runs)] == [(value, type(value))] * 3


def test_values_that_python_takes_for_equal_stay_different():
    runs = new_runs(2)
    runs[0].result, runs[1].result = 1, True
    write_each(runs, ["result"], using="default")
    assert [type(run.result) for run in reread(runs)] == [int, bool]


def test_other_rows_and_other_columns_stay_as_they_are():
    runs = new_runs(3)
    for run in runs:
        run.reason, run.label = "changed", "not written"
    write_each(runs[:2], ["reason"], using="default")
    assert [(run.reason, run.label) for run in reread(runs)] == [("changed", "0"), ("changed", "1"), ("", "2")]


def test_a_thousand_rows_are_a_few_statements(django_assert_max_num_queries):
    runs = Run.objects.bulk_create(Run(label=f"{n}", enqueued_at=timezone.now()) for n in range(1001))
    runs = list(Run.objects.order_by("pk"))
    for number, run in enumerate(runs):
        run.reason = f"{number}"
    with django_assert_max_num_queries(1001 if connection.vendor == "sqlite" else 3):
        write_each(runs, ["reason"], using="default")
    assert [run.reason for run in reread(runs)] == [f"{n}" for n in range(1001)]


def test_no_rows_are_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        write_each([], ["reason"], using="default")


def test_an_inserted_row_is_as_the_orm_would_have_it():
    by_orm = task_with_callable(chores.nothing, label="it's %s", userdata={"text": AWKWARD}, timeout=90)
    for task in (
        by_orm,
        copy := task_with_callable(chores.nothing, label="it's %s", userdata={"text": AWKWARD}, timeout=90),
    ):
        task.created_at = task.modified_at = task.next_run = timezone.now()
        task.error = "x"
        task.enabled = False
    copy.created_at = copy.modified_at = copy.next_run = by_orm.next_run
    by_orm.save_base(force_insert=True)
    insert(copy, using=None)
    assert (copy._state.adding, copy._state.db, type(copy.pk)) == (False, "default", int)
    first, second = reread([by_orm, copy])
    names = [field.attname for field in Task._meta.concrete_fields if field.name != "id"]
    assert [getattr(first, name) for name in names] == [getattr(second, name) for name in names]


def test_receivers_of_post_save_hear_of_a_new_task():
    heard = []

    def receiver(sender, instance, created, **_):
        heard.append((instance.label, instance.pk, created))

    post_save.connect(receiver, sender=Task)
    try:
        task = new_task(label="heard")
    finally:
        post_save.disconnect(receiver, sender=Task)
    assert heard == [("heard", task.pk, True)]


def test_a_key_that_the_caller_chose_is_kept():
    task = task_with_callable(chores.nothing)
    task.pk = 4711
    task.save()
    assert Task.objects.filter(pk=4711).exists()


def test_copies_are_inserted_in_the_order_of_their_values():
    pattern = new_task(label="pattern", enabled=False)
    values = [{"n": n, "text": AWKWARD[n % len(AWKWARD)]} for n in range(50)]
    made = copies(pattern, "_extra_data", values, using="default")
    insert_many(made, using="default", different=["_extra_data"])
    if connection.features.can_return_rows_from_bulk_insert:
        assert pattern.pk not in {task.pk for task in made}
        assert [task.userdata for task in reread(made)] == values
    assert [task.userdata for task in made] == values
    assert set(Task.objects.values_list("label", flat=True)) == {"pattern"}


@pytest.mark.parametrize("results", [[1, True], [None, 0], [[], {}], [{}, {}], [{"a": 1}, {"a": True}], ["%s", "'"]])
def test_many_rows_are_inserted_as_they_are(results):
    task, now = new_task(), timezone.now()
    runs = [
        Run(task=task if n else None, label=f"{AWKWARD[n]} {n}", enqueued_at=now + timedelta(microseconds=n),
            at_most_once=bool(n), result=result, slot=now + timedelta(n) if n else None)
        for n, result in enumerate(results)
    ]  # fmt: skip
    insert_many(runs, using="default")
    found = list(Run.objects.order_by("enqueued_at"))
    names = [field.attname for field in Run._meta.concrete_fields if field.name != "id"]
    assert [[getattr(run, name) for name in names] for run in found] == [
        [getattr(run, name) for name in names] for run in runs
    ]
    assert [type(run.result) for run in found] == [type(result) for result in results]


def test_equal_rows_are_as_many_as_there_are():
    runs = [Run(label="same", enqueued_at=NOW) for _ in range(3)]
    insert_many(runs, using="default")
    assert Run.objects.filter(label="same").count() == 3


def test_several_questions_are_one_query(django_assert_num_queries):
    task = new_task(schedule="0 9 * * *")
    glance = Glance(
        lambda: (
            Task.objects.filter(enabled=True).order_by("next_run").values_list("next_run"),
            Task.objects.values_list("label"),
            Task.objects.none().values_list("pk"),
            Run.objects.filter(label="100%").values_list("pk"),
        )
    )
    with django_assert_num_queries(1):
        assert glance.take(using="default") == [task.next_run, task.label, None, None]


def test_the_same_questions_have_new_answers():
    glance = Glance(lambda: [Task.objects.order_by("-pk").values_list("label")])
    assert glance.take(using="default") == [None]
    for label in ("first", "second"):
        new_task(label=label)
        assert glance.take(using="default") == [label]


# Many rows, read ------------------------------------------------------------------------------------------------------


def state_of(row):
    return {name: value for name, value in row.__dict__.items() if name != "_state"}


def test_what_is_read_is_what_the_orm_reads():
    new_runs(3)
    new_task(label="another", userdata={"a": [1, None]}, timeout=5)
    for model in (Run, Task):
        rows = model._base_manager.order_by("pk")
        assert [state_of(row) for row in read(rows)] == [state_of(row) for row in rows]
        assert all((row._state.adding, row._state.db) == (False, "default") for row in read(rows))


def test_a_task_that_was_read_writes_what_was_changed_and_nothing_else(django_assert_num_queries):
    new_task(label="before", priority=3)
    (task,) = read(Task._base_manager.all())
    Task.objects.update(priority=5)
    task.label = "after"
    task.save()
    stored = Task.objects.get()
    assert (stored.label, stored.priority) == ("after", 5)


def test_columns_that_were_left_out_are_read_when_somebody_asks(django_assert_num_queries):
    new_task(label="a label", userdata={"n": 1}, priority=7)
    (task,) = read(Task._base_manager.all(), only=["label", "_extra_data"])
    with django_assert_num_queries(0):
        assert (task.label, task.userdata) == ("a label", {"n": 1})
    with django_assert_num_queries(1):
        assert task.priority == 7


def test_receivers_hear_of_each_row_that_is_read():
    new_runs(2)
    heard = []

    def hear(instance, **more):
        heard.append(instance.label)

    post_init.connect(hear, sender=Run)
    try:
        read(Run.objects.order_by("pk"))
        read(Run.objects.order_by("pk"), only=["label"])
    finally:
        post_init.disconnect(hear, sender=Run)
    assert heard == ["0", "1", "0", "1"]


# A task and its first run ---------------------------------------------------------------------------------------------


on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="one statement on PostgreSQL only")


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_task_that_runs_at_once_is_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        Task.run_once(chores.nothing, userdata={"n": 1})
    assert Run.objects.get().task == Task.objects.get()


@pytest.mark.parametrize("within", [contextlib.nullcontext, transaction.atomic])
@pytest.mark.django_db(transaction=True)
def test_a_task_and_its_run_refer_to_each_other(within):
    userdata = {"text": AWKWARD, "n": 1.5}
    with within():
        task = Task.run_once(chores.nothing, userdata=userdata, label="it's %s", timeout=90.25, queue="a")
    run = Run.objects.select_related("task").get()
    assert (run.task, run.label, run.queue, run.status) == (task, "it's %s", "a", "READY")
    assert run.task.userdata == task.userdata == userdata
    assert (run.task.timeout, run.task.created_at) == (timedelta(seconds=90.25), task.created_at)


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_neither_is_there_when_one_is_refused():
    task = task_with_callable(chores.nothing, wait_for_schedule=False)
    prepare(task, now=NOW)
    run = task.unsaved_run(now=NOW)
    run.status = "nonsense"
    with pytest.raises(IntegrityError):
        insert_both(task, run, link="task", using=None)
    assert not Task.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_task_that_is_refused_leaves_the_transaction_around_it_in_order(monkeypatch):
    monkeypatch.setattr(planning, "run_of", lambda task, **more: run_of(task, **more, status="nonsense"))
    with transaction.atomic():
        Worker.objects.create(id=uuid.uuid4(), pid=1, concurrency=1, started_at=NOW, seen_at=NOW)
        with pytest.raises(IntegrityError):
            Task.run_once(chores.nothing)
        assert Worker.objects.count() == 1
    assert (Worker.objects.count(), Task.objects.count()) == (1, 0)


def run_of(task, *, slot, now, status):
    return Run(task=task, slot=slot, run_after=now, enqueued_at=now, label=task.label, status=status)


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_task_can_be_created_in_a_transaction_that_is_managed_by_hand():
    transaction.set_autocommit(False)
    try:
        Task.run_once(chores.nothing)
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert Run.objects.count() == 1


def test_an_instance_that_was_made_quickly_is_as_the_constructor_makes_it():
    values = {"task_id": 7, "label": "a label", "slot": NOW, "enqueued_at": NOW}
    assert state_of(new(Run, **values)) == state_of(Run(**values))
    assert new(Run, **values)._state.adding
    assert new(Run, **values).args is not new(Run, **values).args


def test_receivers_hear_of_each_instance_that_is_made():
    heard = []

    def hear(instance, **more):
        heard.append(instance.label)

    post_init.connect(hear, sender=Run)
    try:
        new(Run, label="a label", enqueued_at=NOW)
    finally:
        post_init.disconnect(hear, sender=Run)
    assert heard == ["a label"]
