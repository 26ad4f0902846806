"""Task functions that loop, block, exhaust, recurse, hold the GIL or leave a mess: their runs fail, others go on."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sisy.models import Run, RunStatus, Task
from tests.faults import tasks as harmful
from tests.faults.stage import LONG, QUICK, Settled, run_of, wait_for_begin, wait_for_end_of
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks


@pytest.mark.parametrize("function", [harmful.exhaust_memory, harmful.recurse, tasks.exits])
def test_a_function_that_asks_for_too_much(
    manage: Callable[..., Process], settle: Settled, function: Callable[..., object]
) -> None:
    worker = manage("sisy_worker")
    Task.run_once(function, label="too much")
    failed = wait_for_end_of("too much")
    assert failed.status == RunStatus.FAILED
    assert failed.reason.startswith(("MemoryError", "RecursionError", "SystemExit"))
    Task.run_once(tasks.note, label="after")
    assert wait_for_end_of("after").status == RunStatus.SUCCESSFUL
    settle()
    assert worker.stop() == 0


def test_a_loop_without_end_is_ended_by_its_timeout(manage: Callable[..., Process], settle: Settled) -> None:
    worker = manage("sisy_worker")
    wait_for_workers(worker)
    Task.run_once(harmful.spin, timeout=0.5, label="endless")
    Task.run_once(tasks.note, label="beside")
    assert wait_for_end_of("beside").status == RunStatus.SUCCESSFUL
    assert wait_for_end_of("endless").reason.startswith("TimedOut")
    settle()
    assert worker.stop() == 0, "no need to start anew: the loop has ended"


def test_a_wait_without_end_is_fenced_off_and_its_process_starts_anew(
    manage: Callable[..., Process], settle: Settled
) -> None:
    worker = manage("sisy_worker", "--concurrency", "2")
    Task.run_once(harmful.sleep_for_ever, timeout=0.5, label="asleep")
    failed = wait_for_end_of("asleep")
    assert (failed.status, failed.crashes) == (RunStatus.FAILED, 0)
    worker.wait_for_output("starts anew")
    for number in range(4):  # as many as would have filled both slots twice
        Task.run_once(tasks.note, {"n": number}, label="after")
    wait_for_ends(4, label="after")
    settle()
    assert worker.stop() == 0


def test_a_function_that_holds_the_gil_for_longer_than_the_lease(
    manage: Callable[..., Process], settle: Settled
) -> None:
    """No other thread of its process can renew the lease: others take over, and what it writes later counts nothing."""
    victim = manage("sisy_worker")
    wait_for_workers(victim)
    Task.run_once(harmful.hold_the_gil, {"seconds": 2 * QUICK["LEASE"] + 2}, label="once", at_most_once=True)
    wait_for_begin(1, label="once")
    other = manage("sisy_worker")
    lost = wait_for_end_of("once")
    assert lost.status == RunStatus.LOST
    Task.run_once(tasks.note, label="meanwhile")
    (line,) = wait_for_ends(1, label="meanwhile")
    assert line["pid"] == other.pid
    wait_for_ends(1, LONG, label="once")
    settle()
    assert [victim.stop(), other.stop()] == [0, 0]
    assert (run_of("once").status, run_of("once").finished_at) == (RunStatus.LOST, lost.finished_at)


def test_what_a_function_leaves_behind_does_not_reach_the_next_one(
    manage: Callable[..., Process], settle: Settled
) -> None:
    """Time zone, language, an open transaction, closed connections."""
    worker = manage("sisy_worker", "--concurrency", "1")
    for number in range(3):
        Task.run_once(harmful.leave_a_mess, label=f"mess {number}")
        wait_for_end_of(f"mess {number}")
        Task.run_once(harmful.look_around, label=f"look {number}")
        assert wait_for_end_of(f"look {number}").status == RunStatus.SUCCESSFUL, run_of(f"look {number}").traceback
    settle()
    assert worker.stop() == 0
    for found in ledger.lines(kind="found"):
        wanted = {"zone": "UTC", "language": "en-us", "autocommit": True, "notes": [], "others": 0}
        assert {key: found[key] for key in wanted} == wanted


BROKEN = {
    "exits": "raise SystemExit(3)",
    "raises": "import not_installed_anywhere",
    "is no Python": "def (",
}


def test_modules_that_can_not_be_imported(
    manage: Callable[..., Process], settle: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their runs fail and say so; others go on, and the worker does not end with the module that ends its importer."""
    monkeypatch.syspath_prepend(tmp_path)
    names = {what: f"fault_{number}_{time.monotonic_ns()}" for number, what in enumerate(BROKEN)}
    for name in names.values():
        (tmp_path / f"{name}.py").write_text("def function(message):\n    pass\n")
        Task.run_once(f"{name}.function", label=name)
    for what, name in names.items():  # a deploy
        (tmp_path / f"{name}.py").write_text(BROKEN[what])
    settings = {**QUICK, "DEPLOY_GRACE": 0}  # no other worker could have the code
    worker = manage("sisy_worker", settings=settings, PYTHONPATH=f"{Path(__file__).parents[2]}:{tmp_path}")
    for name in names.values():
        failed = wait_for_end_of(name)
        assert (failed.status, failed.crashes) == (RunStatus.FAILED, 0)
        assert name in failed.reason
    Task.run_once(tasks.note, label="after")
    assert wait_for_end_of("after").status == RunStatus.SUCCESSFUL
    settle()
    assert worker.stop() == 0


def test_a_module_whose_import_never_ends(
    manage: Callable[..., Process], settle: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes one slot; the others go on."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"fault_{time.monotonic_ns()}"
    (tmp_path / f"{name}.py").write_text("def function(message):\n    pass\n")
    Task.run_once(f"{name}.function", label="hangs", at_most_once=True)
    (tmp_path / f"{name}.py").write_text("import time\ntime.sleep(3600)")
    worker = manage("sisy_worker", "--concurrency", "2", PYTHONPATH=f"{Path(__file__).parents[2]}:{tmp_path}")
    wait_for(lambda: run_of("hangs").status == RunStatus.RUNNING)
    for number in range(4):
        Task.run_once(tasks.note, {"n": number}, label="beside")
    wait_for_ends(4, label="beside")
    run_of("hangs").task.cancel()
    assert wait_for_end_of("hangs").status == RunStatus.CANCELLED
    settle()
    assert worker.stop() == 0
    assert Run.objects.filter(label="beside", status=RunStatus.SUCCESSFUL).count() == 4


def test_slow_tasks_that_fill_every_slot_leave_other_queues_alone(
    manage: Callable[..., Process], settle: Settled
) -> None:
    """Whoever gives slow work a queue of its own, and that queue a worker of its own, has the rest run on."""
    slow = manage("sisy_worker", "--queues", "slow", "--concurrency", "2")
    quick = manage("sisy_worker", "--queues", "default", "--concurrency", "2")
    wait_for_workers(slow, quick)
    Task.bulk_run_once(tasks.slow, [{"seconds": 2}] * 4, label="slow", queue="slow")
    wait_for_begin(2, label="slow")
    for number in range(20):
        Task.run_once(tasks.note, {"n": number}, label="quick")
    wait_for_ends(20, label="quick")
    assert Run.objects.filter(label="slow", status=RunStatus.SUCCESSFUL).count() < 4
    settle()
    assert [slow.stop(), quick.stop()] == [0, 0]
    assert {line["pid"] for line in ledger.lines(label="quick")} == {quick.pid}
