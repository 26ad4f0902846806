"""`manage.py sisy_worker` and its options, with real processes: slots, children, queues, bursts, and loops that die."""

import functools
import itertools
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.utils import timezone

from sisy.models import Run, RunStatus, Task, Worker, task_with_callable
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

PATIENT = {"POLL_INTERVAL": 60}  # what happens in time is then due to a message
POLLING = {"POLL_INTERVAL": 0.3}
NEVER = "0 0 1 1 *"


def at_once(function: str) -> int:
    """Return how many calls of a function were under way at the same time, by the ledger."""
    steps = [1 if line["kind"] == "begin" else -1 for line in ledger.lines(function=function)]
    return max(itertools.accumulate(steps), default=0)


# Slots ----------------------------------------------------------------------------------------------------------------


def test_never_more_runs_at_once_than_concurrency_says(manage: Callable[..., Process]) -> None:
    Task.bulk_run_once(tasks.slow, [{"seconds": 0.2}] * 9)
    Task.bulk_run_once(tasks.aslow, [{"seconds": 0.2}] * 9)
    worker = manage("sisy_worker", "--concurrency", "3", "--burst", layer="none")
    assert worker.wait() == 0
    steps = [1 if line["kind"] == "begin" else -1 for line in ledger.lines()]
    assert max(itertools.accumulate(steps)) == 3
    assert Run.objects.filter(status=RunStatus.SUCCESSFUL).count() == 18


def test_async_functions_run_at_the_same_time(manage: Callable[..., Process]) -> None:
    worker = manage("sisy_worker", "--concurrency", "50", layer="none", settings=POLLING)
    wait_for_workers(worker)
    Task.bulk_run_once(tasks.aslow, [{"seconds": 0.5}] * 50)
    ends = wait_for_ends(50, function="aslow")
    began = min(line["at"] for line in ledger.lines(kind="begin"))
    assert 0.5 <= ends[-1]["at"] - began < 4, "they took turns, which would last 25 s"
    assert at_once("aslow") > 25


def test_a_slow_function_delays_neither_the_others_nor_the_tick(manage: Callable[..., Process], tmp_path: Path) -> None:
    """Sync ones in threads, async ones on a loop, one of which is blocked; LEASE is short, and they keep their runs."""
    free = tmp_path / "free"
    settings = {"POLL_INTERVAL": 0.3, "LEASE": 1}
    worker = manage("sisy_worker", "--concurrency", "4", layer="none", settings=settings)
    beat = manage("sisy_heartbeat", "--interval", "1", layer="none")
    wait_for_workers(worker)
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="slow")
    Task.run_once(flow_tasks.ablock, {"seconds": 2.5}, label="blocking")
    wait_for(lambda: len(ledger.lines(kind="begin")) == 2, what="both to begin")
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(20)], label="quick")
    task_with_callable(tasks.note, label="scheduled", schedule="* * * * * *").save()
    quick = wait_for_ends(20, label="quick")
    scheduled = wait_for_ends(1, label="scheduled")
    blocking = wait_for_ends(1, label="blocking")
    assert quick[-1]["at"] < blocking[-1]["at"], "quick ones waited for the blocking one"
    assert scheduled[0]["at"] < blocking[-1]["at"], "the tick waited for the blocking one"
    assert ledger.lines(kind="end", label="slow") == []
    free.touch()
    wait_for_ends(1, label="slow")
    assert [beat.stop(), worker.stop()] == [0, 0]
    assert {run.crashes for run in Run.objects.all()} == {0}
    assert len(ledger.lines(kind="begin", label="slow")) == 1


def wait_until_both_hear_nudges() -> None:
    """Create runs one by one until each of two patient workers has had two: the first may be one that it looked for."""
    for count in range(1, 50):
        Task.run_once(tasks.note, label="warm")
        ends = wait_for_ends(count, label="warm")
        had = Counter(line["pid"] for line in ends)
        if len(had) == 2 and min(had.values()) >= 2:
            return
    raise AssertionError(f"one worker had nearly all: {had}")


def test_a_batch_wakes_more_than_one_worker(manage: Callable[..., Process], redis_layer: str, tmp_path: Path) -> None:
    """One nudge reaches one worker; a batch that is more than that one can run at once needs the others, too."""
    free = tmp_path / "free"
    workers = [manage("sisy_worker", "--concurrency", "1", layer="redis", settings=PATIENT) for _ in range(2)]
    wait_for_workers(*workers)
    wait_until_both_hear_nudges()
    Task.bulk_run_once(flow_tasks.wait_for_file, [{"file": str(free)}] * 2, label="batch")
    begun = functools.partial(ledger.lines, kind="begin", label="batch")
    wait_for(lambda: len({line["pid"] for line in begun()}) == 2, 8, "both workers to have a run")
    free.touch()
    assert [worker.stop() for worker in workers] == [0, 0]


def test_a_nudge_that_a_busy_worker_gets_reaches_an_idle_one(
    manage: Callable[..., Process], redis_layer: str, tmp_path: Path
) -> None:
    """Redis hands each message to whoever has waited longest, and that may be one without a free slot."""
    free = tmp_path / "free"
    workers = [manage("sisy_worker", "--concurrency", "1", layer="redis", settings=PATIENT) for _ in range(2)]
    wait_for_workers(*workers)
    wait_until_both_hear_nudges()
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="long")
    wait_for(lambda: ledger.lines(kind="begin", label="long"), what="the long run's start")
    for count in range(1, 5):
        Task.run_once(tasks.note, label="short")
        wait_for_ends(count, label="short", timeout=8)
    free.touch()
    wait_for_ends(1, label="long")
    assert {line["pid"] for line in ledger.lines(label="short")} == (
        {worker.pid for worker in workers} - {line["pid"] for line in ledger.lines(label="long")}
    )
    assert [worker.stop() for worker in workers] == [0, 0]


@pytest.mark.parametrize(
    ("cut", "function"), [(flow_tasks.cut_connection, tasks.note), (flow_tasks.acut_connection, tasks.anote)]
)
def test_functions_have_the_database_again_after_their_connection_was_cut(
    manage: Callable[..., Process], cut: Callable[..., Any], function: Callable[..., Any]
) -> None:
    worker = manage("sisy_worker", "--concurrency", "1", layer="none", settings=POLLING)
    Task.run_once(function)
    wait_for_ends(1)
    Task.run_once(cut)
    wait_for_ends(2)
    for _ in range(3):  # the first one may be the one that notices
        Task.run_once(function, max_attempts=1)
        wait_for(lambda: not Run.objects.active().exists(), what="the end of the run")
    assert Run.objects.latest("pk").status == RunStatus.SUCCESSFUL, Run.objects.latest("pk").traceback
    assert worker.stop() == 0


# Nudges ---------------------------------------------------------------------------------------------------------------


def test_a_nudge_from_another_process_is_what_the_function_receives(
    manage: Callable[..., Process], redis_layer: str
) -> None:
    worker = manage("sisy_worker", layer="redis", settings=PATIENT)
    Task.run_once(tasks.note)  # which its first look may find, before it has heard of anything
    wait_for_ends(1, function="note")
    Task.run_once(flow_tasks.tell)
    (line,) = wait_for_ends(1, function="tell", timeout=10)
    assert line["message"] == {"type": "sisy.nudge", "v": 1}
    assert line["pid"] == worker.pid
    assert worker.stop() == 0


def test_a_process_that_creates_a_task_and_ends_has_nudged(manage: Callable[..., Process], redis_layer: str) -> None:
    worker = manage("sisy_worker", layer="redis", settings=PATIENT)
    wait_for_workers(worker)
    code = "from sisy.models import Task; from tests.project.shop import tasks; Task.run_once(tasks.note)"
    assert manage("shell", "--no-imports", "-c", code, layer="redis").wait() == 0
    wait_for_ends(1, timeout=10)
    assert worker.stop() == 0


# Queues ---------------------------------------------------------------------------------------------------------------


def test_a_worker_of_some_queues_runs_those_and_is_nudged_on_their_channels(
    manage: Callable[..., Process], redis_layer: str
) -> None:
    mail = manage("sisy_worker", "--queues", "mail,post", layer="redis", settings=PATIENT)
    others = manage("sisy_worker", "--queues", "print", layer="redis", settings=PATIENT)
    wait_for_workers(mail, others)
    for queue in ("default", "mail", "print", "post"):
        Task.run_once(tasks.note, label=queue, queue=queue)
    pids = {label: wait_for_ends(1, 10, label=label)[0]["pid"] for label in ("mail", "print", "post")}
    assert pids == {"mail": mail.pid, "post": mail.pid, "print": others.pid}
    assert [mail.stop(), others.stop()] == [0, 0]
    assert [run.label for run in Run.objects.ready(timezone.now())] == ["default"]


# Bursts ---------------------------------------------------------------------------------------------------------------


def test_a_burst_does_what_is_there_and_ends(manage: Callable[..., Process]) -> None:
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(100)])
    Task.run_once(tasks.fail)
    later = task_with_callable(flow_tasks.fail_once, schedule=NEVER, max_attempts=2, retry_backoff=3600)
    later.save()
    later.run_asap()
    burst = manage("sisy_worker", "--burst", layer="none", settings=PATIENT)
    assert burst.wait() == 0
    assert len(ledger.lines(kind="end", function="note")) == 100
    assert Run.objects.get(status=RunStatus.FAILED).label.endswith("fail")
    assert Run.objects.get(status=RunStatus.READY).attempt == 2
    assert Worker.objects.get().stopped_at is not None


# Children -------------------------------------------------------------------------------------------------------------


def children_of(process: Process) -> set[int]:
    return {child.pid for child in psutil.Process(process.pid).children(recursive=True)}


def working_children_of(parent: Process, *, but: frozenset[int] = frozenset()) -> set[int]:
    pids = children_of(parent) - but
    return pids if Worker.objects.filter(pid__in=pids).count() >= 2 else set()


def test_several_processes_work_are_restarted_and_stop_with_their_parent(manage: Callable[..., Process]) -> None:
    parent = manage("sisy_worker", "--processes", "2", "--concurrency", "1", layer="none", settings=POLLING)
    first = wait_for(lambda: working_children_of(parent), what="two children")
    Task.bulk_run_once(tasks.slow, [{"seconds": 0.3}] * 6)
    wait_for_ends(6)
    assert {line["pid"] for line in ledger.lines()} == first
    killed = min(first)
    psutil.Process(killed).kill()
    second = wait_for(lambda: working_children_of(parent, but=frozenset({killed})), what="another child")
    assert len(second - first) == 1
    assert "exit code -9" in parent.output
    assert parent.stop(signal.SIGTERM) == 0
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in second), what="the end of the children")


def test_a_burst_of_several_processes_ends_by_itself(manage: Callable[..., Process]) -> None:
    Task.bulk_run_once(flow_tasks.run_once_each, [{"n": n} for n in range(60)])
    parent = manage("sisy_worker", "--processes", "2", "--burst", layer="none")
    assert parent.wait() == 0
    runs = [line["run"] for line in ledger.lines()]
    assert len(runs) == len(set(runs)) == 60


def test_children_end_in_order_when_their_parent_is_killed(manage: Callable[..., Process], tmp_path: Path) -> None:
    """Left alone they would work on for ever, next to those of the parent that is started in its place."""
    free = tmp_path / "free"
    parent = manage("sisy_worker", "--processes", "2", layer="none", settings=POLLING)
    children = wait_for(lambda: working_children_of(parent), what="two children")
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)})
    wait_for(lambda: ledger.lines(kind="begin"), what="the begin")
    try:
        parent.send(signal.SIGKILL)
        parent.wait()
        wait_for(lambda: sum(map(psutil.pid_exists, children)) == 1, 10, "the end of the child that is idle")
        free.touch()
        wait_for(lambda: not any(map(psutil.pid_exists, children)), 10, "the end of the other one")
        assert Run.objects.get().status == RunStatus.SUCCESSFUL
    finally:
        for pid in filter(psutil.pid_exists, children):
            psutil.Process(pid).kill()


def test_ctrl_c_in_a_terminal_stops_parent_and_children_in_order(
    manage: Callable[..., Process], tmp_path: Path
) -> None:
    """A terminal signals the whole foreground group; what runs is waited for all the same."""
    parent = manage("sisy_worker", "--processes", "2", layer="none", settings=POLLING)
    wait_for(lambda: working_children_of(parent), what="two children")
    Task.run_once(tasks.slow, {"seconds": 1})
    wait_for(lambda: ledger.lines(kind="begin"), what="the begin")
    psutil.Process(parent.pid).send_signal(signal.SIGINT)
    time.sleep(0.05)
    psutil.Process(parent.pid).send_signal(signal.SIGINT)
    assert parent.wait() == 0
    assert Run.objects.get().status == RunStatus.SUCCESSFUL


def test_a_process_with_a_function_that_can_not_be_stopped_starts_anew(manage: Callable[..., Process]) -> None:
    worker = manage("sisy_worker", "--concurrency", "2", layer="none", settings=POLLING)
    wait_for_workers(worker)
    Task.run_once(flow_tasks.stubborn, {"seconds": 60}, timeout=0.3, label="stubborn")
    Task.run_once(tasks.slow, {"seconds": 2}, label="slow")
    wait_for(lambda: Worker.objects.filter(pid=worker.pid).count() == 2, what="the same process's second start")
    ends = dict(Run.objects.values_list("label", "status"))
    assert ends == {"stubborn": RunStatus.FAILED, "slow": RunStatus.SUCCESSFUL}
    Task.run_once(tasks.note)
    wait_for_ends(1, function="note")
    assert worker.stop() == 0
    assert ledger.lines(kind="end", label="stubborn") == []


# Cancelling -----------------------------------------------------------------------------------------------------------

WITHOUT_LOOKING_BY_ITSELF = """
from django.core.management import call_command
from sisy.worker import keeper
keeper._LOOK_FOR_CANCELLED_EVERY = 3600
call_command("sisy_worker")
"""


@pytest.mark.parametrize("function", [flow_tasks.wait_for_file, flow_tasks.await_file])
def test_the_worker_that_has_a_run_hears_through_the_layer_that_it_is_cancelled(
    manage: Callable[..., Process], redis_layer: str, tmp_path: Path, function: Any
) -> None:
    workers = [
        manage("shell", "--no-imports", "-c", WITHOUT_LOOKING_BY_ITSELF, layer="redis", settings=PATIENT)
        for _ in range(2)
    ]
    wait_for_workers(*workers)
    task = Task.run_once(function, {"file": str(tmp_path / "never")})
    wait_for(lambda: ledger.lines(kind="begin"), what="the begin")
    assert task.cancel() == 1
    run = wait_for(lambda: Run.objects.filter(status=RunStatus.CANCELLED).first(), what="the run's end")
    assert run.reason == "cancelled"
    assert [worker.stop() for worker in workers] == [0, 0]


# Dying ----------------------------------------------------------------------------------------------------------------

DYING = """
from django.core.management import call_command
from sisy import scheduler
from sisy.transitions import claims
def die(*_, **__):
    raise RuntimeError("nobody has thought of this")
{patch} = die
call_command({command})
"""


@pytest.mark.parametrize(
    ("patch", "loop"),
    [("claims.claim", "sisy-pump"), ("claims.renew", "sisy-leases"), ("scheduler.tick", "sisy-ticks")],
)
def test_a_loop_that_dies_takes_its_process_down(manage: Callable[..., Process], patch: str, loop: str) -> None:
    code = DYING.format(patch=patch, command='"sisy", "--interval", "0.3"')
    process = manage("shell", "--no-imports", "-c", code, layer="none", settings=POLLING)
    assert process.wait() == 70
    assert "CRITICAL" in process.output
    assert loop in process.output
    assert "nobody has thought of this" in process.output


def test_a_heartbeat_that_dies_says_so_and_ends_badly(manage: Callable[..., Process]) -> None:
    code = DYING.format(patch="scheduler.tick", command='"sisy_heartbeat", "--interval", "0.3"')
    process = manage("shell", "--no-imports", "-c", code, layer="none")
    assert process.wait() > 0
    assert "nobody has thought of this" in process.output
    assert "CRITICAL" in process.output


def test_a_database_without_tables_is_a_clear_error(manage: Callable[..., Process], tmp_path: Path) -> None:
    environment: dict[str, Any] = {"SISY_TEST_DATABASE": "sqlite", "SISY_TEST_DATABASE_NAME": str(tmp_path / "empty")}
    started = [manage(command, "--skip-checks", layer="none", **environment) for command in ("sisy_worker", "sisy")]
    for process in started:
        assert process.wait() == 1
        assert "manage.py migrate" in process.output
        assert "Traceback" not in process.output
