"""The engine of a worker process: its pump, its keeper and its ticker, each in a thread with a connection of its own.

listener.py drives one, plain runworker gets one through consumers.py. The threads die loudly: a loop of ours that ends
by an exception takes the process down.
"""

import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from sisy import conf, layer, maintenance
from sisy.messages import Cancel, Message, Nudge, run_channels, worker_channel
from sisy.transitions import returns
from sisy.worker.keeper import Keeper
from sisy.worker.pump import Pump
from sisy.worker.ticker import Ticker

_log = logging.getLogger("sisy.worker")

EXIT_LOOP_DIED: Final = 70
"""Exit code of a process in which a loop of sisy died (EX_SOFTWARE)."""


class Engine:
    """Runs tasks in this process.

    Args:
        queues: the queues to serve, or None for all.
        concurrency: runs at the same time, or None for SISY["CONCURRENCY"].
        burst: whether to stop by itself when nothing is ready any more.
        on_death: called when a loop dies; None ends the process at once with EXIT_LOOP_DIED.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        burst: bool = False,
        on_death: Callable[[], None] | None = None,
    ) -> None:
        self.id = uuid.uuid4()
        self.queues = None if queues is None else sorted(set(queues))
        self.pump = Pump(
            worker=self.id,
            queues=self.queues,
            concurrency=concurrency or conf.current().concurrency,
            burst=burst,
        )
        self.keeper = Keeper(worker=self.id, pump=self.pump)
        self.ticker = Ticker()
        self.threads: dict[str, threading.Thread] = {}
        self.on_drained: Callable[[], None] | None = None
        """Called, from a thread of its own, when `drained` is set."""
        self._on_death = on_death or _end_process

    @property
    def channels(self) -> list[str]:
        """The channels of its runs: its queues' or the common one, and its own."""
        channel, queues = conf.current().run_channel, self.queues
        served = run_channels(channel, None if queues is None else frozenset(queues))
        return [*served, worker_channel(channel, self.id)]

    @property
    def drained(self) -> threading.Event:
        """Set when the engine was stopped, or its burst is over, and every run is written."""
        return self.pump.drained

    @property
    def needs_recycling(self) -> bool:
        """Whether a function ignored its timeout or cancellation and still occupies this process."""
        return self.pump.pool.stuck > 0

    @property
    def is_full(self) -> bool:
        """Whether every slot is taken, or has a run that waits for it."""
        return self.pump.pool.in_hand >= self.pump.pool.concurrency

    @property
    def is_running(self) -> bool:
        """Whether it claims runs."""
        return "sisy-pump" in self.threads and not self.drained.is_set()

    def start(self) -> None:
        """Start to claim and to tick; calling it again is harmless."""
        self.start_running()
        self.start_ticking()

    def start_running(self) -> None:
        """Start to claim and execute runs."""
        if "sisy-pump" not in self.threads:
            layer.add_bell(self.hear)
            self._spawn("sisy-pump", self._pump_until_drained)
            self._spawn("sisy-leases", self.keeper.run)

    def start_ticking(self) -> None:
        """Be ready for ticks."""
        if "sisy-ticks" not in self.threads:
            self._spawn("sisy-ticks", self.ticker.run)

    def wake(self, message: Mapping[str, Any] | None = None) -> None:
        """Look for runs now; see `Pump.wake`."""
        self.pump.wake(message)

    def request_tick(self) -> None:
        """Tick now; see `Ticker.request`."""
        self.ticker.request()

    def look_for_cancelled(self) -> None:
        """See at once which runs somebody wants to be cancelled; see `Keeper.look_for_cancelled`."""
        self.keeper.look_for_cancelled()

    def hear(self, message: Message) -> None:
        """Take a message of this process's own, from any thread."""
        if isinstance(message, Nudge):
            self.wake(message.to_message())
        elif isinstance(message, Cancel):
            self.look_for_cancelled()
        else:
            self.request_tick()

    def stop(self) -> None:
        """Claim nothing more, hand back what has not started, wait for the rest; `drained` says when."""
        self.ticker.stop()
        self.pump.stop()

    def abandon(self) -> int:
        """Give up the runs that are still executing, so that others rescue them at once; return how many."""
        self.keeper.close()
        held = self.pump.held()
        abandoned = returns.expire(held) if held else 0
        if abandoned:
            _log.warning("%s runs did not end in time and were abandoned; they are rescued by their policy", abandoned)
            maintenance.rescue(timezone.now())
        return abandoned

    def _pump_until_drained(self) -> None:
        self.pump.run()
        layer.remove_bell(self.hear)
        self.keeper.close()
        if self.on_drained is not None:
            self.on_drained()

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                target()
            except BaseException:
                _log.critical("The loop %s died; this process ends", name, exc_info=True)
                self._on_death()
            finally:
                connection.close()

        self.threads[name] = threading.Thread(target=guarded, name=name, daemon=True)
        self.threads[name].start()


def process_engine() -> Engine:
    """Return this process's engine, making one for all queues if there is none; plain `runworker` gets it this way."""
    global _engine
    with _engine_lock:
        if _engine is None:
            _engine = Engine()
        return _engine


def use_engine(engine: Engine | None) -> None:
    """Make an engine this process's; consumers wake it."""
    global _engine
    with _engine_lock:
        _engine = engine


_engine: Engine | None = None
_engine_lock = threading.Lock()


def _end_process() -> None:
    logging.shutdown()
    os._exit(EXIT_LOOP_DIED)
