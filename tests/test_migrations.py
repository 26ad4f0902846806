"""Tasks in data migrations, forwards and backwards: tests/project/shop/later_migrations, run by `migrate` itself."""

import uuid

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from sisy.models import Run, Task, taskinfo_with_label
from sisy.testing import run_due
from tests.project.shop import heard
from tests.project.shop.models import Country, Order, Parcel
from tests.project.shop.rows import NOON, put_in, statuses

pytestmark = pytest.mark.django_db(transaction=True)

LABELS = {"nightly note", "nightly archive", "nightly audit", "opening", "Order a", "Order b", "Parcel c", "Country d"}


def migrate(*arguments):
    call_command("migrate", *arguments, verbosity=0, interactive=False)


@pytest.fixture
def rows(settings):
    """Rows that exist before the migration, which is taken back at the end."""
    settings.MIGRATION_MODULES = {"shop": "tests.project.shop.later_migrations"}
    heard.calls.clear()
    yield [
        Order.objects.create(name="a"),
        Order.objects.create(name="b"),
        Parcel.objects.create(name="c", id=uuid.UUID(int=5)),
        Country.objects.create(name="d", code="C I"),
    ]
    MigrationRecorder(connection).record_unapplied("shop", "0002_schedule")


def test_forwards_creates_tasks_that_run(rows):
    migrate("shop", "0002")
    assert set(Task.objects.values_list("label", flat=True)) == LABELS
    assert Task.objects.get(label="nightly note").userdata == {"by": "migration"}
    for task in Task.objects.all():
        put_in(task, next_run=NOON.strftime("%Y-%m-%d %H:%M:%S"))
    run_due(NOON)
    assert statuses() == ["SUCCESSFUL"] * 8, [run.traceback for run in Run.objects.exclude(errors=[])]
    assert sorted(heard.notes()) == sorted([
        "note", "Order.archive", "Order.audit", "Order.Desk.open",
        "Order.remind a", "Order.remind b", "Parcel.remind c", "Country.remind d",
    ])  # fmt: skip


def test_forwards_gives_each_task_the_next_slot_of_its_schedule(rows):
    migrate("shop", "0002")
    assert {(task.next_run.hour, task.next_run.minute) for task in Task.objects.all()} == {(3, 0), (3, 30)}
    assert all(task.enabled and not task.error for task in Task.objects.all())


def test_the_infos_have_the_keys_of_the_rows_in_their_own_types(rows):
    migrate("shop", "0002")
    keys = [taskinfo_with_label(label)["model_pk"] for label in ("Order a", "Order b", "Parcel c", "Country d")]
    assert keys == [row.pk for row in rows]
    assert [type(key) for key in keys] == [int, int, uuid.UUID, str]


def test_backwards_finds_the_tasks_by_their_infos_and_deletes_them(rows):
    migrate("shop", "0002")
    migrate("shop", "0001")
    assert not Task.objects.exists()


def test_backwards_keeps_the_history_of_what_ran(rows):
    migrate("shop", "0002")
    for task in Task.objects.all():
        task.run_asap()
    run_due()
    migrate("shop", "0001")
    assert set(Run.objects.values_list("label", "task", "status")) == {(label, None, "SUCCESSFUL") for label in LABELS}


def test_forwards_again_creates_them_again(rows):
    for target in ("0002", "0001", "0002"):
        migrate("shop", target)
    assert set(Task.objects.values_list("label", flat=True)) == LABELS


def test_the_migrations_of_sisy_go_back_to_nothing_and_forwards_again(rows):
    migrate("sisy", "zero")
    assert not [table for table in connection.introspection.table_names() if table.startswith("sisy_")]
    migrate("sisy")
    Task.run_once("tests.project.shop.tasks.note")
    assert statuses() == ["READY"]


def test_the_models_have_no_changes_without_a_migration():
    call_command("makemigrations", "sisy", "shop", check=True, dry_run=True, verbosity=0)
