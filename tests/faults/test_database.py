"""A database server that breaks connections, never answers, is slow, or is cut off just after a commit."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import OperationalError, connection, transaction

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.faults.proxy import Proxy
from tests.faults.stage import (
    EACH_SECOND,
    LONG,
    QUICK,
    Settled,
    database,
    only_on,
    run_of,
    wait_for_a_slot_of_now,
    wait_for_begin,
)
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

PATIENT = {**QUICK, "LEASE": 30}  # whose runs nobody takes while a fault lasts
COMMITS = {
    "claim": r"worker[\"`]? = '",
    "finish": r"finished_at[\"`] = ",
    "tick": r"runs_created[\"`] = ",
    "renewal": r"set [\"`]lease_expires_at[\"`] = ",
}
"""What a transaction says, so that its commit can be told from others."""

of_servers = only_on("postgresql", "mariadb")


@of_servers
@pytest.mark.parametrize("settings", [QUICK, PATIENT], ids=["short lease", "long lease"])
def test_the_server_is_away_for_a_moment(
    manage: Callable[..., Process], database_proxy: Proxy, settle: Settled, settings: dict[str, float], tmp_path: Path
) -> None:
    """What ran goes on, and how it ended is written when the server is back; nothing is started a second time."""
    settle.lost_lines = True  # a MISSED row may have been committed without an answer
    free = tmp_path / "free"
    worker, beat = manage("sisy_worker", settings=settings), manage("sisy_heartbeat", settings=settings)
    wait_for_workers(worker)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="long")
    Task.bulk_run_once(tasks.slow, [{"seconds": 0.2}] * 60, label="short")
    wait_for_begin(1, label="long")
    wait_for_ends(10, label="short")
    database_proxy.cut()
    time.sleep(1)
    free.touch()
    database_proxy.mend()
    wait_for(lambda: run_of("long").is_over and not Run.objects.active().filter(label="short").exists(), LONG)
    wait_for_a_slot_of_now()
    settle()
    assert [beat.stop(), worker.stop()] == [0, 0]
    assert set(Run.objects.filter(label="short").values_list("status", flat=True)) == {RunStatus.SUCCESSFUL}
    if settings is PATIENT:
        assert len(ledger.lines(kind="begin", label="long")) == 1
        assert run_of("long").status == RunStatus.SUCCESSFUL
    assert "works again" in worker.output


@of_servers
def test_the_server_never_answers(
    manage: Callable[..., Process], database_proxy: Proxy, settle: Settled, tmp_path: Path
) -> None:
    """A worker that is held up for longer than its lease has lost its runs, and writes over nothing when it goes on."""
    free = tmp_path / "free"
    worker = manage("sisy_worker")
    wait_for_workers(worker)
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="again")
    Task.run_once(flow_tasks.wait_for_file, {"file": str(free)}, label="once", at_most_once=True)
    wait_for_begin(2)
    wait_for(lambda: Run.objects.filter(started_at=None).count() == 0, what="the starts")
    database_proxy.hang()
    with pytest.MonkeyPatch.context() as patch:  # the other one does not go through the proxy
        patch.delenv(f"SISY_TEST_{database().upper()}_HOST")
        patch.delenv(f"SISY_TEST_{database().upper()}_PORT")
        other = manage("sisy_worker")
    wait_for_begin(2, label="again")
    free.touch()
    # Their leases may end one after another: what nobody has taken yet, the first worker may still finish.
    wait_for(lambda: run_of("again").is_over and run_of("once").is_over, LONG)
    ended = run_of("again")
    database_proxy.go_on()
    wait_for_ends(2, label="again")
    settle()
    assert [worker.stop(), other.stop()] == [0, 0]
    again = run_of("again")
    assert (again.status, again.crashes, again.finished_at) == (RunStatus.SUCCESSFUL, 1, ended.finished_at)
    assert run_of("once").status == RunStatus.LOST
    assert len(ledger.lines(kind="begin", label="once")) == 1


@of_servers
def test_the_server_is_slow(manage: Callable[..., Process], database_proxy: Proxy, settle: Settled) -> None:
    worker, beat = manage("sisy_worker"), manage("sisy_heartbeat")
    wait_for_workers(worker)
    database_proxy.slow(0.02)
    Task.bulk_run_once(flow_tasks.run_once_each, [{"n": n} for n in range(50)])
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    wait_for_ends(50, LONG, function="run_once_each")
    wait_for_ends(2, LONG, label="scheduled")
    database_proxy.slow(0)
    settle()
    assert [beat.stop(), worker.stop()] == [0, 0]
    assert set(Run.objects.filter(slot=None).values_list("crashes", flat=True)) == {0}


@of_servers
@pytest.mark.parametrize("step", sorted(COMMITS))
def test_the_connection_breaks_between_a_commit_and_its_answer(
    manage: Callable[..., Process], database_proxy: Proxy, settle: Settled, step: str
) -> None:
    """It was written, and nobody knows: no slot is run twice, no run starts twice, no end is lost or overwritten."""
    settle.lost_lines = step == "tick"  # a row may say MISSED without a line in any log
    worker, beat = manage("sisy_worker"), manage("sisy_heartbeat")
    wait_for_workers(worker)
    task_with_callable(flow_tasks.run_once_each, label="scheduled", schedule=EACH_SECOND).save()
    wait_for_ends(1, label="scheduled")
    database_proxy.cut_after_commit(containing=COMMITS[step])
    for number in range(10):
        Task.run_once(flow_tasks.run_once_each, {"n": number}, label="once")
        Task.run_once(tasks.fail, label="fails")
    if step == "renewal":
        Task.run_once(tasks.slow, {"seconds": 2})
    wait_for(lambda: database_proxy.has_cut, LONG, f"the {step}")
    wait_for_ends(10, LONG, label="once")
    wait_for_a_slot_of_now()
    settle()
    assert [beat.stop(), worker.stop()] == [0, 0]
    assert set(Run.objects.filter(label="once").values_list("status", flat=True)) == {RunStatus.SUCCESSFUL}
    each = [line["run"] for line in ledger.lines(function="run_once_each")]
    assert len(each) == len(set(each))
    assert len(ledger.lines(kind="begin", label="fails")) == 10


class Rival:
    """Somebody else's transactions on the rows of sisy: locks many of them, in the wrong order, again and again."""

    def __init__(self) -> None:
        self.turns = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._disturb)

    def __enter__(self) -> "Rival":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _disturb(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OperationalError), transaction.atomic():  # it may be the one that is given up
                rows = Run.objects.select_for_update().order_by("-pk")
                keys = list(Run.objects.active().order_by("-pk").values_list("pk", flat=True)[:20])
                for key in keys:
                    rows.filter(pk=key).first()
                    time.sleep(0.002)
                Run.objects.filter(pk__in=keys[:1]).update(reason="")
                self.turns += 1
            self._over.wait(0.02)
        connection.close()


def test_deadlocks_and_waits_for_locks(manage: Callable[..., Process], settle: Settled) -> None:
    """Databases end one of two transactions that wait for each other; then it is tried again."""
    workers = [manage("sisy_worker") for _ in range(2)]
    beat = manage("sisy_heartbeat")
    wait_for_workers(*workers)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    with Rival() as rival:
        for number in range(60):
            Task.run_once(flow_tasks.run_once_each, {"n": number}, max_attempts=2)
            time.sleep(0.03)
        wait_for_ends(60, LONG, function="run_once_each")
    assert rival.turns > 3
    settle()
    assert [process.stop() for process in (beat, *workers)] == [0, 0, 0]
    assert len({line["run"] for line in ledger.lines(function="run_once_each")}) == 60


@pytest.fixture
def hidden_table() -> Iterator[Callable[[], None]]:
    """Rename the table of runs, as a migration does that comes too early; call it to rename it back."""
    table, hidden = Run._meta.db_table, "sisy_run_hidden"
    quote = connection.ops.quote_name

    def rename(name: str, to: str) -> None:
        if name in connection.introspection.table_names():
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {quote(name)} RENAME TO {quote(to)}")

    rename(table, hidden)
    yield lambda: rename(hidden, table)
    rename(hidden, table)


def test_the_tables_are_not_what_the_code_expects(
    manage: Callable[..., Process], settle: Settled, request: pytest.FixtureRequest
) -> None:
    """A worker waits, or ends with an error that names the table and is started anew; then it works on."""
    settle.lost_lines = True
    parent, beat = manage("sisy_worker", "--processes", "2"), manage("sisy_heartbeat")
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    wait_for_ends(1, label="scheduled")
    bring_back = request.getfixturevalue("hidden_table")
    parent.wait_for_output("sisy_run")
    beat.wait_for_output("Ticking failed")
    time.sleep(1)
    bring_back()
    Task.run_once(flow_tasks.run_once_each)
    wait_for_ends(1, LONG, function="run_once_each")
    settle()
    assert [beat.stop(), parent.stop()] == [0, 0]
