"""READY -> RUNNING: claim, start, renew.

The engine calls these with its own id. A claim is a token that one worker drew for one batch;
whoever does not hold it any more can change nothing.
"""

import copy
import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import DateTimeField, ExpressionWrapper

from sisy.jsondata import printable
from sisy.rows.claiming import can_claim_at_once, claim_at_once
from sisy.rows.clock import DatabaseNow
from sisy.rows.reading import UNREADABLE, readable
from sisy.rows.run import Run, RunQuerySet, RunStatus
from sisy.rows.tasks import task_rows
from sisy.transitions.atomic import alias, announce, locked, tried_again, write

_log = logging.getLogger("sisy.rows")


@tried_again
def claim(
    *,
    worker: uuid.UUID,
    queues: Sequence[str] | None,
    limit: int,
    lease: timedelta,
    now: datetime,
    lacking: Collection[str] = (),
) -> list[Run]:
    """Claim up to `limit` ready runs for a worker, the most urgent first, and return them with their tasks.

    Args:
        worker: the id of the worker.
        queues: the queues that it serves, or None for all.
        limit: the most runs to claim.
        lease: how long the claim is valid unless it is renewed.
        now: runs that are to start later are left out.
        lacking: callables whose code the worker lacks; their runs are left to others.
    """
    token = uuid.uuid4()
    if can_claim_at_once(alias()):
        try:
            runs = claim_at_once(
                token=token, worker=worker, queues=queues, limit=limit, lease=lease, now=now, lacking=lacking,
                using=alias(),
            )  # fmt: skip
        except UNREADABLE:  # one bad row must not keep the others
            runs = _claimed_under(token, now=now)
    else:
        ready = Run.objects.ready(now, queues=queues, lacking=lacking)
        runs = _claim_in_steps(ready, token=token, worker=worker, limit=limit, lease=lease, now=now)
    announce("claimed", runs)
    return runs


@tried_again
def start(runs: Sequence[Run], *, now: datetime) -> set[int]:
    """Write that runs have started; return the keys of those whose claim still held.

    Args:
        runs: claimed runs.
        now: the start of those that have none yet.
    """
    held: set[int] = set()
    for run in runs:
        run.started_at = run.started_at or now
        rows = Run.objects.using(alias()).filter(pk=run.pk, claim=run.claim, status=RunStatus.RUNNING)
        if rows.update(started_at=run.started_at):
            held.add(run.pk)
    announce("started", [run for run in runs if run.pk in held])
    return held


@tried_again
def renew(held: Mapping[int, uuid.UUID], *, lease: timedelta) -> dict[int, bool]:
    """Renew the leases of a worker's runs; return each that was renewed, with whether it is to be cancelled.

    A run that somebody else is changing at this moment is passed over: it will be renewed the next time.

    Args:
        held: the token with which each run was claimed, by the run's key.
        lease: how long the claims are valid from now on.
    """
    if not held:
        return {}
    with write(by_index=True):
        rows = Run.objects.filter(pk__among=held, status=RunStatus.RUNNING).order_by("pk")
        found = locked(rows, skip=True).values_list("pk", "claim", "cancel_requested_at")
        mine = {key: requested_at is not None for key, claim, requested_at in found if held[key] == claim}
        Run.objects.using(alias()).filter(pk__among=mine).update(lease_expires_at=from_now(lease))
    return mine


class Held(NamedTuple):
    """What the row of a claimed run says that its worker may not know yet."""

    task_id: int | None
    cancel_requested_at: datetime | None
    reason: str


def lock_held(claims: Mapping[int, uuid.UUID | None] | Mapping[int, uuid.UUID]) -> dict[int, Held]:
    """Lock the rows of claimed runs, in one order; return what those say whose claim still holds.

    Args:
        claims: the token with which each run was claimed, by the run's key.
    """
    rows = Run.objects.filter(pk__among=claims, status=RunStatus.RUNNING).order_by("pk")
    found = locked(rows).values_list("pk", "claim", "task_id", "cancel_requested_at", "reason")
    return {
        key: Held(task_id=task_id, cancel_requested_at=requested_at, reason=reason)
        for key, token, task_id, requested_at, reason in found
        if claims[key] == token
    }


def _claimed_under(token: uuid.UUID, *, now: datetime) -> list[Run]:
    """Read runs that were claimed a moment ago, one by one where they can't be read together."""
    mine = Run.objects.using(alias()).filter(status=RunStatus.RUNNING, claim=token)
    with write(by_index=True):
        runs, errors = readable(mine.order_by("-priority", "run_after", "pk"))
        _fail_unreadable(errors, now=now)
        _attach_tasks(runs)
    return runs


def _fail_unreadable(errors: Mapping[int, str], *, now: datetime) -> None:
    """End runs whose rows hold what Python can't have; nobody could ever execute them, and all would try."""
    for key, error in errors.items():
        _log.error("Run %s has FAILED: %s", key, error, extra={"run_id": key})
        Run.objects.using(alias()).filter(pk=key).update(
            status=RunStatus.FAILED, reason=printable(error, limit=255), finished_at=now, claim=None,
            lease_expires_at=None,
        )  # fmt: skip


def _claim_in_steps(
    ready: RunQuerySet, *, token: uuid.UUID, worker: uuid.UUID, limit: int, lease: timedelta, now: datetime
) -> list[Run]:
    with write(by_index=True):
        runs, errors = readable(locked(ready, skip=True)[:limit])
        _fail_unreadable(errors, now=now)
        if not runs:
            return []
        # By key alone: the rows are locked, and their status would lure PostgreSQL into reading all that are ready.
        Run.objects.using(alias()).filter(pk__among=[run.pk for run in runs]).update(
            status=RunStatus.RUNNING, claim=token, worker=worker, lease_expires_at=from_now(lease)
        )
        _attach_tasks(runs)  # inside: if it fails, nothing is claimed
    for run in runs:
        run.status, run.claim, run.worker = RunStatus.RUNNING, token, worker
    return runs


def _attach_tasks(runs: Sequence[Run]) -> None:
    """Give each run a Task instance of its own, read now, so that what one changes in it does not show in another."""
    keys = {run.task_id for run in runs if run.task_id is not None}
    tasks = {task.pk: task for task in readable(task_rows(alias()).filter(pk__among=keys))[0]}
    used: set[int] = set()
    for run in runs:
        task = tasks.get(run.task_id or 0)
        if task is not None and run.task_id in used:
            task = copy.deepcopy(task)
        run.task = task
        if task is not None:
            used.add(task.pk)


def from_now(lease: timedelta) -> "ExpressionWrapper[Any]":
    """Return the instant at which a lease that is given now ends, by the database's clock."""
    return ExpressionWrapper(DatabaseNow() + lease, output_field=DateTimeField())
