"""endings: how runs end, in batches; what is cancelled, released, used up and pruned with them."""

import uuid

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from sisy import scheduler, signals
from sisy.errors import Cancelled
from sisy.models import Run, RunStatus, Task
from sisy.testing import drain
from sisy.transitions import claims, endings
from sisy.transitions.returns import rescue
from tests.project.shop import chores
from tests.project.shop.rows import (
    NOON,
    at,
    claim,
    end,
    every_minute,
    expire,
    outcome,
    slots,
    statuses,
    stored,
    tick_and_claim,
)

pytestmark = pytest.mark.django_db


def ready_runs(count, **columns):
    for number in range(count):
        every_minute(label=f"{number}", **columns)
    scheduler.tick(NOON)


def ended_runs(count, *, task=None, minutes=0.0):
    """Ended runs, written straight into the table."""
    return Run.objects.bulk_create(
        Run(
            task=task, label="ended", callable="x", status="SUCCESSFUL", enqueued_at=at(minutes), run_after=at(minutes),
            started_at=at(minutes), finished_at=at(minutes),
        )
        for _ in range(count)
    )  # fmt: skip


# -- finish ----------------------------------------------------------------------------------------


def test_a_batch_of_outcomes_is_written_together(django_assert_max_num_queries):
    ready_runs(20, max_attempts=2)
    runs = claim(NOON)
    outcomes = [outcome(run, now=at(1), result=run.pk) for run in runs[:10]]
    outcomes += [outcome(run, now=at(1), error=RuntimeError("no")) for run in runs[10:15]]
    outcomes += [outcome(run, now=at(1), error=Cancelled("stop")) for run in runs[15:]]
    with django_assert_max_num_queries(15):
        assert endings.finish(outcomes, now=at(1)) == {run.pk for run in runs}
    assert [statuses().count(state) for state in ("SUCCESSFUL", "READY", "CANCELLED")] == [10, 5, 5]
    assert all(stored(run).result == run.pk for run in runs[:10])
    assert not Run.objects.filter(claim__isnull=False).exists()


def test_finishing_nothing_is_nothing():
    assert endings.finish([], now=NOON) == set()


def test_finishing_the_same_outcome_twice_writes_it_once():
    """The answer to the first COMMIT may get lost."""
    every_minute()
    (run,) = tick_and_claim(NOON)
    ended = outcome(run, result=1)
    assert endings.finish([ended], now=NOON) == {run.pk}
    before = Run.objects.values().get()
    assert endings.finish([ended], now=at(1)) == set()
    assert Run.objects.values().get() == before


def test_an_end_that_was_committed_and_whose_answer_was_lost_is_told_once(caplog, django_capture_on_commit_callbacks):
    every_minute(), every_minute(max_attempts=2), every_minute()
    caplog.set_level("INFO", logger="sisy.run")
    succeeded, retried, taken = tick_and_claim(NOON)
    outcomes = [outcome(succeeded), outcome(retried, error=RuntimeError("no")), outcome(taken)]
    expire(taken)
    rescue(now=NOON, max_crashes=3)
    assert endings.finish(outcomes, now=NOON) == {succeeded.pk, retried.pk}  # the observers never hear of it
    with django_capture_on_commit_callbacks(execute=True):
        assert endings.finish(outcomes, now=at(1)) == set()
        assert endings.announce_written(outcomes) == [succeeded, retried]
    assert [message.partition(" of ")[0] for message in caplog.messages] == [f"Run {retried.pk}", f"Run {succeeded.pk}"]


def test_a_last_run_that_is_written_at_the_second_try_takes_its_task_along(monkeypatch):
    Task.run_once(chores.does, {"n": 1})
    (run,) = claim(timezone.now())
    delete, failures = endings._delete_tasks, [OperationalError("deadlock detected")]

    def fail_once(tasks):
        if failures:
            raise failures.pop()
        delete(tasks)

    monkeypatch.setattr(endings, "_delete_tasks", fail_once)
    ended = outcome(run)
    with pytest.raises(OperationalError), transaction.atomic():
        endings.finish([ended], now=NOON)
    assert endings.finish([ended], now=NOON) == {run.pk}
    assert not Task.objects.exists()
    assert Run.objects.get().userdata == {"n": 1}


def test_an_outcome_with_a_token_that_nobody_drew_is_not_written():
    every_minute()
    (run,) = tick_and_claim(NOON)
    run.claim = uuid.uuid4()
    assert endings.finish([outcome(run)], now=NOON) == set()
    assert statuses() == ["RUNNING"]


def test_a_finished_run_keeps_what_its_worker_does_not_know():
    """Crashes, the request to cancel and the slot are not the worker's to write."""
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    task.cancel()
    end(run, result=1)
    row = stored(run)
    assert (row.slot, row.crashes, row.cancel_requested_at is not None) == (NOON, 0, True)
    assert row.worker == run.worker


def test_what_was_changed_on_the_run_by_a_function_is_not_written():
    every_minute()
    (run,) = tick_and_claim(NOON)
    run.label, run.slot, run.queue = "spoiled", None, "spoiled"
    end(run)
    row = stored(run)
    assert (row.label, row.slot, row.queue) == ("task", NOON, "default")


def test_a_run_whose_task_was_deleted_meanwhile_ends_and_keeps_its_label():
    task = every_minute(label="deleted")
    (run,) = tick_and_claim(NOON)
    task.delete()
    assert end(run, result=1)
    row = stored(run)
    assert (row.status, row.task_id, row.label, row.result) == ("SUCCESSFUL", None, "deleted", 1)


def test_the_last_run_to_end_deletes_the_task():
    every_minute(iterations=2, overlap="allow", userdata={"n": 1})
    (first,) = tick_and_claim(at(0))
    (second,) = tick_and_claim(at(1))
    end(second, now=at(2))
    assert Task.objects.count() == 1
    end(first, now=at(3))
    assert Task.objects.count() == 0
    assert set(Run.objects.values_list("task", "status")) == {(None, "SUCCESSFUL")}
    assert stored(first).userdata == {"n": 1}


def test_two_last_runs_that_end_in_one_batch_delete_the_task():
    every_minute(iterations=2, overlap="allow", userdata={"n": 1})
    runs = [*tick_and_claim(at(0)), *tick_and_claim(at(1))]
    assert len(endings.finish([outcome(run, now=at(2)) for run in runs], now=at(2))) == 2
    assert Task.objects.count() == 0
    assert set(Run.objects.values_list("task", "status")) == {(None, "SUCCESSFUL")}


def test_a_last_run_whose_claim_was_taken_does_not_delete_the_task():
    every_minute(iterations=1)
    (run,) = tick_and_claim(NOON)
    expire(run)
    scheduler.tick(at(0.5))
    assert not end(run, now=at(1))
    assert (Task.objects.count(), statuses()) == (1, ["READY"])


def test_a_paused_task_with_slots_left_is_not_deleted_when_its_run_ends():
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    task.pause()
    end(run)
    assert Task.objects.count() == 1


def test_a_deleted_task_is_announced(django_capture_on_commit_callbacks):
    gone = []

    def receiver(task, **_):
        gone.append((task.label, task.userdata))

    signals.task_exhausted.connect(receiver)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            every_minute(label="once", iterations=1, userdata={"n": 1})
            end(*tick_and_claim(NOON))
    finally:
        signals.task_exhausted.disconnect(receiver)
    assert gone == [("once", {"n": 1})]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, ["run_finished"]),
        (ValueError("no"), ["run_finished", "run_failed"]),
        (Cancelled("stop"), ["run_finished"]),
    ],
)
def test_each_end_is_told_by_the_signals_for_it(error, told, django_capture_on_commit_callbacks):
    heard = []
    names = ("run_finished", "run_failed", "run_retry_scheduled", "run_missed")
    receivers = {name: (lambda run, name=name, **_: heard.append((name, run.status))) for name in names}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            every_minute()
            end(*tick_and_claim(NOON), error=error)
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    assert [name for name, _ in heard] == told
    assert {status for _, status in heard} == set(statuses())


# -- cancel ----------------------------------------------------------------------------------------


def test_cancelling_a_ready_run_ends_it_at_once():
    every_minute()
    scheduler.tick(NOON)
    assert endings.cancel([Run.objects.get()], now=at(1), reason="not today") == 1
    run = Run.objects.get()
    assert (run.status, run.reason, run.finished_at) == ("CANCELLED", "not today", at(1))


def test_cancelling_a_running_run_only_asks():
    every_minute()
    (run,) = tick_and_claim(NOON)
    assert endings.cancel([run], now=at(1)) == 1
    row = stored(run)
    assert (row.status, row.cancel_requested_at, row.finished_at) == ("RUNNING", at(1), None)
    assert end(run, now=at(1), error=Cancelled("stop"))


def test_the_first_request_to_cancel_is_the_one_that_counts():
    every_minute()
    (run,) = tick_and_claim(NOON)
    endings.cancel([run], now=at(1), reason="first")
    endings.cancel([run], now=at(2), reason="second")
    assert (stored(run).cancel_requested_at, stored(run).reason) == (at(1), "first")


@pytest.mark.parametrize("status", [status for status in RunStatus if status not in ("READY", "RUNNING")])
def test_a_run_that_is_over_stays_as_it_is(status):
    every_minute()
    scheduler.tick(NOON)
    Run.objects.update(status=status, finished_at=NOON, reason="before")
    before = Run.objects.values().get()
    assert endings.cancel([Run.objects.get()], now=at(1)) == 0
    assert Run.objects.values().get() == before


def test_cancelling_a_stale_instance_looks_at_the_row():
    every_minute()
    scheduler.tick(NOON)
    stale = Run.objects.get()
    claim(NOON)
    assert endings.cancel([stale], now=at(1)) == 1
    assert (stored(stale).status, stored(stale).cancel_requested_at) == ("RUNNING", at(1))


def test_cancelling_the_last_run_of_a_used_up_task_deletes_it():
    every_minute(iterations=1, userdata={"n": 1})
    scheduler.tick(NOON)
    endings.cancel([Run.objects.get()], now=at(1))
    run = Run.objects.get()
    assert (run.status, run.task_id, run.userdata) == ("CANCELLED", None, {"n": 1})
    assert not Task.objects.exists()


def test_cancelling_a_task_cancels_waiting_runs_too():
    task = every_minute(overlap="queue")
    (running,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    assert endings.cancel_task(task, now=at(1.5)) == 2
    assert statuses() == ["RUNNING", "CANCELLED"]
    end(running, now=at(2), error=Cancelled("stop"))
    assert claim(at(2)) == []


def test_cancelling_runs_of_several_tasks_at_once():
    ready_runs(3)
    assert endings.cancel(list(Run.objects.all()), now=at(1)) == 3
    assert statuses() == ["CANCELLED"] * 3


def test_cancelling_nothing_is_nothing():
    assert endings.cancel([], now=NOON) == 0


# -- waiting runs ----------------------------------------------------------------------------------


def test_the_safety_net_releases_a_waiting_run_whose_predecessor_is_over():
    every_minute(overlap="queue")
    (run,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    assert endings.release_waiting(now=at(1.5)) == 0
    Run.objects.filter(pk=run.pk).update(
        status="SUCCESSFUL", claim=None, lease_expires_at=None, finished_at=at(1.5)
    )  # its worker's finish, without what follows from it
    assert endings.release_waiting(now=at(2)) == 1
    assert [run.slot for run in claim(at(2))] == [at(1)]


def test_only_the_first_of_several_waiting_runs_is_released():
    every_minute(misfire="all")
    scheduler.tick(at(3))
    (first,) = claim(at(3))
    assert first.slot == NOON
    end(first, now=at(3))
    (second,) = claim(at(3))
    assert second.slot == at(1)
    assert slots(status="READY", run_after=None) == [2, 3]


def test_a_released_run_starts_from_the_end_of_the_one_before():
    every_minute(overlap="queue")
    (run,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    end(run, now=at(1.25))
    assert Run.objects.get(slot=at(1)).run_after == at(1.25)


def test_a_run_that_waits_for_a_run_of_a_deleted_task_comes_to_an_end_too():
    task = every_minute(overlap="queue")
    (running,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    task.delete()
    end(running, now=at(1.5))
    scheduler.tick(at(2))
    drain(at(2))  # a worker may be the one that ends it
    waited = Run.objects.get(slot=at(1))
    assert (waited.status, bool(waited.reason)) == ("CANCELLED", True)


# -- used up ---------------------------------------------------------------------------------------


def test_the_safety_net_deletes_what_is_used_up_and_nothing_else():
    every_minute(label="alive")
    every_minute(label="paused", enabled=False)
    with_a_run = every_minute(label="running", iterations=1)
    tick_and_claim(NOON)
    every_minute(label="used up")
    Task.objects.filter(label="used up").update(next_run=None)
    assert endings.delete_used_up(now=NOON) == 1
    assert set(Task.objects.values_list("label", flat=True)) == {"alive", "paused", "running"}
    assert stored(with_a_run).next_run is None


def test_the_safety_net_takes_no_more_than_its_limit():
    for number in range(5):
        every_minute(label=f"{number}")
    Task.objects.all().update(next_run=None)
    assert [endings.delete_used_up(now=NOON, limit=2) for _ in range(4)] == [2, 2, 1, 0]


# -- pruning ---------------------------------------------------------------------------------------


def test_old_ended_runs_are_deleted_oldest_first_and_no_more_than_the_limit():
    ended_runs(3, minutes=0)
    ended_runs(2, minutes=10)
    assert endings.prune_old(before=at(5), limit=2) == 2
    assert endings.prune_old(before=at(5), limit=2) == 1
    assert endings.prune_old(before=at(5), limit=2) == 0
    assert Run.objects.count() == 2


def test_a_run_that_is_not_over_is_never_pruned():
    every_minute(overlap="allow")
    (run,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    ended_runs(1)
    assert endings.prune_old(before=at(10_000), limit=100) == 1
    assert endings.prune_task(run.task_id, keep=0, limit=100) == 0
    assert statuses() == ["RUNNING", "READY"]


def test_the_newest_runs_of_a_task_are_kept():
    task, other = every_minute(chores.nothing), every_minute(chores.nothing)
    runs = ended_runs(5, task=task)
    ended_runs(5, task=other)
    assert endings.prune_task(task.pk, keep=2, limit=2) == 2
    assert endings.prune_task(task.pk, keep=2, limit=2) == 1
    assert list(task.runs.order_by("pk")) == runs[3:]
    assert other.runs.count() == 5


def test_pruning_leaves_no_slot_to_be_repeated():
    every_minute()
    for minutes in range(3):
        end(*tick_and_claim(at(minutes)), now=at(minutes))
    assert endings.prune_old(before=at(2.5), limit=10) == 3
    scheduler.tick(at(2))
    assert slots() == []


def test_a_claim_of_nothing_is_a_claim_of_nobody():
    every_minute()
    (run,) = tick_and_claim(NOON)
    run.claim = None
    assert endings.finish([outcome(run)], now=NOON) == set()
    assert claims.start([run], now=NOON) == set()
    assert statuses() == ["RUNNING"]
