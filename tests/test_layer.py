"""The channel layer's only caller: nothing that a layer does delays or disturbs whoever sends."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer, InMemoryChannelLayer

from sisy import conf, layer
from sisy.messages import QUEUE_NAME, Nudge, Tick
from tests.flow.processes import ROOT, wait_for

NUDGE, TICK = Nudge().to_message(), Tick().to_message()


class Recording(BaseChannelLayer):
    """A layer that reaches other processes, or would; tests decide what becomes of a message."""

    sent: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    behaviour: ClassVar[list[Callable[[str], Any]]] = []  # for each send to come, the last one for all after it

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self.require_valid_channel_name(channel)
        behaviour = self.behaviour.pop(0) if len(self.behaviour) > 1 else self.behaviour[0]
        if (waiting := behaviour(channel)) is not None:
            await waiting
        self.sent.append((channel, message))
        if path := os.environ.get("SISY_TEST_SENT"):
            with Path(path).open("a") as file:
                file.write(f"{channel}\n")

    async def receive(self, channel: str) -> dict[str, Any]:
        raise NotImplementedError


def works(channel: str) -> None:
    """Take the message."""


def is_full(channel: str) -> None:
    raise ChannelFull


def is_down(channel: str) -> None:
    raise ConnectionError("connection refused")


def hangs(channel: str) -> Any:
    return asyncio.sleep(3600)


def is_slow(channel: str) -> Any:
    return asyncio.sleep(0.3)


Recording.behaviour.append(works)


@pytest.fixture
def recording(settings: Any, own_sender: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recording]]:
    """Make Recording the channel layer, with a sender that has not started yet and is closed at the end."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.Recording"}}
    monkeypatch.setattr(Recording, "sent", [])
    monkeypatch.setattr(Recording, "behaviour", [works])
    yield Recording
    Recording.behaviour[:] = [works]


@pytest.fixture
def bells() -> Iterator[list[Tick | Nudge]]:
    """What a bell of this process heard."""
    heard: list[Tick | Nudge] = []
    layer.add_bell(heard.append)
    yield heard
    layer.remove_bell(heard.append)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# Nudges ---------------------------------------------------------------------------------------------------------------


def test_a_nudge_goes_to_the_common_channel_and_to_that_of_its_queue(recording: type[Recording]) -> None:
    layer.nudge({"mail"})
    wait_for(lambda: len(recording.sent) == 2, 5)
    assert sorted(recording.sent, key=str) == [("sisy.run", NUDGE), ("sisy.run.mail", NUDGE)]


def test_a_kick_goes_to_the_heartbeat_s_channel(recording: type[Recording]) -> None:
    layer.kick()
    wait_for(lambda: recording.sent == [("sisy.heartbeat", TICK)], 5)


def test_nudges_are_coalesced_while_one_is_under_way(recording: type[Recording]) -> None:
    proceed = threading.Event()

    async def until_told() -> None:
        while not proceed.is_set():
            await asyncio.sleep(0.01)

    recording.behaviour[:] = [lambda channel: until_told(), works]
    layer.nudge({"mail"})
    wait_for(lambda: len(recording.behaviour) == 1, 5, "the first send")
    for _ in range(500):
        layer.nudge({"mail"})
        layer.nudge({"print"})
        layer.kick()
    proceed.set()
    layer._sender.flush(5)
    wait_for(lambda: len(recording.sent) >= 6, 5)
    time.sleep(0.1)  # time in which further messages would come
    assert sorted(channel for channel, _ in recording.sent) == [
        "sisy.heartbeat", "sisy.run", "sisy.run", "sisy.run.mail", "sisy.run.mail", "sisy.run.print",
    ]  # fmt: skip


@pytest.mark.parametrize("behaviour", [works, is_full, is_down, hangs])
def test_whoever_nudges_does_not_wait(recording: type[Recording], behaviour: Callable[[str], Any]) -> None:
    recording.behaviour[:] = [behaviour]
    began = time.monotonic()
    for _ in range(20):
        layer.nudge({"mail"})
    assert time.monotonic() - began < 0.5


def test_a_full_channel_is_as_good_as_a_sent_nudge(
    recording: type[Recording], caplog: pytest.LogCaptureFixture
) -> None:
    recording.behaviour[:] = [is_full, works]
    layer.nudge({"mail"})
    wait_for(lambda: recording.sent, 5)
    assert [channel for channel, _ in recording.sent] == ["sisy.run.mail"]
    assert warnings_of(caplog) == []


def test_a_layer_that_is_down_is_one_warning_a_step_and_is_tried_again(
    recording: type[Recording], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sisy.layer")
    recording.behaviour[:] = [is_down, works]
    layer.nudge({"mail"})
    wait_for(lambda: warnings_of(caplog), 5)
    for _ in range(50):
        layer.nudge({"mail"})
    layer._sender.flush(5)
    assert recording.sent == [], "it was tried again before its time"
    assert len(warnings_of(caplog)) == 1
    assert "connection refused" in warnings_of(caplog)[0]
    assert "workers go on by polling; next try in 1 s" in warnings_of(caplog)[0]

    wait_for(lambda: "works again" in caplog.text, 5)
    assert len(warnings_of(caplog)) == 1


def test_a_nudge_that_could_not_be_sent_is_sent_once_the_layer_works_again(recording: type[Recording]) -> None:
    """A layer that was slow for a moment must not leave runs to the next poll; all of them are one nudge a channel."""
    recording.behaviour[:] = [is_down, works]
    for queue in ("mail", "print", "mail"):
        layer.nudge({queue})
    wait_for(lambda: len(recording.sent) >= 3, 5)
    layer._sender.flush(5)
    assert sorted(channel for channel, _ in recording.sent) == ["sisy.run", "sisy.run.mail", "sisy.run.print"]


def test_a_layer_that_hangs_is_given_up_after_a_second(
    recording: type[Recording], caplog: pytest.LogCaptureFixture
) -> None:
    recording.behaviour[:] = [hangs, works]
    began = time.monotonic()
    layer.nudge({"mail"})
    wait_for(lambda: warnings_of(caplog), 10)
    assert 0.9 < time.monotonic() - began < 5


def test_the_longest_names_that_are_allowed_can_be_nudged(
    recording: type[Recording], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Channels takes names of less than 100 characters, and a queue's channel has two names in it."""
    lengths = range(100, 0, -1)
    settings.SISY = {"RUN_CHANNEL": next("r" * n for n in lengths if not conf.find_problems({"RUN_CHANNEL": "r" * n}))}
    longest = next("q" * n for n in lengths if QUEUE_NAME.fullmatch("q" * n))
    assert len(settings.SISY["RUN_CHANNEL"]) > 20
    assert len(longest) > 20
    layer.nudge({longest, "mail"})
    wait_for(lambda: len(recording.sent) == 3 or warnings_of(caplog), 5)
    assert warnings_of(caplog) == []


# Within one process ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [{}, {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}])
def test_a_layer_that_reaches_nobody_else_is_not_used(
    settings: Any, own_sender: Any, bells: list[Tick | Nudge], layers: dict[str, Any]
) -> None:
    settings.CHANNEL_LAYERS = layers
    layer.nudge({"mail"})
    layer.kick()
    assert layer._sender._thread is None
    assert bells == [Nudge(), Tick()]


def test_a_bell_rings_whatever_the_layer_does(recording: type[Recording], bells: list[Tick | Nudge]) -> None:
    recording.behaviour[:] = [is_down]
    layer.nudge({"mail", "print"})
    layer.kick()
    assert bells == [Nudge(), Tick()]


def test_a_removed_bell_is_silent(bells: list[Tick | Nudge]) -> None:
    layer.remove_bell(bells.append)
    layer.remove_bell(bells.append)
    layer.nudge({"mail"})
    assert bells == []


def test_the_one_process_command_gets_a_layer_when_there_is_none(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    assert layer.configured() is None
    made = layer.use_in_memory_layer()
    assert isinstance(made, InMemoryChannelLayer)
    assert layer.configured() is made


def test_a_configured_layer_is_kept(recording: type[Recording]) -> None:
    assert isinstance(layer.use_in_memory_layer(), Recording)


# Ticks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("behaviour", "taken"), [(works, True), (is_full, True), (is_down, False), (hangs, False)])
async def test_a_tick_is_taken_or_not(
    recording: type[Recording], behaviour: Callable[[str], Any], taken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    recording.behaviour[:] = [behaviour]
    began = time.monotonic()
    assert await layer.send_tick() is taken
    assert time.monotonic() - began < 5
    assert recording.sent == ([("sisy.heartbeat", TICK)] if behaviour is works else [])
    assert warnings_of(caplog) == []


async def test_without_a_layer_nobody_takes_the_tick(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    assert await layer.send_tick() is False


async def test_in_memory_a_tick_is_taken_only_where_an_engine_is(bells: list[Tick | Nudge], settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    assert await layer.send_tick() is True
    layer.remove_bell(bells.append)
    assert await layer.send_tick() is False


# Processes that end or fork -------------------------------------------------------------------------------------------


def run_script(code: str, sent: Path) -> list[str]:
    """Run code in a process of its own; return the channels to which it has sent."""
    setup = f"""
import django, os, sys
from django.conf import settings
settings.configure(CHANNEL_LAYERS={{"default": {{"BACKEND": "{__name__}.Recording"}}}}, INSTALLED_APPS=["sisy"])
django.setup()
from sisy import conf, layer
from tests import test_layer
"""
    environment = {**os.environ, "SISY_TEST_SENT": str(sent), "PYTHONWARNINGS": "default"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    subprocess.run([sys.executable, "-c", setup + code], check=True, cwd=ROOT, env=environment, timeout=30)
    return sent.read_text().splitlines() if sent.exists() else []


def test_a_process_that_ends_at_once_has_sent_its_nudges(tmp_path: Path) -> None:
    code = """
import time
test_layer.Recording.behaviour[:] = [test_layer.is_slow]
layer.nudge({"mail"})
time.sleep(0.1)  # the sender is at it
"""
    assert run_script(code, tmp_path / "sent") == ["sisy.run", "sisy.run.mail"]


def test_a_process_that_ends_does_not_wait_for_a_layer_that_hangs(tmp_path: Path) -> None:
    began = time.monotonic()
    code = "test_layer.Recording.behaviour[:] = [test_layer.hangs]; layer.nudge({'mail'})"
    assert run_script(code, tmp_path / "sent") == []
    assert time.monotonic() - began < 8


def test_a_forked_child_sends_its_own_nudges(tmp_path: Path) -> None:
    """As in a preforking web server: the sender's thread has been started in the parent, and is not in the child."""
    code = """
layer.nudge({"parent"})
layer._sender.flush()
import time; time.sleep(0.2)
if child := os.fork():
    sys.exit(os.waitpid(child, 0)[1])
layer.nudge({"child"})
time.sleep(0.5)
os._exit(0)
"""
    assert run_script(code, tmp_path / "sent") == ["sisy.run", "sisy.run.parent", "sisy.run", "sisy.run.child"]
