"""Two transitions at once, in an order chosen by tests/two_connections.py: what every order must leave behind."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from sisy import scheduler
from sisy.errors import TaskExhausted, TaskGone
from sisy.models import Run, Task
from sisy.transitions import claims, endings, planning, returns
from tests.project.shop import chores
from tests.project.shop.rows import (
    LEASE,
    NOON,
    at,
    claim,
    end,
    every_minute,
    expire,
    outcome,
    put_in,
    slots,
    statuses,
    stored,
    tick_and_claim,
)
from tests.two_connections import NEW_RUN, RUN_END, RUN_UPDATE, TASK_UPDATE, meeting, overtaken

# Only these apps' tables are emptied after each test, which takes a tenth of the time.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=["sisy", "tests.project.shop"])


@pytest.fixture(autouse=True)
def _sound():
    """What must be true of the rows after every order."""
    yield
    for task in Task.objects.all():
        counted = task.runs.exclude(status__in=["SKIPPED", "MISSED"]).count()
        assert task.runs_created == counted, f"{task} counts {task.runs_created} runs and has {counted}"
        assert not task.iterations or counted <= task.iterations
    taken = [(run.task_id, run.slot) for run in Run.objects.exclude(slot=None).exclude(task=None)]
    assert len(taken) == len(set(taken))


def tick(minutes: float = 0.0) -> Callable[[], Any]:
    return lambda: scheduler.tick(at(minutes))


def next_tick(ticked):
    """Tick as a heartbeat does: at the slot that the last tick named, or else at the next minute."""
    if ticked.left:
        scheduler.tick(ticked.now + scheduler.SOON)
    scheduler.tick(at(1) if ticked.next_slot is None else max(ticked.now, min(ticked.next_slot, at(1))))


ORDERS = [overtaken, meeting]


def in_order(order, first, second, *, before):
    """Either of the two orders; `before` is where a meeting stops the first."""
    return overtaken(first, second) if order is overtaken else meeting(first, second, before=before)


# -- tick and tick ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("overlap", ["skip", "queue", "allow", "replace"])
def test_two_ticks_on_one_due_task_create_one_run(order, overlap):
    task = every_minute(overlap=overlap)
    first, second = in_order(order, tick(), tick(), before=NEW_RUN)
    assert (slots(), statuses()) == ([0], ["READY"])
    assert first.ready + second.ready == 1
    assert (stored(task).next_run, stored(task).runs_created) == (at(1), 1)


@pytest.mark.parametrize("order", ORDERS)
def test_two_ticks_on_many_due_tasks_create_one_run_for_each(order):
    for number in range(20):
        every_minute(label=f"{number}")
    in_order(order, tick(), tick(), before=NEW_RUN)
    assert slots() == [0] * 20


@pytest.mark.parametrize("order", ORDERS)
def test_two_ticks_after_an_outage_write_the_missed_slots_once(order):
    every_minute()
    in_order(order, tick(5), tick(5), before=NEW_RUN)
    assert sorted(statuses()) == ["MISSED", "READY"]
    assert Run.objects.get(status="MISSED").missed_count == 5


@pytest.mark.parametrize("order", ORDERS)
def test_two_ticks_after_an_outage_make_up_for_each_slot_once(order):
    every_minute(misfire="all", overlap="allow")
    in_order(order, tick(5), tick(5), before=NEW_RUN)
    assert sorted(slots()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("order", ORDERS)
def test_a_tick_that_a_later_one_overtakes_repeats_nothing(order):
    task = every_minute(overlap="allow")
    in_order(order, tick(0), tick(1), before=NEW_RUN)
    scheduler.tick(at(1))
    assert sorted(slots()) == [0, 1]
    assert stored(task).next_run == at(2)


@pytest.mark.parametrize("order", ORDERS)
def test_two_schedulers_never_create_more_runs_than_iterations(order):
    every_minute(iterations=3, overlap="allow")
    for minutes in range(5):
        if Task.objects.due(at(minutes)).exists():
            in_order(order, tick(minutes), tick(minutes), before=NEW_RUN)
    assert slots() == [0, 1, 2]


@pytest.mark.parametrize("order", ORDERS)
def test_two_ticks_park_a_bad_task_once(order):
    task = every_minute()
    put_in(task, schedule="99 * * * *")
    first, second = in_order(order, tick(), tick(), before=r"^UPDATE .sisy_task. SET .enabled")
    assert first.parked + second.parked == 1
    assert "99" in stored(task).error


# -- claim and claim -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_two_workers_that_claim_one_run_get_it_once(order):
    every_minute()
    scheduler.tick(NOON)
    first, second = in_order(order, claim, claim, before=RUN_UPDATE)
    assert sorted([len(first), len(second)]) == [0, 1]
    (winner,) = [*first, *second]
    row = stored(winner)
    assert (row.status, row.claim, row.worker) == ("RUNNING", winner.claim, winner.worker)


@pytest.mark.parametrize("order", ORDERS)
def test_two_workers_share_what_is_ready_without_a_run_in_both_hands(order):
    for number in range(6):
        every_minute(label=f"{number}")
    scheduler.tick(NOON)
    first, second = in_order(order, lambda: claim(limit=4), lambda: claim(limit=4), before=RUN_UPDATE)
    rest = claim(limit=4)
    keys = [run.pk for run in (*first, *second, *rest)]
    assert len(keys) == len(set(keys)) == 6
    for run in (*first, *second, *rest):
        assert stored(run).claim == run.claim


def test_a_claim_that_leaves_out_what_another_one_holds_can_tell():
    """On MariaDB a claim of several queues locks all that is ready on its way to the most urgent ones."""
    every_minute()
    scheduler.tick(NOON)
    for _ in range(39):
        Run.objects.create(label="run", callable="x", run_after=NOON, enqueued_at=NOON)
    queues = ["default", "mail"]

    def claim_eight():
        runs = claims.claim(worker=uuid4(), queues=queues, limit=8, lease=LEASE, now=at(1))
        return runs, Run.objects.to_start(queues=queues).values_list("run_after", flat=True).first()

    (first, _), (second, next_start) = meeting(claim_eight, claim_eight, before=RUN_UPDATE)
    assert len(first) == 8
    assert len(second) == 8 or next_start == NOON
    assert not {run.pk for run in first} & {run.pk for run in second}


# -- finish and rescue -----------------------------------------------------------------------------


@pytest.fixture
def expired():
    """A run that its worker is about to finish, and whose lease has run out."""
    every_minute(iterations=1)
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    expire(run)
    return run


def rescue(max_crashes=3):
    return returns.rescue(now=at(1), max_crashes=max_crashes)


@pytest.mark.parametrize("max_crashes", [3, 0])
def test_a_finish_that_a_rescue_overtakes_is_fenced_off(expired, max_crashes):
    ended = outcome(expired, result="late")
    held, rescued = overtaken(lambda: endings.finish([ended], now=at(1)), lambda: rescue(max_crashes))
    assert (held, [run.pk for run in rescued]) == (set(), [expired.pk])
    row = stored(expired)
    assert (row.status, row.result) == ("READY" if max_crashes else "LOST", None)


def test_a_rescue_that_a_finish_overtakes_finds_nothing(expired):
    ended = outcome(expired, result="in time")
    rescued, held = overtaken(rescue, lambda: endings.finish([ended], now=at(1)))
    assert (rescued, held) == ([], {expired.pk})
    assert (stored(expired).status, stored(expired).result, stored(expired).crashes) == ("SUCCESSFUL", "in time", 0)
    assert not Task.objects.exists()


def test_a_rescue_that_meets_a_finish_leaves_it_alone(expired):
    ended = outcome(expired, result="in time")
    held, rescued = meeting(lambda: endings.finish([ended], now=at(1)), rescue, before=RUN_END)
    assert (held, rescued) == ({expired.pk}, [])
    assert statuses() == ["SUCCESSFUL"]


def test_a_finish_that_meets_a_rescue_is_fenced_off(expired):
    ended = outcome(expired, result="late")
    rescued, held = meeting(rescue, lambda: endings.finish([ended], now=at(1)), before=RUN_UPDATE)
    assert (len(rescued), held) == (1, set())
    assert statuses() == ["READY"]


@pytest.mark.parametrize("order", ORDERS)
def test_two_rescues_count_one_crash(order, expired):
    first, second = in_order(order, rescue, rescue, before=RUN_UPDATE)
    assert len(first) + len(second) == 1
    assert (stored(expired).status, stored(expired).crashes) == ("READY", 1)


def test_a_renewal_that_a_rescue_overtakes_renews_nothing(expired):
    renewed, rescued = overtaken(lambda: claims.renew({expired.pk: expired.claim}, lease=LEASE), rescue)
    assert (renewed, len(rescued)) == ({}, 1)
    assert (stored(expired).status, stored(expired).lease_expires_at) == ("READY", None)


def test_a_rescue_that_a_renewal_overtakes_rescues_nothing(expired):
    rescued, renewed = overtaken(rescue, lambda: claims.renew({expired.pk: expired.claim}, lease=LEASE))
    assert (rescued, renewed) == ([], {expired.pk: False})
    assert stored(expired).status == "RUNNING"


def test_a_start_that_a_rescue_overtakes_says_that_its_claim_is_gone():
    every_minute(at_most_once=True)
    (run,) = tick_and_claim(NOON)
    expire(run)
    held, rescued = overtaken(lambda: claims.start([run], now=at(1)), rescue, before="^UPDATE")
    assert (held, len(rescued)) == (set(), 1)
    assert (stored(run).status, stored(run).started_at) == ("READY", None)


@pytest.mark.parametrize("order", ORDERS)
def test_one_outcome_that_is_written_twice_at_once_is_written_once(order):
    task = every_minute(iterations=1)
    (run,) = tick_and_claim(NOON)
    ended = outcome(run, result=1)
    first, second = in_order(
        order,
        lambda: endings.finish([ended], now=at(1)),
        lambda: endings.finish([ended], now=at(1)),
        before=RUN_END,
    )
    assert sorted([len(first), len(second)]) == [0, 1]
    assert statuses() == ["SUCCESSFUL"]
    assert not Task.objects.filter(pk=task.pk).exists()


# -- the last runs of a task -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("error", [None, RuntimeError("no")])
def test_two_workers_that_finish_the_last_two_runs_delete_the_task(order, error):
    every_minute(iterations=2, overlap="allow", userdata={"n": 1})
    runs = [*tick_and_claim(at(0)), *tick_and_claim(at(1))]
    finishes = [lambda run=run: endings.finish([outcome(run, error=error)], now=at(2)) for run in runs]
    first, second = in_order(order, *finishes, before=RUN_END)
    assert first | second == {run.pk for run in runs}
    assert not Task.objects.exists()
    assert set(Run.objects.values_list("task", "status")) == {(None, "FAILED" if error else "SUCCESSFUL")}


@pytest.mark.parametrize("order", ORDERS)
def test_a_finish_of_the_last_run_and_a_cancel_of_the_other_delete_the_task(order):
    every_minute(iterations=2, overlap="allow")
    (run,) = tick_and_claim(at(0))
    scheduler.tick(at(1))
    waiting = Run.objects.get(slot=at(1))
    in_order(
        order,
        lambda: endings.finish([outcome(run)], now=at(2)),
        lambda: endings.cancel([waiting], now=at(2)),
        before=RUN_END,
    )
    scheduler.tick(at(3))
    assert not Task.objects.exists()
    assert sorted(statuses()) == ["CANCELLED", "SUCCESSFUL"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("asap_first", [True, False])
def test_a_run_by_hand_and_the_finish_of_the_last_run_leave_no_run_without_its_task(order, asap_first):
    task = every_minute(end_running=at(1), overlap="allow")
    (run,) = tick_and_claim(at(0))
    finish, asap = (lambda: endings.finish([outcome(run)], now=at(2))), (lambda: planning.enqueue_now(task, now=at(2)))
    if asap_first:
        by_hand, held = in_order(order, asap, finish, before=NEW_RUN)
    else:
        held, by_hand = in_order(order, finish, asap, before=RUN_END)
    assert held == {run.pk}
    if isinstance(by_hand, TaskGone):
        assert not Task.objects.exists()
        assert statuses() == ["SUCCESSFUL"]
    else:
        assert stored(by_hand).task_id == task.pk
        assert sorted(statuses()) == ["READY", "SUCCESSFUL"]


@pytest.mark.parametrize("order", ORDERS)
def test_raising_the_iterations_while_the_last_run_ends_keeps_the_task_or_says_that_it_is_gone(order):
    task = every_minute(iterations=1)
    (run,) = tick_and_claim(NOON)
    task.iterations = 5

    held, saved = in_order(order, lambda: endings.finish([outcome(run)], now=at(1)), task.save, before=RUN_END)
    assert held == {run.pk}
    if isinstance(saved, TaskGone):
        assert not Task.objects.exists()
    else:
        assert stored(task).next_run is not None


# -- run_asap --------------------------------------------------------------------------------------


def asap(task):
    instance = stored(task)
    return lambda: planning.enqueue_now(instance, now=at(-1))


@pytest.mark.parametrize("order", ORDERS)
def test_the_last_iteration_can_be_run_by_hand_once(order):
    task = every_minute(iterations=1, overlap="allow")
    results = in_order(order, asap(task), asap(task), before=NEW_RUN)
    assert sum(isinstance(result, TaskExhausted) for result in results) == 1
    assert statuses() == ["READY"]


@pytest.mark.parametrize("order", ORDERS)
def test_two_presses_of_a_button_do_not_overlap(order):
    task = every_minute()
    in_order(order, asap(task), asap(task), before=NEW_RUN)
    assert sorted(statuses()) == ["READY", "SKIPPED"]


@pytest.mark.parametrize("order", ORDERS)
def test_a_tick_comes_back_for_a_task_that_was_run_by_hand_at_that_moment(order):
    task = every_minute(overlap="allow")
    _, ticked = in_order(order, asap(task), tick(), before=NEW_RUN)
    next_tick(ticked)
    assert [slot for slot in slots(status="READY") if slot is not None][:1] == [0]
    assert slots(status="MISSED") == []


def test_a_tick_comes_back_for_a_task_whose_run_ended_at_that_moment():
    """Its row is locked because its userdata is being written back, in a batch with that of others."""
    outcomes = []
    for label in ("a", "b"):
        task = every_minute(overlap="allow", userdata={"n": 0}, label=label)
        planning.enqueue_now(task, now=at(-1))
    for run in claim(at(-1)):
        run.task.userdata["n"] = 1
        outcomes.append(outcome(run))
    before = r"^UPDATE .sisy_task. SET ._extra_data"
    _, ticked = meeting(lambda: endings.finish(outcomes, now=NOON), tick(), before=before, nth=2)
    next_tick(ticked)
    assert slots(status="READY")[:2] == [0, 0]
    assert slots(status="MISSED") == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tick_first", [True, False])
def test_the_last_iteration_goes_to_the_tick_or_to_the_button(order, tick_first):
    task = every_minute(iterations=1, overlap="allow")
    button = asap(task)
    if tick_first:
        in_order(order, tick(), button, before=NEW_RUN)
    else:
        in_order(order, button, tick(), before=NEW_RUN)
    scheduler.tick(at(1))
    assert statuses() == ["READY"]


# -- save, update, pause, resume and tick ----------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_a_save_and_a_tick_neither_lose_nor_repeat_a_slot(order):
    """A tick that leaves out a row which somebody else holds has to come back for it before the next minute."""
    task = every_minute(overlap="allow")
    stale = stored(task)
    stale.label = "renamed"
    _, ticked = in_order(order, stale.save, tick(), before=TASK_UPDATE)
    next_tick(ticked)
    assert slots(status="READY")[:1] == [0]
    assert (stored(task).label, slots(status="MISSED")) == ("renamed", [])


@pytest.mark.parametrize("order", ORDERS)
def test_a_tick_and_a_save_neither_lose_nor_repeat_a_slot(order):
    task = every_minute()
    stale = stored(task)
    stale.label = "renamed"
    in_order(order, tick(), stale.save, before=NEW_RUN)
    row = stored(task)
    assert (row.label, row.next_run, row.runs_created, slots()) == ("renamed", at(1), 1, [0])


@pytest.fixture
def edit(monkeypatch):
    """Save another schedule half a minute after noon, whose slot has not been ticked yet."""

    def of(task):
        instance = stored(task)
        monkeypatch.setattr(timezone, "now", lambda: at(0.5))
        instance.schedule = "*/10 * * * *"
        return instance.save

    return of


def test_a_tick_that_an_edit_overtakes_does_not_run_the_old_slot(edit):
    task = every_minute()
    overtaken(tick(0.6), edit(task))
    assert (slots(), stored(task).next_run) == ([], at(10))


@pytest.mark.parametrize("order", ORDERS)
def test_an_edit_that_a_tick_overtakes_or_meets_has_the_last_word(order, edit):
    task = every_minute()
    in_order(order, edit(task), tick(0.6), before=TASK_UPDATE)
    scheduler.tick(at(0.9))
    assert stored(task).next_run == at(10)
    assert slots() in ([], [0])


@pytest.mark.parametrize("order", ORDERS)
def test_a_tick_that_meets_an_edit_is_followed_by_it(order, edit):
    task = every_minute()
    in_order(order, tick(0.6), edit(task), before=NEW_RUN)
    assert stored(task).next_run == at(10)
    assert slots() in ([], [0])


def test_a_tick_that_a_pause_overtakes_creates_nothing():
    task = every_minute()
    overtaken(tick(), lambda: planning.pause(stored(task)))
    assert (slots(), stored(task).enabled, stored(task).next_run) == ([], False, NOON)


@pytest.mark.parametrize("order", ORDERS)
def test_a_pause_that_meets_a_tick_holds_from_then_on(order):
    task = every_minute()
    in_order(order, lambda: planning.pause(stored(task)), tick(), before=TASK_UPDATE)
    scheduler.tick(at(1))
    assert stored(task).enabled is False
    assert slots() in ([], [0])


def test_a_tick_that_meets_a_pause_does_not_undo_it():
    task = every_minute()
    meeting(tick(), lambda: planning.pause(stored(task)), before=NEW_RUN)
    scheduler.tick(at(1))
    assert (slots(), stored(task).enabled) == ([0], False)


def test_a_tick_that_a_deletion_overtakes_creates_nothing():
    task = every_minute()
    overtaken(tick(), lambda: Task.objects.filter(pk=task.pk).delete())
    assert slots() == []


def test_a_deletion_that_meets_a_tick_leaves_a_run_that_comes_to_an_end():
    task = every_minute()
    meeting(tick(), lambda: Task.objects.filter(pk=task.pk).delete(), before=NEW_RUN)
    assert not Task.objects.exists()
    for run in claim(at(1)):
        assert run.task is None
        assert end(run, now=at(1), error=RuntimeError("its task was deleted"))
    assert not Run.objects.active().exists()


# -- cancel ----------------------------------------------------------------------------------------


def cancel(run):
    return lambda: endings.cancel([run], now=at(1))


def test_a_claim_that_a_cancel_overtakes_gets_nothing():
    every_minute()
    scheduler.tick(NOON)
    run = Run.objects.get()
    claimed, cancelled = overtaken(claim, cancel(run))
    assert (claimed, cancelled, statuses()) == ([], 1, ["CANCELLED"])


@pytest.mark.parametrize("order", ORDERS)
def test_a_cancel_that_a_claim_overtakes_or_meets_ends_or_asks(order):
    every_minute()
    scheduler.tick(NOON)
    run = Run.objects.get()
    cancelled, claimed = in_order(order, cancel(run), claim, before=RUN_END)
    assert cancelled == 1
    row = stored(run)
    if claimed:
        assert (row.status, row.cancel_requested_at, row.claim) == ("RUNNING", at(1), claimed[0].claim)
    else:
        assert (row.status, row.claim) == ("CANCELLED", None)


def test_a_claim_that_meets_a_cancel_is_asked_to_stop():
    every_minute()
    scheduler.tick(NOON)
    run = Run.objects.get()
    claimed, cancelled = meeting(claim, cancel(run), before=RUN_UPDATE)
    assert (len(claimed), cancelled) == (1, 1)
    assert (stored(run).status, stored(run).cancel_requested_at) == ("RUNNING", at(1))


@pytest.mark.parametrize("order", ORDERS)
def test_a_finish_and_a_cancel_leave_one_end(order):
    every_minute()
    (run,) = tick_and_claim(NOON)
    ended = outcome(run, result=1)
    held, _ = in_order(order, lambda: endings.finish([ended], now=at(1)), cancel(run), before=RUN_END)
    assert (held, statuses()) == ({run.pk}, ["SUCCESSFUL"])


@pytest.mark.parametrize("order", ORDERS)
def test_a_failed_attempt_that_a_cancel_overtakes_is_the_last(order):
    every_minute(max_attempts=5)
    (run,) = tick_and_claim(NOON)
    ended = outcome(run, error=RuntimeError("no"))
    held, _ = in_order(order, lambda: endings.finish([ended], now=at(1)), cancel(run), before=RUN_END)
    assert held == {run.pk}
    assert statuses() == ["CANCELLED"]


# -- overlap ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("finish_first", [True, False])
def test_a_run_that_begins_to_wait_while_the_one_before_ends_is_released_by_the_next_tick_at_the_latest(
    order, finish_first
):
    every_minute(overlap="queue")
    (run,) = tick_and_claim(at(0))
    ended = outcome(run, now=at(1))

    def finish():
        return endings.finish([ended], now=at(1))

    if finish_first:
        in_order(order, finish, tick(1), before=RUN_END)
    else:
        in_order(order, tick(1), finish, before=NEW_RUN)
    scheduler.tick(at(1.5))
    assert [waiting.slot for waiting in claim(at(1.5))] == [at(1)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("finish_first", [True, False])
def test_a_run_that_is_replaced_while_it_ends_does_not_hold_up_the_new_one(order, finish_first):
    """The two lock rows in different orders: a database that notices a deadlock is asked again."""
    every_minute(overlap="replace", iterations=2)
    (run,) = tick_and_claim(at(0))
    ended = outcome(run, now=at(1))

    def finish():
        return endings.finish([ended], now=at(1))

    if finish_first:
        in_order(order, finish, tick(1), before=RUN_END)
    else:
        in_order(order, tick(1), finish, before=NEW_RUN)
    scheduler.tick(at(1.5))
    assert statuses(slot=at(0)) == ["SUCCESSFUL"]
    assert [waiting.slot for waiting in claim(at(1.5))] == [at(1)]


def test_a_replacing_tick_that_a_claim_overtakes_asks_the_claimed_run_to_stop():
    every_minute(overlap="replace")
    scheduler.tick(at(0))
    _, claimed = overtaken(tick(1), lambda: claim(at(0.5)))
    (old,) = claimed
    assert (stored(old).status, stored(old).cancel_requested_at) == ("RUNNING", at(1))
    assert claim(at(1)) == []


@pytest.mark.parametrize("order", ORDERS)
def test_a_claim_and_a_replacing_tick_never_run_both(order):
    every_minute(overlap="replace")
    scheduler.tick(at(0))
    in_order(order, lambda: claim(at(0.5)), tick(1), before=RUN_UPDATE)
    running = Run.objects.filter(status="RUNNING")
    if running.exists():
        assert running.get().cancel_requested_at is not None
        assert claim(at(1)) == []
    else:
        assert [run.slot for run in claim(at(1))] == [at(1)]


# -- userdata --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_a_save_of_something_else_while_a_run_ends_keeps_its_userdata(order):
    task = every_minute(chores.nothing, userdata={"n": 0})
    (run,) = tick_and_claim(NOON)
    run.task.userdata["n"] = 1
    ended, stale = outcome(run), stored(task)
    stale.label = "renamed"
    in_order(order, stale.save, lambda: endings.finish([ended], now=at(1)), before=TASK_UPDATE)
    assert (stored(task).userdata, stored(task).label) == ({"n": 1}, "renamed")


# -- the lease -------------------------------------------------------------------------------------


def test_a_worker_that_comes_back_after_its_run_was_given_to_another_can_not_end_it():
    """SIGSTOP, a minute, SIGCONT; meanwhile another worker has done the same run."""
    every_minute(iterations=1)
    (old,) = tick_and_claim(NOON)
    claims.start([old], now=NOON)
    ended = outcome(old, result="old")
    expire(old)

    def another_worker():
        rescue()
        (run,) = claim(at(1))
        claims.start([run], now=at(1))
        return endings.finish([outcome(run, now=at(1) + timedelta(seconds=1), result="new")], now=at(1))

    held, new = overtaken(lambda: endings.finish([ended], now=at(2)), another_worker)
    assert (held, new) == (set(), {old.pk})
    assert (statuses(), Run.objects.get().result) == (["SUCCESSFUL"], "new")


# -- a slot that is brought back --------------------------------------------------------------------


@pytest.fixture
def far_away():
    """A task that a wrong clock sent to another year, as the one who brings it back has read it."""
    task = every_minute()
    put_in(task, next_run="2198-01-01 00:00:00")
    return stored(task)


def correct(task):
    return lambda: planning.correct_slot(task, at(1))


@pytest.mark.parametrize("order", ORDERS)
def test_two_processes_that_bring_back_one_slot_do_it_once(order, far_away):
    results = in_order(order, correct(far_away), correct(stored(far_away)), before=TASK_UPDATE)
    assert sorted(results) == [False, True]
    assert stored(far_away).next_run == at(1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("correct_first", [True, False])
def test_a_slot_that_is_brought_back_while_its_schedule_is_edited_is_the_edited_one(
    order, edit, far_away, correct_first
):
    edited = edit(far_away)
    if correct_first:
        in_order(order, correct(far_away), edited, before=TASK_UPDATE)
    else:
        in_order(order, edited, correct(far_away), before=TASK_UPDATE)
    assert stored(far_away).next_run == at(10)


@pytest.mark.parametrize("order", ORDERS)
def test_a_slot_that_is_brought_back_while_its_task_is_paused_stays_paused(order, far_away):
    in_order(order, correct(far_away), lambda: planning.pause(stored(far_away)), before=TASK_UPDATE)
    assert stored(far_away).enabled is False
    scheduler.tick(at(5))
    assert slots() == []


@pytest.mark.parametrize("order", ORDERS)
def test_a_tick_and_a_correction_of_a_slot_that_came_due_run_it_once(order):
    task = every_minute()
    stale = stored(task)
    in_order(order, lambda: planning.correct_slot(stale, at(1)), tick(), before=TASK_UPDATE)
    scheduler.tick(at(1))
    assert stored(task).next_run == at(2)
    assert slots() in ([0, 1], [1])  # the one that looks leaves what is due to the tick; this one did not


# -- handing back -----------------------------------------------------------------------------------


@pytest.fixture
def unstarted():
    """A run that its worker is about to hand back."""
    every_minute()
    (run,) = tick_and_claim(NOON)
    return run


def release(run):
    return lambda: returns.release([run], now=at(1))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("release_first", [True, False])
def test_a_run_that_is_handed_back_while_it_is_cancelled_ends_cancelled(order, unstarted, release_first):
    cancelling = cancel(stored(unstarted))
    if release_first:
        in_order(order, release(unstarted), cancelling, before=RUN_UPDATE)
    else:
        in_order(order, cancelling, release(unstarted), before=RUN_UPDATE)
    assert statuses() == ["CANCELLED"]


@pytest.mark.parametrize("order", ORDERS)
def test_a_run_that_is_handed_back_and_rescued_is_ready_once(order, unstarted):
    expire(unstarted)
    released, rescued = in_order(order, release(unstarted), rescue, before=RUN_UPDATE)
    assert (released, len(rescued)) in ((1, 0), (0, 1))
    assert statuses() == ["READY"]


def test_a_run_that_another_worker_has_claimed_meanwhile_is_not_handed_back(unstarted):
    expire(unstarted)

    def another_worker():
        rescue()
        return claim(at(1))

    released, (run,) = overtaken(release(unstarted), another_worker)
    assert (released, run.pk) == (0, unstarted.pk)
    assert (stored(run).status, stored(run).claim) == ("RUNNING", run.claim)


@pytest.mark.parametrize("order", ORDERS)
def test_leases_that_end_now_while_they_are_renewed_end_or_last(order, unstarted):
    held = {unstarted.pk: unstarted.claim}
    expired, renewed = in_order(
        order, lambda: returns.expire(held), lambda: claims.renew(held, lease=LEASE), before=RUN_UPDATE
    )
    assert expired == 1
    assert renewed in ({unstarted.pk: False}, {})  # {}: the other held the row
    assert stored(unstarted).status == "RUNNING"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ends", [False, True])
def test_a_start_that_meets_a_renewal_is_written_all_the_same(order, unstarted, ends):
    """MariaDB has them wait for each other in an index, and ends one."""
    held = {unstarted.pk: unstarted.claim}
    keeper = (lambda: returns.expire(held)) if ends else (lambda: claims.renew(held, lease=LEASE))
    _, started = in_order(order, keeper, lambda: claims.start([unstarted], now=at(1)), before=RUN_UPDATE)
    assert started == {unstarted.pk}
    assert (stored(unstarted).status, stored(unstarted).started_at) == ("RUNNING", at(1))


# -- deleting ---------------------------------------------------------------------------------------


def delete(task):
    return lambda: Task.objects.filter(pk=task.pk).delete()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("error", [None, RuntimeError("no")])
@pytest.mark.parametrize("delete_first", [True, False])
def test_a_run_whose_task_is_deleted_while_it_ends_comes_to_an_end(order, error, delete_first):
    task = every_minute(max_attempts=3, userdata={"n": 0})
    (run,) = tick_and_claim(NOON)
    run.task.userdata["n"] = 1
    ended = outcome(run, error=error)

    def finish():
        return endings.finish([ended], now=at(1))

    if delete_first:
        in_order(order, delete(task), finish, before="^DELETE")
    else:
        in_order(order, finish, delete(task), before=RUN_END)
    assert not Task.objects.exists()
    for again in claim(at(5)):
        assert end(again, now=at(5), error=RuntimeError("its task was deleted"))
    assert statuses() == ["FAILED" if error else "SUCCESSFUL"]


@pytest.mark.parametrize("order", ORDERS)
def test_a_task_that_is_deleted_while_it_is_run_by_hand_leaves_a_run_that_ends_or_none(order):
    task = every_minute(overlap="allow")
    by_hand, _ = in_order(order, asap(task), delete(task), before=NEW_RUN)
    assert not Task.objects.exists()
    for run in claim(at(1)):
        assert end(run, now=at(1), error=RuntimeError("its task was deleted"))
    assert statuses() in ([], ["FAILED"])
    assert isinstance(by_hand, TaskGone) == (statuses() == [])


@pytest.mark.parametrize("order", ORDERS)
def test_a_used_up_task_that_is_given_iterations_while_it_is_tidied_away_lives_or_says_that_it_is_gone(order):
    task = every_minute(iterations=1)
    (run,) = tick_and_claim(NOON)
    put_in(run, status="SUCCESSFUL", finished_at="2100-01-01 12:00:01", claim=None, lease_expires_at=None)
    task.iterations = 5
    _, saved = in_order(order, lambda: endings.delete_used_up(now=at(1)), task.save, before="^(UPDATE|DELETE)")
    assert isinstance(saved, TaskGone) != Task.objects.exists()


# -- parking ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mend_first", [True, False])
def test_a_task_that_is_mended_while_its_run_finds_no_code_is_not_parked_for_good(order, mend_first):
    task = every_minute(chores.does)
    (run,) = tick_and_claim(NOON)
    ended = outcome(run, error=RuntimeError("no such function"))
    parks = endings.Outcome(run=ended.run, claim=ended.claim, park="no such function")
    mended = stored(task)
    mended.callable = "tests.project.shop.chores.nothing"

    def finish():
        return endings.finish([parks], now=at(1))

    if mend_first:
        in_order(order, mended.save, finish, before="^UPDATE .sisy_task")
    else:
        in_order(order, finish, mended.save, before="^UPDATE .sisy_task")
    row = stored(task)
    assert row.callable == "tests.project.shop.chores.nothing"
    assert row.error == ""


# -- what a run says of itself ----------------------------------------------------------------------


def test_progress_that_comes_after_the_end_changes_nothing(unstarted):
    ended = outcome(unstarted, result=1)
    late = stored(unstarted)
    _, held = overtaken(
        lambda: late.set_progress(0.1, "late"),
        lambda: endings.finish([ended], now=at(1)),
        before="^UPDATE .sisy_run. SET .progress",
    )
    assert held == {unstarted.pk}
    assert (stored(unstarted).status, stored(unstarted).progress) == ("SUCCESSFUL", None)
