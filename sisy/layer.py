"""The only caller of the channel layer: it sends with a deadline and never raises.

Heartbeat and observers call `send_tick`, `nudge`, `cancel`, `kick` and `publish`; an engine registers a bell and a live
hub a watcher, so that what happens in their own process reaches them without the layer. A message that can't be sent
costs time, never a run.
"""

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from channels.exceptions import ChannelFull
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer

from sisy import conf
from sisy.backoff import Backoff
from sisy.messages import Cancel, Changed, Message, Nudge, Tick, live_group, worker_channel

_log = logging.getLogger("sisy.layer")
_DEADLINE: Final = 1.0  # seconds that one send may take
_PUBLISH_EVERY: Final = 0.5  # seconds between two hints of one process to all who watch
_PACE: Final = 0.01  # seconds between two sends: a thousand runs that are enqueued one by one are no thousand messages

Bell = Callable[[Message], None]
Watcher = Callable[[Changed], None]


class ChannelLayer(Protocol):
    """What sisy uses of a channel layer."""

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Put a message on a channel."""

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for a message on a channel."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Put a message on each channel of a group."""


def configured() -> ChannelLayer | None:
    """Return the layer that SISY["CHANNEL_LAYER"] names, or None when CHANNEL_LAYERS does not have it."""
    layer: ChannelLayer | None = get_channel_layer(conf.current().channel_layer)
    return layer


def is_local(layer: object) -> bool:
    """Tell whether messages on this layer stay in this process."""
    return layer is None or isinstance(layer, InMemoryChannelLayer)


def use_in_memory_layer() -> ChannelLayer:
    """Give this process a layer of its own when none is configured; for the one-process command."""
    layer = configured()
    if layer is None:
        layer = InMemoryChannelLayer()
        channel_layers.set(conf.current().channel_layer, layer)
    return layer


async def send_tick() -> bool:
    """Send a tick from async code; return whether somebody may receive it (or the layer is full of ticks already)."""
    layer = configured()
    if layer is None or (is_local(layer) and not _bells):  # the in-memory layer, and no engine in this process
        return False
    return await _send(layer, conf.current().heartbeat_channel, Tick().to_message())


def nudge(queues: Iterable[str]) -> None:
    """Tell workers that there are runs in these queues; returns at once.

    A nudge goes to the queue's own channel and to the common one, to which the workers of all queues listen.
    """
    _ring(Nudge())
    channel = conf.current().run_channel
    _sender.send({channel: Nudge(), **{f"{channel}.{queue}": Nudge() for queue in queues}})


def cancel(workers: Iterable[UUID]) -> None:
    """Tell workers that some of their runs are to be cancelled; returns at once."""
    _ring(Cancel())
    channel = conf.current().run_channel
    _sender.send({worker_channel(channel, worker): Cancel() for worker in workers})


def kick() -> None:
    """Ask for a tick soon, since a task's next slot comes before the next boundary; returns at once."""
    _ring(Tick())
    _sender.send({conf.current().heartbeat_channel: Tick()})


def publish(changed: Changed) -> None:
    """Tell whoever watches that rows changed; returns at once.

    At most two hints a second leave the process, whatever happens in it, and none while nothing changes.
    """
    for watcher in list(_watchers):
        watcher(changed)
    _sender.publish(changed)


def add_watcher(watcher: Watcher) -> None:
    """Have a function called, from any thread, for each change that this process publishes."""
    _watchers.append(watcher)


def remove_watcher(watcher: Watcher) -> None:
    """Undo `add_watcher`."""
    if watcher in _watchers:
        _watchers.remove(watcher)


def hears_changes(layer: object) -> bool:
    """Tell whether what other processes publish reaches this one, or an engine of its own makes the changes."""
    return bool(_bells) or not is_local(layer)


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """What came of sending this process a message through the channel layer.

    Args:
        reaches: "nobody" without a layer, "this process" with the in-memory one, else "all processes".
        time: what the way there and back took; None when it did not come back, or there is no layer.
        error: why it did not come back, or an empty string.
    """

    reaches: str
    time: timedelta | None = None
    error: str = ""


def round_trip() -> RoundTrip:
    """Send this process a message and wait for it, for at most a second; from code without an event loop."""
    if configured() is None:
        return RoundTrip(reaches="nobody")
    reaches = "this process" if is_local(configured()) else "all processes"
    try:
        return RoundTrip(reaches=reaches, time=asyncio.run(_round_trip()))
    except Exception as error:  # each layer has errors of its own
        why = "no answer within a second" if isinstance(error, TimeoutError) else str(error).strip()
        return RoundTrip(reaches=reaches, error=f"{type(error).__name__}: {why}")


async def _round_trip() -> timedelta:
    layer: Any = channel_layers.make_backend(conf.current().channel_layer)
    try:
        async with asyncio.timeout(_DEADLINE):
            channel = await layer.new_channel("sisy.ping")
            await layer.send(channel, Nudge().to_message())  # the first one pays for the connection
            await layer.receive(channel)
            began = time.perf_counter()
            await layer.send(channel, Nudge().to_message())
            await layer.receive(channel)
            return timedelta(seconds=time.perf_counter() - began)
    finally:
        if hasattr(layer, "close_pools"):
            await layer.close_pools()


def add_bell(bell: Bell) -> None:
    """Have a function called, from any thread, for each tick and nudge that this process sends."""
    _bells.append(bell)


def remove_bell(bell: Bell) -> None:
    """Undo `add_bell`."""
    if bell in _bells:
        _bells.remove(bell)


_bells: list[Bell] = []
_watchers: list[Watcher] = []


def _ring(message: Message) -> None:
    for bell in list(_bells):
        bell(message)


async def _send(layer: ChannelLayer, channel: str, message: dict[str, Any]) -> bool:
    try:
        await asyncio.wait_for(_send_to_each_host(layer, channel, message), _DEADLINE)
    except Exception as error:  # each layer has errors of its own, and none may reach a caller
        _log.debug("Sending to %s failed: %r", channel, error)
        return False
    return True


async def _send_to_each_host(layer: ChannelLayer, channel: str, message: dict[str, Any]) -> None:
    """Send a message as often as channels_redis has hosts.

    It sends to them in turn, and a receiver waits at one of them until something comes there.
    """
    for _ in getattr(layer, "hosts", None) or (None,):
        with contextlib.suppress(ChannelFull):  # whoever reads what is there will look anyway
            await layer.send(channel, message)


class _Sender:
    """One daemon thread with one event loop and one layer, started by the first message; it coalesces by channel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, Message] = {}
        self._changed: Changed | None = None
        self._awake = threading.Event()
        self._idle = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self, messages: dict[str, Message]) -> None:
        """Send each message to its channel, soon."""
        if is_local(configured()):
            return
        with self._lock:
            self._pending.update(messages)
            self._start()
        self._awake.set()

    def publish(self, changed: Changed) -> None:
        """Send a hint to the group of those who watch, soon, together with what else changes until then."""
        if is_local(configured()):
            return
        with self._lock:
            is_first, self._changed = (
                self._changed is None,
                changed if self._changed is None else self._changed | changed,
            )
            self._start()
        if is_first:  # the thread knows when the next hint may leave: it need not wake up for each change
            self._awake.set()

    def flush(self, timeout: float = _DEADLINE) -> None:
        """Wait until everything is sent, for at most `timeout` seconds."""
        if self._thread is not None:
            self._idle.wait(timeout)

    def _start(self) -> None:
        self._idle.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sisy-nudges", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            backoff = Backoff(
                "Nudging workers through the channel layer", meanwhile="workers go on by polling", log=_log
            )
            layer = channel_layers.make_backend(conf.current().channel_layer)
            not_before = publish_at = paced_until = 0.0
            while True:
                self._awake.wait(self._pause(not_before=not_before, publish_at=publish_at))
                self._awake.clear()
                time.sleep(max(0.0, paced_until - time.monotonic()))
                now = time.monotonic()
                batch, changed = self._take(with_hint=now >= publish_at) if now >= not_before else ({}, None)
                if changed is not None:
                    publish_at = now + _PUBLISH_EVERY
                if batch or changed:
                    failure = runner.run(_send_all(layer, batch, changed))
                    paced_until = time.monotonic() + _PACE
                    if failure is None:
                        backoff.worked()
                    else:
                        not_before = time.monotonic() + backoff.failed(failure)
                        self._put_back(batch)
                with self._lock:
                    if time.monotonic() < not_before or not (self._pending or self._changed):
                        self._idle.set()

    def _pause(self, *, not_before: float, publish_at: float) -> float | None:
        with self._lock:
            if self._pending:
                return max(0.0, not_before - time.monotonic())
            if self._changed is not None:
                return max(0.0, max(not_before, publish_at) - time.monotonic())
            return None

    def _take(self, *, with_hint: bool) -> tuple[dict[str, Message], Changed | None]:
        with self._lock:
            batch, self._pending = self._pending, {}
            changed = self._changed if with_hint else None
            if with_hint:
                self._changed = None
            return batch, changed

    def _put_back(self, batch: dict[str, Message]) -> None:
        """Keep what could not be sent, one message for each channel; a hint is worth nothing later."""
        with self._lock:
            self._pending = batch | self._pending


async def _send_all(layer: ChannelLayer, batch: dict[str, Message], changed: Changed | None) -> Exception | None:
    """Send a batch, then the hint; return what went wrong first, and leave out the rest then."""
    try:
        for channel, message in batch.items():
            await asyncio.wait_for(_send_to_each_host(layer, channel, message.to_message()), _DEADLINE)
        if changed is not None:
            group = live_group(conf.current().run_channel)
            await asyncio.wait_for(layer.group_send(group, changed.to_message()), _DEADLINE)
    except Exception as error:  # each layer has errors of its own
        return error
    return None


def _start_afresh() -> None:
    """A forked child has no sender thread: give it a new one."""
    global _sender
    _sender = _Sender()


_sender = _Sender()
os.register_at_fork(after_in_child=_start_afresh)
atexit.register(lambda: _sender.flush())
