"""What leaves this process for the channel layer without anybody waiting for it: nudges, ticks, cancels and hints.

layer.py owns one. Callers in requests and transactions return at once; a thread with a layer of its own sends, many
messages for one channel as one.
"""

import asyncio
import contextlib
import logging
import threading
import time
from typing import Any, Final, Protocol

from channels.exceptions import ChannelFull
from channels.layers import channel_layers

from sisy import conf
from sisy.backoff import Backoff
from sisy.messages import Changed, Message, live_group

_log = logging.getLogger("sisy.layer")

DEADLINE: Final = 1.0
"""Seconds that one send may take."""

_PUBLISH_EVERY: Final = 0.5  # seconds between two hints of one process to all who watch
_PACE: Final = 0.01  # seconds between two sends: a thousand runs that are enqueued one by one are no thousand messages


class ChannelLayer(Protocol):
    """What sisy uses of a channel layer."""

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Put a message on a channel."""

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for a message on a channel."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Put a message on each channel of a group."""


class Sender:
    """One daemon thread with one event loop and one layer, started by the first message; it coalesces by channel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, Message] = {}
        self._changed: Changed | None = None
        self._awake = threading.Event()
        self._idle = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._not_before = self._publish_at = 0.0
        self._trouble = Backoff(
            "Nudging workers through the channel layer", meanwhile="workers go on by polling", log=_log
        )

    def send(self, messages: dict[str, Message]) -> None:
        """Send each message to its channel, soon."""
        with self._lock:
            self._pending.update(messages)
            self._start()
        self._awake.set()

    def publish(self, changed: Changed) -> None:
        """Send a hint to the group of those who watch, soon, together with what else changes until then."""
        with self._lock:
            earlier = self._changed
            self._changed = changed if earlier is None else earlier | changed
            self._start()
        if earlier is None:  # the thread knows when the next hint may leave: it need not wake up for each change
            self._awake.set()

    def flush(self, timeout: float = DEADLINE) -> None:
        """Wait until everything is sent, for at most `timeout` seconds."""
        if self._thread is not None:
            self._idle.wait(timeout)

    def close(self, timeout: float = 2 * DEADLINE) -> None:
        """Send nothing more, also what a layer that is away was to be sent later; wait for the thread's end."""
        self._closed = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _start(self) -> None:
        self._idle.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sisy-nudges", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            layer = channel_layers.make_backend(conf.current().channel_layer)
            while not self._closed:
                self._awake.wait(self._pause())
                self._awake.clear()
                batch, changed = self._take(time.monotonic())
                if batch or changed:
                    self._note(runner.run(_send_all(layer, batch, changed)), batch)
                with self._lock:
                    if time.monotonic() < self._not_before or not (self._pending or self._changed):
                        self._idle.set()
                if batch:  # not after a hint: the next nudge must not wait because somebody watches
                    time.sleep(_PACE)
            if hasattr(layer, "close_pools"):
                runner.run(layer.close_pools())

    def _pause(self) -> float | None:
        """Return how many seconds to wait unless something new comes; None for as long as that takes."""
        with self._lock:
            if self._pending:
                return max(0.0, self._not_before - time.monotonic())
            if self._changed is not None:
                return max(0.0, max(self._not_before, self._publish_at) - time.monotonic())
            return None

    def _take(self, now: float) -> tuple[dict[str, Message], Changed | None]:
        """Take what may be sent now: nothing after a failure, and no hint too soon after another one."""
        with self._lock:
            if self._closed or now < self._not_before:
                return {}, None
            batch, self._pending = self._pending, {}
            changed = None
            if now >= self._publish_at and self._changed is not None:
                changed, self._changed, self._publish_at = self._changed, None, now + _PUBLISH_EVERY
            return batch, changed

    def _note(self, failure: Exception | None, batch: dict[str, Message]) -> None:
        """Note how sending went; keep what could not be sent, one message a channel. A hint is worth nothing later."""
        if failure is None:
            self._trouble.worked()
            return
        self._not_before = time.monotonic() + self._trouble.failed(failure)
        with self._lock:
            self._pending = batch | self._pending


async def deliver(layer: ChannelLayer, channel: str, message: Message) -> None:
    """Send a message as often as channels_redis has hosts, within the deadline; a full channel is as good as sent.

    It sends to its hosts in turn, and a receiver waits at one of them until something comes there.
    """
    async with asyncio.timeout(DEADLINE):
        for _ in getattr(layer, "hosts", None) or (None,):
            with contextlib.suppress(ChannelFull):  # whoever reads what is there will look anyway
                await layer.send(channel, message.to_message())


async def _send_all(layer: ChannelLayer, batch: dict[str, Message], changed: Changed | None) -> Exception | None:
    """Send a batch, then the hint; return what went wrong first, and leave out the rest then."""
    try:
        for channel, message in batch.items():
            await deliver(layer, channel, message)
        if changed is not None:
            async with asyncio.timeout(DEADLINE):
                await layer.group_send(live_group(conf.current().run_channel), changed.to_message())
    except Exception as error:  # each layer has errors of its own
        return error
    return None
