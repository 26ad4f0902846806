"""A deploy: workers with the old and with the new code, side by side; none of them loses or fails a run."""

from collections.abc import Callable
from typing import Any

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.flow import tasks as flow_tasks
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

SETTINGS: dict[str, Any] = {"POLL_INTERVAL": 0.5, "CONCURRENCY": 4}


def test_workers_without_the_code_leave_a_run_to_those_that_have_it(manage: Callable[..., Process]) -> None:
    old = [manage("sisy_worker", layer="none", settings=SETTINGS, SISY_TEST_OLD_CODE="1") for _ in range(2)]
    wait_for_workers(*old)
    Task.run_once(flow_tasks.newcomer, label="early")
    for worker in old:
        worker.wait_for_output("handed back for another worker to try")
    run = Run.objects.get()
    assert run.status in (RunStatus.READY, RunStatus.RUNNING)
    assert run.declined_at is not None
    new = manage("sisy_worker", layer="none", settings=SETTINGS)
    wait_for_workers(new)
    Task.bulk_run_once(flow_tasks.newcomer, [{}] * 30, label="new")
    Task.bulk_run_once(tasks.note, [{}] * 30, label="both")
    wait_for_ends(31, function="run_once_each")
    wait_for_ends(30, function="note")
    assert [process.stop() for process in (*old, new)] == [0, 0, 0]
    assert {line["pid"] for line in ledger.lines(function="run_once_each")} == {new.pid}
    assert Run.objects.filter(status=RunStatus.SUCCESSFUL).count() == 61
    assert not Task.objects.exclude(error="").exists()


def test_a_new_code_that_never_comes_fails_the_run_and_parks_its_task(manage: Callable[..., Process]) -> None:
    settings = {**SETTINGS, "DEPLOY_GRACE": 1.5}
    old = manage("sisy_worker", layer="none", settings=settings, SISY_TEST_OLD_CODE="1")
    wait_for_workers(old)
    task = task_with_callable(flow_tasks.newcomer, label="never", schedule="0 0 1 1 *")
    task.save()
    task.run_asap()
    Task.run_once(tasks.note, label="others go on")
    run = wait_for(lambda: Run.objects.filter(label="never", status=RunStatus.FAILED).first(), what="the failure")
    assert "newcomer" in run.reason
    assert wait_for_ends(1, label="others go on")
    assert old.stop() == 0
    assert "newcomer" in Task.objects.get(label="never").error


def test_a_burst_leaves_what_it_can_not_run_to_others(manage: Callable[..., Process]) -> None:
    Task.run_once(flow_tasks.newcomer, label="new")
    Task.run_once(tasks.note, label="both")
    burst = manage("sisy_worker", "--burst", layer="none", settings=SETTINGS, SISY_TEST_OLD_CODE="1")
    assert burst.wait() == 0
    assert Run.objects.get(label="new").status == RunStatus.READY
    assert Run.objects.get(label="both").status == RunStatus.SUCCESSFUL
