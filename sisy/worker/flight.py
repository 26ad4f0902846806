"""A run on its way through a slot: what it is doing, how to make it stop, and what a worker leaves to others.

pool.py makes one for each claimed run; keeper.py interrupts those that are overdue or cancelled.
"""

import asyncio
import ctypes
import math
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sisy.errors import Cancelled, TimedOut
from sisy.models import Run

Interruption = type[TimedOut] | type[Cancelled]

_OBEY_SECONDS: Final = 1.0  # a function that was interrupted may take this long to clean up
_IMPORT_SECONDS: Final = 60.0  # an import that takes longer does not end, and would keep its slot for ever


@dataclass(eq=False)
class Flight:
    """A run in a slot."""

    run: Run
    claim: UUID
    message: dict[str, Any]
    began: float = field(default_factory=time.monotonic)
    started_at: datetime | None = None
    start_written: bool = False
    interruption: Interruption | None = None
    interrupted: float = math.inf
    fenced: bool = False
    superseded: bool = False
    """Whether this worker has claimed the run anew since: then nothing that comes of it counts."""
    thread: int | None = None
    coroutine: "asyncio.Task[None] | None" = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def age(self) -> float:
        """Seconds since it took its slot."""
        return time.monotonic() - self.began

    @property
    def is_overdue(self) -> bool:
        """Whether it runs longer than its task's timeout; finding the function, an import, may take a minute more."""
        timeout = self.run.task.timeout if self.run.task is not None else None
        before = _IMPORT_SECONDS if self.started_at is None else 0.0
        return timeout is not None and self.age > timeout.total_seconds() + before

    @property
    def ignores_interruption(self) -> bool:
        """Whether it was told to stop and goes on."""
        return time.monotonic() - self.interrupted > _OBEY_SECONDS

    def interrupt(self, kind: Interruption) -> None:
        """Make the function stop, once: cancel its coroutine, or raise in its thread at the next line of Python."""
        if self.interruption is not None or not self.lock.acquire(timeout=1):  # an interruption can hit its holder
            return
        try:
            self.interruption, self.interrupted = kind, time.monotonic()
            if self.coroutine is not None:
                self.coroutine.get_loop().call_soon_threadsafe(self.coroutine.cancel)
            elif self.thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(kind))
        finally:
            self.lock.release()

    def explained(self, error: BaseException | None) -> BaseException:
        """Return what an interruption means, in words; the traceback of an error still shows where the function was."""
        timeout = self.run.task.timeout if self.run.task is not None else None
        kind = self.interruption or Cancelled
        text = f"it ran longer than its timeout of {timeout}" if kind is TimedOut else "it was cancelled"
        if error is None:
            return kind(f"{text}, and did not stop when it was told to")
        return kind(text).with_traceback(error.__traceback__)

    def enter(self) -> None:
        """The function is about to be called in this thread."""
        with self.lock:
            self.thread = threading.get_ident()
            if self.interruption is not None:
                raise self.interruption

    def leave(self) -> None:
        """The function has returned: what was raised in this thread too late must not hit the next run."""
        with self.lock:
            if self.thread is not None and self.interruption is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), None)
            self.thread = None


@dataclass(frozen=True, kw_only=True)
class Declined:
    """A run whose code this process lacks.

    Args:
        run: the run, as it was claimed.
        claim: its token.
        reason: what is missing.
    """

    run: Run
    claim: UUID
    reason: str
