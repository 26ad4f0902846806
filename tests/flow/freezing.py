"""Processes that stand still: a laptop's lid, a virtual machine that is moved, a debugger."""

import contextlib
import signal
import time
from collections.abc import Iterator

from django.db import OperationalError, connection, transaction

from sisy.models import Run, Task, Worker
from tests.flow.processes import PATIENCE, Process


def freeze(process: Process) -> None:
    """Send SIGSTOP at a moment when the process has no row locked: others could wait for its commit for ever."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        process.send(signal.SIGSTOP)
        if is_nothing_locked():
            return
        process.send(signal.SIGCONT)
        time.sleep(0.02)
    raise AssertionError(f"`{process.command}` had rows locked whenever it was stopped:\n{process.output}")


def is_nothing_locked() -> bool:
    """Whether every row could be changed now."""
    try:
        with busy_timeout(0.3), transaction.atomic():
            for model in (Task, Run, Worker):
                rows = model._default_manager.all()
                list(rows.select_for_update(nowait=True) if connection.features.has_select_for_update_nowait else rows)
    except OperationalError:
        return False
    return True


@contextlib.contextmanager
def busy_timeout(seconds: float) -> Iterator[None]:
    """Have SQLite wait for somebody else's transaction for so long only."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        before = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {before}")
