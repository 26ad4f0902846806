"""SIGTERM: nothing new is claimed, what has not started is handed back, what runs may end; and what if it does not."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sisy.models import Run, RunStatus, Task, Worker
from sisy.worker.listener import EXIT_ABANDONED
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

POLLING = {"POLL_INTERVAL": 0.2, "LEASE": 60}  # so long a lease that only a handing on can be quick


def wait_for_begin(count: int = 1, **wanted: str) -> None:
    wait_for(lambda: len(ledger.lines(kind="begin", **wanted)) >= count, what=f"{count} begins")


def give_short_average(manage: Callable[..., Process]) -> Process:
    """Start a worker with one slot that has seen only quick runs, so that it claims ahead."""
    worker = manage("sisy_worker", "--concurrency", "1", layer="none", settings=POLLING)
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(30)], label="quick")
    wait_for_ends(30, label="quick")
    wait_for(lambda: not Run.objects.active().exists(), what="the last of the quick runs")
    return worker


def test_what_is_running_ends_and_nothing_new_is_claimed(manage: Callable[..., Process]) -> None:
    """Their leases, shorter than they take, are renewed to the end."""
    worker = manage("sisy_worker", layer="none", settings={**POLLING, "LEASE": 1})
    wait_for_workers(worker)
    Task.run_once(tasks.slow, {"seconds": 2})
    Task.run_once(tasks.aslow, {"seconds": 2})
    wait_for_begin(2)
    worker.send(signal.SIGTERM)
    worker.wait_for_output("SIGTERM: claiming nothing more")
    Task.run_once(tasks.note, label="too late")
    assert worker.wait() == 0
    assert len(ledger.lines(kind="end", function="slow")) == len(ledger.lines(kind="end", function="aslow")) == 1
    ended = Run.objects.exclude(label="too late")
    assert {(run.status, run.crashes) for run in ended} == {(RunStatus.SUCCESSFUL, 0)}
    assert Run.objects.get(label="too late").status == RunStatus.READY
    assert Worker.objects.get().stopped_at is not None


def test_what_has_not_started_is_handed_back_at_once(manage: Callable[..., Process], tmp_path: Path) -> None:
    worker = give_short_average(manage)
    free = tmp_path / "free"
    once = {"schedule": "@once", "iterations": 1}
    slow = Task.new(flow_tasks.wait_for_file, userdata={"file": str(free)}, label="slow", **once)
    Task.objects.bulk_create([slow, *(Task.new(tasks.note, label="waiting", **once) for _ in range(5))])
    wait_for_begin(label="slow")
    worker.send(signal.SIGTERM)
    wait_for(lambda: Run.objects.filter(label="waiting", status=RunStatus.READY).count() == 5, 5, "the handing back")
    assert worker.is_alive
    free.touch()
    assert worker.wait() == 0
    assert Run.objects.get(label="slow").status == RunStatus.SUCCESSFUL
    assert ledger.lines(label="waiting") == []


def test_what_does_not_end_in_time_is_left_to_its_policy_at_once(
    manage: Callable[..., Process], tmp_path: Path
) -> None:
    free = tmp_path / "free"
    worker = manage("sisy_worker", layer="none", settings={**POLLING, "DRAIN_TIMEOUT": 0.5})
    wait_for_workers(worker)
    for function in (flow_tasks.wait_for_file, flow_tasks.await_file):
        Task.run_once(function, {"file": str(free)}, label="again")
        Task.run_once(function, {"file": str(free)}, label="never again", at_most_once=True)
    wait_for_begin(4)
    began = time.monotonic()
    assert worker.stop(signal.SIGTERM) == EXIT_ABANDONED
    assert time.monotonic() - began < 10
    assert "4 runs did not end in time" in worker.output
    other = manage("sisy_worker", layer="none", settings=POLLING)
    wait_for_begin(4, label="again")
    free.touch()
    wait_for(lambda: not Run.objects.active().exists(), what="the end of all runs")
    assert other.stop() == 0
    ends = Run.objects.values_list("label", "status")
    assert sorted(ends) == [("again", RunStatus.SUCCESSFUL)] * 2 + [("never again", RunStatus.LOST)] * 2
    assert len(ledger.lines(kind="begin", label="never again")) == 2


def test_a_second_signal_ends_it_now(manage: Callable[..., Process], tmp_path: Path) -> None:
    worker = manage("sisy_worker", layer="none", settings=POLLING)
    wait_for_workers(worker)
    Task.run_once(flow_tasks.wait_for_file, {"file": str(tmp_path / "never")})
    wait_for_begin()
    worker.send(signal.SIGTERM)
    worker.wait_for_output("claiming nothing more")
    time.sleep(0.7)  # two at once would count as one
    assert worker.stop(signal.SIGTERM, timeout=10) == EXIT_ABANDONED
    assert Run.objects.get().status == RunStatus.READY


def test_the_same_signal_twice_at_once_counts_as_one(manage: Callable[..., Process]) -> None:
    worker = manage("sisy_worker", layer="none", settings=POLLING)
    wait_for_workers(worker)
    Task.run_once(tasks.slow, {"seconds": 1.5})
    wait_for_begin()
    worker.send(signal.SIGTERM)
    time.sleep(0.05)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert Run.objects.get().status == RunStatus.SUCCESSFUL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_all_in_one_process_drains_too(manage: Callable[..., Process], number: signal.Signals) -> None:
    sisy = manage("sisy", layer="none", settings=POLLING)
    wait_for_workers(sisy)
    Task.run_once(tasks.slow, {"seconds": 0.8})
    wait_for_begin()
    assert sisy.stop(number) == 0
    assert Run.objects.get().status == RunStatus.SUCCESSFUL
