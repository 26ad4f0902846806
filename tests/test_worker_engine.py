"""The engine's three loops in this process, on a real database: claiming, finishing, leases, ticks, their deaths."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import DataError, InterfaceError, InternalError, OperationalError, connection, transaction
from django.utils import timezone

from sisy import layer, scheduler
from sisy.messages import Nudge
from sisy.models import Run, RunStatus, Task, Worker, task_with_callable
from sisy.transitions import claims, endings
from sisy.worker import engine as engine_module
from sisy.worker import keeper as keeper_module
from sisy.worker.engine import Engine
from tests.flow import tasks as flow_tasks
from tests.flow.processes import wait_for
from tests.project.shop import ledger, tasks

pytestmark = pytest.mark.django_db(transaction=True)

StartEngine = Callable[..., Engine]


@pytest.fixture
def deaths() -> threading.Semaphore:
    """Released once for each loop that dies."""
    return threading.Semaphore(0)


@pytest.fixture
def start_engine(
    transactional_db: None, ledger_file: Path, settings: Any, deaths: threading.Semaphore
) -> Iterator[StartEngine]:
    """Start engines; each is stopped at the end, before the rows go."""
    settings.SISY = {"POLL_INTERVAL": 60, "LEASE": 2}  # nobody may be saved by a poll
    engines = []

    def start(**options: Any) -> Engine:
        engine = Engine(on_death=deaths.release, **options)
        engines.append(engine)
        engine.start()
        return engine

    yield start
    for engine in engines:
        stop(engine)


@pytest.fixture
def free(tmp_path: Path) -> Iterator[Path]:
    """The file for which functions wait; `free.touch()` ends them."""
    file = tmp_path / "free"
    yield file
    file.touch()


def stop(engine: Engine) -> None:
    engine.stop()
    pump = engine.threads["sisy-pump"]
    wait_for(lambda: engine.drained.is_set() or not pump.is_alive(), 10, "the end of the pump")
    engine.keeper.close()  # what a pump does at its end, for those that have died before
    layer.remove_bell(engine.hear)
    for thread in list(engine.threads.values()):  # they close their connections; the database could not be dropped
        thread.join(5)


def only_run(status: str | None = None, timeout: float = 10) -> Run:
    """Wait until the only run has this status, or is over, and return it."""

    def found() -> Run | None:
        run = Run.objects.get()
        return run if run.status == status or (status is None and run.is_over) else None

    return wait_for(found, timeout, f"a run that is {status or 'over'}")


def wait_for_begin(count: int = 1, **wanted: Any) -> None:
    wait_for(lambda: len(ledger.lines(kind="begin", **wanted)) >= count, 10, f"{count} begins")


def wait_for_status(status: str, count: int, timeout: float = 10) -> None:
    wait_for(lambda: Run.objects.filter(status=status).count() >= count, timeout, f"{count} runs that are {status}")


# A run's way ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [tasks.count, tasks.acount])
def test_a_run_is_claimed_executed_and_written(start_engine: StartEngine, function: Callable[..., Any]) -> None:
    task = task_with_callable(function, userdata={"n": 1}, schedule="0 0 1 1 *")
    task.save()
    start_engine()
    task.run_asap()
    run = only_run()
    assert run.status == RunStatus.SUCCESSFUL
    assert run.enqueued_at <= run.started_at <= run.finished_at
    assert (run.claim, run.lease_expires_at) == (None, None)
    task.refresh_from_db()
    assert task.userdata == {"n": 2}


def test_a_run_from_this_process_is_not_left_to_a_poll(start_engine: StartEngine) -> None:
    engine = start_engine()
    wait_for(lambda: engine.pump.next_poll, 10, "the first look")
    began = time.monotonic()
    Task.run_once(tasks.note)
    only_run()
    assert time.monotonic() - began < 5


def test_without_any_nudge_a_poll_finds_the_run(
    start_engine: StartEngine, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "nudge", lambda queues: None)
    engine = start_engine()
    settings.SISY = {"POLL_INTERVAL": 0.2}
    engine.wake()
    Task.run_once(flow_tasks.tell)
    only_run()
    assert ledger.lines(function="tell")[0]["message"] == {"type": "sisy.poll", "v": 1}


def test_the_function_receives_the_message_that_woke_its_worker(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "nudge", lambda queues: None)
    engine = start_engine()
    wait_for(lambda: engine.pump.next_poll, 10, "the first look")
    Task.run_once(flow_tasks.tell)
    engine.wake(Nudge().to_message())
    only_run()
    assert ledger.lines(function="tell")[0]["message"] == {"type": "sisy.nudge", "v": 1}


def test_only_its_own_queues(start_engine: StartEngine) -> None:
    start_engine(queues=["mail", "print"])
    for queue in ("mail", "other", "print", "default"):
        Task.run_once(tasks.note, label=queue, queue=queue)
    wait_for_status(RunStatus.SUCCESSFUL, 2)
    assert set(Run.objects.ready(timezone.now()).values_list("label", flat=True)) == {"other", "default"}


def test_a_retry_comes_at_its_time_and_not_at_the_next_poll(start_engine: StartEngine) -> None:
    start_engine()
    task = task_with_callable(
        flow_tasks.fail_once, schedule="0 0 1 1 *", max_attempts=2, retry_backoff=timedelta(seconds=0.4)
    )
    task.save()
    task.run_asap()
    run = only_run(RunStatus.SUCCESSFUL)
    assert run.attempt == 2
    assert len(run.errors) == 1
    assert len(ledger.lines(function="fail_once", kind="begin")) == 2


def test_the_start_of_a_longer_run_is_written_while_it_runs(start_engine: StartEngine, free: Path) -> None:
    start_engine()
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)})
    run = wait_for(lambda: Run.objects.filter(started_at__isnull=False).first(), 10)
    assert run.status == RunStatus.RUNNING
    free.touch()
    assert only_run().started_at == run.started_at


def test_the_worker_has_a_row_from_its_start_to_its_end(start_engine: StartEngine) -> None:
    engine = start_engine(queues=["mail"], concurrency=3)
    row = wait_for(lambda: Worker.objects.filter(pk=engine.id).first(), 10)
    assert (row.queues, row.concurrency, row.stopped_at) == (["mail"], 3, None)
    wait_for(lambda: Worker.objects.get().seen_at > row.seen_at, 10, "a sign of life")
    stop(engine)
    assert Worker.objects.get().stopped_at is not None


def test_more_runs_than_slots_all_run(start_engine: StartEngine) -> None:
    start_engine(concurrency=2)
    Task.bulk_run_once(flow_tasks.run_once_each, [{"n": n} for n in range(60)])
    wait_for_status(RunStatus.SUCCESSFUL, 60)
    runs = [line["run"] for line in ledger.lines(function="run_once_each")]
    assert sorted(runs) == sorted(Run.objects.values_list("pk", flat=True))
    assert not Task.objects.exists()


def test_a_burst_ends_by_itself_when_all_is_done(start_engine: StartEngine) -> None:
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(20)])
    engine = start_engine(concurrency=2, burst=True)
    assert engine.drained.wait(10)
    assert Run.objects.filter(status=RunStatus.SUCCESSFUL).count() == 20


def test_a_burst_includes_the_runs_that_waited_for_another_one(start_engine: StartEngine) -> None:
    task = task_with_callable(tasks.note, schedule="0 0 1 1 *", overlap="queue")
    task.save()
    task.run_asap()
    task.run_asap()
    assert start_engine(burst=True).drained.wait(10)
    assert [run.status for run in Run.objects.all()] == [RunStatus.SUCCESSFUL] * 2


# Rows that somebody holds ---------------------------------------------------------------------------------------------


@contextmanager
def held_rows() -> Iterator[None]:
    """Hold the locks of all runs, as a cancellation does that is about to commit."""
    with transaction.atomic():
        list(Run.objects.select_for_update())
        yield


def test_a_run_whose_row_somebody_held_when_the_worker_looked_is_not_left_to_the_next_poll(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_engine()
    wait_for(lambda: engine.pump.next_poll, 10, "the first look")
    with monkeypatch.context() as silence:
        silence.setattr(layer, "nudge", lambda queues: None)
        Task.run_once(tasks.note)
    with held_rows():
        engine.wake(Nudge().to_message())
        time.sleep(0.3)
    assert only_run(timeout=5).status == RunStatus.SUCCESSFUL


def test_a_burst_waits_for_a_run_whose_row_somebody_holds(start_engine: StartEngine) -> None:
    Task.run_once(tasks.note)
    with held_rows():
        engine = start_engine(burst=True)
        if connection.vendor != "sqlite":  # where a look at anything waits for the lock
            wait_for(lambda: engine.pump.next_poll, 10, "the first look")
        assert not engine.drained.wait(0.3)
    assert engine.drained.wait(5)
    assert Run.objects.get().status == RunStatus.SUCCESSFUL


def test_a_run_that_may_start_just_after_the_worker_looked_is_not_left_to_the_next_poll(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, looks = claims.claim, []

    def slow_claim(**options: Any) -> list[Run]:
        runs = claim(**options)
        if not looks:
            looks.append(runs)
            time.sleep(max(0.0, (start - timezone.now()).total_seconds()) + 0.01)
        return runs

    monkeypatch.setattr(claims, "claim", slow_claim)
    Task.run_once(tasks.note)
    start = timezone.now() + timedelta(seconds=2)
    Run.objects.update(run_after=start)
    start_engine()
    assert only_run(timeout=8).status == RunStatus.SUCCESSFUL
    assert looks == [[]]


# Leases, timeouts, cancelling -----------------------------------------------------------------------------------------


def test_leases_are_renewed_while_functions_run(start_engine: StartEngine, free: Path) -> None:
    start_engine()
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)})
    first = only_run(RunStatus.RUNNING).lease_expires_at
    wait_for(lambda: Run.objects.get().lease_expires_at > first, 10, "a renewal")
    free.touch()
    assert only_run().status == RunStatus.SUCCESSFUL


def test_blocking_code_in_an_async_function_does_not_stop_leases_and_ticks(
    start_engine: StartEngine, settings: Any
) -> None:
    settings.SISY = {"POLL_INTERVAL": 60, "LEASE": 0.6}
    engine = start_engine()
    Task.run_once(flow_tasks.ablock, {"seconds": 1.5})
    wait_for_begin(function="ablock")
    ticks = engine.ticker.ticks
    engine.request_tick()
    wait_for(lambda: engine.ticker.ticks > ticks, 1.2, "a tick")
    assert ledger.lines(function="ablock", kind="end") == []
    run = only_run()
    assert (run.status, run.crashes) == (RunStatus.SUCCESSFUL, 0)


@pytest.mark.parametrize("function", [flow_tasks.wait_for_file, flow_tasks.await_file])
def test_a_run_that_takes_too_long_is_stopped(start_engine: StartEngine, free: Path, function: Any) -> None:
    start_engine()
    Task.run_once(function, {"file": str(free)}, timeout=timedelta(seconds=0.4))
    run = only_run()
    assert run.status == RunStatus.FAILED
    assert "longer than its timeout" in run.reason
    assert run.duration < timedelta(seconds=5)


def test_a_function_that_ignores_its_timeout_is_fenced_off(start_engine: StartEngine) -> None:
    """Its run ends FAILED without it; what it does after that changes no row, and its process is to be recycled."""
    start_engine()
    Task.run_once(flow_tasks.stubborn, {"seconds": 4}, timeout=timedelta(seconds=0.3))
    run = only_run(timeout=5)
    assert ledger.lines(function="stubborn", kind="end") == []
    assert run.status == RunStatus.FAILED
    assert "longer than its timeout" in run.reason
    wait_for(lambda: ledger.lines(function="stubborn", kind="end"), 30, "its end, before another test has the ledger")


@pytest.mark.parametrize("function", [flow_tasks.wait_for_file, flow_tasks.await_file])
def test_a_running_run_can_be_cancelled_from_elsewhere(start_engine: StartEngine, free: Path, function: Any) -> None:
    start_engine()
    task = Task.run_once(function, {"file": str(free)})
    wait_for_begin()
    assert task.cancel() == 1
    assert only_run().status == RunStatus.CANCELLED


@pytest.mark.parametrize("function", [flow_tasks.wait_for_file, flow_tasks.await_file])
def test_a_message_tells_the_worker_to_cancel_without_a_poll(
    start_engine: StartEngine, free: Path, function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "_LOOK_FOR_CANCELLED_EVERY", 3600.0)
    start_engine()
    task = Task.run_once(function, {"file": str(free)})
    wait_for_begin()
    assert task.cancel() == 1
    run = only_run()
    assert (run.status, run.reason) == (RunStatus.CANCELLED, "cancelled")


def test_runs_of_dead_workers_are_rescued_without_a_tick(start_engine: StartEngine) -> None:
    Task.run_once(tasks.note)
    (dead,) = claims.claim(worker=uuid4(), queues=None, limit=1, lease=timedelta(seconds=-1), now=timezone.now())
    start_engine()
    run = only_run()
    assert run.pk == dead.pk
    assert (run.status, run.crashes) == (RunStatus.SUCCESSFUL, 1)


def test_a_run_left_to_others_is_not_kept_by_the_rest_of_its_batch(
    start_engine: StartEngine, free: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are claimed in one batch; the database can't be asked when the second one is about to start."""
    settings.SISY = {"POLL_INTERVAL": 0.2, "LEASE": 1}
    start, refused = claims.start, []

    def refuse_once(runs: list[Run], **options: Any) -> set[int]:
        if runs[0].label == "left" and not refused:
            refused.append(runs[0].pk)
            raise OperationalError("the server is gone")
        return start(runs, **options)

    monkeypatch.setattr(claims, "start", refuse_once)
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="long")
    Task.run_once(tasks.note, label="left", at_most_once=True)
    start_engine(concurrency=2)
    wait_for(lambda: refused, 10, "the refusal")
    wait_for(lambda: Run.objects.get(label="left").is_over, 8, "somebody to have the run that was left to others")
    assert Run.objects.get(label="left").status == RunStatus.SUCCESSFUL
    assert Run.objects.get(label="long").status == RunStatus.RUNNING
    free.touch()


# Ending well ----------------------------------------------------------------------------------------------------------


def test_stopping_hands_back_at_once_what_has_not_started(start_engine: StartEngine, free: Path) -> None:
    engine = start_engine(concurrency=1)
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(30)])  # quick ones: from now on it claims ahead
    wait_for_status(RunStatus.SUCCESSFUL, 30)
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, priority=50)
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(10)])
    wait_for_begin(function="wait_for_file")
    engine.stop()
    wait_for_status(RunStatus.READY, 10, timeout=2)
    assert not engine.drained.is_set()
    Task.run_once(tasks.note)
    free.touch()
    assert engine.drained.wait(5)
    assert Run.objects.filter(status=RunStatus.READY, claim=None).count() == 11
    assert Run.objects.get(label__endswith="wait_for_file").status == RunStatus.SUCCESSFUL


def test_what_a_claim_brings_after_the_order_to_stop_is_given_back(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claims.claim
    engine = start_engine()

    def claim_while_being_stopped(**options: Any) -> list[Run]:
        runs = claim(**options)
        if runs:
            engine.stop()
        return runs

    monkeypatch.setattr(claims, "claim", claim_while_being_stopped)
    Task.bulk_run_once(tasks.note, [{}, {}])
    assert engine.drained.wait(10)
    assert Run.objects.filter(status=RunStatus.READY, claim=None, crashes=0).count() == 2
    assert not ledger.lines()


def test_runs_claimed_ahead_are_given_back_when_a_slow_one_has_the_slot(start_engine: StartEngine, free: Path) -> None:
    engine = start_engine(concurrency=1)
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(30)])
    wait_for_status(RunStatus.SUCCESSFUL, 30)
    slow = Task.new(flow_tasks.wait_for_file, userdata={"file": str(free)}, schedule="@once", iterations=1)
    Task.objects.bulk_create([slow, *(Task.new(tasks.note, schedule="@once", iterations=1) for _ in range(10))])
    wait_for_begin(function="wait_for_file")
    wait_for_status(RunStatus.READY, 10, timeout=5)
    assert engine.pump.pool.in_hand == 1
    free.touch()
    wait_for_status(RunStatus.SUCCESSFUL, 41)


@pytest.mark.parametrize(("at_most_once", "status"), [(False, RunStatus.READY), (True, RunStatus.LOST)])
def test_abandoned_runs_follow_their_policy_at_once(
    start_engine: StartEngine, free: Path, at_most_once: bool, status: str
) -> None:
    engine = start_engine()
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, at_most_once=at_most_once)
    wait_for_begin()
    engine.stop()
    assert engine.abandon() == 1
    run = Run.objects.get()
    assert (run.status, run.claim) == (status, None)
    free.touch()
    assert engine.drained.wait(5)
    assert Run.objects.get().status == status, "the fenced worker has written over it"


def test_nothing_abandoned_is_nothing_to_say(start_engine: StartEngine) -> None:
    engine = start_engine()
    engine.stop()
    assert engine.drained.wait(5)
    assert engine.abandon() == 0


# Trouble --------------------------------------------------------------------------------------------------------------

OUTAGES = [
    OperationalError("the server is gone"),
    InterfaceError("connection is closed"),
    InternalError("cannot execute UPDATE in a read-only transaction"),  # PostgreSQL
]


@pytest.mark.parametrize("error", OUTAGES)
def test_an_end_that_could_not_be_written_is_written_later(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    finish, failures = endings.finish, [error]

    def refuse_once(*args: Any, **kwargs: Any) -> set[int]:
        if failures:
            raise failures.pop()
        return finish(*args, **kwargs)

    monkeypatch.setattr(endings, "finish", refuse_once)
    start_engine()
    Task.run_once(tasks.note)
    assert only_run().status == RunStatus.SUCCESSFUL
    assert len(ledger.lines(function="note", kind="begin")) == 1
    warnings = [record for record in caplog.records if record.name == "sisy.worker"]
    assert [record.levelname for record in warnings] == ["WARNING"]
    assert str(error) in warnings[0].getMessage()


def test_what_was_claimed_without_an_answer_is_handed_back_at_once(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else could tell that it was not called, and it would wait for the end of its lease."""
    claim, failures = claims.claim, [OperationalError("the server closed the connection unexpectedly")]

    def claim_and_lose_the_answer(**how: Any) -> list[Run]:
        runs = claim(**how)
        if runs and failures:
            raise failures.pop()
        return runs

    monkeypatch.setattr(claims, "claim", claim_and_lose_the_answer)
    start_engine()
    Task.run_once(tasks.note, label="often")
    Task.run_once(tasks.note, label="once", at_most_once=True)
    wait_for_status(RunStatus.SUCCESSFUL, 2)
    assert {run.crashes for run in Run.objects.all()} == {0}
    assert len(ledger.lines(kind="begin")) == 2
    assert failures == []


def test_an_end_whose_answer_was_lost_is_told_once(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the next thing that it asks the database is not answered either."""
    caplog.set_level(logging.INFO, logger="sisy.run")
    finish, written, losses = endings.finish, endings.announce_written, ["finish", "written"]

    def finish_without_an_answer(*args: Any, **how: Any) -> set[int]:
        if "finish" not in losses:
            return finish(*args, **how)
        losses.remove("finish")
        with transaction.atomic():
            finish(*args, **how)
            connection.run_on_commit.clear()
        raise OUTAGES[0]

    def unanswered(outcomes: Any) -> list[Run]:
        if "written" in losses:
            losses.remove("written")
            raise OUTAGES[0]
        return written(outcomes)

    monkeypatch.setattr(endings, "finish", finish_without_an_answer)
    monkeypatch.setattr(endings, "announce_written", unanswered)
    start_engine()
    Task.run_once(tasks.note)
    wait_for(lambda: " SUCCESSFUL in " in caplog.text, 10, "the log line")
    Task.run_once(tasks.note)
    wait_for_status(RunStatus.SUCCESSFUL, 2)
    wait_for(lambda: caplog.text.count(" SUCCESSFUL in ") >= 2, 10, "the second one's")
    assert caplog.text.count(" SUCCESSFUL in ") == 2


def test_a_worker_whose_row_was_written_without_an_answer_works(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, failures = Worker.save, [OUTAGES[0]]

    def save_and_lose_the_answer(self: Worker, **how: Any) -> None:
        save(self, **how)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(Worker, "save", save_and_lose_the_answer)
    start_engine()
    Task.run_once(tasks.note)
    assert only_run().status == RunStatus.SUCCESSFUL
    assert Worker.objects.count() == 1


@pytest.mark.parametrize("error", OUTAGES)
def test_a_run_that_could_not_be_started_is_handed_back_at_once(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    start, failures = claims.start, [error]

    def start_and_lose_the_answer(*args: Any, **how: Any) -> set[int]:
        started = start(*args, **how)
        if failures:
            raise failures.pop()
        return started

    monkeypatch.setattr(claims, "start", start_and_lose_the_answer)
    start_engine()
    Task.run_once(tasks.note, at_most_once=True)
    assert only_run().status == RunStatus.SUCCESSFUL
    assert Run.objects.get().crashes == 0
    assert len(ledger.lines(kind="begin")) == 1


def test_an_outcome_that_can_not_be_stored_fails_its_own_run_only(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = endings.finish

    def refuse_poison(outcomes: Any, **kwargs: Any) -> set[int]:
        if any(outcome.run.result == "poison" for outcome in outcomes):
            raise DataError("can't store poison")
        return finish(outcomes, **kwargs)

    monkeypatch.setattr(endings, "finish", refuse_poison)
    Task.bulk_run_once(tasks.returns, [{"result": result} for result in ("one", "poison", "two")])
    start_engine(concurrency=3)
    wait_for(lambda: not Run.objects.active().exists(), 10)
    ended = {run.userdata["result"]: run for run in Run.objects.all()}
    assert [ended[key].status for key in ("one", "two")] == [RunStatus.SUCCESSFUL] * 2
    assert ended["poison"].status == RunStatus.FAILED
    assert "can't store poison" in ended["poison"].reason


@pytest.mark.parametrize(
    ("function", "status"),
    [
        (flow_tasks.fail_with_surrogate, RunStatus.FAILED),
        (flow_tasks.skip_with_surrogate, RunStatus.SKIPPED),
        (flow_tasks.fail_with_nul, RunStatus.FAILED),
    ],
)
def test_a_text_that_no_database_takes_costs_neither_the_worker_nor_the_traceback(
    start_engine: StartEngine, deaths: threading.Semaphore, function: Any, status: str
) -> None:
    start_engine()
    Task.run_once(function)
    wait_for(lambda: deaths.acquire(blocking=False) or Run.objects.get().is_over, 10, "the end of the run")
    run = Run.objects.get()
    assert run.status == status
    assert "caf" in run.reason or "embedded" in run.reason
    if status == RunStatus.FAILED:
        assert function.__name__ in run.traceback
    Task.run_once(tasks.note)
    wait_for_status(RunStatus.SUCCESSFUL, 1)


def test_the_keeper_outlives_a_database_that_is_away(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, deaths: threading.Semaphore
) -> None:
    renew, errors = claims.renew, list(OUTAGES)

    def refuse_some(*args: Any, **kwargs: Any) -> dict[int, bool]:
        if errors:
            raise errors.pop()
        return renew(*args, **kwargs)

    monkeypatch.setattr(claims, "renew", refuse_some)
    engine = start_engine()
    wait_for(lambda: not errors, 10, "the errors")
    assert not deaths.acquire(timeout=0.5)
    assert engine.threads["sisy-leases"].is_alive()


def test_the_ticker_outlives_a_database_that_is_away(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, deaths: threading.Semaphore
) -> None:
    tick, errors = scheduler.tick, list(OUTAGES)

    def refuse_once(now: Any) -> scheduler.Ticked:
        if errors:
            raise errors.pop()
        return tick(now)

    monkeypatch.setattr(scheduler, "tick", refuse_once)
    engine = start_engine()
    engine.request_tick()
    wait_for(lambda: engine.ticker.ticks, 20, "a tick")
    assert not deaths.acquire(blocking=False)


def die(*_: Any, **__: Any) -> None:
    raise RuntimeError("nobody has thought of this")


@pytest.mark.parametrize(
    ("loop", "owner", "name"),
    [("sisy-pump", claims, "claim"), ("sisy-leases", claims, "renew"), ("sisy-ticks", scheduler, "tick")],
)
def test_a_loop_that_dies_is_said_loudly_and_takes_the_process_down(
    start_engine: StartEngine, deaths: threading.Semaphore, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, loop: str, owner: Any, name: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(owner, name, die)
    engine = start_engine()
    engine.request_tick()
    assert deaths.acquire(timeout=10)
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert [loop in record.getMessage() for record in critical] == [True]
    assert "nobody has thought of this" in caplog.text
    monkeypatch.undo()


def test_unless_told_otherwise_a_death_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(engine_module.os, "_exit", codes.append)
    monkeypatch.setattr(engine_module.logging, "shutdown", lambda: None)
    Engine()._on_death()
    assert codes == [70]


def test_a_claim_that_fails_half_way_leaves_nothing_claimed(
    start_engine: StartEngine, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a burst that ends as if there were nothing, nor a run that waits for the end of a lease nobody holds."""
    settings.SISY = {"POLL_INTERVAL": 60, "LEASE": 60}
    attach, errors = claims._attach_tasks, [OperationalError("the server is gone")]

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if errors:
            raise errors.pop()
        return attach(*args, **kwargs)

    monkeypatch.setattr(claims, "can_claim_at_once", lambda using: False)
    monkeypatch.setattr(claims, "_attach_tasks", refuse)
    Task.run_once(tasks.note)
    engine = start_engine(burst=True)
    assert engine.drained.wait(10)
    assert not errors
    assert Run.objects.get().status == RunStatus.SUCCESSFUL


def test_a_run_that_a_function_creates_is_run_at_once(start_engine: StartEngine) -> None:
    start_engine(concurrency=1)
    Task.run_once(flow_tasks.create_another, label="first")
    wait_for_status(RunStatus.SUCCESSFUL, 2, timeout=10)
    assert [run.label for run in Run.objects.order_by("pk")] == ["first", "second"]


# Ticks ----------------------------------------------------------------------------------------------------------------


def test_several_requests_at_once_are_one_tick(start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    tick, ticked, proceed = scheduler.tick, [], threading.Event()

    def slow_tick(now: Any) -> scheduler.Ticked:
        ticked.append(now)
        proceed.wait(10)
        return tick(now)

    monkeypatch.setattr(scheduler, "tick", slow_tick)
    engine = start_engine()
    engine.request_tick()
    wait_for(lambda: ticked, 10)
    for _ in range(20):
        engine.request_tick()
    proceed.set()
    wait_for(lambda: engine.ticker.ticks == 2, 10, "one more tick")
    time.sleep(0.2)  # time in which a third one would come
    assert engine.ticker.ticks == 2


def test_slots_before_the_next_boundary_are_ticked_without_being_told(start_engine: StartEngine) -> None:
    engine = start_engine()
    task_with_callable(tasks.note, schedule="* * * * * *").save()
    wait_for_status(RunStatus.SUCCESSFUL, 3)
    late = [run.started_at - run.slot for run in Run.objects.filter(slot__isnull=False)]
    assert max(late) < timedelta(seconds=1)
    assert engine.ticker.ticks >= 3


def test_a_signal_of_this_process_s_own_wakes_the_ticker(start_engine: StartEngine) -> None:
    engine = start_engine()
    layer.kick()
    wait_for(lambda: engine.ticker.ticks, 10, "a tick")


def test_a_drained_engine_hears_no_bell(start_engine: StartEngine) -> None:
    engine = start_engine()
    stop(engine)
    assert engine.hear not in layer._bells
    layer.nudge({"default"})
    assert not engine.pump._more or engine.drained.is_set()


def test_the_process_s_engine_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_engine", None)
    made = engine_module.process_engine()
    assert engine_module.process_engine() is made
    other = Engine()
    engine_module.use_engine(other)
    assert engine_module.process_engine() is other
