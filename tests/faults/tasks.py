"""Functions that do harm: to their process, to their thread, to what the next function finds."""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, connections
from django.utils import timezone, translation

from tests.project.shop import ledger
from tests.project.shop.models import Ledger

Message = dict[str, Any]


def die_after_the_effect(message: Message) -> None:
    """Come to the end, then kill the process before that is written down; only the first time."""
    with ledger.entry(message, "die_after_the_effect"):
        pass
    if len(ledger.lines(kind="end", label=message["task"].label)) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    ctypes.string_at(0)


def exit_at_once() -> None:
    os._exit(3)


DEATHS: dict[str, Callable[[], None]] = {"segfault": segfault, "exit": exit_at_once}


def die(message: Message) -> None:
    """Take the process along in one of several ways."""
    with ledger.entry(message, "die"):
        DEATHS[message["task"].userdata["how"]]()


def hold_the_gil(message: Message) -> None:
    """Let no other thread of this process run for userdata["seconds"], as some C extensions do."""
    with ledger.entry(message, "hold_the_gil"):
        ctypes.PyDLL(None).usleep(int(message["task"].userdata["seconds"] * 1e6))


def returns_much(message: Message) -> str:
    """Return almost as much as a result may be."""
    with ledger.entry(message, "returns_much"):
        return "x" * 60_000


def spin(message: Message) -> None:
    """Never end, and never wait."""
    while True:
        pass


def sleep_for_ever(message: Message) -> None:
    """Wait in C, where no exception can be raised."""
    time.sleep(1e9)


def exhaust_memory(message: Message) -> None:
    """Ask for more memory than there can be."""
    bytearray(1 << 62)


def recurse(message: Message) -> None:
    """Call itself without end."""
    recurse(message)


def leave_a_mess(message: Message) -> None:
    """Change what the next function on this thread would find."""
    with ledger.entry(message, "leave_a_mess"):
        timezone.activate("Asia/Kathmandu")
        translation.activate("fr")
        connection.set_autocommit(False)
        Ledger.objects.create(note="never committed", task_label="mess")
        connections["other"].close()


def look_around(message: Message) -> None:
    """Write down what it finds."""
    found = {
        "zone": timezone.get_current_timezone_name(),
        "language": translation.get_language(),
        "autocommit": connection.get_autocommit(),
        "notes": list(Ledger.objects.values_list("note", flat=True)),
        "others": Ledger.objects.using("other").count(),
    }
    with ledger.entry(message, "look_around"):
        ledger.append(kind="found", **found)
