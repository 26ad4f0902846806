"""What sisy does with the channel layer: it sends with a deadline and never raises.

Heartbeat and observers call `send_tick`, `nudge`, `cancel`, `kick` and `publish`; an engine registers a bell and a live
hub a watcher, so that what happens in their own process reaches them without the layer. A message that can't be sent
costs time, never a run.
"""

import asyncio
import atexit
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer

from sisy import conf
from sisy.messages import Cancel, Changed, Message, Nudge, Tick, worker_channel
from sisy.sender import DEADLINE, ChannelLayer, Sender, deliver

_log = logging.getLogger("sisy.layer")
PUBSUB_LAYER: Final = "channels_redis.pubsub.RedisPubSubChannelLayer"
Bell = Callable[[Message], None]
Watcher = Callable[[Changed], None]


def configured() -> ChannelLayer | None:
    """Return the layer that SISY["CHANNEL_LAYER"] names, or None when CHANNEL_LAYERS does not have it."""
    layer: ChannelLayer | None = get_channel_layer(conf.current().channel_layer)
    return layer


def is_local(layer: object) -> bool:
    """Tell whether messages on this layer stay in this process."""
    return layer is None or isinstance(layer, InMemoryChannelLayer)


def hands_to_one(layer: object) -> bool:
    """Tell whether a message on a channel reaches one of those who listen there; published ones reach all of them."""
    return not (is_local(layer) or is_a(layer, PUBSUB_LAYER))


def is_a(thing: object, path: str) -> bool:
    """Tell whether something is of a class, or is one itself, that is named by its path; nothing is imported for it."""
    kinds = thing.__mro__ if isinstance(thing, type) else type(thing).__mro__
    return any(f"{kind.__module__}.{kind.__qualname__}" == path for kind in kinds)


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
    if layer is None or (is_local(layer) and not has_engine()):  # the in-memory layer, and no engine in this process
        return False
    channel = conf.current().heartbeat_channel
    try:
        await deliver(layer, channel, Tick())
    except Exception as error:  # each layer has errors of its own, and none may reach a caller
        _log.debug("Sending to %s failed: %r", channel, error)
        return False
    return True


def nudge(queues: Iterable[str]) -> None:
    """Tell workers that there are runs in these queues; returns at once.

    A nudge goes to the queue's own channel and to the common one, to which the workers of all queues listen.
    """
    _ring(Nudge())
    channel = conf.current().run_channel
    _send_soon({channel: Nudge(), **{f"{channel}.{queue}": Nudge() for queue in queues}})


def cancel(workers: Iterable[UUID]) -> None:
    """Tell workers that some of their runs are to be cancelled; returns at once."""
    _ring(Cancel())
    channel = conf.current().run_channel
    _send_soon({worker_channel(channel, worker): Cancel() for worker in workers})


def kick() -> None:
    """Ask for a tick soon, since a task's next slot comes before the next boundary; returns at once."""
    _ring(Tick())
    _send_soon({conf.current().heartbeat_channel: Tick()})


def publish(changed: Changed) -> None:
    """Tell whoever watches that rows changed; returns at once.

    At most two hints a second leave the process, whatever happens in it, and none while nothing changes.
    """
    for watcher in list(_watchers):
        watcher(changed)
    if not is_local(configured()):
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
    return has_engine() or not is_local(layer)


def has_engine() -> bool:
    """Tell whether runs are executed in this process."""
    return bool(_bells)


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
        async with asyncio.timeout(DEADLINE):
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


def _send_soon(messages: dict[str, Message]) -> None:
    if not is_local(configured()):
        _sender.send(messages)


def _start_afresh() -> None:
    """A forked child has no sender thread: give it a new one."""
    global _sender
    _sender = Sender()


_sender = Sender()
os.register_at_fork(after_in_child=_start_afresh)
atexit.register(lambda: _sender.flush())
