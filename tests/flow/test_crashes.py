"""Workers that are killed or stopped in the middle: their runs go on elsewhere or are LOST, as their task says."""

import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.flow import tasks as flow_tasks
from tests.flow.freezing import freeze
from tests.flow.processes import Process, wait_for, wait_for_workers
from tests.project.shop import ledger, tasks

LEASE = 2
SETTINGS = {"POLL_INTERVAL": 0.3, "LEASE": LEASE}
IN_TIME = LEASE + 1 + 5  # lease, tick, and patience with a busy machine


def wait_for_begin(count: int = 1, timeout: float = 30, **wanted: str) -> None:
    wait_for(lambda: len(ledger.lines(kind="begin", **wanted)) >= count, timeout, f"{count} begins of {wanted}")


def wait_for_end(label: str, timeout: float = IN_TIME) -> Run:
    return wait_for(lambda: next((run for run in Run.objects.filter(label=label) if run.is_over), None), timeout, label)


def test_runs_of_a_killed_worker_follow_their_policy(manage: Callable[..., Process], tmp_path: Path) -> None:
    free = tmp_path / "free"
    victim = manage("sisy_worker", layer="none", settings=SETTINGS)
    wait_for_workers(victim)
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="again")
    Task.run_once(flow_tasks.await_file, {"file": str(free)}, label="again, async")
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="never again", at_most_once=True)
    scheduled = task_with_callable(tasks.note, label="scheduled", schedule="0 0 1 1 *", at_most_once=True)
    scheduled.save()
    wait_for_begin(3)
    other = manage("sisy_worker", layer="none", settings=SETTINGS)
    wait_for_workers(other)
    victim.kill()
    free.touch()
    assert wait_for_end("again").status == RunStatus.SUCCESSFUL
    assert wait_for_end("again, async").status == RunStatus.SUCCESSFUL
    lost = wait_for_end("never again")
    assert (lost.status, lost.crashes) == (RunStatus.LOST, 1)
    assert "worker died" in lost.reason
    scheduled.run_asap()
    assert wait_for_end("scheduled").status == RunStatus.SUCCESSFUL
    assert other.stop() == 0
    for label, begins in {"again": 2, "again, async": 2, "never again": 1}.items():
        lines = ledger.lines(kind="begin", label=label)
        assert [line["pid"] for line in lines] == [victim.pid, other.pid][:begins]
    assert "taken from a worker that died" in other.output
    assert "of never again LOST" in other.output


def test_what_a_killed_worker_had_claimed_and_not_started_is_always_handed_out_again(
    manage: Callable[..., Process],
) -> None:
    victim = manage("sisy_worker", "--concurrency", "1", layer="none", settings=SETTINGS)
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(30)], label="quick")  # from now on it claims ahead
    wait_for(lambda: Run.objects.filter(status=RunStatus.SUCCESSFUL).count() == 30, what="the quick runs")
    once = {"schedule": "@once", "iterations": 1, "at_most_once": True}
    killer = Task.new(flow_tasks.kill_worker, label="killer", **once)
    Task.objects.bulk_create([killer, *(Task.new(tasks.note, label="claimed", **once) for _ in range(5))])
    assert victim.wait() == -signal.SIGKILL
    claimed = Run.objects.filter(label="claimed", status=RunStatus.RUNNING).count()
    other = manage("sisy_worker", layer="none", settings=SETTINGS)
    wait_for(lambda: not Run.objects.active().exists(), what="the end of all runs")
    assert other.stop() == 0
    assert claimed  # how many a worker claims ahead depends on how fast the machine is
    assert {run.status for run in Run.objects.filter(label="claimed")} == {RunStatus.SUCCESSFUL}
    assert len(ledger.lines(kind="begin", label="claimed")) == 5
    assert Run.objects.get(label="killer").status == RunStatus.LOST


def test_a_run_that_kills_its_workers_is_given_up(manage: Callable[..., Process]) -> None:
    settings = {"POLL_INTERVAL": 0.3, "LEASE": 1, "MAX_CRASHES": 1}
    parent = manage("sisy_worker", "--processes", "2", "--concurrency", "1", layer="none", settings=settings)
    Task.run_once(flow_tasks.kill_worker, label="poison")
    Task.run_once(tasks.slow, {"seconds": 0.2}, label="bystander")
    poison = wait_for_end("poison", timeout=30)
    assert (poison.status, poison.crashes) == (RunStatus.LOST, 2)
    assert wait_for_end("bystander", timeout=30).status == RunStatus.SUCCESSFUL
    assert len(ledger.lines(kind="begin", label="poison")) == 2
    assert parent.is_alive
    assert parent.stop() == 0


def test_a_worker_that_wakes_up_after_its_lease_writes_over_nothing(
    manage: Callable[..., Process], tmp_path: Path
) -> None:
    free = tmp_path / "free"
    sleeper = manage("sisy_worker", layer="none", settings={**SETTINGS, "LEASE": 1})
    wait_for_workers(sleeper)
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="slept through")
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="lost", at_most_once=True)
    wait_for_begin(2)
    freeze(sleeper)
    other = manage("sisy_worker", layer="none", settings={**SETTINGS, "LEASE": 1})
    wait_for(lambda: Run.objects.get(label="lost").status == RunStatus.LOST, what="the end of the lease")
    wait_for_begin(2, label="slept through")
    free.touch()
    ended = wait_for_end("slept through")
    sleeper.send(signal.SIGCONT)
    wait_for(lambda: len(ledger.lines(kind="end", label="slept through")) == 2, what="the sleeper's end of it")
    assert [sleeper.stop(), other.stop()] == [0, 0]
    after = Run.objects.get(label="slept through")
    assert (after.status, after.finished_at, after.crashes) == (RunStatus.SUCCESSFUL, ended.finished_at, 1)
    assert Run.objects.get(label="lost").status == RunStatus.LOST


def test_slots_that_passed_while_no_heartbeat_ticked_are_one_run_and_one_row(manage: Callable[..., Process]) -> None:
    task_with_callable(tasks.note, label="scheduled", schedule="* * * * * *").save()
    wait_for(lambda: Task.objects.due().exists(), what="the first slot")
    time.sleep(3)  # slots pass
    worker = manage("sisy", "--interval", "1", layer="none", settings=SETTINGS)
    wait_for(lambda: Run.objects.filter(status=RunStatus.SUCCESSFUL).count() >= 2, what="two runs")
    assert worker.stop() == 0
    missed = Run.objects.filter(status=RunStatus.MISSED).order_by("slot").first()
    first = Run.objects.filter(status=RunStatus.SUCCESSFUL).order_by("slot").first()
    assert missed.missed_count >= 3
    assert first.slot - missed.slot == timedelta(seconds=1)
    assert missed.slot - missed.missed_since == timedelta(seconds=missed.missed_count - 1)
