"""The heartbeat: aligned to boundaries, early for slots, and unimpressed by clocks, layers and databases in trouble."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.utils import timezone

from sisy import layer, scheduler
from sisy.models import Task, task_with_callable
from sisy.worker import heartbeat as heartbeat_module
from sisy.worker.heartbeat import Heartbeat
from tests.project.shop import tasks

MINUTE = timedelta(seconds=60)


NOTHING_LEFT = SimpleNamespace(left=False)  # what the heartbeat looks at in what a tick did


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The instants of the ticks that the layer has taken; no task has a slot."""
    instants: list[datetime] = []

    async def send_tick() -> bool:
        instants.append(timezone.now())
        return True

    monkeypatch.setattr(layer, "send_tick", send_tick)
    monkeypatch.setattr(scheduler, "next_slot", lambda after: None)
    return instants


@pytest.fixture
def ticked(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The instants for which the heartbeat has ticked itself, since there is no layer; no task has a slot."""
    instants: list[datetime] = []

    async def send_tick() -> bool:
        return False

    monkeypatch.setattr(layer, "send_tick", send_tick)
    monkeypatch.setattr(scheduler, "next_slot", lambda after: None)
    monkeypatch.setattr(scheduler, "tick", lambda now: instants.append(now) or NOTHING_LEFT)
    return instants


@contextlib.asynccontextmanager
async def beating(interval: timedelta) -> AsyncIterator[Heartbeat]:
    heartbeat = Heartbeat(interval=interval)
    task = asyncio.create_task(heartbeat.beat())
    try:
        yield heartbeat
    finally:
        heartbeat.stop()
        await asyncio.wait_for(task, 10)


async def until(predicate: Callable[[], Any], timeout: float = 10, what: str = "") -> None:
    async with asyncio.timeout(timeout):
        while not predicate():
            await asyncio.sleep(0.01)


# Boundaries -----------------------------------------------------------------------------------------------------------


async def test_ticks_come_at_whole_multiples_of_the_interval(sent: list[datetime]) -> None:
    async with beating(timedelta(seconds=0.5)):
        await until(lambda: len(sent) >= 6)
    boundaries = [int(instant.timestamp() / 0.5) for instant in sent[1:]]  # the first one is that of the start
    late = [instant.timestamp() % 0.5 for instant in sent[1:]]
    assert boundaries == sorted(set(boundaries)), "one boundary was ticked twice"
    assert sorted(late)[len(late) // 2] < 0.2, f"not aligned: {late}"


async def test_a_late_tick_does_not_shift_those_after_it(sent: list[datetime], monkeypatch: pytest.MonkeyPatch) -> None:
    send_tick = layer.send_tick

    async def slow_send_tick() -> bool:
        await asyncio.sleep(0.15)
        return await send_tick()

    monkeypatch.setattr(layer, "send_tick", slow_send_tick)
    async with beating(timedelta(seconds=0.5)):
        await until(lambda: len(sent) >= 4)
    assert all(0.1 < instant.timestamp() % 0.5 < 0.4 for instant in sent[1:3]), sent


async def test_stopping_does_not_wait_for_the_boundary(sent: list[datetime]) -> None:
    began = time.monotonic()
    async with beating(timedelta(hours=1)):
        await asyncio.sleep(0.05)
    assert time.monotonic() - began < 2
    assert len(sent) == 1  # what is overdue at its start does not wait


# Early ticks ----------------------------------------------------------------------------------------------------------


async def test_a_slot_before_the_boundary_is_ticked_early(
    sent: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = timezone.now() + timedelta(seconds=1)
    monkeypatch.setattr(scheduler, "next_slot", lambda after: slot if after < slot else None)
    async with beating(timedelta(hours=1)):
        await until(lambda: len(sent) >= 2)
        await asyncio.sleep(0.4)
    assert len(sent) == 2
    assert timedelta(0) <= sent[1] - slot < timedelta(seconds=1)


async def test_a_slot_after_the_boundary_waits_for_its_own(
    sent: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "next_slot", lambda after: after + timedelta(days=1))
    async with beating(timedelta(seconds=0.5)):
        await until(lambda: len(sent) >= 2)
    assert len({int(instant.timestamp() / 0.5) for instant in sent}) == len(sent)


async def test_slots_that_can_not_be_asked_for_cost_no_boundary(
    sent: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([OperationalError("server is gone"), InterfaceError("connection already closed")])

    def unreachable(after: datetime) -> datetime:
        raise next(errors, OperationalError("server is gone"))

    monkeypatch.setattr(scheduler, "next_slot", unreachable)
    async with beating(timedelta(seconds=0.6)):
        await until(lambda: len(sent) >= 3)


@pytest.mark.django_db(transaction=True)
async def test_what_is_overdue_when_the_heartbeat_starts_does_not_wait_for_the_boundary(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """A task with a schedule of seconds stood still while nothing ticked; after a restart it must go on."""
    settings.SISY = {"POLL_INTERVAL": 0.5}
    ticked = record_ticks(monkeypatch)
    await task_with_callable(tasks.note, schedule="* * * * * *").asave()
    await Task.objects.aupdate(next_run=timezone.now().replace(microsecond=0) - timedelta(seconds=5))
    async with beating(timedelta(days=1)):
        await until(lambda: ticked, 5, "a tick")


@pytest.mark.django_db(transaction=True)
async def test_a_slot_that_comes_while_the_heartbeat_ticks_does_not_wait_for_the_boundary(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.SISY = {"POLL_INTERVAL": 0.5}
    ticked = record_ticks(monkeypatch, seconds=1.3)
    await task_with_callable(tasks.note, schedule="* * * * * *").asave()
    async with beating(timedelta(days=1)):
        await until(lambda: len(ticked) >= 3, 10, "three ticks")


def record_ticks(monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0) -> list[datetime]:
    """Have no layer; record real ticks, each of which takes so many seconds longer."""
    ticked: list[datetime] = []
    tick = scheduler.tick

    def recorded(now: datetime) -> scheduler.Ticked:
        result = tick(now)
        time.sleep(seconds)
        ticked.append(now)
        return result

    async def send_tick() -> bool:
        return False

    monkeypatch.setattr(layer, "send_tick", send_tick)
    monkeypatch.setattr(scheduler, "tick", recorded)
    return ticked


# Clocks ---------------------------------------------------------------------------------------------------------------


class Clock:
    """The heartbeat's clock, which somebody sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta(0)
        monkeypatch.setattr(heartbeat_module, "timezone", SimpleNamespace(now=self.now))

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


async def test_a_clock_set_back_does_not_silence_the_heartbeat(
    sent: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with beating(timedelta(days=1)):
        await asyncio.sleep(0.05)
        clock.ahead = timedelta(hours=-30)
        await until(lambda: len(sent) >= 2, 5)
        await asyncio.sleep(0.3)
    assert len(sent) == 2


async def test_after_a_long_sleep_there_is_one_tick_and_no_burst(
    sent: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with beating(timedelta(days=1)):
        await asyncio.sleep(0.05)
        clock.ahead = timedelta(days=3)
        await until(lambda: len(sent) >= 2, 5)
        await asyncio.sleep(0.3)
    assert len(sent) == 2


# Who ticks ------------------------------------------------------------------------------------------------------------


async def test_a_tick_that_the_layer_takes_is_left_to_the_workers(
    sent: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "tick", lambda now: pytest.fail("ticked twice"))
    heartbeat = Heartbeat(interval=MINUTE)
    await heartbeat.once()
    assert (len(sent), heartbeat.ticks) == (1, 1)


async def test_the_database_is_asked_for_slots_only_where_one_can_come_before_the_next_boundary(
    sent: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[datetime] = []
    monkeypatch.setattr(scheduler, "next_slot", lambda after: asked.append(after))
    async with beating(timedelta(seconds=1)):
        await until(lambda: len(sent) >= 3)
    assert asked == []
    async with beating(timedelta(seconds=2)):
        await until(lambda: bool(asked))


async def test_a_tick_that_nobody_can_take_is_done_here(ticked: list[datetime]) -> None:
    await Heartbeat(interval=MINUTE).once()
    assert len(ticked) == 1
    assert abs(ticked[0] - timezone.now()) < timedelta(seconds=5)


GONE = [OperationalError("server is gone"), InterfaceError("connection already closed")]


@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("error", GONE)
async def test_a_database_that_is_away_does_not_end_the_heartbeat(
    ticked: list[datetime], error: Exception, failures: int, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Once, it may be just the connection, which was cut since it was last used: that is no news."""

    def away(now: datetime) -> Any:
        ticked.append(now)
        if len(ticked) <= failures:
            raise error
        return NOTHING_LEFT

    monkeypatch.setattr(scheduler, "tick", away)
    async with beating(timedelta(seconds=0.2)):
        await until(lambda: len(ticked) >= 3)
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [str(error) in record.getMessage() for record in warnings] == [True] * (failures - 1)
