"""The consumers: exactly sisy's own messages, and nothing that arrives ends one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.routing import ChannelNameRouter

from sisy import routing
from sisy.messages import Cancel, Nudge, Tick
from sisy.worker import engine as engine_module

NUDGE, TICK = Nudge().to_message(), Tick().to_message()
FOREIGN = [
    {},
    {"v": 1},
    {"type": None},
    {"type": ["sisy.nudge"]},
    {"type": {"sisy.nudge": 1}},
    {"type": "dispatch"},
    {"type": "send"},
    {"type": "as.asgi"},
    {"type": "take"},
    {"type": "channel.receive"},
    {"type": "_private"},
    {"type": "__init__"},
    {"type": "sisy_nudge"},
    {"type": "SISY.NUDGE"},
    {"type": "sisy.poll", "v": 1},
    {"type": "sisy.ring", "v": 1},
    {"type": "http.request", "body": "x" * 2_000_000},
]


class FakeEngine:
    """Notes what the consumers tell it."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def start_running(self) -> None:
        self.told.append("start running")

    def start_ticking(self) -> None:
        self.told.append("start ticking")

    def wake(self, message: Any) -> None:
        self.told.append(message)

    def look_for_cancelled(self) -> None:
        self.told.append("look for cancelled")

    def request_tick(self) -> None:
        self.told.append("tick")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(engine_module, "_engine", fake)
    return fake


@contextlib.asynccontextmanager
async def consumer(channel: str) -> AsyncIterator[ApplicationCommunicator]:
    """Run the application of a channel, as Channels' worker does."""
    communicator = ApplicationCommunicator(routing.application, {"type": "channel", "channel": channel})
    yield communicator
    communicator.stop(exceptions=True)


async def deliver(communicator: ApplicationCommunicator, *messages: Any) -> None:
    for message in messages:
        await communicator.send_input(message)
    async with asyncio.timeout(5):
        while not communicator.input_queue.empty():
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


async def test_a_nudge_wakes_the_pump_with_its_message(engine: FakeEngine) -> None:
    async with consumer("sisy.run") as communicator:
        await deliver(communicator, NUDGE)
    assert engine.told == ["start running", NUDGE]


async def test_the_channel_of_any_queue_is_known(engine: FakeEngine) -> None:
    async with consumer("sisy.run.mail") as communicator:
        await deliver(communicator, NUDGE)
    assert engine.told == ["start running", NUDGE]


@pytest.mark.parametrize("channel", ["sisy.run", "sisy.run-0000000000000000000000000000000b"])
async def test_a_cancel_has_the_engine_look(engine: FakeEngine, channel: str) -> None:
    async with consumer(channel) as communicator:
        await deliver(communicator, Cancel().to_message())
    assert engine.told == ["look for cancelled"]


async def test_a_tick_is_ticked(engine: FakeEngine) -> None:
    async with consumer("sisy.heartbeat") as communicator:
        await deliver(communicator, TICK)
    assert engine.told == ["start ticking", "tick"]


@pytest.mark.parametrize(("channel", "own", "other"), [("sisy.run", NUDGE, TICK), ("sisy.heartbeat", TICK, NUDGE)])
async def test_everything_else_is_dropped_and_the_consumer_lives_on(
    engine: FakeEngine, channel: str, own: dict[str, Any], other: dict[str, Any]
) -> None:
    async with consumer(channel) as communicator:
        await deliver(communicator, *FOREIGN, other)
        assert engine.told == []
        await deliver(communicator, own)
    assert len(engine.told) == 2


async def test_an_engine_in_trouble_does_not_end_the_consumer(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def trouble() -> None:
        raise RuntimeError("can't start new thread")

    async with consumer("sisy.run") as communicator:
        monkeypatch.setattr(engine, "start_running", trouble)
        await deliver(communicator, NUDGE)
        assert "can't start new thread" in caplog.text
        monkeypatch.undo()
        monkeypatch.setattr(engine_module, "_engine", engine)
        await deliver(communicator, NUDGE)
    assert engine.told == ["start running", NUDGE]


async def test_consumers_open_no_channel_of_their_own(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would be one more thing that blocks on the layer and fails with it."""
    monkeypatch.setattr("channels.layers.InMemoryChannelLayer.new_channel", lambda self: pytest.fail("a new channel"))
    async with consumer("sisy.run") as communicator:
        await deliver(communicator, NUDGE)
    assert engine.told


def test_the_routing_knows_sisy_s_channels_and_no_others(settings: Any) -> None:
    settings.SISY = {"HEARTBEAT_CHANNEL": "beat", "RUN_CHANNEL": "work"}
    for channel in ("beat", "work", "work.mail"):
        assert channel in routing.channels
        assert callable(routing.channels[channel])
    for channel in ("kitchen", "workshop", "beat.mail"):
        assert channel not in routing.channels
        with pytest.raises(KeyError):
            routing.channels[channel]


def test_a_project_can_put_its_own_channels_beside_sisy_s() -> None:
    together = {**routing.channels, "kitchen": object()}
    assert set(together) == {"sisy.heartbeat", "sisy.run", "kitchen"}


async def test_a_channel_of_somebody_else_is_refused_by_the_router() -> None:
    with pytest.raises(ValueError, match="kitchen"):
        await ChannelNameRouter(routing.channels)({"type": "channel", "channel": "kitchen"}, None, None)
