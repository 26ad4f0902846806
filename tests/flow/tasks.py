"""Functions for the flow tests that a shop would not have: they block, swallow, kill, or tell what they received."""

import asyncio
import contextlib
import os
import signal
import time
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection

from sisy.errors import Skip
from sisy.models import Task
from tests.project.shop import ledger

Message = dict[str, Any]


def tell(message: Message) -> None:
    """Write down the channel message that came with the run."""
    task = message["task"]
    ledger.append(kind="end", function="tell", label=task.label, message=message["message"], **ledger.of_run(task))


def run_once_each(message: Message) -> None:
    """Write down the run's key: each must be in the ledger once."""
    run = message["task"].current_run
    ledger.append(kind="end", function="run_once_each", label=run.label, run=run.pk, attempt=run.attempt)


def create_another(message: Message) -> None:
    """Have another function run."""
    Task.run_once(tell, label="second")


async def ablock(message: Message) -> None:
    """Block the event loop for userdata["seconds"], as an async function must not."""
    with ledger.entry(message, "ablock"):
        time.sleep(message["task"].userdata["seconds"])


def wait_for_file(message: Message) -> None:
    """Run until the file userdata["file"] is there, or for a minute."""
    with ledger.entry(message, "wait_for_file"):
        end = time.monotonic() + 60
        while not os.path.exists(message["task"].userdata["file"]) and time.monotonic() < end:
            time.sleep(0.02)


async def await_file(message: Message) -> None:
    """The same, asynchronously."""
    with ledger.entry(message, "await_file"):
        end = time.monotonic() + 60
        while not os.path.exists(message["task"].userdata["file"]) and time.monotonic() < end:
            await asyncio.sleep(0.02)


def stubborn(message: Message) -> None:
    """Sleep for userdata["seconds"] and swallow whatever is raised in this thread meanwhile."""
    with ledger.entry(message, "stubborn"):
        end = time.monotonic() + message["task"].userdata["seconds"]
        while time.monotonic() < end:
            with contextlib.suppress(Exception):
                time.sleep(0.02)


def kill_worker(message: Message) -> None:
    """Kill the process that runs this, at once."""
    with ledger.entry(message, "kill_worker"):
        os.kill(os.getpid(), signal.SIGKILL)


def fail_with_surrogate(message: Message) -> None:
    """Raise with a text that no database takes, as os.listdir(b"...") gives it for a file name in another encoding."""
    with ledger.entry(message, "fail_with_surrogate"):
        raise RuntimeError("can't open 'caf\udce9.txt'")


def skip_with_surrogate(message: Message) -> None:
    """Skip with such a text."""
    with ledger.entry(message, "skip_with_surrogate"):
        raise Skip("no 'caf\udce9.txt' today")


def fail_with_nul(message: Message) -> None:
    """Raise with a text that PostgreSQL does not take."""
    with ledger.entry(message, "fail_with_nul"):
        raise RuntimeError("embedded\x00null")


if not os.environ.get("SISY_TEST_OLD_CODE"):

    def newcomer(message: Message) -> None:
        """Write down the run's key; a function that only the newer of two deployed versions has."""
        run_once_each(message)


def fail_once(message: Message) -> None:
    """Fail the first attempt, then succeed."""
    with ledger.entry(message, "fail_once"):
        if message["task"].current_run.attempt == 1:
            raise RuntimeError("not yet")


async def arun_once_each(message: Message) -> None:
    """Write down the run's key, asynchronously."""
    await asyncio.sleep(0)
    run_once_each(message)


def _cut_connection() -> None:
    connection.ensure_connection()
    connection.connection.close()


async def acut_connection(message: Message) -> None:
    """Close the database driver's connection behind Django's back, as a server does that restarts."""
    await sync_to_async(_cut_connection)()
    ledger.append(kind="end", function="acut_connection", label=message["task"].label)


def cut_connection(message: Message) -> None:
    """The same in this run's own thread."""
    _cut_connection()
    ledger.append(kind="end", function="cut_connection", label=message["task"].label)
