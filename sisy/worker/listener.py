"""Channels' Worker with sisy's manners: it reconnects, takes only what it knows, and drains when asked to stop.

The commands sisy_worker and sisy run it. Messages go through the consumers, as with Channels' own worker.
"""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from asgiref.server import StatelessServer
from channels.routing import ChannelNameRouter
from channels.worker import Worker
from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError

from sisy import conf, layer
from sisy.backoff import Backoff
from sisy.messages import Nudge, from_message
from sisy.models import Worker as WorkerRow
from sisy.sender import DEADLINE, ChannelLayer
from sisy.worker.engine import EXIT_LOOP_DIED, Engine
from sisy.worker.heartbeat import Heartbeat

_log = logging.getLogger("sisy.worker")

EXIT_ABANDONED: Final = 75
"""Exit code of a worker that left runs behind which did not end in time (EX_TEMPFAIL)."""

EXIT_RECYCLE: Final = 76
"""What `work` returns when the process shall be started anew, since a function in it can't be stopped."""

PARENT_VARIABLE: Final = "SISY_PARENT_PID"
"""Environment variable that tells a worker whose child it is, so that it ends when its parent was killed."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SAME_SIGNAL_SECONDS: Final = 0.5  # process managers signal a process and its group: that is one request
_MOST_UNREADABLE: Final = 1000  # messages in a row that can't even be read; after that something else is wrong
_PAUSE_AFTER_UNREADABLE: Final = 0.01
_LOOK_FOR_ROOM_FIRST: Final = 0.002  # seconds after which it looks whether a slot is free again; then it doubles
_LOOK_FOR_ROOM_EVERY: Final = 0.05
_LOOK_EVERY: Final = 0.5  # seconds between two looks whether the parent lives and nothing has died or got stuck
_IDLE_POP_SECONDS: Final = 2.0  # a pop that times out after this long was idle; earlier, the layer is in trouble


class SisyWorker(Worker):
    """Listens to channels and runs an engine until SIGTERM or SIGINT, or until a burst is over.

    Args:
        application: the ASGI application that the messages go to.
        channels: the channels to listen to.
        channel_layer: the layer, or None: then it works by polling alone.
        engine: the engine of this process.
        heartbeat: ticks within this process, or None.
    """

    def __init__(
        self,
        application: ChannelNameRouter,
        channels: Sequence[str],
        channel_layer: ChannelLayer | None,
        *,
        engine: Engine,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        StatelessServer.__init__(self, application)  # type: ignore[no-untyped-call]
        self.channels = list(channels)
        self.channel_layer = channel_layer  # type: ignore[assignment]  # None is fine here
        self.exit_code = 0
        self.dropped = 0
        self._engine = engine
        self._heartbeat = heartbeat
        self._asked_to_stop = 0
        self._asked_at = 0.0
        self._awake = asyncio.Event()
        self._owns_process = False
        self._parent = int(os.environ.get(PARENT_VARIABLE, "0"))

    def work(self) -> int:
        """Work until asked to stop, then drain; return the exit code.

        Raises:
            CommandError: the database can't be used at all.
        """
        try:
            WorkerRow.objects.exists()
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(
                f"The database can't be used: {error}. Is it running, and were the migrations run (manage.py migrate)?"
            ) from error
        self._owns_process = True
        self.run()  # type: ignore[no-untyped-call]
        return 0 if self.exit_code == EXIT_RECYCLE and self._asked_to_stop else self.exit_code

    async def handle(self) -> None:
        """Work until asked to stop, then drain."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._ask_to_stop, number)
        self._engine.on_drained = functools.partial(_from_thread, loop, self._awake.set)
        self._engine.start()
        channels = [] if self.channel_layer is None else self.channels
        tasks = [asyncio.create_task(self.listener(channel), name=f"listener of {channel}") for channel in channels]
        if self._heartbeat is not None:
            tasks.append(asyncio.create_task(self._heartbeat.beat(), name="heartbeat"))
        try:
            await self._until_stopped(tasks)
        finally:
            await _cancel(tasks)
        await self._drain()
        if self._owns_process:
            # A signal that comes once more must not kill what is about to exit in good order. One that comes while it
            # starts anew must: ignoring would be inherited, and it would work on although it was told to stop.
            after = signal.SIG_DFL if self.exit_code == EXIT_RECYCLE and not self._asked_to_stop else signal.SIG_IGN
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, after)

    async def listener(self, channel: str) -> None:
        """Pass on what arrives on one channel; nothing that arrives, and no outage, ends it."""
        trouble = Backoff(f"Listening to the channel {channel}", meanwhile="this worker polls the database", log=_log)
        unreadable = 0
        while True:
            began = time.monotonic()
            try:
                message = await self.channel_layer.receive(channel)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # each layer and each broken message has errors of its own
                if "Timeout" in type(error).__name__ and time.monotonic() - began > _IDLE_POP_SECONDS:
                    continue
                unreadable = 0 if _is_outage(error) else unreadable + 1
                if 0 < unreadable < _MOST_UNREADABLE:
                    self._drop(channel)
                    await asyncio.sleep(_PAUSE_AFTER_UNREADABLE)
                    continue
                await asyncio.sleep(trouble.failed(error))
                continue
            trouble.worked()
            unreadable = 0
            await self._take(channel, message)

    async def _take(self, channel: str, message: Any) -> None:
        parsed = from_message(message)
        if parsed is None:
            self._drop(channel)
            return
        scope = {"type": "channel", "channel": channel}
        await self.get_or_create_application_instance(channel, scope).put(message)  # type: ignore[no-untyped-call]
        if isinstance(parsed, Nudge) and self._engine.is_full and layer.hands_to_one(self.channel_layer):
            await self._leave_to_others(channel, parsed)

    async def _leave_to_others(self, channel: str, nudge: Nudge) -> None:
        """Put back a nudge that came while every slot is taken, and take no other until one is free.

        It reached this worker alone, and another one may be idle. If none is, it lies there until somebody is.
        """
        try:
            async with asyncio.timeout(DEADLINE):
                await self.channel_layer.send(channel, nudge.to_message())
        except Exception as error:  # each layer has errors of its own; the others poll
            _log.debug("A nudge could not be put back on %s: %r", channel, error)
        pause = _LOOK_FOR_ROOM_FIRST
        while self._engine.is_full:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LOOK_FOR_ROOM_EVERY)

    def _drop(self, channel: str) -> None:
        self.dropped += 1
        log = _log.warning if self.dropped == 1 else _log.debug
        log("A message on %s is none of sisy's and was dropped (%s so far)", channel, self.dropped)

    def _ask_to_stop(self, number: int) -> None:
        now = time.monotonic()
        if self._asked_to_stop and now - self._asked_at < _SAME_SIGNAL_SECONDS:
            return
        self._asked_to_stop, self._asked_at = self._asked_to_stop + 1, now
        self._awake.set()
        if self._asked_to_stop == 1:
            _log.info("%s: claiming nothing more, waiting for what is running", signal.Signals(number).name)
            self._engine.stop()
        else:
            _log.warning("%s again: not waiting any longer", signal.Signals(number).name)

    async def _until_stopped(self, tasks: Sequence["asyncio.Task[None]"]) -> None:
        while not self._asked_to_stop and not self._engine.drained.is_set():
            if self._parent and os.getppid() != self._parent:
                _log.warning("The parent of this worker process is gone: it drains and ends")
                self._engine.stop()
                return
            if self._engine.needs_recycling and not self.exit_code:
                _log.error("A function ignored its timeout or cancellation; this process drains and starts anew")
                self.exit_code = EXIT_RECYCLE
                self._engine.stop()
                return
            for task in tasks:
                if task.done():
                    _log.critical("The loop %s died; this process ends", task.get_name(), exc_info=task.exception())
                    self.exit_code = EXIT_LOOP_DIED
                    self._engine.stop()
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._awake.wait()

    async def _drain(self) -> None:
        deadline = time.monotonic() + conf.current().drain_timeout.total_seconds()
        while not self._engine.drained.is_set():
            if time.monotonic() > deadline or self._asked_to_stop > 1:
                loop = asyncio.get_running_loop()
                if await loop.run_in_executor(None, self._engine.abandon):
                    self.exit_code = self.exit_code or EXIT_ABANDONED
                return
            await asyncio.sleep(0.02)


def _is_outage(error: Exception) -> bool:
    """Tell a layer that is away from a message that can't be read."""
    return isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith("redis")


def _from_thread(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function in an event loop, unless that has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


async def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks until they are done: on Python 3.11, asyncio.wait_for loses a cancellation that meets its result."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)
