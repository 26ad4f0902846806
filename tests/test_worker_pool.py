"""The pool's slots: order, bound, outcomes, interruptions that hit the right run only, functions that misbehave."""

import asyncio
import contextvars
import copy
import itertools
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from sisy import executor, signals
from sisy.errors import Cancelled, Retry, Skip, TimedOut
from sisy.models import Run, RunStatus, Task
from sisy.transitions import claims
from sisy.transitions.endings import Outcome
from sisy.worker import flight as flight_module
from sisy.worker.flight import Flight
from sisy.worker.pool import Pool
from tests.flow.processes import wait_for

Message = dict[str, Any]
NUDGE = {"type": "sisy.nudge", "v": 1}

numbers = itertools.count(1)
calls: list[Any] = []  # what the functions below have done, in order
gate = threading.Event()  # what `waits` and `awaits` wait for
pools: list[Pool] = []  # those of the test
inside = contextvars.ContextVar("inside", default="nothing")


@pytest.fixture(autouse=True)
def fresh_calls() -> Iterator[None]:
    calls.clear()
    gate.clear()
    yield
    gate.set()  # no thread of a test may wait on into the next one, nor start there what still waits for a slot
    for pool in pools:
        pool.take_unstarted()
        wait_for(lambda pool=pool: not pool.flights(), 30, "the end of what this test has started")
    pools.clear()


# The functions that are run -------------------------------------------------------------------------------------------


def notes(message: Message) -> int:
    calls.append(message["task"].userdata.get("n"))
    return len(calls)


async def anotes(message: Message) -> int:
    return notes(message)


def keeps_message(message: Message) -> None:
    calls.append(message)


def waits(message: Message) -> None:
    notes(message)
    while not gate.wait(0.01):  # in slices: an exception raised in a thread arrives between two of them
        pass


async def awaits(message: Message) -> None:
    notes(message)
    while not gate.is_set():
        await asyncio.sleep(0.01)


def counts_itself(message: Message) -> None:
    calls.append(1)
    time.sleep(0.01)
    calls.append(-1)


async def acounts_itself(message: Message) -> None:
    calls.append(1)
    await asyncio.sleep(0.01)
    calls.append(-1)


def lasts_a_moment(message: Message) -> None:
    end = time.perf_counter() + message["task"].userdata["seconds"]
    while time.perf_counter() < end:
        pass


def raises(message: Message) -> None:
    raise error_to_raise(message)


async def araises(message: Message) -> None:
    raise error_to_raise(message)


def error_to_raise(message: Message) -> BaseException:
    return ERRORS[message["task"].userdata["error"]]()


def returns_an_awaitable(message: Message) -> Any:
    return anotes(message)


def returns_hostile(message: Message) -> object:
    return HostileRepr()


def hostile_userdata(message: Message) -> None:
    message["task"].userdata.update({1: 1, "a": 2})  # json.dumps(sort_keys=True) can't compare the two keys


def swallows_interruptions(message: Message) -> str:
    notes(message)
    try:
        while not gate.wait(0.01):
            pass
    except TimedOut:
        return "I did not care"
    return "nobody disturbed me"


def changes_context(message: Message) -> None:
    calls.append(inside.get())
    inside.set("the first run")


async def achanges_context(message: Message) -> None:
    changes_context(message)


def leaves_transaction_open(message: Message) -> None:
    transaction.set_autocommit(False)
    Task.objects.count()


def is_in_autocommit(message: Message) -> bool:
    Task.objects.count()
    return connection.get_autocommit()


async def starts_something_that_exits(message: Message) -> None:
    async def exits() -> None:
        raise SystemExit(3)

    task = asyncio.get_running_loop().create_task(exits())
    calls.append(task)
    await asyncio.sleep(0.05)


class HostileTextError(Exception):
    def __str__(self) -> str:
        return b"\xff".decode()  # UnicodeDecodeError, whose constructor wants five arguments


class ExitingTextError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class HostileRepr:
    def __repr__(self) -> str:
        return b"\xff".decode()


ERRORS: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: RuntimeError("the shop is on fire"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "skip": lambda: Skip("nothing to do"),
    "retry": lambda: Retry(delay=5),
    "retry with nonsense": lambda: Retry(delay="soon"),
    "hostile text": HostileTextError,
    "exiting text": ExitingTextError,
}


# Tools ----------------------------------------------------------------------------------------------------------------


def claimed(
    function: Callable[..., Any],
    *,
    userdata: dict[str, Any] | None = None,
    timeout: float | None = None,
    **columns: Any,
) -> Run:
    """Return a claimed run of a task; neither is in any database."""
    path = f"{__name__}.{function.__name__}"
    limit = None if timeout is None else timedelta(seconds=timeout)
    task = Task(callable=path, label=function.__name__, _extra_data=userdata or {}, timeout=limit, max_attempts=2)
    columns = {"status": RunStatus.RUNNING, "claim": uuid.uuid4(), **columns}
    return Run(pk=next(numbers), task=task, label=task.label, callable=path, **columns)


def new_pool(concurrency: int = 1) -> Pool:
    pools.append(Pool(concurrency=concurrency, on_ended=lambda: None))
    return pools[-1]


def outcomes(pool: Pool, count: int) -> list[Outcome]:
    """Wait for so many outcomes, and take them in the order in which they ended."""
    found: list[Outcome] = []
    wait_for(lambda: found.extend(pool.take_ended()) or len(found) >= count, 60, f"{count} outcomes")
    assert len(found) == count
    return found


def run_all(*runs: Run, concurrency: int = 1) -> list[Outcome]:
    pool = new_pool(concurrency)
    pool.offer(runs, message=NUDGE)
    return outcomes(pool, len(runs))


def flight_of(pool: Pool, run: Run) -> Flight:
    """Wait until a run has its slot and its function has been called."""
    number = run.task.userdata["n"]
    wait_for(lambda: number in calls, 10, "the call")
    return next(flight for flight in pool.flights() if flight.run is run)


def assert_a_slot_is_left(pool: Pool) -> None:
    pool.offer([claimed(notes, userdata={"n": "afterwards"})], message=NUDGE)
    assert outcomes(pool, 1)[0].run.status == RunStatus.SUCCESSFUL
    assert pool.is_empty


# A run that this worker has claimed twice -----------------------------------------------------------------------------


def claimed_anew(run: Run) -> Run:
    """The same run after its lease ran out, it was rescued, and this worker claimed it again."""
    again = copy.deepcopy(run)
    again.claim, again.crashes = uuid.uuid4(), 0
    return again


@pytest.mark.parametrize("function", [waits, awaits])
def test_a_worker_that_claims_its_own_run_anew_holds_the_new_claim_and_writes_its_outcome_only(
    function: Callable[..., Any],
) -> None:
    """Two outcomes of one run in one batch would hide each other, and the older claim would be renewed in its place."""
    pool = new_pool(concurrency=2)
    old = claimed(function, userdata={"n": "old"})
    new = claimed_anew(old)
    new.task.userdata["n"] = "new"
    new_claim = new.claim
    pool.offer([old], message=NUDGE)
    flight_of(pool, old)
    pool.offer([new], message=NUDGE)
    flight_of(pool, new)
    assert pool.held() == {new.pk: new_claim}
    gate.set()
    (outcome,) = outcomes(pool, 1)
    assert outcome.claim == new_claim
    wait_for(lambda: pool.is_empty, 5, "the older one's end")
    assert pool.take_ended() == []


def test_what_was_claimed_before_and_has_not_started_or_not_been_written_is_forgotten() -> None:
    pool = new_pool()
    ended, unstarted = claimed(notes, userdata={"n": "ended"}), claimed(notes, userdata={"n": "unstarted"})
    pool.offer([ended], message=NUDGE)
    wait_for(lambda: pool._ended, 5, "its end")
    pool.offer([claimed(waits, userdata={"n": "slow"}), unstarted], message=NUDGE)
    wait_for(lambda: "slow" in calls, 5, "the slow one")
    again = [claimed_anew(ended), claimed_anew(unstarted)]
    claims_now = {run.pk: run.claim for run in again}
    pool.offer(again, message=NUDGE)
    assert {key: claim for key, claim in pool.held().items() if key in claims_now} == claims_now
    gate.set()
    found = {outcome.run.pk: outcome.claim for outcome in outcomes(pool, 3)}
    assert {key: found[key] for key in claims_now} == claims_now
    assert calls.count("unstarted") == 1


# Order and bound ------------------------------------------------------------------------------------------------------


def test_runs_are_executed_in_the_order_in_which_they_were_offered() -> None:
    ended = run_all(*(claimed(notes, userdata={"n": number}) for number in range(20)))
    assert calls == list(range(20))
    assert [outcome.run.result for outcome in ended] == list(range(1, 21))


def test_later_offers_queue_up_behind_earlier_ones() -> None:
    pool = new_pool()
    pool.offer([claimed(waits, userdata={"n": 0})], message=NUDGE)
    for number in range(1, 5):
        pool.offer([claimed(notes, userdata={"n": number})], message=NUDGE)
    assert pool.in_hand == 5
    gate.set()
    outcomes(pool, 5)
    assert calls == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("functions", [(counts_itself,), (acounts_itself,), (counts_itself, acounts_itself)])
def test_never_more_runs_at_once_than_there_are_slots(functions: tuple[Callable[..., Any], ...]) -> None:
    run_all(*(claimed(function) for function in functions * 12), concurrency=3)
    at_once = list(itertools.accumulate(calls))
    assert max(at_once) == 3
    assert at_once[-1] == 0


def test_a_slow_run_keeps_its_own_slot_only() -> None:
    pool = new_pool(2)
    slow = claimed(waits, userdata={"n": "slow"})
    pool.offer([slow, *(claimed(notes) for _ in range(10))], message=NUDGE)
    assert len(outcomes(pool, 10)) == 10
    assert [flight.run for flight in pool.flights()] == [slow]
    gate.set()
    assert outcomes(pool, 1)[0].run is slow


def test_a_slow_coroutine_keeps_its_own_slot_only() -> None:
    pool = new_pool(2)
    slow = claimed(awaits, userdata={"n": "slow"})
    pool.offer([slow, *(claimed(anotes) for _ in range(10))], message=NUDGE)
    assert len(outcomes(pool, 10)) == 10
    gate.set()
    assert outcomes(pool, 1)[0].run is slow


def test_coroutines_need_no_thread_each() -> None:
    pool = new_pool(50)
    pool.offer([claimed(awaits, userdata={"n": number}) for number in range(50)], message=NUDGE)
    wait_for(lambda: len(calls) == 50, 10, "all fifty at once")
    gate.set()
    outcomes(pool, 50)


def test_what_waits_for_a_slot_can_be_taken_back() -> None:
    pool = new_pool()
    first, *others = [claimed(waits, userdata={"n": number}) for number in range(4)]
    pool.offer([first, *others], message=NUDGE)
    flight_of(pool, first)
    assert pool.unstarted == 3
    assert pool.take_unstarted() == others
    assert pool.in_hand == 1
    gate.set()
    assert [outcome.run for outcome in outcomes(pool, 1)] == [first]
    assert calls == [0]
    assert pool.is_empty


def test_claims_are_held_until_their_outcome_is_taken() -> None:
    pool = new_pool()
    runs = [claimed(notes), claimed(waits, userdata={"n": "waits"}), claimed(notes)]
    tokens = {run.pk: run.claim for run in runs}
    pool.offer(runs, message=NUDGE)
    flight_of(pool, runs[1])
    assert pool.held() == tokens
    gate.set()
    wait_for(lambda: not pool.in_hand, 10)
    assert pool.held() == tokens
    assert not pool.is_empty
    assert {outcome.run.pk: outcome.claim for outcome in pool.take_ended()} == tokens
    assert pool.held() == {}


def test_each_end_is_told() -> None:
    told = threading.Semaphore(0)
    pool = Pool(concurrency=2, on_ended=told.release)
    pool.offer([claimed(notes), claimed(anotes), claimed(raises, userdata={"error": "exit"})], message=NUDGE)
    assert all(told.acquire(timeout=10) for _ in range(3))


# What a function receives and returns ---------------------------------------------------------------------------------


def test_a_function_receives_its_task_and_the_message_and_nothing_else() -> None:
    run = claimed(keeps_message)
    run_all(run)
    assert calls == [{"task": run.task, "message": NUDGE}]
    assert run.task is not None
    assert run.task.current_run is run


def test_a_sync_wrapper_may_return_an_awaitable() -> None:
    (outcome,) = run_all(claimed(returns_an_awaitable, userdata={"n": 7}))
    assert calls == [7]
    assert (outcome.run.status, outcome.run.result) == (RunStatus.SUCCESSFUL, 1)


@pytest.mark.parametrize("function", [changes_context, achanges_context])
def test_context_variables_do_not_leak_into_the_next_run(function: Callable[..., Any]) -> None:
    run_all(claimed(function), claimed(function))
    assert calls == ["nothing", "nothing"]


# Outcomes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [raises, araises])
@pytest.mark.parametrize("error", ["an error", "exit", "interrupt", "generator exit", "cancelled"])
def test_whatever_a_function_raises_ends_its_run_only(function: Callable[..., Any], error: str) -> None:
    pool = new_pool()
    run = claimed(function, userdata={"error": error}, attempt=2)
    pool.offer([run], message=NUDGE)
    (outcome,) = outcomes(pool, 1)
    assert outcome.run.status == RunStatus.FAILED
    assert type(ERRORS[error]()).__name__ in outcome.run.reason
    assert f"in {function.__name__}" in outcome.run.traceback
    assert_a_slot_is_left(pool)


@pytest.mark.parametrize("function", [raises, araises])
def test_skip_and_retry_are_no_failures(function: Callable[..., Any]) -> None:
    skipped, again = run_all(*(claimed(function, userdata={"error": error}) for error in ("skip", "retry")))
    assert (skipped.run.status, skipped.run.reason) == (RunStatus.SKIPPED, "nothing to do")
    assert (again.run.status, again.run.attempt) == (RunStatus.READY, 2)
    assert again.run.started_at is None


def test_a_retry_with_a_delay_that_makes_no_sense_is_a_retry() -> None:
    pool = new_pool()
    pool.offer([claimed(raises, userdata={"error": "retry with nonsense"})], message=NUDGE)
    (outcome,) = outcomes(pool, 1)
    assert (outcome.run.status, outcome.run.attempt) == (RunStatus.READY, 2)
    assert_a_slot_is_left(pool)


@pytest.mark.parametrize("function", [raises, araises])
@pytest.mark.parametrize("error", ["hostile text", "exiting text"])
def test_an_exception_whose_text_raises_fails_its_own_run_only(function: Callable[..., Any], error: str) -> None:
    pool = new_pool()
    pool.offer([claimed(function, userdata={"error": error}, attempt=2)], message=NUDGE)
    assert outcomes(pool, 1)[0].run.status == RunStatus.FAILED
    assert_a_slot_is_left(pool)


@pytest.mark.parametrize("function", [returns_hostile, hostile_userdata])
def test_a_result_or_userdata_that_can_not_be_shown_costs_no_slot(function: Callable[..., Any]) -> None:
    pool = new_pool()
    pool.offer([claimed(function, attempt=2)], message=NUDGE)
    assert outcomes(pool, 1)[0].run.is_over
    assert_a_slot_is_left(pool)


def test_something_that_exits_on_the_event_loop_does_not_stop_the_async_runs_after_it() -> None:
    pool = new_pool(2)
    pool.offer([claimed(starts_something_that_exits)], message=NUDGE)
    outcomes(pool, 1)
    pool.offer([claimed(anotes, userdata={"n": "afterwards"})], message=NUDGE)
    assert outcomes(pool, 1)[0].run.status == RunStatus.SUCCESSFUL


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_slot_outlives_trouble_with_its_thread_s_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OperationalError("the server is gone")

    monkeypatch.setattr("sisy.worker.pool.executor.leave_no_trace", broken)
    pool = new_pool()
    pool.offer([claimed(notes)], message=NUDGE)
    outcomes(pool, 1)
    assert_a_slot_is_left(pool)


@pytest.mark.django_db(transaction=True)
def test_a_transaction_left_open_does_not_reach_the_next_run() -> None:
    left_open, next_one = run_all(claimed(leaves_transaction_open), claimed(is_in_autocommit))
    assert left_open.run.status == RunStatus.SUCCESSFUL
    assert next_one.run.result is True


# Interruptions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [waits, awaits])
@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [(TimedOut, RunStatus.FAILED, "longer than its timeout of 0:01:00"), (Cancelled, RunStatus.CANCELLED, "")],
)
def test_a_running_function_can_be_interrupted(
    function: Callable[..., Any], kind: Any, status: str, reason: str
) -> None:
    pool = new_pool()
    run = claimed(function, userdata={"n": 1}, timeout=60, attempt=2)
    pool.offer([run], message=NUDGE)
    flight_of(pool, run).interrupt(kind)
    (outcome,) = outcomes(pool, 1)
    assert outcome.run.status == status
    assert reason in outcome.run.reason
    assert_a_slot_is_left(pool)


def test_the_traceback_of_a_timeout_shows_where_the_function_was() -> None:
    pool = new_pool()
    run = claimed(waits, userdata={"n": 1}, timeout=60, attempt=2)
    pool.offer([run], message=NUDGE)
    flight_of(pool, run).interrupt(TimedOut)
    assert "in waits" in outcomes(pool, 1)[0].run.traceback


def test_a_run_is_overdue_once_it_has_run_longer_than_its_timeout() -> None:
    pool = new_pool(2)
    hurried, patient = claimed(waits, userdata={"n": 1}, timeout=0.05), claimed(waits, userdata={"n": 2}, timeout=60)
    pool.offer([hurried, patient], message=NUDGE)
    flights = [flight_of(pool, hurried), flight_of(pool, patient)]
    wait_for(lambda: flights[0].is_overdue, 10)
    assert not flights[1].is_overdue
    gate.set()
    outcomes(pool, 2)


def test_a_run_whose_function_is_never_found_is_overdue_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that hangs would keep its slot for ever; a slow one is not the function's fault."""
    monkeypatch.setattr(executor, "prepare", lambda *_, **__: gate.wait(30))
    pool = new_pool(2)
    hurried, patient = claimed(notes, timeout=0.05), claimed(notes)
    pool.offer([hurried, patient], message=NUDGE)
    wait_for(lambda: len(pool.flights()) == 2 and min(flight.age for flight in pool.flights()) > 0.3)
    assert [flight.is_overdue for flight in pool.flights()] == [False, False]
    monkeypatch.setattr(flight_module, "_IMPORT_SECONDS", 0.1)
    assert [flight.run for flight in pool.flights() if flight.is_overdue] == [hurried]


def test_a_timeout_can_be_tried_again() -> None:
    pool = new_pool()
    run = claimed(waits, userdata={"n": 1}, timeout=60)
    pool.offer([run], message=NUDGE)
    flight_of(pool, run).interrupt(TimedOut)
    (outcome,) = outcomes(pool, 1)
    assert (outcome.run.status, outcome.run.attempt) == (RunStatus.READY, 2)


def test_a_function_that_swallows_its_interruption_ends_as_it_says() -> None:
    pool = new_pool()
    run = claimed(swallows_interruptions, userdata={"n": 1}, timeout=60)
    pool.offer([run], message=NUDGE)
    flight = flight_of(pool, run)
    flight.interrupt(TimedOut)
    flight.interrupt(TimedOut)
    assert outcomes(pool, 1)[0].run.result == "I did not care"


def test_interrupting_what_has_not_begun_keeps_it_from_beginning() -> None:
    pool = new_pool()
    started = threading.Event()

    def interrupt_before_the_call(run: Run, **_: Any) -> None:
        pool.flights()[0].interrupt(Cancelled)
        started.set()

    signals.run_started.connect(interrupt_before_the_call, sender=Run)
    try:
        for function in (notes, anotes, returns_an_awaitable):
            pool.offer([claimed(function)], message=NUDGE)
            assert outcomes(pool, 1)[0].run.status == RunStatus.CANCELLED
    finally:
        signals.run_started.disconnect(interrupt_before_the_call, sender=Run)
    assert started.is_set()
    assert calls == []


@pytest.fixture
def restless() -> Iterator[None]:
    """Let the interpreter switch between threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_a_late_interruption_never_hits_the_next_run() -> None:
    """One slot; every other run is interrupted at about the moment at which it ends by itself."""
    pool = new_pool()
    runs = [claimed(lasts_a_moment, userdata={"seconds": 0.001}, attempt=2) for _ in range(600)]
    to_interrupt = {run.pk for run in runs[::2]}
    over = threading.Event()

    def interrupt_late() -> None:
        while not over.is_set():
            for flight in pool.flights():
                if flight.run.pk in to_interrupt and flight.age > 0.0009:
                    flight.interrupt(TimedOut)

    disturber = threading.Thread(target=interrupt_late, daemon=True)
    disturber.start()
    try:
        pool.offer(runs, message=NUDGE)
        ended = outcomes(pool, len(runs))
    finally:
        over.set()
        disturber.join()
    undisturbed = {outcome.run.status for outcome in ended if outcome.run.pk not in to_interrupt}
    disturbed = {outcome.run.status for outcome in ended if outcome.run.pk in to_interrupt}
    assert undisturbed == {RunStatus.SUCCESSFUL}
    assert RunStatus.FAILED in disturbed
    assert_a_slot_is_left(pool)


# Before the call ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [{"at_most_once": True}, {"crashes": 1}])
@pytest.mark.parametrize("function", [notes, anotes])
def test_a_start_that_must_be_known_is_written_before_the_call(
    function: Callable[..., Any], columns: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(runs: list[Run], *, now: Any) -> set[int]:
        calls.append("start written")
        return {run.pk for run in runs}

    monkeypatch.setattr(claims, "start", start)
    run_all(claimed(function, userdata={"n": "called"}, **columns))
    assert calls == ["start written", "called"]


def test_other_starts_are_left_to_the_pump(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "start", lambda *_, **__: pytest.fail("a write for each short run"))
    assert run_all(claimed(notes))[0].run.status == RunStatus.SUCCESSFUL


def test_a_run_whose_claim_was_lost_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "start", lambda runs, *, now: set())
    pool = new_pool()
    pool.offer([claimed(notes, userdata={"n": "lost"}, at_most_once=True)], message=NUDGE)
    wait_for(lambda: pool.is_empty, 10)
    assert calls == []
    assert_a_slot_is_left(pool)


def test_a_run_that_can_not_be_started_for_want_of_the_database_is_left_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OperationalError("the server is gone")

    monkeypatch.setattr(claims, "start", unreachable)
    pool = new_pool()
    pool.offer([claimed(notes, userdata={"n": "never"}, at_most_once=True)], message=NUDGE)
    wait_for(lambda: pool.is_empty, 10)
    assert calls == []
    assert_a_slot_is_left(pool)


def test_a_run_that_is_cancelled_while_it_waits_for_a_slot_does_not_start() -> None:
    first, second = claimed(waits), claimed(notes)
    pool = new_pool(concurrency=1)
    pool.offer([first, second], message=NUDGE)
    wait_for(lambda: len(calls) == 1, 5, "the first run to start")
    (waiting,) = pool.backlog()
    assert waiting.run is second
    pool.cancel(waiting, requested_at=timezone.now())
    assert pool.in_hand == 2
    gate.set()
    ended = {outcome.run.pk: outcome.run.status for outcome in outcomes(pool, 2)}
    assert ended == {first.pk: RunStatus.SUCCESSFUL, second.pk: RunStatus.CANCELLED}
    assert len(calls) == 1
    assert_a_slot_is_left(pool)


def test_a_callable_that_leads_nowhere_is_left_to_another_worker() -> None:
    run = claimed(notes)
    run.callable = f"{__name__}.not_there"
    pool = new_pool()
    pool.offer([run], message=NUDGE)
    wait_for(lambda: pool.in_hand == 0, 5, "the run to be declined")
    assert not pool.is_empty, "it is still this worker's until it is handed back"
    assert pool.held() == {run.pk: run.claim}
    (declined,) = pool.take_declined()
    assert declined.run is run
    assert "not_there" in declined.reason
    assert (pool.take_ended(), pool.take_declined(), pool.is_empty) == ([], [], True)
    assert_a_slot_is_left(pool)


@pytest.mark.parametrize("grace", [0, 300])
def test_a_callable_that_nobody_has_found_for_the_grace_of_a_deploy_fails_its_run(settings: Any, grace: int) -> None:
    settings.SISY = {"DEPLOY_GRACE": grace}
    run = claimed(notes)
    run.callable = f"{__name__}.not_there"
    run.declined_at = timezone.now() - timedelta(seconds=grace) if grace else None
    pool = new_pool()
    pool.offer([run], message=NUDGE)
    (outcome,) = outcomes(pool, 1)
    assert outcome.run.status == RunStatus.FAILED
    assert "not_there" in outcome.run.reason
    assert_a_slot_is_left(pool)


def test_a_run_whose_task_was_deleted_is_cancelled() -> None:
    run = claimed(notes)
    run.task = None
    (outcome,) = run_all(run)
    assert outcome.run.status == RunStatus.CANCELLED
    assert "deleted" in outcome.run.reason
    assert calls == []


def test_the_start_is_signalled_before_the_call_and_a_receiver_that_raises_does_no_harm() -> None:
    def receiver(run: Run, **_: Any) -> None:
        calls.append("signalled")
        raise RuntimeError("a receiver's own trouble")

    signals.run_started.connect(receiver, sender=Run)
    try:
        (outcome,) = run_all(claimed(notes, userdata={"n": "called"}))
    finally:
        signals.run_started.disconnect(receiver, sender=Run)
    assert calls == ["signalled", "called"]
    assert outcome.run.status == RunStatus.SUCCESSFUL


# How many threads share the slots -------------------------------------------------------------------------------------


def names_its_thread(message: Message) -> None:
    calls.append(threading.current_thread().name)


def warmed(pool: Pool) -> Pool:
    """Let a pool learn that functions are quick."""
    pool.offer([claimed(names_its_thread) for _ in range(100)], message=NUDGE)
    outcomes(pool, 100)
    calls.clear()
    return pool


def test_quick_functions_do_not_get_in_each_others_way():
    pool = warmed(new_pool(concurrency=8))
    pool.offer([claimed(names_its_thread) for _ in range(500)], message=NUDGE)
    outcomes(pool, 500)
    changes = sum(1 for one, other in itertools.pairwise(calls) if one != other)
    assert changes < 50  # a machine that stands still for a moment makes a quick one look long


@pytest.mark.parametrize("function", [waits, awaits])
def test_those_behind_a_long_one_go_on_in_the_other_slots(function):
    pool = warmed(new_pool(concurrency=8))
    pool.offer([claimed(function), *(claimed(notes, userdata={"n": n}) for n in range(200))], message=NUDGE)
    outcomes(pool, 200)
    assert not gate.is_set()
    gate.set()
    outcomes(pool, 1)


def test_long_ones_among_quick_ones_get_every_slot():
    pool = warmed(new_pool(concurrency=4))
    pool.offer([claimed(waits, userdata={"n": n}) for n in range(4)], message=NUDGE)
    wait_for(lambda: len(calls) == 4, 30, "four functions at the same time")
    gate.set()
    outcomes(pool, 4)


def test_a_quick_one_that_is_offered_while_long_ones_run_finds_the_free_slot():
    pool = warmed(new_pool(concurrency=3))
    for n in range(2):
        pool.offer([claimed(waits, userdata={"n": n})], message=NUDGE)
    wait_for(lambda: len(calls) == 2, 30, "two functions at the same time")
    pool.offer([claimed(notes, userdata={"n": "quick"})], message=NUDGE)
    outcomes(pool, 1)
    assert calls[-1] == "quick"
    gate.set()
    outcomes(pool, 2)


def test_functions_that_begin_to_take_longer_get_every_slot():
    pool = warmed(new_pool(concurrency=4))
    pool.offer([claimed(counts_itself) for _ in range(200)], message=NUDGE)
    outcomes(pool, 200)
    assert max(itertools.accumulate(calls)) == 4
