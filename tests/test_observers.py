"""What leaves the process when rows change: nudges after the commit, one log line, signals for whoever listens."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.dispatch import Signal
from django.utils import timezone

from sisy import layer, observers, signals
from sisy.models import Run, RunStatus, Task, task_with_callable
from sisy.testing import drain, run_due
from tests.flow import tasks as flow_tasks
from tests.project.shop import tasks

pytestmark = pytest.mark.django_db(transaction=True)

NEVER = "0 0 1 1 *"


@pytest.fixture
def nudged(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The queues of each nudge."""
    queues: list[set[str]] = []
    monkeypatch.setattr(layer, "nudge", queues.append)
    return queues


@pytest.fixture
def kicked(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each kick."""
    kicks: list[None] = []
    monkeypatch.setattr(layer, "kick", lambda: kicks.append(None))
    return kicks


@contextmanager
def heard(signal: Signal) -> Iterator[list[Any]]:
    """What a receiver of this signal receives; it raises each time, after another one has raised."""
    received: list[Any] = []

    def raises(**_: Any) -> None:
        raise RuntimeError("a receiver's own trouble")

    def notes(**arguments: Any) -> None:
        received.append(arguments.get("run") or arguments.get("task") or arguments)
        raise RuntimeError("a receiver's own trouble")

    signal.connect(raises)
    signal.connect(notes)
    try:
        yield received
    finally:
        signal.disconnect(raises)
        signal.disconnect(notes)


def said(caplog: pytest.LogCaptureFixture, name: str = "sisy.run") -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == name]


# Nudges ---------------------------------------------------------------------------------------------------------------


def test_the_nudge_comes_after_the_commit(nudged: list[set[str]]) -> None:
    with transaction.atomic():
        Task.run_once(tasks.note, queue="mail")
        assert nudged == []
    assert nudged == [{"mail"}]


def test_what_is_rolled_back_nudges_nobody(nudged: list[set[str]], kicked: list[None]) -> None:
    with transaction.atomic():
        Task.run_once(tasks.note)
        task_with_callable(tasks.note, schedule="* * * * * *").save()
        transaction.set_rollback(True)
    assert (nudged, kicked) == ([], [])
    assert not Run.objects.exists()


def test_a_rolled_back_savepoint_nudges_nobody(nudged: list[set[str]]) -> None:
    with transaction.atomic():
        Task.run_once(tasks.note, queue="kept")
        with transaction.atomic():
            Task.run_once(tasks.note, queue="dropped")
            transaction.set_rollback(True)
    assert nudged == [{"kept"}]


def test_many_runs_are_one_nudge(nudged: list[set[str]]) -> None:
    Task.bulk_run_once(tasks.note, [{"n": n} for n in range(500)])
    assert nudged == [{"default"}]


def test_a_tick_nudges_the_queues_of_its_runs(nudged: list[set[str]]) -> None:
    for queue in ("mail", "print", "mail"):
        task_with_callable(tasks.note, schedule="* * * * *", queue=queue).save()
    run_due(timezone.now() + timedelta(minutes=1))
    assert nudged == [{"mail", "print"}]


def test_a_layer_in_trouble_does_not_disturb_whoever_creates_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def trouble(queues: set[str]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(layer, "nudge", trouble)
    Task.run_once(tasks.note)
    assert Run.objects.get().status == RunStatus.READY


def test_a_layer_that_does_not_exist_does_not_disturb_whoever_creates_a_task(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}
    Task.run_once(tasks.note)
    assert Run.objects.get().status == RunStatus.READY


# Kicks ----------------------------------------------------------------------------------------------------------------


def test_a_slot_before_the_next_boundary_asks_for_a_tick(kicked: list[None], settings: Any) -> None:
    settings.SISY = {"HEARTBEAT_INTERVAL": 86400}
    task = task_with_callable(tasks.note, schedule="* * * * * *")
    task.save()
    assert len(kicked) == 1
    task.schedule = "* * * * * */2"
    task.save()
    assert len(kicked) == 2


def test_a_slot_that_the_heartbeat_will_come_by_asks_for_nothing(kicked: list[None]) -> None:
    task_with_callable(tasks.note, schedule=NEVER).save()
    task_with_callable(tasks.note, schedule="* * * * * *", enabled=False).save()
    assert kicked == []


# Signals --------------------------------------------------------------------------------------------------------------


def test_receivers_hear_each_end_and_their_trouble_does_no_harm() -> None:
    with heard(signals.run_finished) as finished, heard(signals.run_failed) as failed:
        Task.run_once(tasks.note, label="good")
        Task.run_once(tasks.fail, label="bad")
        drain()
    assert [run.label for run in finished] == ["good", "bad"]
    assert [run.label for run in failed] == ["bad"]
    assert failed[0].status == RunStatus.FAILED
    assert sorted(Run.objects.values_list("status", flat=True)) == [RunStatus.FAILED, RunStatus.SUCCESSFUL]


def test_receivers_hear_of_another_attempt() -> None:
    task = task_with_callable(flow_tasks.fail_once, schedule=NEVER, max_attempts=2)
    task.save()
    task.run_asap()
    with heard(signals.run_retry_scheduled) as retried, heard(signals.run_failed) as failed:
        drain()
    assert [(run.status, run.attempt) for run in retried] == [(RunStatus.READY, 2)]
    assert failed == []


def test_receivers_hear_of_missed_slots_and_exhausted_and_parked_tasks() -> None:
    now = timezone.now().replace(microsecond=0)
    task_with_callable(tasks.note, schedule="* * * * *", label="late").save()
    task_with_callable(tasks.note, schedule="* * * * *", label="broken").save()
    Task.run_once(tasks.note, label="used up")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sisy_task SET schedule = 'every day' WHERE label = 'broken'")
    with (
        heard(signals.run_missed) as missed,
        heard(signals.task_exhausted) as exhausted,
        heard(signals.task_parked) as parked,
    ):
        run_due(now + timedelta(minutes=5))
    assert [(run.label, run.missed_count >= 3) for run in missed] == [("late", True)]
    assert [task.label for task in exhausted] == ["used up"]
    assert [task.label for task in parked] == ["broken"]
    assert "every day" in parked[0].error


def test_signals_nobody_listens_to_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["run_started", "run_finished", "run_failed", "run_missed", "run_retry_scheduled", "task_exhausted"]
    for name in names:
        monkeypatch.setattr(getattr(signals, name), "send_robust", lambda **_: pytest.fail("sent to nobody"))
    Task.run_once(tasks.note)
    Task.run_once(tasks.fail)
    drain()
    assert not Run.objects.active().exists()


def test_signals_are_sent_after_the_commit() -> None:
    with heard(signals.runs_changed) as changes, transaction.atomic():
        Task.run_once(tasks.note)
        assert changes == []
    assert [change["event"] for change in changes] == ["enqueued"]


def test_connecting_twice_is_connecting_once(nudged: list[set[str]]) -> None:
    observers.connect()
    Task.run_once(tasks.note)
    assert len(nudged) == 1


# Log lines ------------------------------------------------------------------------------------------------------------


def test_each_end_is_one_line_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sisy.run")
    Task.run_once(tasks.note, label="good")
    Task.run_once(tasks.fail, label="bad")
    good, bad = drain()
    (first, second) = said(caplog)
    assert first[0] == "INFO"
    assert first[1].startswith(f"Run {good.pk} of good SUCCESSFUL in ")
    assert second[0] == "ERROR"
    assert second[1].startswith(f"Run {bad.pk} of bad FAILED in ")
    assert second[1].endswith(": RuntimeError: the shop is on fire")
    assert [(record.run_id, record.run_status) for record in caplog.records] == [
        (good.pk, RunStatus.SUCCESSFUL),
        (bad.pk, RunStatus.FAILED),
    ]


def test_another_attempt_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    task = task_with_callable(flow_tasks.fail_once, label="shaky", schedule=NEVER, max_attempts=2)
    task.save()
    task.run_asap()
    drain()
    ((level, text),) = said(caplog)
    assert level == "WARNING"
    assert "of shaky failed, attempt 2 follows at" in text
    assert "RuntimeError: not yet" in text


def test_cancelling_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sisy.run")
    Task.run_once(tasks.note, label="unwanted").cancel()
    ((level, text),) = said(caplog)
    assert level == "INFO"
    assert "of unwanted CANCELLED" in text


def test_userdata_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    Task.run_once(tasks.count, {"n": 1, "password": "opensesame"})
    Task.run_once(tasks.fail, {"password": "opensesame"})
    drain()
    assert said(caplog)
    assert not any("opensesame" in record.getMessage() for record in caplog.records if record.name.startswith("sisy"))


# Hints for whoever watches -------------------------------------------------------------------------------------------


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The topics of each hint."""
    hints: list[list[str]] = []
    monkeypatch.setattr(layer, "publish", lambda changed: hints.append(changed.topics()))
    return hints


def test_each_change_of_a_run_and_of_a_task_is_published(published: list[list[str]]) -> None:
    task = task_with_callable(tasks.note, schedule=NEVER)
    task.save()
    assert published == [[f"task:{task.pk}"]]
    run = task.run_asap()
    assert published[-1] == [f"run:{run.pk}", f"task:{task.pk}"]
    del published[:]
    drain()
    assert [f"run:{run.pk}", f"task:{task.pk}"] in published
    for change in (task.pause, task.resume, lambda: setattr(task, "label", "new") or task.save(), task.delete):
        del published[:]
        key = task.pk
        change()
        assert [f"task:{key}"] in published


def test_what_a_run_says_of_itself_is_published(published: list[list[str]]) -> None:
    run = Task.run_once(tasks.note).runs.get()
    del published[:]
    run.set_progress(0.5, "half")
    run.set_progress(0.6)  # within half a second: not written, so there is nothing to look at
    assert published == [[f"run:{run.pk}"]]
    run.log("a line")
    assert published == [[f"run:{run.pk}"]] * 2


def test_many_runs_are_published_as_everything(published: list[list[str]]) -> None:
    Task.bulk_run_once(tasks.note, [{}] * 150)
    assert ["*"] in published
