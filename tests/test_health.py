"""health: what `look` reads from the rows, and what `judge` makes of it."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from sisy import health
from sisy.models import Heartbeat, Run, Worker
from sisy.rows.process import before_now
from tests.project.shop.rows import every_minute, put_in

pytestmark = pytest.mark.django_db


def beat(**columns: Any) -> uuid.UUID:
    key = uuid.uuid4()
    Heartbeat.objects.sign(key, interval=timedelta(minutes=1))
    Heartbeat.objects.filter(pk=key).update(**columns)
    return key


def work(**columns: Any) -> uuid.UUID:
    key = uuid.uuid4()
    Worker.objects.sign(key, queues=columns.pop("queues", None), concurrency=columns.pop("concurrency", 4))
    Worker.objects.filter(pk=key).update(**columns)
    return key


def run(status: str = "READY", **columns: Any) -> Run:
    now = timezone.now()
    given = {"label": "one", "callable": "x", "enqueued_at": now, "run_after": now, "status": status, **columns}
    if status == "RUNNING":
        given |= {"claim": uuid.uuid4(), "lease_expires_at": now + timedelta(minutes=1)}
    elif status != "READY":
        given = {"finished_at": now, **given}
    return Run.objects.create(**given)


def look() -> health.Health:
    return health.look(timezone.now())


def codes(found: health.Health | None = None) -> list[tuple[str, str]]:
    return [(problem.level, problem.code) for problem in health.judge(found or look())]


def text_of(code: str) -> str:
    return next(problem.text for problem in health.judge(look()) if problem.code == code)


def test_with_a_heartbeat_and_a_worker_nothing_is_wrong() -> None:
    beat()
    work()
    found = look()
    assert codes(found) == []
    assert (found.ticking.alive, found.working.alive, found.working.slots) == (1, 1, 4)
    assert found.ticking.age < timedelta(seconds=5)
    assert abs(found.clock_difference) < timedelta(seconds=2)


def test_without_anybody_ticking_it_is_an_error_as_soon_as_a_task_has_a_schedule() -> None:
    work()
    assert codes() == [("warning", "no-heartbeat")]
    every_minute()
    assert ("error", "no-heartbeat") in codes()
    assert "none was ever heard of" in text_of("no-heartbeat")


def test_a_silent_heartbeat_is_named_with_its_age() -> None:
    work()
    beat(seen_at=before_now(timedelta(hours=3)), host="box", pid=7)
    assert "the last, box:7, 3.0 h ago" in text_of("no-heartbeat")


def test_a_heartbeat_that_has_ended_does_not_count_as_alive() -> None:
    key = beat()
    Heartbeat.objects.leave(key)
    assert look().ticking.alive == 0
    Heartbeat.objects.sign(key, interval=timedelta(minutes=1))
    assert look().ticking.alive == 0, "the last sign of a process that ends may come late"


def test_the_one_that_is_alive_is_shown_before_one_that_said_goodbye_later() -> None:
    beat(host="alive", seen_at=before_now(timedelta(seconds=10)))
    beat(host="gone", stopped_at=timezone.now())
    assert look().ticking.holder.startswith("alive:")


def test_no_worker_is_an_error() -> None:
    beat()
    work(seen_at=before_now(timedelta(minutes=5)))
    work(stopped_at=timezone.now())
    assert codes() == [("error", "no-worker")]


def test_a_task_that_is_long_due_is_an_error_and_one_that_just_came_due_is_not() -> None:
    beat()
    work()
    task = every_minute()
    put_in(task, next_run=timezone.now() - timedelta(seconds=30))
    assert codes() == []
    put_in(task, next_run=timezone.now() - timedelta(minutes=10))
    found = look()
    assert codes(found) == [("error", "due-late")]
    assert (found.due, round(found.oldest_due.total_seconds())) == (1, 600)
    assert "the first for 10.0 min" in text_of("due-late")


def test_a_paused_task_is_not_due() -> None:
    beat()
    work()
    put_in(every_minute(), next_run=timezone.now() - timedelta(minutes=10), enabled=False)
    assert look().due == 0


def test_runs_that_may_start_later_or_wait_for_another_are_no_backlog() -> None:
    run(run_after=timezone.now() + timedelta(hours=1))
    run(run_after=None)
    assert look().backlog == ()


def test_the_backlog_is_told_by_queue_with_its_oldest_run() -> None:
    beat()
    work()
    long_ago = timezone.now() - timedelta(minutes=20)
    run(queue="mail")
    run(queue="mail", run_after=long_ago)
    run(queue="print")
    run("RUNNING", queue="print")
    found = look()
    assert [(backlog.queue, backlog.ready) for backlog in found.backlog] == [("mail", 2), ("print", 1)]
    assert found.backlog[0].oldest_at == long_ago
    assert found.working.running == 1
    assert codes(found) == [("warning", "backlog-late")]
    assert "2 runs wait in the queue 'mail', the first for 20.0 min" in text_of("backlog-late")


def test_the_judgement_is_in_the_language_of_who_reads_it() -> None:
    beat()
    work()
    run(queue="mail", run_after=timezone.now() - timedelta(minutes=20))
    with translation.override("de"):
        assert text_of("backlog-late").startswith("1 Lauf wartet in der Warteschlange „mail“, seit 20.0 min.")


def test_a_queue_that_nobody_serves_is_an_error() -> None:
    beat()
    work(queues=["mail"])
    run(queue="mail")
    assert codes() == []
    run(queue="print")
    assert codes() == [("error", "queue-not-served")]
    work()
    assert codes() == []


def test_what_went_wrong_within_a_day_is_counted_and_what_is_older_is_not() -> None:
    beat()
    work()
    for status in ("FAILED", "LOST", "LOST", "MISSED", "SUCCESSFUL", "SKIPPED"):
        run(status)
    run("LOST", finished_at=timezone.now() - timedelta(days=2))
    found = look()
    assert (found.failed, found.lost, found.missed) == (1, 2, 1)
    assert codes(found) == [("warning", "lost"), ("warning", "missed")]


def test_parked_tasks_are_a_warning() -> None:
    beat()
    work()
    put_in(every_minute(), enabled=False, error="bad schedule")
    assert codes() == [("warning", "parked")]


def test_workers_of_different_versions_are_a_warning() -> None:
    beat()
    work()
    work(version="1.9")
    assert codes() == [("warning", "versions-differ")]


def test_clocks_that_disagree_are_a_warning_that_says_which_way() -> None:
    beat()
    work()
    found = look()
    for seconds, words in ((30, "30.0 s ahead of the database's"), (-30, "30.0 s behind the database's")):
        (problem,) = health.judge(replace(found, clock_difference=timedelta(seconds=seconds)))
        assert (problem.level, problem.code) == ("warning", "clocks-differ")
        assert words in problem.text


def test_errors_come_first() -> None:
    run("LOST")
    assert [level for level, _ in codes()] == ["error", "warning", "warning"]


def test_a_look_costs_the_same_number_of_queries_whatever_there_is() -> None:
    with CaptureQueriesContext(
        connection,
    ) as first:
        look()
    beat()
    work()
    for number in range(5):
        every_minute(label=str(number))
    for status in ("READY", "RUNNING", "FAILED", "LOST"):
        run(status)
    with CaptureQueriesContext(connection) as second:
        look()
    assert max(len(first), len(second)) <= 4
