"""Each transition with each other one, on the same rows, in both orders: what no pair may break.

tests/test_interleavings.py says of some pairs exactly what must come of them. Here are all, with what must be true of
every one: no error but sisy's own, no run in two hands, no slot twice or never, nothing that does not end.

There are a thousand of them; SISY_TEST_INTERLEAVINGS=all tries each, and otherwise it is every seventh.
"""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from sisy import maintenance, scheduler
from sisy.models import Run, Task
from sisy.transitions import claims, endings, planning, returns
from tests.project.shop import chores
from tests.project.shop.rows import LEASE, at, claim, end, every_minute, expire, outcome, stored
from tests.two_connections import WRITE, meeting, overtaken

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["sisy", "tests.project.shop"])


@dataclass
class Rows:
    """A task of which one run is running and one waits for it, with a slot that is due; and a run of another task."""

    task: Task
    running: Run
    waiting: Run

    def copy(self) -> Run:
        """The run as its worker holds it."""
        return copy.deepcopy(self.running)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    task = every_minute(chores.nothing, overlap="queue", max_attempts=3, userdata={"n": 0})
    scheduler.tick(at(0))
    (running,) = claim(at(0))
    claims.start([running], now=at(0))
    every_minute(chores.nothing, schedule="0 * * * *", label="another one")
    scheduler.tick(at(1))
    monkeypatch.setattr(timezone, "now", lambda: at(1.5))
    return Rows(task=task, running=running, waiting=task.runs.get(slot=at(1)))


def edit(rows: Rows) -> None:
    task = stored(rows.task)
    task.schedule, task.label = "*/2 * * * *", "edited"
    task.save()


def finish(rows: Rows, error: BaseException | None = None) -> Any:
    run = rows.copy()
    run.task.userdata["n"] = 1
    return endings.finish([outcome(run, now=at(2), error=error)], now=at(2))


TRANSITIONS: dict[str, Callable[[Rows], Any]] = {
    "tick": lambda rows: scheduler.tick(at(2)),
    "run_asap": lambda rows: planning.enqueue_now(stored(rows.task), now=at(2)),
    "edit": edit,
    "update": lambda rows: Task.objects.filter(pk=rows.task.pk).update(enabled=False),
    "pause": lambda rows: planning.pause(stored(rows.task)),
    "correct_slot": lambda rows: planning.correct_slot(stored(rows.task), at(2)),
    "resume": lambda rows: planning.reschedule(stored(rows.task), now=at(1.5), resume=True),
    "delete": lambda rows: Task.objects.filter(pk=rows.task.pk).delete(),
    "claim": lambda rows: claim(at(2)),
    "start": lambda rows: claims.start([rows.copy()], now=at(1)),
    "renew": lambda rows: claims.renew({rows.running.pk: rows.running.claim}, lease=LEASE),
    "progress": lambda rows: rows.copy().set_progress(0.5, "half"),
    "succeed": finish,
    "fail": lambda rows: finish(rows, RuntimeError("no")),
    "park": lambda rows: endings.finish([parking(rows.copy())], now=at(2)),
    "release": lambda rows: returns.release([rows.copy()], now=at(2)),
    "expire": lambda rows: returns.expire({rows.running.pk: rows.running.claim}),
    "rescue": lambda rows: returns.rescue(now=at(2), max_crashes=3),
    "cancel": lambda rows: endings.cancel([rows.running, rows.waiting], now=at(2)),
    "cancel_task": lambda rows: endings.cancel_task(stored(rows.task), now=at(2)),
    "release_waiting": lambda rows: endings.release_waiting(now=at(2)),
    "delete_used_up": lambda rows: endings.delete_used_up(now=at(2)),
    "prune": lambda rows: endings.prune_task(rows.task.pk, keep=0, limit=100),
}


def parking(run: Run) -> Any:
    """The end of a run whose task's code is gone."""
    ended = outcome(run, now=at(2), error=RuntimeError("no such function"))
    return endings.Outcome(run=run, claim=ended.claim, park="no such function")


SPOIL_SLOTS = {"edit", "update", "pause", "delete", "prune", "park", "resume"}
"""After these not each minute has a row of the task."""


def drive_to_the_end(rows: Rows) -> None:
    """Nothing new comes, every worker that holds something is dead, and one works on."""
    for task in Task.objects.all():
        planning.pause(task)
    for minutes in range(5, 15):
        now = at(minutes)
        expire(*Run.objects.filter(status="RUNNING"))
        maintenance.keep_in_order(now)
        for run in claim(now):
            assert end(run, now=now)
    assert not Run.objects.active().exists(), list(Run.objects.active().values())
    for run in Run.objects.exclude(status="SUCCESSFUL"):
        assert run.reason, f"{run} ended without a reason"


STEP = 1 if os.environ.get("SISY_TEST_INTERLEAVINGS") == "all" else 7  # each transition comes first, second, both ways
ORDERS = [overtaken] if connection.vendor == "sqlite" else [overtaken, meeting]  # SQLite has one lock: nothing meets
CASES = list(product(TRANSITIONS, TRANSITIONS, ORDERS))[::STEP]


@pytest.mark.parametrize(("first", "second", "order"), CASES)
def test_whatever_meets_whatever(rows: Rows, first: str, second: str, order: Callable[..., Any]) -> None:
    if "rescue" in (first, second):
        expire(rows.running)
    where = {} if order is overtaken else {"before": WRITE}
    order(
        lambda: TRANSITIONS[first](rows), lambda: TRANSITIONS[second](rows), must_stop=False, **where
    )  # what else they raise than a SisyError fails the test
    active = Run.objects.active().filter(task=rows.task).exclude(status="READY", run_after=None)
    assert active.count() <= 1, f"two runs overlap: {list(active)}"
    for task in Task.objects.all():
        if "prune" not in (first, second):
            assert task.runs_created == task.runs.exclude(status__in=["SKIPPED", "MISSED"]).count()
    scheduler.tick(at(3))
    if not {first, second} & SPOIL_SLOTS:
        found = sorted(Run.objects.filter(task=rows.task).exclude(slot=None).values_list("slot", flat=True))
        assert found == [at(0), at(1), at(2), at(3)]
    drive_to_the_end(rows)
