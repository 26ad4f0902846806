"""Functions that do harm: to their process, to their thread, to what the next function finds."""

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Any

from tests.project.shop import ledger

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
