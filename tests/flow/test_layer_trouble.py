"""A channel layer that is full, down, silent, emptied, sharded, or full of nonsense: it costs time, never a run."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgpack
import pytest
import redis
from django.core.management import call_command

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.faults.proxy import Proxy
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, forget, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

PATIENT = {"POLL_INTERVAL": 60}  # what happens in time is then due to a message
POLLING = {"POLL_INTERVAL": 0.3, "HEARTBEAT_INTERVAL": 1}


def warnings_of(process: Process) -> list[str]:
    return [line for line in process.output.splitlines() if " WARNING " in line]


def push_raw(url: str, prefix: str, channel: str, content: bytes) -> None:
    """Put bytes on a channel as RedisChannelLayer does, whatever they are."""
    with redis.Redis.from_url(url) as client:
        client.zadd(f"{prefix}{channel}", {b"." * 12 + content: time.time()})


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on which somebody accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connections.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            connection.close()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_messages_that_are_none_of_sisy_s_are_dropped_and_the_worker_works_on(
    manage: Callable[..., Process], redis_layer: str, redis_prefix: str
) -> None:
    worker = manage("sisy_worker", layer="redis", settings=PATIENT)
    wait_for_workers(worker)
    foreign: list[Any] = [
        {"v": 1},
        {"type": "dispatch"},
        {"type": "as.asgi"},
        {"type": "send"},
        {"type": None},
        {"type": "shop.order", "blob": "x" * 2_000_000},
        ["a list"],
        7,
    ]
    for channel in ("sisy.run", "sisy.heartbeat"):
        for message in foreign:
            push_raw(redis_layer, redis_prefix, channel, msgpack.packb(message))
        push_raw(redis_layer, redis_prefix, channel, msgpack.packb({1: "keys that are no text"}))
        for number in range(6):
            push_raw(redis_layer, redis_prefix, channel, b"\xc1 this is not msgpack %d" % number)
    Task.run_once(flow_tasks.tell, label="after them")
    wait_for_ends(1, timeout=15, label="after them")
    task_with_callable(tasks.note, label="due", schedule="0 0 1 1 *").save()
    Task.objects.update(next_run="2020-01-01T00:00Z")
    assert manage("sisy_heartbeat", "--once", layer="redis").wait() == 0
    wait_for_ends(1, label="due")
    assert worker.stop() == 0
    dropped = [line for line in warnings_of(worker) if "none of sisy's" in line]
    assert len(dropped) == 1
    assert len(warnings_of(worker)) <= 6


def test_a_layer_that_holds_one_message_a_channel_loses_no_run(
    manage: Callable[..., Process], redis_layer: str, settings: Any
) -> None:
    config = settings.CHANNEL_LAYERS["default"]["CONFIG"]
    settings.CHANNEL_LAYERS = {"default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {**config, "capacity": 1}}}
    options = {"SISY_TEST_LAYER_OPTIONS": json.dumps({"capacity": 1})}
    Task.bulk_run_once(flow_tasks.run_once_each, [{"n": n} for n in range(100)])
    for n in range(100):
        Task.run_once(flow_tasks.arun_once_each, {"n": n})
    workers = [manage("sisy_worker", layer="redis", settings={"POLL_INTERVAL": 1}, **options) for _ in range(2)]
    wait_for_workers(*workers)  # one could do all before the other is there, which a signal would then just kill
    wait_for_ends(200)
    wait_for(lambda: not Run.objects.active().exists(), what="the end of all runs")
    assert [worker.stop() for worker in workers] == [0, 0]
    assert len({line["run"] for line in ledger.lines()}) == len(ledger.lines()) == 200
    assert [line for worker in workers for line in warnings_of(worker)] == []


def test_a_layer_that_was_never_there(manage: Callable[..., Process], closed_port: int, silent_port: int) -> None:
    """One worker finds nobody at Redis's port, the other one somebody who never answers; a heartbeat for each."""
    urls = [f"redis://127.0.0.1:{port}/0" for port in (closed_port, silent_port)]
    workers = [manage("sisy_worker", layer="redis", settings=POLLING, SISY_TEST_REDIS_URL=url) for url in urls]
    beats = [manage("sisy_heartbeat", layer="redis", settings=POLLING, SISY_TEST_REDIS_URL=url) for url in urls]
    wait_for_workers(*workers)
    for number in range(20):
        Task.run_once(tasks.slow, {"seconds": 0.2}, label=f"{number}")
    task_with_callable(tasks.note, label="scheduled", schedule="* * * * * *").save()
    wait_for_ends(20, function="slow")
    wait_for_ends(3, label="scheduled")
    assert [process.stop() for process in (*beats, *workers)] == [0, 0, 0, 0]
    assert {line["pid"] for line in ledger.lines()} == {worker.pid for worker in workers}
    assert Run.objects.filter(status=RunStatus.SUCCESSFUL).count() == len(ledger.lines(kind="end"))
    for worker in workers:
        steps = [line for line in warnings_of(worker) if "Listening to the channel sisy.run failed" in line]
        assert len(steps) <= 5, worker.output
    assert "polls the database; next try in 1 s" in workers[0].output


@pytest.mark.usefixtures("flow_database", "ledger_file")
def test_a_layer_that_never_answers_holds_up_nobody_who_creates_a_task(
    silent_port: int, settings: Any, own_sender: Any
) -> None:
    config = {"hosts": [f"redis://127.0.0.1:{silent_port}/0"]}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}
    began = time.monotonic()
    for _ in range(20):
        Task.run_once(tasks.note)
    assert time.monotonic() - began < 5
    began = time.monotonic()
    call_command("sisy_heartbeat", "--once")
    assert time.monotonic() - began < 5


def test_a_layer_that_is_emptied_loses_no_run(
    manage: Callable[..., Process], redis_layer: str, redis_prefix: str
) -> None:
    workers = [manage("sisy_worker", layer="redis", settings={"POLL_INTERVAL": 0.5}) for _ in range(2)]
    beat = manage("sisy_heartbeat", "--interval", "1", layer="redis")
    wait_for_workers(*workers)
    task_with_callable(tasks.note, label="scheduled", schedule="* * * * * *").save()
    for number in range(100):
        Task.run_once(flow_tasks.run_once_each, {"n": number})
        if number % 5 == 0:
            forget(redis_layer, redis_prefix)
    wait_for_ends(100, function="run_once_each")
    forget(redis_layer, redis_prefix)
    seen = len(ledger.lines(label="scheduled", kind="end"))
    wait_for_ends(seen + 2, label="scheduled")
    assert [process.stop() for process in (beat, *workers)] == [0, 0, 0]
    runs = [line["run"] for line in ledger.lines(function="run_once_each")]
    assert len(runs) == len(set(runs)) == 100


def test_a_layer_on_two_hosts(
    manage: Callable[..., Process], redis_layer: str, redis_prefix: str, settings: Any
) -> None:
    """channels_redis sends to them in turn, and a receiver waits at one of them until something comes there."""
    other = redis_layer.rpartition("/")[0] + "/14"
    config = {"hosts": [other, redis_layer], "prefix": redis_prefix}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}
    started = {"layer": "redis", "settings": PATIENT, "SISY_TEST_REDIS_URL": f"{other},{redis_layer}"}
    queues = ("mail", "print")
    workers = [manage("sisy_worker", "--queues", queue, **started) for queue in queues]
    beat = manage("sisy_heartbeat", "--interval", "1", **started)
    wait_for_workers(*workers)
    try:
        for number in range(6):
            label, queue = f"once {number}", queues[number % 2]
            Task.run_once(tasks.note, label=label, queue=queue)
            wait_for_ends(1, timeout=10, label=label)
        task_with_callable(tasks.note, label="scheduled", schedule="* * * * * *", queue=queues[0]).save()
        wait_for_ends(2, timeout=15, label="scheduled")
        assert [process.stop() for process in (beat, *workers)] == [0, 0, 0]
    finally:
        forget(other, redis_prefix)


def test_a_layer_that_goes_away_and_comes_back(manage: Callable[..., Process], redis_layer: str) -> None:
    url = urlsplit(redis_layer)
    proxy = Proxy(url.hostname or "127.0.0.1", url.port or 6379)
    settings = {"POLL_INTERVAL": 3}
    through_it = {"layer": "redis", "SISY_TEST_REDIS_URL": f"redis://127.0.0.1:{proxy.port}{url.path}"}
    worker = manage("sisy_worker", settings=settings, **through_it)
    wait_for_workers(worker)
    Task.run_once(flow_tasks.tell, label="before")
    wait_for_ends(1, label="before")
    proxy.cut()
    worker.wait_for_output("Listening to the channel sisy.run failed")
    Task.run_once(flow_tasks.tell, label="meanwhile")
    (meanwhile,) = wait_for_ends(1, timeout=10, label="meanwhile")
    assert meanwhile["message"]["type"] == "sisy.poll"
    proxy.mend()
    worker.wait_for_output("Listening to the channel sisy.run works again")
    Task.run_once(flow_tasks.tell, label="after")
    wait_for_ends(1, timeout=10, label="after")
    assert worker.stop() == 0
    proxy.cut()
    steps = [line for line in warnings_of(worker) if "the channel sisy.run failed" in line]
    assert len(steps) <= 5


def test_a_worker_that_hears_nothing_for_long_is_in_no_trouble(
    manage: Callable[..., Process], redis_layer: str
) -> None:
    """With redis-py's own socket_timeout, 5 s, each idle wait ends in an error of its own."""
    options = json.dumps({"hosts": [redis_layer]})
    worker = manage("sisy_worker", layer="redis", settings=PATIENT, SISY_TEST_LAYER_OPTIONS=options)
    wait_for_workers(worker)
    time.sleep(6)  # longer than that timeout
    Task.run_once(flow_tasks.tell)
    (line,) = wait_for_ends(1, timeout=15)
    assert line["message"]["type"] == "sisy.nudge"
    assert worker.stop() == 0
    assert warnings_of(worker) == []
