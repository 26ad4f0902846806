"""Several worker processes under one parent: started, kept alive, told to stop, waited for.

sisy_worker --processes runs it. Each child is a process of its own from the start: nothing is shared but the database
and the channel layer, and a child that crashes takes nothing with it.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Final, NoReturn

from sisy.backoff import Backoff
from sisy.worker.listener import PARENT_VARIABLE

_log = logging.getLogger("sisy.worker")
_STEADY_SECONDS: Final = 30.0  # a child that lived this long did not die of how it was started
_GLANCE: Final = 0.05
_SAME_SIGNAL_SECONDS: Final = 0.5  # terminals and process managers signal a process and its group: one request


@dataclass
class _Child:
    """One place for a worker process, and the process that has it now."""

    number: int
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    not_before: float = 0.0
    done: bool = False
    backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self.backoff = Backoff(f"Worker process {self.number}", meanwhile="the others go on", log=_log)


def supervise(arguments: Sequence[str], *, processes: int) -> int:
    """Run worker processes until SIGTERM or SIGINT, or until a burst is over; return the exit code.

    Args:
        arguments: what follows `manage.py` for one child.
        processes: how many.
    """
    children = [_Child(number) for number in range(1, processes + 1)]
    signals: list[int] = []

    last = -_SAME_SIGNAL_SECONDS

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last < _SAME_SIGNAL_SECONDS:
            return
        last = time.monotonic()
        signals.append(number)
        for child in children:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    codes: list[int] = []
    while not all(child.done for child in children):
        for child in children:
            _look_after(child, arguments, signals=signals, codes=codes)
        time.sleep(_GLANCE)
    return max(codes, default=0)


def start_anew() -> NoReturn:
    """Replace this process by a new one with the same command line: for functions that can't be stopped otherwise."""
    logging.shutdown()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *_interpreter_options(), *_program(), *sys.argv[1:]])  # noqa: S606 - ours


def _look_after(child: _Child, arguments: Sequence[str], *, signals: Sequence[int], codes: list[int]) -> None:
    if child.done:
        return
    if child.process is None:
        if signals:
            child.done = True
        elif time.monotonic() >= child.not_before:
            child.process, child.started = _start(arguments), time.monotonic()
            if signals:  # one came while it was being started
                child.process.send_signal(signal.SIGTERM)
        return
    code = child.process.poll()
    if code is None:
        if time.monotonic() - child.started > _STEADY_SECONDS:
            child.backoff.worked()
        return
    child.process = None
    if signals or code == 0:  # 0 without being asked: a burst is over
        child.done = True
        if code == -signal.SIGTERM:  # it was only starting, and had claimed nothing
            code = 0
        codes.append(code if code >= 0 else 128 - code)
        return
    child.not_before = time.monotonic() + child.backoff.failed(f"it ended with exit code {code}")


def _start(arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start one child in a session of its own, so that Ctrl-C in a terminal reaches it through this parent only."""
    command = [sys.executable, *_interpreter_options(), *_program(), *arguments]
    environment = {
        **os.environ,
        PARENT_VARIABLE: str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.Popen(command, start_new_session=True, env=environment)  # noqa: S603 - our own command line


def _program() -> list[str]:
    """Return how this process was started: a manage.py, `-m django`, or django-admin."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return ["-m", spec.name.removesuffix(".__main__")]
    return [sys.argv[0]]


def _interpreter_options() -> list[str]:
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return]
