"""A PostgreSQL server of the test's own that crashes, takes no writes, and has no connection left."""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.faults.servers import PostgresqlServer
from tests.faults.stage import (
    EACH_SECOND,
    LONG,
    QUICK,
    Settled,
    only_on,
    run_of,
    wait_for_a_slot_of_now,
    wait_for_begin,
)
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

pytestmark = only_on("postgresql")

PATIENT = {**QUICK, "LEASE": 60}


@pytest.mark.parametrize("settings", [QUICK, PATIENT], ids=["short lease", "long lease"])
def test_the_server_crashes_and_recovers(
    manage: Callable[..., Process],
    own_postgresql: PostgresqlServer,
    settle: Settled,
    settings: dict[str, float],
    tmp_path: Path,
) -> None:
    settle.lost_lines = True
    free = tmp_path / "free"
    workers = [manage("sisy_worker", settings=settings) for _ in range(2)]
    beat = manage("sisy_heartbeat", settings=settings)
    wait_for_workers(*workers)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    Task.bulk_run_once(flow_tasks.wait_for_file, [{"file": str(free)}] * 4, label="long")
    Task.bulk_run_once(tasks.slow, [{"seconds": 0.1}] * 100, label="short", max_attempts=5)
    wait_for_begin(4, label="long")
    wait_for_ends(10, label="short")
    connections["default"].close()
    own_postgresql.restart()
    free.touch()
    wait_for(lambda: not Run.objects.active().exclude(label="scheduled").exists(), LONG, "the end of the runs")
    wait_for_a_slot_of_now()
    settle()
    assert [process.stop() for process in (beat, *workers)] == [0, 0, 0]
    assert set(Run.objects.filter(label__in=["long", "short"]).values_list("status", flat=True)) == {"SUCCESSFUL"}
    if settings is PATIENT:
        assert len(ledger.lines(kind="begin", label="long")) == 4


def test_the_server_takes_no_writes_for_a_while(
    manage: Callable[..., Process], own_postgresql: PostgresqlServer, settle: Settled, tmp_path: Path
) -> None:
    """Nothing is claimed, what runs comes to its end, and its outcome is written when that is possible."""
    free = tmp_path / "free"
    worker = manage("sisy_worker", settings=PATIENT)
    beat = manage("sisy_heartbeat", settings=PATIENT)
    wait_for_workers(worker)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="long")
    Task.run_once(flow_tasks.await_file, {"file": str(free)}, label="long, async")
    wait_for_begin(1, label="long")
    wait_for_begin(1, label="long, async")
    wait_for_ends(1, label="scheduled")
    Task.run_once(tasks.note, label="meanwhile", delay_until=timezone.now() + timedelta(seconds=1))
    with read_only(own_postgresql):
        time.sleep(0.5)
        begun = len(ledger.lines(kind="begin"))
        free.touch()
        wait_for_ends(1, label="long")
        wait_for_ends(1, label="long, async")
        time.sleep(2)
        assert len(ledger.lines(kind="begin")) == begun
        assert worker.is_alive, worker.output
    wait_for_ends(1, label="meanwhile")
    wait_for_a_slot_of_now()
    settle()
    assert [beat.stop(), worker.stop()] == [0, 0]
    assert {run_of("long").status, run_of("long, async").status} == {RunStatus.SUCCESSFUL}
    assert run_of("long").crashes == 0


@contextlib.contextmanager
def read_only(server: PostgresqlServer) -> Iterator[None]:
    """Have the server refuse each write, in sessions that there are and in new ones."""
    server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    server.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        server.execute("ALTER SYSTEM RESET default_transaction_read_only")
        server.execute("SELECT pg_reload_conf()")


def test_no_connection_is_left(
    manage: Callable[..., Process], own_postgresql: PostgresqlServer, settle: Settled, tmp_path: Path
) -> None:
    """Leases are renewed all the same, on a connection that is there already: no run is taken for lost."""
    free = tmp_path / "free"
    workers = [manage("sisy_worker") for _ in range(2)]
    wait_for_workers(*workers)
    for number in range(2):
        Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label=f"long {number}")
    wait_for(lambda: Run.objects.exclude(started_at=None).count() == 2, what="the starts")
    Task.run_once(flow_tasks.run_once_each, label="quick")
    wait_for_ends(1, label="quick")
    with contextlib.ExitStack() as taken:
        deadline = time.monotonic() + 2 * QUICK["LEASE"]
        while time.monotonic() < deadline:  # also what is closed meanwhile is taken
            greedy = connections["default"].copy()
            try:
                greedy.ensure_connection()
                taken.callback(greedy.close)
            except OperationalError:
                time.sleep(0.01)
        assert Run.objects.filter(label__startswith="long", status=RunStatus.RUNNING, crashes=0).count() == 2
        free.touch()
        settle()
    assert [worker.stop() for worker in workers] == [0, 0]
    assert {run.crashes for run in Run.objects.all()} == {0}
    assert len(ledger.lines(kind="begin", function="wait_for_file")) == 2
