"""Channels' own `manage.py runworker sisy.heartbeat sisy.run`, through the project's ASGI application."""

import signal
from collections.abc import Callable

from sisy.models import Run, Task, task_with_callable
from tests.flow.processes import Process, wait_for_ends
from tests.project.shop import tasks


def test_plain_runworker_runs_tasks(manage: Callable[..., Process], redis_layer: str) -> None:
    settings = {"HEARTBEAT_INTERVAL": 1, "POLL_INTERVAL": 60}
    worker = manage("runworker", "sisy.heartbeat", "sisy.run", layer="redis", settings=settings)
    beat = manage("sisy_heartbeat", layer="redis", settings=settings)
    task_with_callable(tasks.note, label="scheduled", schedule="* * * * * *").save()
    Task.run_once(tasks.note, label="once")
    Task.run_once(tasks.anote, label="once, async")
    for label, count in {"scheduled": 2, "once": 1, "once, async": 1}.items():
        wait_for_ends(count, label=label)
    assert beat.stop() == 0
    assert worker.is_alive
    assert worker.stop(signal.SIGTERM) == -signal.SIGTERM, "it has no drain: see sisy_worker for that"
    assert not Run.objects.filter(label="once").exclude(status="SUCCESSFUL").exists()
