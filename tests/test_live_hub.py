"""The hub on a channel layer that goes away and comes back: pages are told, and told to look again."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from sisy import layer
from sisy.live import hub as hub_module
from sisy.live.hub import Hub
from sisy.messages import EVERYTHING, Changed, changed
from tests.flow.processes import forget

PATIENCE = 20.0  # seconds


class Cable:
    """Forwards connections to Redis, until it is cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, args=[self._server], daemon=True).start()

    def cut(self) -> None:
        for end in (self._server, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()

    def mend(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._server], daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                here = server.accept()[0]
            except OSError:
                return
            there = socket.create_connection(self._target)
            self._ends += [here, there]
            for one, other in ((here, there), (there, here)):
                threading.Thread(target=_forward, args=[one, other], daemon=True).start()


def _forward(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cable(redis_url, redis_prefix, settings, own_sender, monkeypatch) -> Iterator[Cable]:
    """The way to Redis of this process's layer."""
    host, _colon, rest = redis_url.removeprefix("redis://").partition(":")
    port, _slash, database = rest.partition("/")
    cable = Cable((host, int(port)))
    config = {"hosts": [f"redis://127.0.0.1:{cable.port}/{database}"], "prefix": redis_prefix}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}
    monkeypatch.setattr(hub_module, "_LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(hub_module, "_JOIN_EVERY", 0.3)
    yield cable
    cable.cut()
    forget(redis_url, redis_prefix)


class Page:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[object] = asyncio.Queue()

    def hint(self, changed: Changed) -> None:
        self.told.put_nowait(changed)

    def say_live(self, is_live: bool) -> None:
        self.told.put_nowait(is_live)

    async def until(self, what: object) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.told.get() != what:
                pass


async def test_an_outage_is_told_and_after_it_everything_has_to_be_looked_at(cable, caplog):
    hub, page = Hub(asyncio.get_running_loop()), Page()
    hub.join(page)
    await page.until(True)
    cable.cut()
    await page.until(False)
    assert "Hearing of changes through the channel layer failed" in caplog.text
    cable.mend()
    await page.until(True)
    await page.until(EVERYTHING)
    hub.leave(page)
    await asyncio.sleep(0.1)


async def test_a_server_that_has_forgotten_the_group_is_reminded_of_it(cable, redis_url, redis_prefix):
    hub, page = Hub(asyncio.get_running_loop()), Page()
    hub.join(page)
    await page.until(EVERYTHING)
    forget(redis_url, redis_prefix)  # as one that was restarted
    await asyncio.sleep(1)
    layer.publish(changed([7]))
    await page.until(changed([7]))
    hub.leave(page)
    await asyncio.sleep(0.1)


async def test_who_has_left_is_told_nothing_and_nothing_goes_on():
    hub, page, other = Hub(asyncio.get_running_loop()), Page(), Page()
    hub.join(page), hub.join(other)
    await page.until(False)
    hub.leave(page)
    layer.publish(changed([1]))
    await other.until(changed([1]))
    assert page.told.empty()
    hub.leave(other)
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if "sisy live" in task.get_name() and not task.cancelling()]


async def test_with_an_engine_in_its_process_the_in_memory_layer_is_live():
    layer.add_bell(print)
    hub, page = Hub(asyncio.get_running_loop()), Page()
    try:
        hub.join(page)
        await page.until(True)
    finally:
        layer.remove_bell(print)
        hub.leave(page)
        await asyncio.sleep(0)
