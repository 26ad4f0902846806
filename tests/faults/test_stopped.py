"""Processes that stand still and go on: a heartbeat, all in one on a laptop, a worker with a wrong clock."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.faults.stage import EACH_SECOND, LONG, QUICK, Settled, run_of, wait_for_begin, wait_for_end_of
from tests.flow import tasks as flow_tasks
from tests.flow.freezing import freeze
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks


def runs_since(slot: object) -> list[str]:
    """Return the states of the runs for later slots, oldest first."""
    return list(Run.objects.filter(label="scheduled", slot__gt=slot).order_by("slot").values_list("status", flat=True))


def test_a_heartbeat_that_stood_still_catches_up_without_a_burst(
    manage: Callable[..., Process], redis_layer: str, settle: Settled
) -> None:
    worker = manage("sisy_worker", layer="redis", settings={**QUICK, "HEARTBEAT_INTERVAL": 60})
    beat = manage("sisy_heartbeat", "--interval", "1", layer="redis")
    wait_for_workers(worker)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    wait_for_ends(1, label="scheduled")
    freeze(beat)
    time.sleep(4)
    beat.send(signal.SIGCONT)
    slot = Run.objects.filter(label="scheduled").latest("slot").slot
    wait_for(lambda: RunStatus.SUCCESSFUL in runs_since(slot), LONG)
    settle()
    assert [beat.stop(), worker.stop()] == [0, 0]


def test_everything_sleeps_for_longer_than_the_lease(
    manage: Callable[..., Process], settle: Settled, tmp_path: Path
) -> None:
    """A laptop's lid: one catch-up run and one row for the others; every loop lives on."""
    free = tmp_path / "free"
    sisy = manage("sisy", "--interval", "1")
    wait_for_workers(sisy)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="slept through")
    wait_for_begin(1, label="slept through")
    wait_for_ends(2, label="scheduled")
    freeze(sisy)
    slot = Run.objects.filter(label="scheduled").latest("slot").slot
    time.sleep(2 * QUICK["LEASE"])
    sisy.send(signal.SIGCONT)
    wait_for(lambda: RunStatus.SUCCESSFUL in runs_since(slot), LONG)
    missed = Run.objects.get(label="scheduled", status=RunStatus.MISSED, missed_since__gt=slot)
    assert missed.missed_count >= QUICK["LEASE"]
    free.touch()
    assert wait_for_end_of("slept through").status == RunStatus.SUCCESSFUL
    Task.run_once(tasks.note, label="after")
    assert wait_for_end_of("after").status == RunStatus.SUCCESSFUL
    settle()
    assert sisy.stop() == 0


@pytest.mark.parametrize("seconds", [-30, 30])
def test_hosts_whose_clocks_differ(
    manage: Callable[..., Process], settle: Settled, tmp_path: Path, seconds: int
) -> None:
    """The database's clock judges leases: a worker whose own is wrong takes no run from one that lives."""
    free = tmp_path / "free"
    right = manage("sisy_worker", "--concurrency", "2")
    wait_for_workers(right)
    for label in ("first", "second"):
        Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label=label)
    wait_for_begin(2)
    wrong = manage("sisy_worker", sabotage={"clock": seconds})
    wait_for_workers(wrong)
    time.sleep(2 * QUICK["LEASE"])
    assert {run.crashes for run in Run.objects.all()} == {0}
    free.touch()
    for label in ("first", "second"):
        assert wait_for_end_of(label).status == RunStatus.SUCCESSFUL
    settle()
    assert [right.stop(), wrong.stop()] == [0, 0]
    assert len(ledger.lines(kind="begin")) == 2
    assert run_of("first").crashes == 0
