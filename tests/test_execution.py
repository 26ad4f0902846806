"""What comes of a call: results, exceptions, retries, Skip, rows that are gone, progress, the run inside of the run."""

import json
import logging
from datetime import datetime, timedelta
from enum import StrEnum

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import translation

import sisy
from sisy import executor, policy
from sisy.errors import CallableNotAllowed, Cancelled, TimedOut
from sisy.models import Run, Task
from sisy.testing import drain, run_due
from tests.project.shop import chores, heard, tasks
from tests.project.shop.models import HiddenOrder, Ledger, Order, Parcel
from tests.project.shop.rows import NOON, at, end, every_minute, outcome, statuses, stored, tick_and_claim

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_heard():
    heard.calls.clear()


def run_doing(function, now=NOON):
    with chores.doing(function):
        return run_due(now)


def raising(error):
    def function(message):
        raise error

    return function


# -- the message and the run inside of it ----------------------------------------------------------


def test_the_second_part_of_the_message_is_the_channel_message_that_made_the_worker_look():
    every_minute()
    (run,) = tick_and_claim(NOON)
    nudge = {"type": "sisy.nudge", "v": 1}
    prepared = executor.prepare(run, message=nudge)
    assert prepared.message == {"task": run.task, "message": nudge}
    assert prepared.message["message"] is not nudge


def test_what_a_function_does_to_its_message_does_not_reach_the_next_run():
    every_minute(label="a")
    every_minute(label="b")
    seen = []

    def spoil(message):
        seen.append(dict(message["message"]))
        message["message"]["spoiled"] = True
        message.clear()

    run_doing(spoil)
    assert seen[0] == seen[1] == {"type": "sisy.poll", "v": 1}


def test_the_run_is_known_inside_of_it():
    every_minute()
    seen = []
    (run,) = run_doing(lambda message: seen.append((message["task"].current_run, executor.running.get())))
    inside, in_context = seen[0]
    assert (inside.pk, in_context.pk, executor.running.get()) == (run.pk, run.pk, None)
    assert (inside.slot, inside.attempt) == (NOON, 1)
    assert stored(run.task).current_run is None


def test_the_run_is_known_inside_of_a_coroutine():
    every_minute(chores.adoes)
    seen = []

    async def work(message):
        seen.append((message["task"].current_run, executor.running.get()))

    (run,) = run_doing(work)
    assert run.traceback == ""
    assert [inside.pk for inside in seen[0]] == [run.pk] * 2
    assert executor.running.get() is None


def test_progress_can_be_set_and_read_while_it_runs():
    every_minute()
    seen = []

    def work(message):
        message["task"].current_run.set_progress(0.5, "half of it")
        seen.append(Run.objects.get().progress)

    (run,) = run_doing(work)
    assert run.status == "SUCCESSFUL", run.traceback
    assert "half of it" in json.dumps(seen[0])
    assert "half of it" in json.dumps(run.progress)


def test_lines_can_be_logged_with_the_run():
    every_minute()
    (run,) = run_doing(lambda message: message["task"].current_run.log("counting sheep"))
    assert run.status == "SUCCESSFUL", run.traceback


def test_a_function_can_ask_whether_it_was_cancelled():
    task = every_minute()
    seen = []

    def work(message):
        seen.append(message["task"].current_run.is_cancelled)
        stored(task).cancel()
        seen.append(message["task"].current_run.is_cancelled)

    (run,) = run_doing(work)
    assert run.traceback == ""
    assert seen == [False, True]


# -- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, "", False, [], {}, {"a": [1, None]}, "text", 1.5, [[]]])
def test_a_result_that_is_json_is_kept(value):
    every_minute(tasks.returns, userdata={"result": value})
    (run,) = run_due(NOON)
    assert (run.status, run.result, run.reason) == ("SUCCESSFUL", value, "")
    assert (run.started_at, run.finished_at, run.is_over) == (NOON, NOON, True)


def test_without_a_result_there_is_none():
    every_minute(chores.nothing)
    (run,) = run_due(NOON)
    assert run.result is None
    assert Run.objects.filter(result__isnull=True).count() == 1


class Silent:
    def __repr__(self):
        raise RuntimeError("asked for its repr")


def itself():
    value = []
    value.append(value)
    return value


def deep():
    value = []
    for _ in range(5000):
        value = [value]
    return value


UNSTORABLE = {
    "an object": object(),
    "an object without a repr": Silent(),
    "NaN": float("nan"),
    "bytes": b"x",
    "a function": print,
    "a lone surrogate": "\ud800",
    "a NUL": "\x00",
    "too much": "x" * 70_000,
    "too long a number": 10**5000,
    "itself": itself(),
    "too deep": deep(),
    "a key that is no text": {1: 2},
}


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_result_that_is_not_json_is_dropped_and_the_run_says_so(value):
    every_minute()
    (run,) = run_doing(lambda message: value)
    assert (run.status, run.result) == ("SUCCESSFUL", None)
    assert "result was dropped" in run.reason


def test_a_text_enum_is_a_text():
    every_minute()
    color = StrEnum("Color", ["RED"])
    (run,) = run_doing(lambda message: color.RED)
    assert run.result == "red"


# -- exceptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [tasks.fail, tasks.afail])
def test_an_exception_fails_the_run_and_its_traceback_is_kept(function):
    every_minute(function)
    (run,) = run_due(NOON)
    assert (run.status, run.result) == ("FAILED", None)
    assert run.reason == "RuntimeError: the shop is on fire"
    (error,) = run.errors
    assert error["exception"] == "builtins.RuntimeError"
    assert (error["attempt"], datetime.fromisoformat(error["at"])) == (1, NOON)
    assert run.traceback == error["traceback"]
    assert 'raise RuntimeError("the shop is on fire")' in run.traceback


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")])
def test_what_would_end_the_process_fails_the_run_only(error):
    every_minute(label="bad")
    every_minute(tasks.note, label="good")
    run_doing(raising(error))
    assert (statuses(label="bad"), statuses(label="good")) == (["FAILED"], ["SUCCESSFUL"])
    assert type(error).__name__ in Run.objects.get(label="bad").traceback


def test_a_function_that_exits_fails_its_run():
    every_minute(tasks.exits)
    (run,) = run_due(NOON)
    assert (run.status, "SystemExit" in run.traceback) == ("FAILED", True)


def test_the_cause_of_an_exception_is_in_the_traceback():
    every_minute()

    def work(message):
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    (run,) = run_doing(work)
    assert "KeyError: 'first'" in run.traceback
    assert "ValueError: second" in run.traceback


def test_a_long_traceback_is_cut_and_keeps_its_end():
    every_minute()
    (run,) = run_doing(raising(ValueError("x" * 100_000 + " the end")))
    assert len(run.traceback) < 17 * 1024
    assert "the end" in run.traceback
    assert run.traceback.startswith("Traceback")
    assert len(run.reason) <= 255


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("asked for its text")


HOSTILE = {
    "no text": MuteError(),
    "a NUL": ValueError("a\x00b"),
    "a lone surrogate": ValueError("a\ud800b"),
    "not ASCII": ValueError("ü\U0001f600"),
    "an empty one": ValueError(),
    "a group": ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    "many": ValueError("\U0001f600" * 1000),
}


@pytest.mark.parametrize("error", HOSTILE.values(), ids=HOSTILE)
def test_whatever_is_in_an_exception_its_run_fails_and_the_others_go_on(error):
    every_minute(label="bad")
    every_minute(tasks.note, label="good")
    run_doing(raising(error))
    assert (statuses(label="bad"), statuses(label="good")) == (["FAILED"], ["SUCCESSFUL"])
    assert type(error).__name__ in Run.objects.get(label="bad").traceback


@pytest.mark.parametrize("why", ["a\x00b", "a\ud800b", "ü" * 1000])
def test_whatever_is_in_the_reason_of_a_skip_the_run_is_skipped(why):
    every_minute()
    run_doing(raising(sisy.Skip(why)))
    assert statuses() == ["SKIPPED"]


def test_skip_ends_the_run_skipped_with_its_reason_and_is_no_error():
    every_minute(max_attempts=3)
    (run,) = run_doing(raising(sisy.Skip("the shop is closed")))
    assert (run.status, run.reason, run.errors) == ("SKIPPED", "the shop is closed", [])
    assert run.finished_at == NOON


# -- retries ---------------------------------------------------------------------------------------


def test_one_attempt_is_the_default():
    every_minute(tasks.fail)
    (run,) = run_due(NOON)
    assert (run.status, run.attempt) == ("FAILED", 1)


def test_a_failed_attempt_goes_back_to_ready_with_its_traceback():
    every_minute(max_attempts=3, retry_backoff=timedelta(seconds=100))
    (run,) = run_doing(raising(RuntimeError("first")))
    assert (run.status, run.attempt, run.claim, run.lease_expires_at) == ("READY", 2, None, None)
    assert (run.started_at, run.finished_at) == (None, None)
    assert timedelta(seconds=50) <= run.run_after - NOON <= timedelta(seconds=100)
    assert [error["attempt"] for error in run.errors] == [1]


def test_every_attempt_keeps_its_traceback_and_the_last_one_decides():
    every_minute(max_attempts=3, retry_backoff=0)
    texts = iter(["first", "second", "third"])

    def work(message):
        raise RuntimeError(next(texts))

    run_doing(work)
    run = Run.objects.get()
    assert (run.status, run.attempt) == ("FAILED", 3)
    assert [error["attempt"] for error in run.errors] == [1, 2, 3]
    assert ["first" in run.errors[0]["traceback"], "third" in run.traceback] == [True, True]


def test_a_success_after_failures_is_a_success_that_remembers_them():
    every_minute(max_attempts=3, retry_backoff=0)
    attempts = []

    def work(message):
        attempts.append(message["task"].current_run.attempt)
        if len(attempts) < 3:
            raise RuntimeError("not yet")
        return "done"

    run_doing(work)
    run = Run.objects.get()
    assert (attempts, run.status, run.result, len(run.errors)) == ([1, 2, 3], "SUCCESSFUL", "done", 2)
    assert run.reason == ""


def test_backoff_is_exponential_with_jitter_and_has_a_limit():
    base = timedelta(seconds=10)
    waits = [policy.backoff(attempt=n, base=base, chance=0.999999).total_seconds() for n in (1, 2, 3, 4)]
    assert [round(wait) for wait in waits] == [10, 20, 40, 80]
    assert policy.backoff(attempt=1, base=base, chance=0) < base
    assert policy.backoff(attempt=1000, base=base, chance=0.5) <= timedelta(hours=6)


def test_the_longest_backoff_that_can_be_stored_does_not_break_the_run():
    every_minute(max_attempts=5, retry_backoff=timedelta(seconds=1_000_000_000))
    (run,) = tick_and_claim(NOON)
    run.attempt = 4
    end(run, error=RuntimeError("no"))
    assert stored(run).status in ("READY", "FAILED")


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
def test_retry_says_when_the_next_attempt_comes(delay):
    every_minute(max_attempts=2)
    (run,) = run_doing(raising(sisy.Retry("the shop is closed", delay=delay)))
    assert (run.status, run.run_after, run.attempt) == ("READY", at(1.5), 2)
    assert "the shop is closed" in run.reason


def test_retry_with_zero_is_at_once():
    every_minute(max_attempts=2)
    run_doing(raising(sisy.Retry(delay=0)))
    assert [(run.status, run.attempt) for run in Run.objects.all()] == [("FAILED", 2)]


def test_retry_without_a_delay_keeps_to_the_backoff_of_the_task():
    every_minute(max_attempts=2, retry_backoff=timedelta(seconds=100))
    (run,) = run_doing(raising(sisy.Retry()))
    assert timedelta(seconds=50) <= run.run_after - NOON <= timedelta(seconds=100)


def test_retry_does_not_go_past_the_attempts_of_the_task():
    every_minute(max_attempts=2)
    with chores.doing(raising(sisy.Retry("no", delay=0))):
        run_due(NOON)
    assert [(run.status, run.attempt) for run in Run.objects.all()] == [("FAILED", 2)]


@pytest.mark.parametrize("delay", [-1, "soon", float("nan"), float("inf"), timedelta.max, 10**12, True])
def test_a_bad_delay_does_not_break_the_run_or_the_others(delay):
    every_minute(max_attempts=2, label="bad")
    every_minute(tasks.note, label="good")

    def work(message):
        raise sisy.Retry("later", delay=delay)

    run_doing(work)
    bad = Run.objects.get(label="bad")
    assert (bad.status in ("READY", "FAILED"), statuses(label="good")) == (True, ["SUCCESSFUL"])
    assert len(bad.errors) == 1


def test_an_attempt_of_a_cancelled_run_is_not_followed_by_another():
    task = every_minute(max_attempts=5)
    (run,) = tick_and_claim(NOON)
    task.cancel()
    end(run, error=RuntimeError("no"))
    row = stored(run)
    assert (row.status, row.finished_at) == ("CANCELLED", NOON)
    assert row.reason


def test_a_cancelled_run_says_why():
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    task.cancel()
    end(run, error=Cancelled("it was cancelled"))
    row = stored(run)
    assert (row.status, bool(row.reason), row.errors) == ("CANCELLED", True, [])


def test_a_run_that_succeeds_although_it_was_cancelled_is_a_success():
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    task.cancel()
    end(run, result=1)
    assert (stored(run).status, stored(run).result) == ("SUCCESSFUL", 1)


def test_a_timeout_fails_the_run_and_says_so():
    every_minute()
    (run,) = tick_and_claim(NOON)
    end(run, error=TimedOut("it ran longer than its timeout of 0:00:05"))
    row = stored(run)
    assert (row.status, "longer than its timeout" in row.reason) == ("FAILED", True)


# -- what is gone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Order, Parcel, HiddenOrder])
def test_a_run_whose_row_is_gone_fails_and_names_it(model):
    row = model.objects.create(name="gone")
    task = every_minute(row.remind, max_attempts=5, label="bad")
    every_minute(tasks.note, label="good")
    model._base_manager.all().delete()
    run_due(NOON)
    run = Run.objects.get(label="bad")
    assert (run.status, run.attempt, statuses(label="good")) == ("FAILED", 1, ["SUCCESSFUL"])
    assert model.__name__ in run.reason
    assert task.instance_pk in run.reason
    assert "does not exist any more" in run.traceback


def test_a_run_whose_task_was_deleted_before_it_started_is_cancelled_and_says_so():
    every_minute(tasks.note)
    (run,) = tick_and_claim(NOON)
    Task.objects.all().delete()
    run.task = None
    with pytest.raises(sisy.Skip):
        executor.prepare(run, message={})
    end(run, error=sisy.Skip("its task was deleted before it started"))
    assert (stored(run).status, stored(run).reason) == ("CANCELLED", "its task was deleted before it started")


def test_a_ready_run_whose_task_was_deleted_does_not_call_its_function():
    every_minute(tasks.note, label="gone").run_asap()
    Task.objects.all().delete()
    drain()
    assert heard.calls == []
    row = Run.objects.get()
    assert (row.status, row.label, bool(row.reason)) == ("CANCELLED", "gone", True)


def test_a_function_may_delete_its_own_task():
    every_minute(label="deleted")
    (run,) = run_doing(lambda message: message["task"].delete() and None)
    assert (run.status, run.task_id, run.label) == ("SUCCESSFUL", None, "deleted")
    assert run_due(at(1)) == []


def test_a_function_may_delete_all_runs_of_its_task():
    every_minute()
    assert run_doing(lambda message: message["task"].runs.all().delete() and None) == []
    assert [run.slot for run in run_due(at(1))] == [at(1)]


def test_a_function_may_create_tasks():
    every_minute(label="parent", iterations=1)
    with chores.doing(lambda message: Task.run_once(tasks.note, label="child") and None):
        run_due(NOON)
    assert statuses(label="child") == ["SUCCESSFUL"]
    assert heard.notes() == ["note"]


def test_only_what_is_allowed_is_called(settings):
    every_minute(tasks.note, label="registered")
    every_minute(chores.nothing, label="allowed")
    every_minute(chores.Clerk.file, label="bad", max_attempts=5)
    settings.SISY = {"ALLOWED_CALLABLES": ["tests.project.shop.chores.n*"]}
    run_due(NOON)
    assert [statuses(label=label) for label in ("registered", "allowed")] == [["SUCCESSFUL"]] * 2
    assert heard.notes() == ["note"]
    run = Run.objects.get(label="bad")
    assert (run.status, run.attempt) == ("FAILED", 1)
    assert "ALLOWED_CALLABLES" in run.reason


def test_a_path_is_not_imported_when_it_is_not_allowed(settings, tmp_path, monkeypatch):
    (tmp_path / "sisy_test_forbidden.py").write_text("raise SystemError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings.SISY = {"ALLOWED_CALLABLES": []}
    with pytest.raises(CallableNotAllowed):
        Task.run_once("sisy_test_forbidden.work")


# -- what a function leaves behind -----------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_what_a_function_wrote_in_a_transaction_that_it_broke_is_rolled_back():
    every_minute()

    def work(message):
        with transaction.atomic():
            Ledger.objects.create(note="lost", task_label="")
            raise RuntimeError("no")

    run_doing(work)
    assert (statuses(), Ledger.objects.count()) == (["FAILED"], 0)


def test_context_variables_of_one_run_do_not_reach_the_next():
    every_minute(label="a")
    every_minute(label="b")
    seen = []
    run_doing(lambda message: seen.append(executor.running.get().label))
    assert sorted(seen) == ["a", "b"]


def test_the_language_of_one_run_does_not_reach_the_next():
    every_minute(label="a", overlap="allow")
    every_minute(label="b", overlap="allow")
    seen = []

    def work(message):
        seen.append(translation.get_language())
        translation.activate("de")

    run_doing(work)
    translation.deactivate()
    assert seen == ["en-us", "en-us"]


# -- logging ---------------------------------------------------------------------------------------


def test_each_end_is_one_log_line_without_userdata(caplog, django_capture_on_commit_callbacks):
    every_minute(tasks.fail, userdata={"secret": "xyzzy"}, label="bad")
    every_minute(tasks.note, userdata={"secret": "xyzzy"}, label="good")
    with caplog.at_level(logging.INFO, "sisy"), django_capture_on_commit_callbacks(execute=True):
        run_due(NOON)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "sisy.run"]
    assert [level for level, text in lines if "bad" in text] == ["ERROR"]
    assert [level for level, text in lines if "good" in text] == ["INFO"]
    assert not any("xyzzy" in text for _, text in lines)


def test_an_outcome_is_a_value_that_changes_no_row():
    every_minute()
    (run,) = tick_and_claim(NOON)
    outcome(run, result=1)
    assert stored(run).status == "RUNNING"


def test_an_async_function_is_awaited_through_a_plain_decorator():
    every_minute(tasks.adecorated)
    (run,) = tick_and_claim(NOON)
    prepared = executor.prepare(run, message={"type": "sisy.nudge", "v": 1})
    awaitable = executor.call(prepared)
    async_to_sync(executor.acall)(prepared, awaitable)
    assert heard.notes() == ["adecorated"]
