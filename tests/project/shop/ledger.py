"""A file in which tasks write down that they ran, one JSON line an event, from any number of processes and threads.

The file is the one that SISY_TEST_LEDGER names; without it nothing is written. Flow tests read it to see what really
happened, whatever the database says.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any


def append(**fields: Any) -> None:
    """Add one line: the fields, the process and the time (seconds since 1970).

    O_APPEND and a single write keep the lines of concurrent writers whole.
    """
    path = os.environ.get("SISY_TEST_LEDGER")
    if not path:
        return
    line = json.dumps({**fields, "pid": os.getpid(), "at": time.time()}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def entry(message: dict[str, Any], function: str) -> Iterator[None]:
    """Write a `begin` line, then an `end` line if the body comes to its end; a killed or raising one does not.

    Within a run the lines have its key, its attempt, and the token with which it was claimed.
    """
    task = message["task"]
    fields = {"function": function, "label": task.label, "userdata": dict(task.userdata or {}), **of_run(task)}
    append(kind="begin", **fields)
    yield
    append(kind="end", **fields)


def of_run(task: Any) -> dict[str, Any]:
    """Return what tells one start of a task's run from another."""
    run = getattr(task, "current_run", None)
    return {} if run is None else {"run": run.pk, "attempt": run.attempt, "claim": str(run.claim)}


def lines(**wanted: Any) -> list[dict[str, Any]]:
    """Return what was written so far, oldest first, as far as the fields have the wanted values."""
    try:
        with open(os.environ["SISY_TEST_LEDGER"], encoding="utf-8") as file:
            written = [parsed(line) for line in file]
    except FileNotFoundError:
        return []
    return [line for line in written if line is not None and wanted.items() <= line.items()]


def parsed(line: str) -> dict[str, Any] | None:
    """Parse a line; a writer that was killed within its write left half of one, and the next one went on behind it."""
    start = 0
    while start >= 0:
        try:
            found: dict[str, Any] = json.loads(line[start:])
        except json.JSONDecodeError:
            start = line.find('{"', start + 1)
        else:
            return found
    return None
