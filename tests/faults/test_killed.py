"""kill -9, and functions that take their process along: runs go on elsewhere or are LOST, as their task says."""

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.faults import tasks as harmful
from tests.faults.stage import EACH_SECOND, QUICK, Settled, run_of, wait_for_end_of
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

IN_FLIGHT = 1000


def test_a_worker_killed_after_the_effect_and_before_that_is_written(
    manage: Callable[..., Process], settle: Settled
) -> None:
    """Nobody can know that it had happened: it happens again, but for a task that says at_most_once."""
    settle.lost_lines = True
    Task.run_once(harmful.die_after_the_effect, label="again")
    Task.run_once(harmful.die_after_the_effect, label="never again", at_most_once=True)
    parent = manage("sisy_worker", "--processes", "2", "--concurrency", "1")
    assert wait_for_end_of("again").status == RunStatus.SUCCESSFUL
    assert wait_for_end_of("never again").status == RunStatus.LOST
    settle()
    assert parent.stop() == 0
    effects = Counter(line["label"] for line in ledger.lines(kind="end"))
    assert effects == {"again": 2, "never again": 1}


def test_the_only_heartbeat_is_killed_and_replaced(manage: Callable[..., Process], settle: Settled) -> None:
    """Workers work on; when a heartbeat is back, the newest slot runs once and the others are one row."""
    worker, beat = manage("sisy_worker"), manage("sisy_heartbeat")
    wait_for_workers(worker)
    task_with_callable(tasks.note, label="scheduled", schedule=EACH_SECOND).save()
    wait_for_ends(2, label="scheduled")
    beat.kill()
    time.sleep(0.5)  # a tick that was under way
    before = Run.objects.filter(label="scheduled").latest("slot").slot
    Task.run_once(tasks.note, label="by hand")
    wait_for_ends(1, label="by hand")
    time.sleep(3)  # slots pass
    assert Run.objects.filter(label="scheduled").latest("slot").slot == before
    other = manage("sisy_heartbeat")
    missed = wait_for(lambda: Run.objects.filter(status=RunStatus.MISSED, missed_since__gt=before).first())
    assert missed.missed_count >= 3
    wait_for(lambda: Run.objects.filter(label="scheduled", slot__gt=missed.slot, status=RunStatus.SUCCESSFUL).exists())
    settle()
    assert [other.stop(), worker.stop()] == [0, 0]


def test_ten_heartbeats_do_what_one_would(manage: Callable[..., Process], settle: Settled) -> None:
    worker = manage("sisy_worker")
    tasks_of_each_second = [task_with_callable(tasks.note, label=f"{n}", schedule=EACH_SECOND) for n in range(20)]
    for task in tasks_of_each_second:
        task.save()
    beats = [manage("sisy_heartbeat") for _ in range(10)]
    wait_for_workers(worker)
    for task in tasks_of_each_second:
        wait_for_ends(3, label=task.label)
    settle()
    assert [process.stop() for process in (*beats, worker)] == [0] * 11
    assert not [process.output for process in (*beats, worker) if " ERROR " in process.output]


@pytest.mark.parametrize("how", sorted(harmful.DEATHS))
def test_a_function_that_ends_its_process(manage: Callable[..., Process], settle: Settled, how: str) -> None:
    """It is LOST after MAX_CRASHES, its neighbours follow their own policy, and the parent starts workers anew."""
    settle.lost_lines, settle.max_crashes = True, 1
    parent = manage("sisy_worker", "--processes", "2", settings={**QUICK, "MAX_CRASHES": 1})
    Task.run_once(harmful.die, {"how": how}, label="poison")
    assert wait_for_end_of("poison").status == RunStatus.LOST
    Task.run_once(harmful.die, {"how": how}, label="poison once", at_most_once=True)
    assert wait_for_end_of("poison once").status == RunStatus.LOST
    Task.run_once(tasks.note, label="after")
    assert wait_for_end_of("after").status == RunStatus.SUCCESSFUL
    settle()
    assert "worker died" in run_of("poison").reason
    assert len(ledger.lines(kind="begin", label="poison")) == 2
    assert len(ledger.lines(kind="begin", label="poison once")) == 1
    assert parent.stop() == 0


def test_three_iterations_are_three_runs_whoever_dies(manage: Callable[..., Process], settle: Settled) -> None:
    settle.lost_lines = True
    parent = manage("sisy_worker", "--processes", "2", "--concurrency", "1")
    beats = [manage("sisy_heartbeat") for _ in range(2)]
    Task.run_iterations(harmful.die_after_the_effect, iterations=3, schedule=EACH_SECOND, label="three")
    wait_for(lambda: not Task.objects.exists(), what="the end of the task")
    settle()
    assert [process.stop() for process in (*beats, parent)] == [0, 0, 0]
    runs = Run.objects.filter(label="three").exclude(status__in=[RunStatus.SKIPPED, RunStatus.MISSED])
    assert [run.status for run in runs] == [RunStatus.SUCCESSFUL] * 3
    assert sum(run.crashes for run in runs) == 1


def test_any_process_is_killed_at_any_moment_with_a_thousand_runs_in_flight(
    manage: Callable[..., Process], redis_layer: str, settle: Settled
) -> None:
    """Workers and heartbeats die at random, others take their place; each run ends, and starts again by policy only."""
    settle.lost_lines, settle.max_crashes = True, 20
    chance = random.Random(20261124)
    options = {"layer": "redis", "settings": {**QUICK, "MAX_CRASHES": 20}}
    commands = [["sisy_worker", "--concurrency", "8"]] * 3 + [["sisy_heartbeat"]]
    running = [manage(*command, **options) for command in commands]
    for number in range(5):
        task_with_callable(tasks.note, label=f"scheduled {number}", schedule=EACH_SECOND, misfire="all").save()
    kinds = {"plain": {}, "once": {"at_most_once": True}}
    wait_for_workers(*running[:3])
    for label, fields in kinds.items():
        half = [{"seconds": chance.uniform(0, 0.6)} for _ in range(IN_FLIGHT // 4)]
        Task.bulk_run_once(tasks.slow, half, label=label, **fields)
        Task.bulk_run_once(tasks.aslow, half, label=label, **fields)
    for kill in range(10):
        time.sleep(chance.uniform(0.2, 1.2))
        number = kill % 4 if kill < 4 else chance.randrange(4)  # each of them once at least
        running[number].kill()
        running[number] = manage(*commands[number], **options)
    assert Run.objects.active().exists(), "all was over before the last kill"
    settle()
    assert [process.stop() for process in running] == [0] * 4
    ends = Counter(Run.objects.exclude(label__startswith="scheduled").values_list("label", "status"))
    assert ends["plain", RunStatus.SUCCESSFUL] == IN_FLIGHT // 2
    assert ends["once", RunStatus.SUCCESSFUL] + ends["once", RunStatus.LOST] == IN_FLIGHT // 2
    assert sum(ends.values()) == IN_FLIGHT
    assert max(Counter(line["run"] for line in ledger.lines(kind="begin", label="once")).values()) == 1
