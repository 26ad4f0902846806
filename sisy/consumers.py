"""Channels' consumers: parse the message, tell this process's engine, never raise, keep nothing.

routing.py names their channels; both sisy_worker and plain `runworker` feed them.
"""

import logging
from typing import Any

from channels.consumer import AsyncConsumer

from sisy import layer
from sisy.messages import Cancel, Message, Nudge, Tick, from_message
from sisy.worker.engine import process_engine

_log = logging.getLogger("sisy.worker")


class _BellConsumer(AsyncConsumer):
    """Takes exactly the messages of sisy; a handler chosen by the message's type would make each method callable."""

    channel_layer_alias = "sisy opens no channel of its own"  # not configured: one failure mode less

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Take one message; whatever it is, this consumer lives on."""
        parsed = from_message(message)
        if parsed is None:
            _log.debug("A message that is none of sisy's was dropped")
            return
        try:
            self.take(parsed, message)
        except Exception:
            _log.exception("A %s could not be passed on", parsed.type)

    def take(self, parsed: Message, message: dict[str, Any]) -> None:
        """Tell the engine; takes no time."""
        raise NotImplementedError


class HeartbeatConsumer(_BellConsumer):
    """Has the engine tick."""

    def take(self, parsed: Message, message: dict[str, Any]) -> None:
        """Tick, in the engine's own thread."""
        if isinstance(parsed, Tick):
            engine = process_engine()
            engine.start_ticking()
            engine.request_tick()
            if not engine.is_running:  # plain runworker: what waits since before it started needs a nudge
                layer.nudge([])


class RunConsumer(_BellConsumer):
    """Has the engine look for runs, or for those that it is to cancel."""

    def take(self, parsed: Message, message: dict[str, Any]) -> None:
        """Wake the pump, or the keeper."""
        engine = process_engine()
        if isinstance(parsed, Nudge):
            engine.start_running()
            engine.wake(message)
        elif isinstance(parsed, Cancel):
            engine.look_for_cancelled()
