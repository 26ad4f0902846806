"""An SQLite file that is full, and one that somebody else has locked."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from django.db import connection

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.faults import tasks as harmful
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

pytestmark = only_on("sqlite")

PATIENT = {**QUICK, "LEASE": 60}
FULL = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA max_page_count=1"  # never below what there is


def test_the_file_is_full(manage: Callable[..., Process], settle: Settled) -> None:
    """It is said loudly, nothing is half done, and all goes on when there is room again."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # earlier tests may have left room in it
        cursor.execute("CREATE TABLE filler AS SELECT randomblob(4000000) AS content")
    full = {"options": {"init_command": FULL}}
    worker = manage("sisy_worker", settings=PATIENT, sabotage=full)
    beat = manage("sisy_heartbeat", settings=PATIENT, sabotage=full)
    wait_for_workers(worker)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    wait_for_ends(1, label="scheduled")
    Task.bulk_run_once(harmful.returns_much, [{"n": n} for n in range(20)], label="much")
    worker.wait_for_output("database or disk is full")
    beat_or_worker = f"{beat.output}{worker.output}"
    assert "next try in" in beat_or_worker
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE filler")
    wait_for(lambda: Run.objects.filter(label="much", status=RunStatus.SUCCESSFUL).count() == 20, LONG)
    wait_for_a_slot_of_now()
    settle()
    assert [beat.stop(), worker.stop()] == [0, 0]
    assert len(ledger.lines(kind="begin", label="much")) == 20
    assert {run.crashes for run in Run.objects.all()} == {0}


def test_another_writer_holds_the_lock_for_long(
    manage: Callable[..., Process], settle: Settled, tmp_path: Path
) -> None:
    """Longer than any statement waits: no end is lost, no run is taken for lost, every loop lives on."""
    free = tmp_path / "free"
    impatient = {"options": {"timeout": 0.3}}
    worker = manage("sisy_worker", settings=PATIENT, sabotage=impatient)
    beat = manage("sisy_heartbeat", settings=PATIENT, sabotage=impatient)
    wait_for_workers(worker)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="long")
    wait_for_begin(1, label="long")
    wait_for_ends(1, label="scheduled")
    rival = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=20)
    rival.execute("BEGIN IMMEDIATE")
    free.touch()
    wait_for_ends(1, label="long")
    worker.wait_for_output("Using the database failed: OperationalError: database is locked")
    beat.wait_for_output("Ticking failed: OperationalError: database is locked")
    time.sleep(1)
    rival.execute("COMMIT")
    rival.close()
    wait_for(lambda: run_of("long").is_over, LONG)
    wait_for_a_slot_of_now()
    settle()
    assert [beat.stop(), worker.stop()] == [0, 0]
    assert (run_of("long").status, run_of("long").crashes) == (RunStatus.SUCCESSFUL, 0)
