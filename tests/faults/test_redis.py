"""A Redis server that restarts, is emptied, filled, frozen, read-only or flooded: it costs time, never a run."""

import json
import time
import types
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
import redis
from channels_redis import core
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.faults.servers import RedisServer
from tests.faults.stage import EACH_SECOND, LONG, QUICK, Settled, wait_for_a_slot_of_now
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

BURST = 1000
MANY = 10_000


def start_two_workers_and_a_heartbeat(manage: Callable[..., Process], **options: Any) -> list[Process]:
    workers = [manage("sisy_worker", layer="redis", **options) for _ in range(2)]
    started = [*workers, manage("sisy_heartbeat", layer="redis", **options)]
    wait_for_workers(*workers)
    return started


def assert_each_ran_once(count: int) -> None:
    runs = [line["run"] for line in ledger.lines(function="run_once_each")]
    assert len(runs) == len(set(runs)) == count


def warnings_of(process: Process, text: str) -> list[str]:
    return [line for line in process.output.splitlines() if " WARNING " in line and text in line]


@pytest.mark.parametrize("harm", ["restart", "flush"])
def test_redis_loses_everything_in_the_middle_of_a_burst(
    manage: Callable[..., Process], own_redis: RedisServer, settle: Settled, harm: str
) -> None:
    started = start_two_workers_and_a_heartbeat(manage)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    for batch in range(10):
        Task.bulk_run_once(flow_tasks.run_once_each, [{"n": n} for n in range(BURST // 10)], label="burst")
        if batch % 3 == 1:
            own_redis.restart() if harm == "restart" else own_redis.call("FLUSHALL")
    wait_for_ends(BURST, LONG, function="run_once_each")
    wait_for_a_slot_of_now()
    settle()
    assert [process.stop() for process in started] == [0, 0, 0]
    assert_each_ran_once(BURST)


@pytest.mark.parametrize("harm", ["down", "full", "replica"])
def test_redis_is_of_no_use_for_a_while(
    manage: Callable[..., Process], own_redis: RedisServer, settle: Settled, harm: str
) -> None:
    """Down, out of memory, or a replica that takes no writes: work goes on by polling, with few warnings."""
    started = start_two_workers_and_a_heartbeat(manage)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    wait_for_ends(1, label="scheduled")
    if harm == "down":
        own_redis.stop()
    elif harm == "full":
        own_redis.call("CONFIG", "SET", "maxmemory", "1")
    else:
        own_redis.call("REPLICAOF", "127.0.0.1", "1")
    for number in range(20):
        Task.run_once(flow_tasks.run_once_each, {"n": number})
    wait_for_ends(20, function="run_once_each")
    wait_for_a_slot_of_now()
    if harm == "down":
        own_redis.start()
    elif harm == "full":
        own_redis.call("CONFIG", "SET", "maxmemory", "0")
    else:
        own_redis.call("REPLICAOF", "NO", "ONE")
    settle()
    assert [process.stop() for process in started] == [0, 0, 0]
    assert_each_ran_once(20)
    for process in started:
        assert len(warnings_of(process, "Listening to the channel sisy.run failed")) <= 6, process.output
        assert len(warnings_of(process, "Nudging workers")) <= 6, process.output


def test_redis_never_answers(
    manage: Callable[..., Process], own_redis: RedisServer, settle: Settled, admin_user: Any
) -> None:
    """Whoever presses "run now" in the admin does not wait for it, and workers poll on."""
    started = start_two_workers_and_a_heartbeat(manage)
    task = task_with_callable(flow_tasks.run_once_each, label="pressed", schedule="0 0 1 1 *")
    task.save()
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    wait_for_ends(1, label="scheduled")
    own_redis.freeze()
    client = Client()
    client.force_login(admin_user)
    began = time.monotonic()
    answer = client.post(reverse("admin:sisy_task_verb", args=[task.pk, "run_now"]))
    took = time.monotonic() - began
    assert answer.status_code == 302
    assert took < 5, "the request waited for Redis, which would have answered after a quarter of an hour"
    wait_for_ends(1, function="run_once_each")
    wait_for_a_slot_of_now()
    own_redis.thaw()
    settle()
    assert [process.stop() for process in started] == [0, 0, 0]


def test_ten_thousand_tasks_due_in_one_second_and_a_layer_for_one_message(
    manage: Callable[..., Process], redis_layer: str, settings: Any, settle: Settled
) -> None:
    config = settings.CHANNEL_LAYERS["default"]["CONFIG"]
    settings.CHANNEL_LAYERS = {"default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {**config, "capacity": 1}}}
    options = {"SISY_TEST_LAYER_OPTIONS": json.dumps({"capacity": 1})}
    Task.objects.bulk_create(
        [Task.new(flow_tasks.run_once_each, label=f"{n:05}", schedule="0 0 1 1 *") for n in range(MANY)],
        batch_size=1000,
    )
    slot = timezone.now().replace(microsecond=0)
    Task.objects.update(next_run=slot)
    started = start_two_workers_and_a_heartbeat(manage, settings={**QUICK, "LEASE": 30}, **options)
    wait_for(lambda: Run.objects.filter(status=RunStatus.SUCCESSFUL, slot=slot).count() == MANY, LONG, "all of them")
    settle()
    assert [process.stop() for process in started] == [0, 0, 0]
    assert_each_ran_once(MANY)
    assert [warnings_of(process, "") for process in started[:2]] == [[], []]


def test_messages_that_come_three_times_late_or_not_at_all(
    manage: Callable[..., Process], redis_layer: str, redis_prefix: str, settle: Settled
) -> None:
    """Each nudge and each tick is there three times, the first of them as if it were 90 seconds old."""
    started = start_two_workers_and_a_heartbeat(manage)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    with redis.Redis.from_url(redis_layer) as client:
        for number in range(100):
            Task.run_once(flow_tasks.run_once_each, {"n": number})
            for channel, kind in (("sisy.run", "sisy.nudge"), ("sisy.heartbeat", "sisy.tick")):
                message = msgpack.packb({"type": kind, "v": 1})
                late = {b"%012d" % (3 * number + n) + message: time.time() - 90 * (n == 0) for n in range(3)}
                client.zadd(f"{redis_prefix}{channel}", late)
    wait_for_ends(100, function="run_once_each")
    wait_for_ends(2, label="scheduled")
    settle()
    assert [process.stop() for process in started] == [0, 0, 0]
    assert_each_ran_once(100)


def test_a_flood_of_forged_messages(
    manage: Callable[..., Process], redis_layer: str, redis_prefix: str, settle: Settled
) -> None:
    """Whoever can write to Redis can make workers look, and look again; nothing else."""
    started = start_two_workers_and_a_heartbeat(manage)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    forged = [{"type": "sisy.nudge", "v": 1, "run": 1, "callable": "os.abort"}, {"type": "sisy.tick", "now": 4e9}]
    with redis.Redis.from_url(redis_layer) as client:
        for number in range(60):
            for channel in ("sisy.run", "sisy.heartbeat"):
                flood = {b"%06d%06d" % (number, n) + msgpack.packb(forged[n % 2]): time.time() for n in range(100)}
                client.zadd(f"{redis_prefix}{channel}", flood)
            Task.run_once(flow_tasks.run_once_each, {"n": number})
    wait_for_ends(60, function="run_once_each")
    wait_for_ends(2, label="scheduled")
    settle()
    assert [process.stop() for process in started] == [0, 0, 0]
    assert_each_ran_once(60)


def test_a_sender_whose_clock_is_ahead_deletes_what_others_have_sent(
    manage: Callable[..., Process], redis_layer: str, settle: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """channels_redis drops what is older than a minute, by the clock of whoever sends."""
    started = start_two_workers_and_a_heartbeat(manage)
    ahead = types.SimpleNamespace(time=lambda: time.time() + 75, monotonic=time.monotonic)
    monkeypatch.setattr(core, "time", ahead)
    for number in range(50):
        Task.run_once(flow_tasks.run_once_each, {"n": number})
    wait_for_ends(50, function="run_once_each")
    settle()
    assert [process.stop() for process in started] == [0, 0, 0]
    assert_each_ran_once(50)
