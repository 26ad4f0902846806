"""claims: READY -> RUNNING and back. Whoever does not hold the token of a run any more can change nothing."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from sisy import scheduler
from sisy.models import Run
from sisy.transitions import claims, returns
from tests.project.shop.rows import (
    LEASE,
    NOON,
    at,
    claim,
    end,
    every_minute,
    expire,
    put_in,
    slots,
    statuses,
    stored,
    tick_and_claim,
)

pytestmark = pytest.mark.django_db


def rescue(now=NOON, max_crashes=3, limit=500):
    return returns.rescue(now=now, max_crashes=max_crashes, limit=limit)


def ready_runs(count, **columns):
    """Runs of as many tasks."""
    for number in range(count):
        every_minute(label=f"{number}", **columns)
    scheduler.tick(NOON)


def lease_of(run):
    return stored(run).lease_expires_at - timezone.now()


# -- claim -----------------------------------------------------------------------------------------


def test_claiming_takes_a_run_with_its_task():
    task = every_minute()
    worker = uuid4()
    (run,) = tick_and_claim(NOON, worker=worker)
    row = stored(run)
    assert (row.status, row.worker, row.claim) == ("RUNNING", worker, run.claim)
    assert (run.status, run.worker, run.task.pk, run.task.label) == ("RUNNING", worker, task.pk, "task")
    assert LEASE - timedelta(seconds=20) < lease_of(run) <= LEASE
    assert (row.started_at, row.attempt) == (None, 1)


def test_a_claimed_run_is_not_claimed_again():
    every_minute()
    tick_and_claim(NOON)
    assert claim(NOON) == []


def test_no_more_than_the_limit_are_claimed():
    ready_runs(5)
    assert [len(claim(NOON, limit=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_the_most_urgent_and_then_the_oldest_come_first():
    for label, priority in (("low", -5), ("high", 5), ("middle", 0)):
        every_minute(label=label, priority=priority)
    every_minute(label="oldest", start_running=at(-1))
    scheduler.tick(at(-1))
    scheduler.tick(NOON)
    assert [run.label for run in claim(NOON)] == ["high", "oldest", "middle", "low"]


def test_runs_for_later_are_left():
    every_minute(jitter=timedelta(seconds=30))
    scheduler.tick(NOON)
    assert claim(at(-1)) == []


@pytest.mark.parametrize(("queues", "labels"), [
    (None, ["mail", "default", "video"]),
    (["mail"], ["mail"]),
    (["mail", "video"], ["mail", "video"]),
    (["nobody"], []),
    ([], []),
])  # fmt: skip
def test_only_the_queues_of_the_worker_are_served(queues, labels):
    for queue in ("mail", "default", "video"):
        every_minute(label=queue, queue=queue)
    scheduler.tick(NOON)
    runs = claims.claim(worker=uuid4(), queues=queues, limit=10, lease=LEASE, now=NOON)
    assert sorted(run.label for run in runs) == sorted(labels)


@pytest.mark.parametrize("status", ["SUCCESSFUL", "FAILED", "CANCELLED", "SKIPPED", "MISSED", "LOST"])
def test_runs_that_are_over_are_not_claimed(status):
    every_minute()
    scheduler.tick(NOON)
    Run.objects.update(status=status, finished_at=NOON)
    assert claim(NOON) == []


def test_a_run_whose_task_was_deleted_is_claimed_without_one():
    task = every_minute()
    scheduler.tick(NOON)
    task.delete()
    (run,) = claim(NOON)
    assert (run.task, run.label) == (None, "task")


def test_the_task_of_a_claimed_run_is_as_it_is_now():
    every_minute()
    scheduler.tick(NOON)
    task = Run.objects.get().task
    task.label, task.userdata["n"] = "renamed", 1
    task.save()
    (run,) = claim(NOON)
    assert (run.task.label, run.task.userdata, run.label) == ("renamed", {"n": 1}, "task")


def test_a_claim_costs_as_much_for_many_runs_as_for_one(django_assert_max_num_queries):
    ready_runs(30)
    with django_assert_max_num_queries(6):
        assert len(claim(NOON)) == 30


def test_the_database_itself_refuses_a_running_run_without_a_claim():
    every_minute()
    (run,) = tick_and_claim(NOON)
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(claim=None)
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(status="READY")


# -- start -----------------------------------------------------------------------------------------


def test_a_start_is_written_once():
    every_minute()
    (run,) = tick_and_claim(NOON)
    assert claims.start([run], now=at(0.1)) == {run.pk}
    assert claims.start([run], now=at(0.2)) == {run.pk}
    assert stored(run).started_at == at(0.1)


def test_the_start_that_was_written_is_the_one_that_the_end_keeps():
    every_minute()
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=at(0.1))
    end(run, now=at(0.5))
    assert (stored(run).started_at, stored(run).duration) == (at(0.1), timedelta(minutes=0.4))


# -- renew -----------------------------------------------------------------------------------------


def test_renewing_makes_leases_last_longer():
    ready_runs(2)
    first, second = claim(NOON)
    assert claims.renew({first.pk: first.claim, second.pk: second.claim}, lease=timedelta(hours=1)) == {
        first.pk: False,
        second.pk: False,
    }
    assert lease_of(first) > timedelta(minutes=50)


def test_renewing_only_touches_the_claims_given():
    ready_runs(2)
    (mine,), (theirs,) = claim(NOON, limit=1), claim(NOON, limit=1)
    assert claims.renew({mine.pk: mine.claim}, lease=timedelta(hours=1)) == {mine.pk: False}
    assert lease_of(theirs) < timedelta(minutes=2)


def test_renewing_says_what_is_to_be_cancelled():
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    task.cancel()
    assert claims.renew({run.pk: run.claim}, lease=LEASE) == {run.pk: True}


def test_an_expired_lease_that_nobody_took_can_be_renewed():
    every_minute()
    (run,) = tick_and_claim(NOON)
    expire(run)
    assert claims.renew({run.pk: run.claim}, lease=LEASE) == {run.pk: False}
    assert rescue() == []


def test_renewing_nothing_asks_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert claims.renew({}, lease=LEASE) == {}


# -- release and expire ----------------------------------------------------------------------------


def test_a_released_run_can_be_claimed_at_once_and_has_not_crashed():
    every_minute()
    (run,) = tick_and_claim(NOON)
    assert returns.release([run], now=NOON) == 1
    row = stored(run)
    assert (row.status, row.claim, row.worker, row.lease_expires_at) == ("READY", None, None, None)
    assert (row.crashes, row.attempt, row.started_at) == (0, 1, None)
    assert [again.pk for again in claim(NOON)] == [run.pk]


def test_released_runs_keep_each_its_own_count_of_crashes():
    for number in range(3):
        every_minute(label=f"{number}")
    runs = tick_and_claim(NOON)
    for crashes, run in enumerate(runs):
        put_in(run, crashes=crashes)
        run.crashes = crashes
    returns.release(runs, now=NOON)
    assert [stored(run).crashes for run in runs] == [0, 1, 2]


def test_what_a_worker_has_claimed_without_knowing_is_released_and_the_rest_is_not():
    me, other = uuid4(), uuid4()
    for number in range(4):
        every_minute(label=f"{number}", at_most_once=True)
    scheduler.tick(NOON)
    known, unknown, cancelled, foreign = (claim(NOON, limit=1, worker=worker)[0] for worker in (me, me, me, other))
    claims.start([known, unknown], now=NOON)
    cancelled.task.cancel()
    assert returns.release_strays(worker=me, held={known.pk: known.claim}, now=NOON) == 2
    assert [stored(run).status for run in (known, unknown, cancelled, foreign)] == [
        "RUNNING", "READY", "CANCELLED", "RUNNING"
    ]  # fmt: skip
    row = stored(unknown)
    assert (row.crashes, row.started_at, row.claim, row.worker) == (0, None, None, None)
    assert returns.release_strays(worker=me, held={known.pk: known.claim}, now=NOON) == 0


def test_a_run_that_was_asked_to_cancel_and_is_released_does_not_run_again():
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    task.cancel()
    returns.release([run], now=NOON)
    scheduler.tick(at(0.5))
    assert claim(at(0.5)) == []
    row = stored(run)
    assert (row.status, bool(row.reason)) == ("CANCELLED", True)


def test_ending_the_leases_of_a_worker_lets_others_rescue_its_runs_at_once():
    ready_runs(2)
    (mine,), (theirs,) = claim(NOON, limit=1), claim(NOON, limit=1)
    assert returns.expire({mine.pk: mine.claim}) == 1
    assert [run.pk for run in rescue()] == [mine.pk]
    assert stored(theirs).status == "RUNNING"


# -- rescue ----------------------------------------------------------------------------------------


def test_a_run_whose_lease_holds_is_not_rescued():
    every_minute()
    tick_and_claim(NOON)
    assert rescue(at(60 * 24 * 365)) == []  # `now` does not judge leases, the database's clock does


def test_a_started_run_of_a_dead_worker_is_handed_out_again():
    every_minute()
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    expire(run)
    (rescued,) = rescue(at(1))
    row = stored(run)
    assert (row.status, row.crashes, row.attempt, row.started_at) == ("READY", 1, 1, None)
    assert (row.claim, row.worker, row.lease_expires_at, row.finished_at) == (None, None, None, None)
    assert (rescued.status, rescued.crashes) == ("READY", 1)
    assert [again.pk for again in claim(at(1))] == [run.pk]


def test_a_run_is_handed_out_again_as_often_as_max_crashes_says_and_then_lost():
    every_minute(iterations=1)
    scheduler.tick(NOON)
    starts = 0
    while runs := claim(at(1)):
        starts += len(claims.start(runs, now=at(1)))
        expire(*runs)
        rescue(at(1), max_crashes=3)
    run = Run.objects.get()
    assert (starts, run.status, run.finished_at) == (4, "LOST", at(1))
    assert "worker" in run.reason


def test_a_started_run_that_may_run_at_most_once_is_lost_at_once():
    every_minute(at_most_once=True)
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    expire(run)
    (lost,) = rescue(at(1))
    assert (lost.status, stored(run).status, stored(run).finished_at) == ("LOST", "LOST", at(1))
    assert "worker" in stored(run).reason
    assert claim(at(1)) == []


@pytest.mark.parametrize("at_most_once", [True, False])
def test_a_run_that_was_claimed_and_not_started_is_always_handed_out_again(at_most_once):
    every_minute(at_most_once=at_most_once)
    scheduler.tick(NOON)
    for _ in range(10):
        (run,) = claim(NOON)
        expire(run)
        rescue(NOON, max_crashes=3)
    assert statuses() == ["READY"]


@pytest.mark.parametrize("at_most_once", [True, False])
def test_a_crash_of_a_retried_run_counts_from_its_first_attempt_on(at_most_once):
    every_minute(max_attempts=2, at_most_once=at_most_once)
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    end(run, error=RuntimeError("first attempt"))
    (run,) = claim(at(60))
    claims.start([run], now=at(60))
    expire(run)
    rescue(at(61))
    row = stored(run)
    assert (row.status, row.attempt, len(row.errors)) == ("LOST" if at_most_once else "READY", 2, 1)


def test_rescue_ends_a_run_that_was_asked_to_cancel():
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    task.cancel()
    expire(run)
    rescue(at(1))
    row = stored(run)
    assert (row.status, row.finished_at, bool(row.reason)) == ("CANCELLED", at(1), True)


def test_rescue_ends_a_run_whose_task_is_gone_with_a_reason():
    task = every_minute()
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    task.delete()
    expire(run)
    rescue(at(1))
    row = stored(run)
    assert (row.is_over, bool(row.reason), row.finished_at) == (True, True, at(1))


def test_rescue_takes_no_more_than_its_limit_at_once():
    ready_runs(5)
    expire(*claim(NOON))
    assert [len(rescue(limit=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_waiting_run_starts_after_the_one_before_was_lost():
    every_minute(overlap="queue", at_most_once=True)
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    scheduler.tick(at(1))
    expire(run)
    scheduler.tick(at(1.5))
    assert [waiting.slot for waiting in claim(at(1.5))] == [at(1)]


def test_the_tick_rescues_with_the_setting(settings):
    settings.SISY = {"MAX_CRASHES": 0}
    every_minute()
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    expire(run)
    scheduler.tick(at(0.5))
    assert stored(run).status == "LOST"


# -- an old token ----------------------------------------------------------------------------------


@pytest.fixture(params=["rescued", "claimed again", "lost"])
def old(request):
    """A run as its former worker knows it, after the lease was taken."""
    every_minute(at_most_once=request.param == "lost")
    (run,) = tick_and_claim(NOON)
    claims.start([run], now=NOON)
    expire(run)
    rescue(at(0.5))
    if request.param == "claimed again":
        claim(at(0.5))
    return run


def unchanged(old, change):
    before = Run.objects.filter(pk=old.pk).values().get()
    outcome = change()
    assert Run.objects.filter(pk=old.pk).values().get() == before
    return outcome


def test_an_old_token_can_not_finish(old):
    assert unchanged(old, lambda: end(old, now=at(1), result="late")) is False


def test_an_old_token_can_not_retry(old):
    old.task.max_attempts = 5
    assert unchanged(old, lambda: end(old, now=at(1), error=RuntimeError("late"))) is False


def test_an_old_token_can_not_start(old):
    assert unchanged(old, lambda: claims.start([old], now=at(1))) == set()


def test_an_old_token_can_not_renew(old):
    assert unchanged(old, lambda: claims.renew({old.pk: old.claim}, lease=LEASE)) == {}


def test_an_old_token_can_not_decline(old):
    assert unchanged(old, lambda: returns.decline([old], reason="no code", now=NOON)) == 0


def test_an_old_token_can_not_release(old):
    assert unchanged(old, lambda: returns.release([old], now=NOON)) == 0


def test_an_old_token_can_not_end_the_lease(old):
    assert unchanged(old, lambda: returns.expire({old.pk: old.claim})) == 0


def test_an_old_token_can_not_set_progress(old):
    unchanged(old, lambda: old.set_progress(0.5, "half of it"))


def test_one_old_token_in_a_batch_does_not_hold_up_the_others():
    ready_runs(3)
    first, second, third = claim(NOON)
    expire(second)
    rescue(NOON)
    assert claims.start([first, second, third], now=NOON) == {first.pk, third.pk}
    assert returns.release([first, second], now=NOON) == 1
    assert end(third)
    assert sorted(statuses()) == ["READY", "READY", "SUCCESSFUL"]


def test_every_slot_has_one_run_however_often_its_worker_died():
    every_minute(overlap="allow")
    for minutes in range(4):
        for run in tick_and_claim(at(minutes)):
            put_in(run, lease_expires_at="2001-01-01 00:00:00")
    assert sorted(slots()) == [0, 1, 2, 3]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="how PostgreSQL plans")
def test_a_claim_goes_by_the_index_whatever_the_statistics_say():
    """No statistics know what is ready at the moment: planned for none, PostgreSQL would read and sort all of it."""
    plans, settings = [], []

    def explained(execute, sql, params, many, context):
        if "SKIP LOCKED" not in sql:
            return execute(sql, params, many, context)
        how, _, claim = sql.partition("; ")
        with transaction.atomic():
            execute(how, (), False, context)
            execute(f"EXPLAIN {claim}", params, many, context)
            plans.append("\n".join(line for (line,) in context["cursor"].fetchall()))
            execute("SHOW enable_sort", (), False, context)
            settings.extend(context["cursor"].fetchone())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explained):
        claims.claim(worker=uuid4(), queues=None, limit=10, lease=LEASE, now=timezone.now())
    assert settings == ["off"]
    assert "Index Scan using sisy_run_ready on sisy_run" in plans[0]
    assert "Index Scan using sisy_run_pkey on sisy_run" in plans[0]
    assert "Index Scan using sisy_task_pkey on sisy_task" in plans[0]
    assert "Sort" not in plans[0]
    assert "Seq Scan" not in plans[0]
    with connection.cursor() as cursor:
        cursor.execute("SHOW enable_sort")  # what comes after the claim on this connection is planned as ever
        assert cursor.fetchone() == ("on",)
