"""The only caller of the channel layer: it sends with a deadline and never raises.

Heartbeat and observers call `send_tick`, `nudge`, `cancel` and `kick`; an engine registers a bell, so that what happens
in its own process reaches it without the layer. A message that can't be sent costs time, never a run.
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
from sisy.messages import Cancel, Message, Nudge, Tick, worker_channel

_log = logging.getLogger("sisy.layer")
_DEADLINE: Final = 1.0  # seconds that one send may take
_PACE: Final = 0.01  # seconds between two sends: a thousand runs that are enqueued one by one are no thousand messages

Bell = Callable[[Message], None]


class ChannelLayer(Protocol):
    """What sisy uses of a channel layer."""

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Put a message on a channel."""

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for a message on a channel."""


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
        self._awake = threading.Event()
        self._idle = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self, messages: dict[str, Message]) -> None:
        """Send each message to its channel, soon."""
        if is_local(configured()):
            return
        with self._lock:
            self._pending.update(messages)
            self._idle.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sisy-nudges", daemon=True)
                self._thread.start()
        self._awake.set()

    def flush(self, timeout: float = _DEADLINE) -> None:
        """Wait until everything is sent, for at most `timeout` seconds."""
        if self._thread is not None:
            self._idle.wait(timeout)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            backoff = Backoff(
                "Nudging workers through the channel layer", meanwhile="workers go on by polling", log=_log
            )
            layer = channel_layers.make_backend(conf.current().channel_layer)
            not_before = paced_until = 0.0
            while True:
                self._awake.wait(max(0.0, not_before - time.monotonic()) if self._pending else None)
                self._awake.clear()
                time.sleep(max(0.0, paced_until - time.monotonic()))
                if time.monotonic() >= not_before:
                    with self._lock:
                        batch, self._pending = self._pending, {}
                    failure = runner.run(_send_all(layer, batch)) if batch else None
                    paced_until = time.monotonic() + _PACE
                    if failure is not None:
                        not_before = time.monotonic() + backoff.failed(failure)
                        with (
                            self._lock
                        ):  # one for each channel, however many there were: it is sent when it works again
                            self._pending = batch | self._pending
                    elif batch:
                        backoff.worked()
                if not self._pending or time.monotonic() < not_before:
                    self._idle.set()


async def _send_all(layer: ChannelLayer, batch: dict[str, Message]) -> Exception | None:
    """Send a batch; return what went wrong first, and leave out the rest then."""
    for channel, message in batch.items():
        try:
            await asyncio.wait_for(_send_to_each_host(layer, channel, message.to_message()), _DEADLINE)
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
