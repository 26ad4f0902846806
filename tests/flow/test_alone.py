"""`manage.py sisy`: heartbeat, consumer and worker in one process: no CHANNEL_LAYERS, no server but the database."""

import signal
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import tasks
from tests.project.shop.models import Order

QUICK = {"POLL_INTERVAL": 0.3}


def test_every_kind_of_task_runs(manage: Callable[..., Process]) -> None:
    sisy = manage("sisy", "--interval", "1", layer="none", settings=QUICK)
    wait_for_workers(sisy)
    task_with_callable(tasks.note, label="each minute", schedule="* * * * *").save()
    Task.objects.filter(label="each minute").update(next_run=timezone.now().replace(second=0, microsecond=0))
    task_with_callable(tasks.anote, label="each second", schedule="* * * * * *").save()
    Task.run_once(tasks.note, label="once")
    Task.run_once(tasks.anote, label="once, async")
    Task.run_once(tasks.note, label="later", delay_until=timezone.now() + timedelta(seconds=1))
    Task.run_once(Order.objects.create(name="tea").remind, label="method")
    for label in ("once", "once, async", "method", "each minute", "later"):
        wait_for_ends(1, label=label)
    wait_for_ends(3, label="each second")
    assert sisy.stop(signal.SIGTERM) == 0
    missed = {"label": "each second", "status": RunStatus.MISSED}  # on a machine that is busy for a second
    assert set(Run.objects.exclude(**missed).values_list("status", flat=True)) - {RunStatus.READY} == {
        RunStatus.SUCCESSFUL
    }
    assert set(Task.objects.values_list("label", flat=True)) == {"each minute", "each second"}


def test_schedules_of_seconds_run_between_the_minutes(manage: Callable[..., Process]) -> None:
    sisy = manage("sisy", layer="none", settings=QUICK)
    wait_for_workers(sisy)
    task_with_callable(tasks.note, schedule="* * * * * */2").save()
    wait_for_ends(3)
    runs = list(Run.objects.filter(status=RunStatus.SUCCESSFUL).order_by("slot"))
    assert {run.slot.second % 2 for run in runs} == {0}
    assert max(run.started_at - run.slot for run in runs) < timedelta(seconds=1.5)
    assert sisy.stop(signal.SIGINT) == 0


def test_what_was_overdue_when_it_started_runs_at_once(manage: Callable[..., Process]) -> None:
    """Not at the next full minute: a schedule of seconds stood still while the process was restarted."""
    task_with_callable(tasks.note, schedule="* * * * * */2").save()
    wait_for(lambda: Task.objects.due().exists(), what="the first slot")
    sisy = manage("sisy", "--interval", "3600", layer="none", settings=QUICK)
    wait_for_ends(2, timeout=12)
    assert sisy.stop() == 0


@pytest.mark.parametrize("interval", [[], ["--interval", "1"]])
def test_a_configured_in_memory_layer_is_used(manage: Callable[..., Process], interval: list[str]) -> None:
    sisy = manage("sisy", *interval, layer="memory", settings=QUICK)
    wait_for_workers(sisy)
    task_with_callable(tasks.note, schedule="* * * * * *").save()
    wait_for_ends(2)
    assert sisy.stop() == 0
