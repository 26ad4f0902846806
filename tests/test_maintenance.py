"""maintenance: what every tick does for the rows: rescue, release, delete what is used up, prune."""

import logging
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sisy import maintenance, scheduler
from sisy.models import Run, Task, Worker
from sisy.transitions import claims, returns
from tests.project.shop import chores
from tests.project.shop.rows import NOON, at, claim, end, every_minute, expire, put_in, slots, statuses, tick_and_claim

pytestmark = pytest.mark.django_db

DAY = 60 * 24


@pytest.fixture(autouse=True)
def _a_process_that_has_not_pruned_yet(monkeypatch):
    monkeypatch.setattr(maintenance, "_last_rounds", None)


def ended(count, *, task=None, days=0.0):
    Run.objects.bulk_create(
        Run(
            task=task, label="ended", callable="x", status="SUCCESSFUL", enqueued_at=NOON, run_after=NOON,
            finished_at=NOON - timedelta(days=days),
        )
        for _ in range(count)
    )  # fmt: skip


def test_a_tick_rescues_releases_and_deletes():
    every_minute(label="crashed")
    every_minute(label="queued", overlap="queue")
    every_minute(label="used up", iterations=1)
    runs = {run.label: run for run in tick_and_claim(NOON)}
    scheduler.tick(at(1))
    expire(runs["crashed"])
    put_in(runs["queued"], status="FAILED", claim=None, lease_expires_at=None, finished_at="2100-01-01 12:01:00")
    put_in(runs["used up"], status="FAILED", claim=None, lease_expires_at=None, finished_at="2100-01-01 12:01:00")
    scheduler.tick(at(1.5))
    assert statuses(label="crashed")[0] == "READY"
    assert [run.slot for run in claim(at(1.5)) if run.label == "queued"] == [at(1)]
    scheduler.tick(at(2.5))  # what can wait comes once a minute
    assert not Task.objects.filter(label="used up").exists()


def test_rescue_says_what_became_of_the_runs(settings):
    settings.SISY = {"MAX_CRASHES": 1}
    every_minute(label="first crash")
    every_minute(label="second crash")
    runs = {run.label: run for run in tick_and_claim(NOON)}
    claims.start(list(runs.values()), now=NOON)
    put_in(runs["second crash"], crashes=1)
    expire(*runs.values())
    rescued = maintenance.rescue(at(1))
    assert {run.label: run.status for run in rescued} == {"first crash": "READY", "second crash": "LOST"}
    assert maintenance.rescue(at(1)) == []


def test_a_lost_run_is_one_error_line_that_names_it(caplog, django_capture_on_commit_callbacks):
    every_minute(label="crashed", at_most_once=True)
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    expire(run)
    with caplog.at_level(logging.INFO, "sisy"), django_capture_on_commit_callbacks(execute=True):
        maintenance.rescue(at(1))
    (line,) = [record for record in caplog.records if "LOST" in record.getMessage()]
    assert line.levelname == "ERROR"
    assert "crashed" in line.getMessage()
    assert "worker" in line.getMessage()


def test_a_rescued_run_is_one_warning_line(caplog, django_capture_on_commit_callbacks):
    every_minute(label="crashed")
    (run,) = tick_and_claim(NOON)
    expire(run)
    with caplog.at_level(logging.INFO, "sisy"), django_capture_on_commit_callbacks(execute=True):
        maintenance.rescue(at(1))
    assert [record.levelname for record in caplog.records if "crashed" in record.getMessage()] == ["WARNING"]


@pytest.mark.parametrize("setting", [{}, {"KEEP_RUNS_DAYS": 3}, {"KEEP_RUNS_DAYS": 0.5}])
def test_runs_are_pruned_by_age(settings, setting):
    settings.SISY = setting
    days = setting.get("KEEP_RUNS_DAYS", 14)
    ended(2, days=days + 0.01)
    ended(3, days=days - 0.01)
    assert maintenance.prune(NOON) == 2
    assert Run.objects.count() == 3


def test_runs_are_pruned_by_count_for_each_task(settings):
    settings.SISY = {"KEEP_RUNS_PER_TASK": 2}
    tasks = [every_minute(chores.nothing, label=f"{n}") for n in range(3)]
    for count, task in zip((5, 2, 1), tasks, strict=True):
        ended(count, task=task)
    assert maintenance.prune(NOON) == 3
    assert [task.runs.count() for task in tasks] == [2, 2, 1]


def test_runs_without_a_task_are_not_pruned_by_count(settings):
    settings.SISY = {"KEEP_RUNS_PER_TASK": 1}
    ended(5)
    assert maintenance.prune(NOON) == 0


def test_nothing_is_pruned_when_both_limits_are_off(settings):
    settings.SISY = {"KEEP_RUNS_DAYS": None, "KEEP_RUNS_PER_TASK": None}
    ended(5, days=10_000, task=every_minute(chores.nothing))
    assert maintenance.prune(NOON) == 0


def test_one_tick_prunes_a_bounded_number_and_the_next_ones_go_on():
    ended(1200, days=100)
    left = []
    for minutes in (0, 1, 2, 3):
        scheduler.tick(at(minutes))
        left.append(Run.objects.count())
    assert left == [700, 200, 0, 0]


def test_a_process_prunes_at_most_once_a_minute():
    scheduler.tick(NOON)
    ended(1, days=100)
    scheduler.tick(at(0.5))
    assert Run.objects.count() == 1
    scheduler.tick(at(1))
    assert Run.objects.count() == 0


def test_a_clock_that_was_set_back_does_not_stop_pruning():
    scheduler.tick(at(DAY * 365))
    ended(1, days=100)
    scheduler.tick(NOON)
    assert Run.objects.count() == 0


def test_prune_can_do_several_batches():
    ended(1200, days=100)
    assert maintenance.prune(NOON, batches=10) == 1200


def test_the_rows_of_workers_that_were_not_heard_of_for_a_day_are_deleted():
    now = timezone.now()
    for hours in (0, 23, 25):
        Worker.objects.create(
            id=uuid.uuid4(), host=f"{hours}", pid=1, version="1", concurrency=1, started_at=now,
            seen_at=now - timedelta(hours=hours),
        )  # fmt: skip
    maintenance.prune(NOON)
    assert sorted(Worker.objects.values_list("host", flat=True)) == ["0", "23"]


def test_keeping_in_order_what_is_in_order_changes_nothing():
    every_minute(overlap="queue")
    (run,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    before = [list(model.objects.order_by("pk").values()) for model in (Task, Run)]
    maintenance.keep_in_order(at(1.5))
    assert [list(model.objects.order_by("pk").values()) for model in (Task, Run)] == before
    assert end(run, now=at(2))


def test_everything_works_while_django_records_its_queries():
    """As it does with DEBUG, which is how every new project starts."""
    with CaptureQueriesContext(connection):
        task = every_minute(overlap="queue", at_most_once=True)
        (run,) = tick_and_claim(at(0))
        claims.start([run], now=at(0))
        claims.renew({run.pk: run.claim}, lease=timedelta(seconds=60))
        scheduler.tick(at(1))
        returns.expire({run.pk: run.claim})
        scheduler.tick(at(1.5))
        assert statuses() == ["LOST", "READY"]
        for waiting in claim(at(1.5)):
            end(waiting, now=at(2))
        maintenance.prune(at(2))
        task.pause()
    assert slots(status="SUCCESSFUL") == [1]
