"""`manage.py sisy_heartbeat` with workers in other processes: on Redis, and where no layer reaches them."""

import itertools
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

PATIENT = {"POLL_INTERVAL": 60}  # what happens in time is then due to a message


def assert_each_slot_ran_once(label: str) -> None:
    """Check by rows and by ledger that no slot between the first and the last one is left out or was run twice."""
    slots = list(Run.objects.filter(label=label, slot__isnull=False).order_by("slot").values_list("slot", flat=True))
    assert all(later - earlier == timedelta(seconds=1) for earlier, later in itertools.pairwise(slots)), slots
    done = Run.objects.filter(label=label, status=RunStatus.SUCCESSFUL).count()
    times = Counter(line["run"] for line in ledger.lines(label=label, function="run_once_each"))
    assert set(times.values()) == {1}
    assert len(times) >= done


def test_two_heartbeats_and_two_workers_do_what_one_of_each_would(
    manage: Callable[..., Process], redis_layer: str
) -> None:
    workers = [manage("sisy_worker", layer="redis", settings=PATIENT) for _ in range(2)]
    beats = [manage("sisy_heartbeat", "--interval", "1", layer="redis") for _ in range(2)]
    wait_for_workers(*workers)
    for label in ("one", "two", "three"):
        task_with_callable(flow_tasks.run_once_each, label=label, schedule="* * * * * *", misfire="all").save()
    Task.run_once(tasks.anote, label="once")
    for label in ("one", "two", "three"):
        wait_for_ends(3, label=label)
    wait_for_ends(label="once")
    assert [beat.stop() for beat in beats] == [0, 0]
    wait_for(lambda: not Run.objects.active().exists(), what="the end of all runs")
    assert [worker.stop() for worker in workers] == [0, 0]
    for label in ("one", "two", "three"):
        assert_each_slot_ran_once(label)


@pytest.mark.parametrize("layer", ["none", "memory"])
def test_where_no_layer_reaches_a_worker_the_heartbeat_ticks_and_workers_poll(
    manage: Callable[..., Process], layer: str
) -> None:
    worker = manage("sisy_worker", layer=layer, settings={"POLL_INTERVAL": 0.3, "HEARTBEAT_INTERVAL": 1})
    beat = manage("sisy_heartbeat", layer=layer, settings={"HEARTBEAT_INTERVAL": 1})
    beat.wait_for_output("a tick every 1 s")
    worker.wait_for_output("polls the database every 0.3 s")
    task_with_callable(tasks.note, schedule="* * * * * *").save()
    wait_for_ends(2)
    assert [beat.stop(), worker.stop()] == [0, 0]


def test_schedules_of_seconds_run_on_time_while_the_interval_is_a_minute(
    manage: Callable[..., Process], redis_layer: str
) -> None:
    worker = manage("sisy_worker", layer="redis", settings=PATIENT)
    beat = manage("sisy_heartbeat", layer="redis")
    wait_for_workers(worker)
    beat.wait_for_output("a tick every 60 s")
    task_with_callable(tasks.note, schedule="* * * * * */2", misfire="all").save()
    wait_for_ends(3)
    runs = list(Run.objects.filter(status=RunStatus.SUCCESSFUL).order_by("slot"))
    assert all(later.slot - earlier.slot == timedelta(seconds=2) for earlier, later in itertools.pairwise(runs))
    late = sorted(run.started_at - run.slot for run in runs)
    assert late[0] >= timedelta(0)
    assert late[len(late) // 2] < timedelta(seconds=1), late
    assert [beat.stop(), worker.stop()] == [0, 0]


def test_a_heartbeat_without_any_worker_or_layer_keeps_the_seconds_too(manage: Callable[..., Process]) -> None:
    beat = manage("sisy_heartbeat", layer="none", settings={"POLL_INTERVAL": 0.3})
    beat.wait_for_output("a tick every 60 s")
    task_with_callable(tasks.note, schedule="* * * * * */2", overlap="allow").save()
    wait_for(lambda: Run.objects.filter(status=RunStatus.READY).count() >= 2, 15, "two runs")
    late = [run.enqueued_at - run.slot for run in Run.objects.filter(status=RunStatus.READY).order_by("slot")[1:]]
    assert min(late) < timedelta(seconds=1), late
    assert beat.stop() == 0


def test_one_tick_by_the_layer(manage: Callable[..., Process], redis_layer: str) -> None:
    worker = manage("sisy_worker", layer="redis", settings=PATIENT)
    wait_for_workers(worker)
    task_with_callable(tasks.note, schedule="0 0 1 1 *").save()
    Task.objects.update(next_run=timezone.now())
    once = manage("sisy_heartbeat", "--once", layer="redis")
    wait_for_ends()
    assert once.wait() == 0
    assert "Traceback" not in once.output


def test_one_tick_without_a_layer(manage: Callable[..., Process]) -> None:
    task_with_callable(tasks.note, schedule="0 0 1 1 *").save()
    Task.objects.update(next_run=timezone.now())
    assert manage("sisy_heartbeat", "--once", layer="none").wait() == 0
    assert Run.objects.get().status == RunStatus.READY
