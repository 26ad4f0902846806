"""SisyWorker: it listens through every trouble, drains when it is asked to stop, and says how that went by its code."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import OperationalError

from sisy.messages import Nudge, Tick
from sisy.models import Worker
from sisy.routing import application
from sisy.worker import engine as engine_module
from sisy.worker import listener as listener_module
from sisy.worker.listener import EXIT_ABANDONED, EXIT_RECYCLE, SisyWorker

NUDGE, TICK = Nudge().to_message(), Tick().to_message()


at_work = threading.Event()


class FakeEngine:
    """Does nothing; drains when the test says so."""

    def __init__(self) -> None:
        self.drained = threading.Event()
        self.told: list[str] = []
        self.drains_at_once = True
        self.left_behind = 0
        self.needs_recycling = False
        self.is_full = False

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.told.append(name)

    def stop(self) -> None:
        self.told.append("stop")
        if self.drains_at_once:
            self.drained.set()

    def abandon(self) -> int:
        self.told.append("abandon")
        return self.left_behind


class FakeLayer:
    """Gives what a test has put there: a message, or an error to raise; then it is silent."""

    def __init__(self, *arriving: Any) -> None:
        self.arriving = list(arriving)
        self.sent: list[tuple[str, Any]] = []

    async def send(self, channel: str, message: Any) -> None:
        self.sent.append((channel, message))

    async def receive(self, channel: str) -> Any:
        if channel == "sisy.heartbeat" or not self.arriving:
            await asyncio.sleep(3600)
        if isinstance(arrived := self.arriving.pop(0), Exception):
            raise arrived
        return arrived


class IdleTimeoutError(Exception):
    """As redis-py's TimeoutError, which comes after its socket_timeout without a message."""


@pytest.fixture(autouse=True)
def rows_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker.objects, "exists", lambda: False, raising=False)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A worker leaves signals ignored, for its process ends; processes that later tests start would inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(engine_module, "_engine", fake)
    return fake


def new_worker(engine: FakeEngine, layer: FakeLayer | None = None, **options: Any) -> SisyWorker:
    channels = ["sisy.heartbeat", "sisy.run"]
    return SisyWorker(application, channels, layer, engine=engine, **options)  # type: ignore[arg-type]


def work(worker: SisyWorker, *steps: tuple[float, Callable[[], Any]]) -> int:
    """Work, and take these steps meanwhile, each so many seconds after the one before."""

    def take_steps() -> None:
        for seconds, step in steps:
            time.sleep(seconds)
            step()

    thread = threading.Thread(target=take_steps, daemon=True)
    thread.start()
    at_work.set()
    try:
        return worker.work()
    finally:
        at_work.clear()
        thread.join(5)


def send(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return a step that sends this process a signal; not to a worker that has ended, it would hit the test run."""
    return lambda: os.kill(os.getpid(), number) if at_work.is_set() else None


def messages_of(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# Stopping -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains(engine: FakeEngine, number: signal.Signals) -> None:
    assert work(new_worker(engine), (0.1, send(number))) == 0
    assert engine.told == ["start", "stop"]


def test_a_burst_that_is_over_ends_it(engine: FakeEngine) -> None:
    assert work(new_worker(engine), (0.1, engine.drained.set)) == 0
    assert "abandon" not in engine.told


def test_it_waits_for_what_is_running(engine: FakeEngine) -> None:
    engine.drains_at_once = False
    began = time.monotonic()
    assert work(new_worker(engine), (0.1, send()), (0.5, engine.drained.set)) == 0
    assert time.monotonic() - began > 0.55


@pytest.mark.parametrize(("left_behind", "code"), [(2, EXIT_ABANDONED), (0, 0)])
def test_after_the_drain_timeout_the_rest_is_abandoned(
    engine: FakeEngine, settings: Any, left_behind: int, code: int
) -> None:
    settings.SISY = {"DRAIN_TIMEOUT": 0.2}
    engine.drains_at_once, engine.left_behind = False, left_behind
    assert work(new_worker(engine), (0.1, send())) == code
    assert engine.told == ["start", "stop", "abandon"]


def test_a_second_signal_does_not_wait(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine.drains_at_once, engine.left_behind = False, 1
    began = time.monotonic()
    assert work(new_worker(engine), (0.1, send()), (0.7, send())) == EXIT_ABANDONED
    assert time.monotonic() - began < 10
    assert "SIGTERM again" in messages_of(caplog)[0]


def test_the_same_signal_twice_at_once_counts_once(engine: FakeEngine) -> None:
    """A process manager that signals the whole group does it, when a parent passes the signal on as well."""
    engine.drains_at_once = False
    steps = (0.1, send()), (0.02, send()), (0.05, send()), (0.5, engine.drained.set)
    assert work(new_worker(engine), *steps) == 0
    assert "abandon" not in engine.told


def test_a_process_with_a_function_that_can_not_be_stopped_is_to_be_started_anew(engine: FakeEngine) -> None:
    assert work(new_worker(engine), (0.1, lambda: setattr(engine, "needs_recycling", True))) == EXIT_RECYCLE
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "ignoring it would be inherited by what starts anew"
    assert engine.told == ["start", "stop"]


def test_a_process_that_was_asked_to_stop_is_not_started_anew(engine: FakeEngine) -> None:
    engine.drains_at_once = False
    recycle = (0.1, lambda: setattr(engine, "needs_recycling", True))
    assert work(new_worker(engine), recycle, (0.3, send()), (0.1, engine.drained.set)) == 0


# Listening ------------------------------------------------------------------------------------------------------------


def test_messages_go_to_the_consumers(engine: FakeEngine) -> None:
    assert work(new_worker(engine, FakeLayer(NUDGE)), (0.2, send())) == 0
    assert engine.told == ["start", "start_running", "wake", "stop"]


def test_a_nudge_that_comes_while_every_slot_is_taken_is_left_to_others(engine: FakeEngine) -> None:
    engine.is_full = True
    fake = FakeLayer(NUDGE, NUDGE)
    assert work(new_worker(engine, fake), (0.3, send())) == 0
    assert (fake.sent, fake.arriving) == ([("sisy.run", NUDGE)], [NUDGE])
    assert engine.told.count("wake") == 1, "it looks as well, as soon as a slot is free"


def test_a_worker_with_a_free_slot_again_listens_again(engine: FakeEngine) -> None:
    engine.is_full = True
    fake = FakeLayer(NUDGE, NUDGE)
    assert work(new_worker(engine, fake), (0.3, lambda: setattr(engine, "is_full", False)), (0.3, send())) == 0
    assert (len(fake.sent), fake.arriving, engine.told.count("wake")) == (1, [], 2)


def test_what_is_none_of_sisy_s_is_dropped_counted_and_said_once(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = [{}, {"type": "dispatch"}, None, b"bytes", [1], {"type": "as.asgi"}]
    worker = new_worker(engine, FakeLayer(*foreign, NUDGE))
    assert work(worker, (0.2, send())) == 0
    assert worker.dropped == len(foreign)
    assert len(messages_of(caplog)) == 1
    assert "sisy.run" in messages_of(caplog)[0]
    assert "wake" in engine.told


def test_a_layer_in_trouble_is_one_warning_a_step(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module.Backoff.__init__, "__kwdefaults__", {"first": 0.05, "longest": 30.0})
    layer = FakeLayer(ConnectionError("refused"), ConnectionError("refused"), NUDGE)
    assert work(new_worker(engine, layer), (0.6, send())) == 0
    warnings = messages_of(caplog)
    assert len(warnings) == 2
    assert "Listening to the channel sisy.run failed: ConnectionError: refused" in warnings[0]
    assert "next try in 0.05 s" in warnings[0]
    assert "next try in 0.1 s" in warnings[1]
    assert "wake" in engine.told


def test_a_pop_that_was_only_idle_is_no_trouble(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "_IDLE_POP_SECONDS", -1)
    assert work(new_worker(engine, FakeLayer(IdleTimeoutError(), IdleTimeoutError(), NUDGE)), (0.2, send())) == 0
    assert messages_of(caplog) == []
    assert "wake" in engine.told


def test_without_a_layer_it_works_all_the_same(engine: FakeEngine) -> None:
    assert work(new_worker(engine, None), (0.1, send())) == 0


# Dying ----------------------------------------------------------------------------------------------------------------


class DyingHeartbeat:
    async def beat(self) -> None:
        raise RuntimeError("nobody has thought of this")


class EndingHeartbeat:
    async def beat(self) -> None:
        """Come to an end, which a heartbeat must not."""


@pytest.mark.parametrize("heartbeat", [DyingHeartbeat(), EndingHeartbeat()])
def test_a_loop_that_dies_is_said_loudly_and_takes_the_process_down(
    engine: FakeEngine, caplog: pytest.LogCaptureFixture, heartbeat: Any
) -> None:
    worker = new_worker(engine, heartbeat=heartbeat)
    with pytest.raises((SystemExit, RuntimeError)) as raised:
        raise SystemExit(worker.work())
    assert not isinstance(raised.value, SystemExit) or raised.value.code
    assert len(messages_of(caplog, logging.CRITICAL)) == 1


def test_a_database_that_can_not_be_used_is_a_clear_error(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def unusable() -> bool:
        raise OperationalError("no such table: sisy_worker")

    monkeypatch.setattr(Worker.objects, "exists", unusable, raising=False)
    with pytest.raises(CommandError, match=r"no such table: sisy_worker.*manage\.py migrate"):
        new_worker(engine).work()
