"""Two transitions at once, on two real connections, in a chosen order.

`overtaken` stops one before it takes its first lock and lets the other run from beginning to end; `meeting` stops one
in the middle, with its locks, until the other has ended or waits for them. Nothing depends on how fast anything is.
"""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, connections, transaction

from sisy.errors import SisyError

PATIENCE = 15.0  # seconds, after which a test fails that would hang

WRITE = r"^(UPDATE|INSERT|DELETE)(?!.* WHERE 0$)"  # but not the one by which SQLite is told to lock
LOCK = r"^BEGIN|FOR UPDATE|^UPDATE|^INSERT|^DELETE"
NEW_RUN = r"^INSERT INTO .sisy_run"
RUN_END = r"^UPDATE .sisy_run. (AS r |SET .status. = %s, .reason)"
RUN_UPDATE = r"^UPDATE .sisy_run. SET .(status|cancel_requested_at|claim|lease_expires_at|crashes|started_at)"
CLAIM = r"WITH chosen"  # on PostgreSQL: it locks and updates, and is a transaction by itself
TASK_UPDATE = (
    r"^UPDATE .sisy_task. (AS r |SET .(label|enabled|next_run|schedule|iterations|last_run|runs_created|modified_at))"
)


@dataclass
class Stop:
    """A place in the statements of a thread at which it waits until it may go on."""

    before: str
    nth: int = 1  # at which match
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    was_reached: bool = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        has_middle = re.search(CLAIM, sql) and not re.search(self.before, sql)
        if not self.was_reached and re.search(self.before, "UPDATE .sisy_run. SET .status" if has_middle else sql):
            self.nth -= 1
            self.was_reached = self.nth == 0
        if not self.was_reached or self.reached.is_set():
            return execute(sql, params, many, context)
        if has_middle:
            with transaction.atomic():
                result = execute(sql, params, many, context)
                self._wait()
            return result
        self._wait()
        return execute(sql, params, many, context)

    def _wait(self) -> None:
        self.reached.set()
        assert self.go.wait(PATIENCE), "nobody let it go on"


def run_with(stop: Stop, function: Callable[[], Any]) -> Any:
    """Call a function on this thread's own connection; what it raises is a result too."""
    try:
        with connection.execute_wrapper(stop):
            return function()
    except SisyError as error:
        return error
    finally:
        stop.reached.set()
        connections.close_all()


@contextmanager
def started(stop: Stop, function: Callable[[], Any], pool: ThreadPoolExecutor) -> Iterator[Future[Any]]:
    """Run a function in a thread up to its stop, and let it go on at the end."""
    future = pool.submit(run_with, stop, function)
    assert stop.reached.wait(PATIENCE)
    try:
        yield future
    finally:
        stop.go.set()


def overtaken(
    first: Callable[[], Any], by: Callable[[], Any], *, before: str = LOCK, must_stop: bool = True
) -> tuple[Any, Any]:
    """Stop the first before its first lock, run the other from beginning to end, then the rest of the first."""
    stop, no_stop = Stop(before), Stop("never")
    with ThreadPoolExecutor(2) as pool:
        with started(stop, first, pool) as future:
            assert stop.was_reached or not must_stop, "the first never came to its stop"
            other = pool.submit(run_with, no_stop, by).result(PATIENCE)
        return future.result(PATIENCE), other


def meeting(
    first: Callable[[], Any], second: Callable[[], Any], *, before: str, nth: int = 1, must_stop: bool = True
) -> tuple[Any, Any]:
    """Stop the first in the middle; run the other until it ends or waits for the first; then let both go on."""
    stop, at_lock = Stop(before, nth=nth), Stop(LOCK)
    at_lock.go.set()
    with ThreadPoolExecutor(2) as pool:
        with started(stop, first, pool) as future:
            assert stop.was_reached or not must_stop, "the first never came to its stop"
            other = pool.submit(run_with, at_lock, second)
            assert at_lock.reached.wait(PATIENCE)
            while not other.done() and not waits_for_a_lock():
                wait([other], timeout=0.15)  # InnoDB looks again only when nobody has asked for 0.1 s
        return future.result(PATIENCE), other.result(PATIENCE)


def waits_for_a_lock() -> bool:
    """Whether some connection waits for another one; SQLite's waits whenever it wants to write."""
    query = {
        "postgresql": "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        "mysql": "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    }
    if connection.vendor not in query:
        return True
    with connection.cursor() as cursor:
        cursor.execute(query[connection.vendor])
        return cursor.fetchone() is not None
