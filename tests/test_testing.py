"""sisy.testing: what users write in the tests of their own tasks."""

from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import TestCase
from django.utils import timezone

from sisy.models import Run, Task, task_with_callable
from sisy.testing import adrain, arun_due, assert_not_scheduled, assert_scheduled, drain, run_due
from sisy.transitions import claims, endings
from tests.project.shop import chores, heard, tasks
from tests.project.shop.models import Order
from tests.project.shop.rows import NOON, at, every_minute, slots, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_heard():
    heard.calls.clear()


# -- run_due and drain -----------------------------------------------------------------------------


def test_run_due_executes_what_is_due_then_and_gives_the_rows_as_they_are_afterwards():
    every_minute(tasks.note, label="due")
    every_minute(tasks.note, label="later", start_running=at(1))
    runs = run_due(NOON)
    assert [(run.label, run.status, run.slot) for run in runs] == [("due", "SUCCESSFUL", NOON)]
    assert runs == list(Run.objects.all())


def test_run_due_is_for_the_present_if_nothing_is_said():
    Task.run_once(tasks.note)
    assert [run.status for run in run_due()] == ["SUCCESSFUL"]


def test_run_due_with_nothing_due_executes_nothing():
    every_minute(tasks.note)
    assert run_due(at(-1)) == []


def test_drain_executes_what_is_ready_and_ticks_nothing():
    every_minute(tasks.note)
    task = every_minute(tasks.count, userdata={"n": 0})
    task.run_asap()
    assert [run.status for run in drain()] == ["SUCCESSFUL"]
    assert slots() == [None]


def test_drain_executes_what_the_executed_create():
    def create(message):
        if (left := message["task"].userdata["left"]) > 0:
            Task.run_once(chores.does, userdata={"left": left - 1})

    Task.run_once(chores.does, userdata={"left": 3})
    with chores.doing(create):
        assert len(drain()) == 4


def test_a_task_that_creates_itself_for_ever_is_noticed(monkeypatch):
    run = every_minute().run_asap()
    monkeypatch.setattr(claims, "claim", lambda **_: [run] * 100)
    monkeypatch.setattr(endings, "finish", lambda *_, **__: set())
    with pytest.raises(RuntimeError, match="again and again"):
        drain()


def test_runs_are_executed_in_the_order_in_which_workers_claim_them():
    for label, priority in (("low", -1), ("high", 1)):
        every_minute(tasks.note, label=label, priority=priority)
    assert [run.label for run in run_due(NOON)] == ["high", "low"]


def test_retries_are_executed_once_their_time_has_come():
    every_minute(tasks.fail, max_attempts=2, retry_backoff=timedelta(minutes=10), schedule="0 * * * *")
    assert [run.status for run in run_due(NOON)] == ["READY"]
    assert drain(at(1)) == []
    assert [(run.status, run.attempt) for run in drain(at(10))] == [("FAILED", 2)]


def test_an_exception_fails_the_run_and_not_the_test():
    every_minute(tasks.fail)
    (run,) = run_due(NOON)
    assert (run.status, "the shop is on fire" in run.traceback) == ("FAILED", True)


def test_a_run_that_is_executed_twice_is_given_once():
    every_minute(tasks.fail, max_attempts=3, retry_backoff=0)
    assert len(run_due(NOON)) == 1


def test_waiting_runs_are_executed_after_one_another():
    every_minute(tasks.count, userdata={"n": 0}, misfire="all")
    assert [run.slot for run in run_due(at(2))] == [at(0), at(1), at(2)]
    assert Task.objects.get().userdata == {"n": 3}


def test_sync_and_async_functions_are_executed_alike():
    every_minute(tasks.note)
    every_minute(tasks.anote)
    run_due(NOON)
    assert sorted(heard.notes()) == ["anote", "note"]


def test_a_naive_instant_is_refused():
    with pytest.raises(ValueError, match="naive"):
        run_due(NOON.replace(tzinfo=None))


@pytest.mark.django_db(transaction=True)
async def test_the_async_twins_work_in_async_tests():
    await Task.arun_once(tasks.anote)
    assert [run.status for run in await adrain()] == ["SUCCESSFUL"]
    await sync_to_async(every_minute)(tasks.note)
    assert [run.slot for run in await arun_due(NOON)] == [NOON]
    assert heard.notes() == ["anote", "note"]
    await sync_to_async(connections.close_all)()


class InDjangosTestCase(TestCase):
    """The tests of most projects are of this kind."""

    @classmethod
    def setUpTestData(cls):
        cls.task = task_with_callable(tasks.note, label="case", schedule="* * * * *", start_running=NOON)
        cls.task.save()

    def test_a_task_runs(self):
        assert [run.status for run in run_due(NOON)] == ["SUCCESSFUL"]
        self.task.label = "renamed"
        self.task.save()
        assert statuses() == ["SUCCESSFUL"]


# -- assertions ------------------------------------------------------------------------------------


def test_assert_scheduled_gives_the_task():
    task = every_minute(tasks.note, userdata={"n": 1})
    assert assert_scheduled(tasks.note) == task
    assert assert_scheduled("tests.project.shop.tasks.note") == task
    assert assert_scheduled(tasks.note, schedule="* * * * *", userdata={"n": 1}, priority=0) == task


def test_assert_scheduled_tells_rows_apart():
    first, second = Order.objects.create(name="a"), Order.objects.create(name="b")
    task = every_minute(first.remind)
    assert assert_scheduled(first.remind) == task
    with pytest.raises(AssertionError):
        assert_scheduled(second.remind)
    assert_not_scheduled(second.remind)


@pytest.mark.parametrize("columns", [{"schedule": "0 9 * * *"}, {"userdata": {"n": 2}}, {"next_run": at(1)}])
def test_assert_scheduled_says_what_there_is_instead(columns):
    every_minute(tasks.note, userdata={"n": 1})
    with pytest.raises(AssertionError) as caught:
        assert_scheduled(tasks.note, **columns)
    text = str(caught.value)
    assert "0 tasks" in text
    assert "tests.project.shop.tasks.note" in text
    assert next(iter(columns)) in text


def test_assert_scheduled_without_any_task_says_so():
    with pytest.raises(AssertionError, match="none"):
        assert_scheduled(tasks.note)


def test_assert_scheduled_wants_exactly_one():
    every_minute(tasks.note)
    every_minute(tasks.note)
    with pytest.raises(AssertionError, match="2 tasks"):
        assert_scheduled(tasks.note)


def test_assert_scheduled_finds_a_one_shot_that_has_not_run():
    later = timezone.now() + timedelta(days=1)
    Task.run_once(tasks.note, delay_until=later)
    assert assert_scheduled(tasks.note, next_run=later).is_one_shot


def test_assert_not_scheduled():
    assert_not_scheduled(tasks.note)
    every_minute(tasks.note, label="surprise")
    with pytest.raises(AssertionError, match=r"1 task.*none was expected"):
        assert_not_scheduled(tasks.note)
