"""The newest runs of many tasks: which they are, and that they cost the same however many there are."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from sisy.admin.history import kept_runs, newest_runs, typical
from sisy.models import Run, task_with_callable
from tests.past import past_run, write_run

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def saved(label):
    task = task_with_callable("tests.project.shop.tasks.note", label=label)
    task.save()
    return task


@pytest.mark.django_db
def test_the_newest_runs_of_each_task_come_the_oldest_first():
    many, few, none = saved("many"), saved("few"), saved("none")
    for minute in range(7):  # of both tasks in turns: no task's runs stand together in the table
        write_run(many, at=NOON + timedelta(minutes=minute))
        if minute % 3 == 0:
            write_run(few, at=NOON + timedelta(minutes=minute))
    found = newest_runs([many.pk, few.pk, none.pk], count=4)
    assert [run.at.minute for run in found[many.pk]] == [3, 4, 5, 6]
    assert [run.at.minute for run in found[few.pk]] == [0, 3, 6]
    assert found[none.pk] == []
    assert [run.pk for run in kept_runs(many.pk, most=2)] == [run.pk for run in found[many.pk][-2:]]


@pytest.mark.django_db
def test_the_newest_runs_of_a_hundred_tasks_are_two_queries():
    tasks = [saved(f"task {number}") for number in range(100)]
    Run.objects.bulk_create(
        Run(task=task, label="x", callable="x", status="FAILED", enqueued_at=NOON, finished_at=NOON, slot=NOON + step)
        for step in (timedelta(minutes=n) for n in range(32))
        for task in tasks
    )
    with CaptureQueriesContext(connection) as queries:
        found = newest_runs([task.pk for task in tasks], count=30)
    assert len(queries) == 2
    assert {len(found[task.pk]) for task in tasks} == {30}


@pytest.mark.django_db
def test_the_newest_runs_are_read_by_the_index_for_them():
    tasks = [saved(f"task {number}") for number in range(50)]
    Run.objects.bulk_create(
        Run(task=task, label="x", callable="x", status="FAILED", enqueued_at=NOON, finished_at=NOON, slot=NOON + step)
        for task in tasks
        for step in (timedelta(minutes=n) for n in range(60))
    )
    if connection.vendor != "mysql":  # where it would end the transaction, and is done without being asked for
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    plan = Run.objects.filter(task=tasks[0].pk).order_by("-pk").values("pk")[29:30].explain()
    assert "sisy_run_newest" in plan


def test_no_task_costs_no_query():
    assert newest_runs([], count=30) == {}


def test_what_is_typical_leaves_out_what_failed_and_what_did_not_run():
    times = [*range(1, 21)]
    runs = [past_run(at=NOON, seconds=seconds) for seconds in reversed(times)]
    runs += [past_run("FAILED", at=NOON, seconds=900), past_run("SKIPPED", at=NOON)]
    usual = typical(runs)
    assert (usual.p50.total_seconds(), usual.p95.total_seconds(), usual.count) == (10, 19, 20)
    assert typical(runs[-2:]) is None


def test_a_clock_that_was_set_back_gives_no_negative_duration():
    assert past_run(at=NOON, seconds=-5).duration == timedelta(0)
