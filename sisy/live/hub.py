"""Hears what changes, once for all sockets of an event loop, and tells them; sockets.py joins and leaves.

One member of the channel layer's group a process, not one a socket: what fifty open dashboards cost the processes that
run tasks is what one costs. Without a layer that reaches other processes, it hears of its own process's changes only,
and says so.
"""

import asyncio
import contextlib
import logging
import threading
import time
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from sisy import conf, layer
from sisy.backoff import Backoff
from sisy.messages import EVERYTHING, Changed, live_group

_log = logging.getLogger("sisy.live")
_DEADLINE: Final = 2.0  # seconds that joining the group may take
_JOIN_EVERY: Final = 5.0  # seconds: a server that was restarted has forgotten the group
_IDLE_POP_SECONDS: Final = 2.0  # a pop that times out after this long was idle; earlier, the layer is in trouble
_LONGEST_PAUSE: Final = 5.0  # seconds between two attempts to reach the layer


class Listener(Protocol):
    """Somebody who wants to hear of changes; all calls come from the hub's event loop."""

    def hint(self, changed: Changed) -> None:
        """Rows changed."""

    def say_live(self, is_live: bool) -> None:
        """Changes will be heard of from now on, or not any more."""


class Hub:
    """Hears what changes while somebody listens.

    Args:
        loop: the event loop of the listeners.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_live = False
        """Whether changes made by other processes are heard of."""
        self._loop = loop
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._local: Changed | None = None

    def join(self, listener: Listener) -> None:
        """Tell a listener of changes until it leaves."""
        self._listeners.add(listener)
        if self._task is None or self._task.done():
            layer.add_watcher(self._hear_own)
            self._task = self._loop.create_task(self._listen(), name="sisy live hub")
        else:
            listener.say_live(self.is_live)

    def leave(self, listener: Listener) -> None:
        """Tell a listener no more."""
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            layer.remove_watcher(self._hear_own)
            self._task.cancel()
            self._task, self.is_live = None, False

    def _hear_own(self, changed: Changed) -> None:
        """Pass on a change made by this process; from any thread."""
        if not layer.is_local(layer.configured()):  # it comes back through the layer
            return
        with self._lock:
            is_first, self._local = self._local is None, changed if self._local is None else self._local | changed
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._pass_on_own)

    def _pass_on_own(self) -> None:
        with self._lock:
            changed, self._local = self._local, None
        if changed is not None:
            self._tell(changed)

    def _tell(self, changed: Changed) -> None:
        for listener in list(self._listeners):
            listener.hint(changed)

    def _set_live(self, is_live: bool) -> None:
        was_live, self.is_live = self.is_live, is_live
        if was_live == is_live and self._said:
            return
        self._said = True
        for listener in list(self._listeners):
            listener.say_live(is_live)
        if is_live and not was_live:
            self._tell(EVERYTHING)  # what happened until now was not heard of

    async def _listen(self) -> None:
        self._said = False
        trouble = Backoff(
            "Hearing of changes through the channel layer",
            meanwhile="open pages poll",
            log=_log,
            longest=_LONGEST_PAUSE,
        )
        while True:
            reached = layer.configured()
            if reached is None or layer.is_local(reached):
                self._set_live(layer.hears_changes(reached))
                await asyncio.sleep(1)
                continue
            try:
                await self._hear(reached, trouble)
            except Exception as error:  # each layer has errors of its own
                self._set_live(False)
                await asyncio.sleep(trouble.failed(error))

    async def _hear(self, reached: Any, trouble: Backoff) -> None:
        """Be a member of the group until the layer fails."""
        group, channel = live_group(conf.current().run_channel), await reached.new_channel("sisy")
        await asyncio.wait_for(reached.group_add(group, channel), _DEADLINE)
        trouble.worked()
        self._set_live(True)
        membership = self._loop.create_task(_stay(reached, group, channel), name="sisy live group")
        try:
            while True:
                changed = Changed.from_message(await _receive(reached, channel, membership))
                if changed is not None:
                    self._tell(changed)
        finally:
            membership.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(reached.group_discard(group, channel), _DEADLINE)

    _said = False


async def _stay(reached: Any, group: str, channel: str) -> None:
    """Join the group again and again; ends with an exception when the layer is away."""
    while True:
        await asyncio.sleep(_JOIN_EVERY)
        await asyncio.wait_for(reached.group_add(group, channel), _DEADLINE)


async def _receive(reached: Any, channel: str, membership: "asyncio.Task[None]") -> object:
    """Wait for the next message; an idle wait is no failure, a lost membership is one."""
    began = time.monotonic()
    if membership.done():
        membership.result()
    try:
        return await reached.receive(channel)
    except Exception as error:
        if "Timeout" in type(error).__name__ and time.monotonic() - began > _IDLE_POP_SECONDS:
            return None
        raise


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub_of_this_loop() -> Hub:
    """Return the hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub(loop)
    return _hubs[loop]
