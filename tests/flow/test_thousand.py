"""A thousand mixed tasks, two heartbeats, two workers, Redis: no run is lost, none is doubled, by SQL and by ledger."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from django.db import connection, transaction

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, wait_for, wait_for_workers
from tests.project.shop import ledger, tasks

ONE_SHOTS, REPEATED, SHAKY, COUNTERS = 700, 150, 100, 50
NEVER = "0 0 1 1 *"


def create_tasks() -> None:
    half = ONE_SHOTS // 2
    Task.bulk_run_once(flow_tasks.run_once_each, [{"n": n} for n in range(half - 100)], label="once")
    Task.bulk_run_once(flow_tasks.arun_once_each, [{"n": n} for n in range(half)], label="once, async")
    with transaction.atomic():
        for _ in range(100):
            Task.run_once(flow_tasks.run_once_each, label="once")
        for number in range(REPEATED):
            function = (flow_tasks.run_once_each, flow_tasks.arun_once_each)[number % 2]
            label = f"repeated {number}"
            Task.run_iterations(
                function, iterations=2, schedule="* * * * * *", label=label, misfire="all", overlap="allow"
            )
        for number in range(SHAKY):
            backoff = timedelta(seconds=0.2)
            Task.run_once(flow_tasks.fail_once, label=f"shaky {number}", max_attempts=2, retry_backoff=backoff)
    counters = [
        task_with_callable((tasks.count, tasks.acount)[number % 2], label=f"counter {number}", userdata={"n": 0},
                           schedule=NEVER, overlap="queue")
        for number in range(COUNTERS)
    ]  # fmt: skip
    for counter in Task.objects.bulk_create(counters):
        counter.run_asap()
        counter.run_asap()  # waits for the one before


def test_a_thousand_mixed_tasks(manage: Callable[..., Process], redis_layer: str) -> None:
    workers = [manage("sisy_worker", layer="redis", settings={"POLL_INTERVAL": 1}) for _ in range(2)]
    beats = [manage("sisy_heartbeat", "--interval", "1", layer="redis") for _ in range(2)]
    wait_for_workers(*workers)
    create_tasks()

    def all_is_done() -> bool:
        return Task.objects.count() == COUNTERS and not Run.objects.active().exists()

    wait_for(all_is_done, 90, "the end of all runs")
    assert [process.stop() for process in (*beats, *workers)] == [0, 0, 0, 0]
    assert_rows_are_right()
    assert_ledger_is_right(workers)


def assert_rows_are_right() -> None:
    runs = Run.objects.all()
    assert Counter(runs.values_list("status", flat=True)) == {
        RunStatus.SUCCESSFUL: ONE_SHOTS + 2 * REPEATED + SHAKY + 2 * COUNTERS
    }
    assert runs.filter(label__startswith="once").count() == ONE_SHOTS
    slots = Counter(runs.filter(label__startswith="repeated").values_list("label", flat=True))
    assert set(slots.values()) == {2}
    assert len(slots) == REPEATED
    assert {(run.attempt, len(run.errors)) for run in runs.filter(label__startswith="shaky")} == {(2, 1)}
    assert {task.userdata["n"] for task in Task.objects.all()} == {2}
    assert {task.runs_created for task in Task.objects.all()} == {2}
    assert set(runs.values_list("crashes", flat=True)) == {0}
    assert not runs.filter(started_at=None).exists()


def assert_ledger_is_right(workers: list[Process]) -> None:
    each = Counter(line["run"] for line in ledger.lines(kind="end", function="run_once_each"))
    assert set(each.values()) == {1}, "a run was doubled"
    keys = Run.objects.filter(callable__contains="run_once_each").values_list("pk", flat=True)
    assert set(each) == set(keys), "a run was lost"
    begins = Counter(line["label"] for line in ledger.lines(kind="begin"))
    assert begins == {
        **{f"shaky {number}": 2 for number in range(SHAKY)},
        **{f"counter {number}": 2 for number in range(COUNTERS)},
    }
    pids = {line["pid"] for line in ledger.lines()}
    assert pids <= {worker.pid for worker in workers}
    if connection.vendor != "sqlite":  # SQLite has one writer at a time: one worker may get it each time
        assert len(pids) == len(workers), "one worker did it all"
