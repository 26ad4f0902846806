"""Runs whose code a worker lacks: handed back to others for the grace of a deploy, then failed like any other."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from sisy.models import Run, RunStatus, Task
from sisy.transitions import claims, endings, returns
from sisy.worker.lacking import Lacking
from tests.project.shop.rows import LEASE, NOON, at, claim, end, every_minute, put_in, stored, tick_and_claim

pytestmark = pytest.mark.django_db


def test_a_declined_run_is_ready_again_with_the_reason_and_the_time_of_the_first_time() -> None:
    every_minute()
    (run,) = tick_and_claim()
    assert returns.decline([run], reason="shop has no 'new'", now=NOON) == 1
    (again,) = claim(at(1))
    assert (again.reason, again.declined_at, again.attempt, again.crashes) == ("shop has no 'new'", NOON, 1, 0)
    returns.decline([again], reason="still none", now=at(1))
    row = stored(run)
    assert (row.status, row.reason, row.declined_at, row.claim) == (RunStatus.READY, "still none", NOON, None)


def test_one_batch_may_hold_runs_that_were_declined_before_and_others() -> None:
    for label in ("first", "again"):
        every_minute(label=label)
    runs = {run.label: run for run in tick_and_claim()}
    returns.decline([runs["again"]], reason="none", now=NOON)
    (runs["again"],) = claim(at(1))
    assert returns.decline(list(runs.values()), reason="none", now=at(1)) == 2
    assert {run.label: run.declined_at for run in Run.objects.all()} == {"first": at(1), "again": NOON}


def test_a_run_that_was_cancelled_meanwhile_is_not_handed_back() -> None:
    every_minute()
    (run,) = tick_and_claim()
    endings.cancel([run], now=NOON, reason="by hand")
    returns.decline([run], reason="none", now=NOON)
    assert (stored(run).status, stored(run).reason) == (RunStatus.CANCELLED, "by hand")


def test_the_callables_that_a_worker_lacks_are_left_out_of_its_claims() -> None:
    every_minute(label="here")
    put_in(every_minute(label="not here"), callable="shop.new")
    (run,) = [run for run in tick_and_claim() if run.label == "not here"]
    returns.release([run], now=NOON)
    worker, now = run.worker or run.pk, at(1)
    how: dict[str, Any] = {"worker": "00000000-0000-0000-0000-000000000001", "queues": None, "limit": 9, "lease": LEASE}
    assert worker
    assert claims.claim(**how, now=now, lacking=["shop.new"]) == []
    assert not Run.objects.to_start(lacking=["shop.new"]).exists()
    assert [run.label for run in claims.claim(**how, now=now)] == ["not here"]


def test_a_retry_of_a_run_that_was_declined_once_has_the_whole_grace_again() -> None:
    every_minute(max_attempts=2)
    (run,) = tick_and_claim()
    returns.decline([run], reason="none", now=NOON)
    (run,) = claim(at(1))
    end(run, now=at(1), error=RuntimeError("no"))
    assert (stored(run).status, stored(run).declined_at) == (RunStatus.READY, None)


def test_a_declined_run_is_one_warning_that_names_what_is_missing(
    caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    every_minute(label="new")
    (run,) = tick_and_claim()
    with caplog.at_level(logging.INFO, "sisy"), django_capture_on_commit_callbacks(execute=True):
        returns.decline([run], reason="shop has no 'new'", now=NOON)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"Run {run.pk} of new handed back for another worker to try: shop has no 'new'" in record.getMessage()


def test_a_path_is_left_to_others_for_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("sisy.worker.lacking.time.monotonic", lambda: clock[0])
    lacking = Lacking()
    assert (lacking.current(), lacking.next_try) == ([], float("inf"))
    waits = []
    for _ in range(7):
        lacking.note(["a.b", "a.b"])
        assert lacking.current() == ["a.b"]
        waits.append(lacking.next_try - clock[0])
        clock[0] = lacking.next_try
        assert lacking.current() == []
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_each_path_waits_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("sisy.worker.lacking.time.monotonic", lambda: clock[0])
    lacking = Lacking()
    lacking.note(["a.b"])
    clock[0] += 0.5
    lacking.note(["c.d"])
    assert (lacking.current(), lacking.next_try) == (["a.b", "c.d"], 101.0)
    clock[0] += 0.5
    assert lacking.current() == ["c.d"]


@pytest.mark.django_db(transaction=True)
def test_a_task_is_parked_once_nobody_had_its_code_for_the_grace(settings: Any) -> None:
    from sisy.worker.engine import Engine  # started below, on committed rows

    settings.SISY = {"DEPLOY_GRACE": 300, "POLL_INTERVAL": 60}
    task = every_minute(label="gone", schedule="0 0 1 1 *", start_running=None)
    run = task.run_asap()
    put_in(run, callable="tests.project.shop.chores.gone", declined_at=timezone.now() - timedelta(seconds=301))
    put_in(task, callable="tests.project.shop.chores.gone")
    engine = Engine(burst=True, on_death=lambda: None)
    engine.start()
    assert engine.drained.wait(20)
    engine.stop()
    for thread in engine.threads.values():
        thread.join(5)
    assert Run.objects.get().status == RunStatus.FAILED
    assert "gone" in Task.objects.get().error
