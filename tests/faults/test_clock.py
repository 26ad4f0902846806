"""Clocks that jump, an end within an outage, a backup that is restored: no slot twice, no task that stands still."""

from datetime import datetime, timedelta

import pytest

from sisy import maintenance, scheduler
from sisy.models import Run, RunStatus, Task
from tests.faults import invariants
from tests.project.shop.rows import at, claim, end, every_minute, slots, stored

COUNTED = 1001  # slots that passed, at most: a row says "at least" then

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def first_tick_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_last_prune", None)


def tick_and_run(now: datetime) -> None:
    scheduler.tick(now)
    for run in claim(now):
        end(run, now=now)


def ran() -> list[float | None]:
    return slots(status=RunStatus.SUCCESSFUL)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=1)])
def test_a_clock_that_jumps_forward_is_one_run_and_one_row(jump: timedelta) -> None:
    every_minute()
    tick_and_run(at(0))
    tick_and_run(at(1) + jump)
    tick_and_run(at(2) + jump)
    minutes = jump.total_seconds() / 60
    assert ran() == [0, minutes + 1, minutes + 2]
    assert Run.objects.get(status=RunStatus.MISSED).missed_count == min(minutes, COUNTED)
    assert invariants.violations() == []


def test_a_clock_that_goes_back_an_hour_repeats_nothing() -> None:
    task = every_minute()
    for minute in range(3):
        tick_and_run(at(minute))
    for minute in range(-57, 5):
        tick_and_run(at(minute))
    assert ran() == [0, 1, 2, 3, 4]
    assert stored(task).runs_created == 5


@pytest.mark.parametrize("misfire", ["latest", "all", "skip"])
def test_an_end_that_came_while_nothing_ticked(misfire: str) -> None:
    """No run for a slot after it, and what was missed before it is written down."""
    every_minute(end_running=at(3), misfire=misfire, misfire_grace=timedelta(seconds=30))
    tick_and_run(at(60))
    for _ in range(3):  # those of "all" run one after another
        tick_and_run(at(61))
    assert max(slot for slot in slots() if slot is not None) < 3
    missed = Run.objects.filter(status=RunStatus.MISSED).first()
    count = missed.missed_count if missed is not None else 0
    assert count + len(ran()) == 3
    assert misfire == "all" or (missed is not None and "while nothing ticked" in missed.reason)


def test_yesterdays_backup_is_one_run_for_each_task_to_catch_up() -> None:
    """What ran after the backup can't be known; each task makes up for it with one run, and no more."""
    tasks = [every_minute(label=f"{number}") for number in range(3)]
    tick_and_run(at(0))
    backup = list(Task.objects.values()), list(Run.objects.values())
    for minute in range(1, 4):
        tick_and_run(at(minute))
    Run.objects.all().delete()
    for kept in backup[0]:
        Task.objects.filter(pk=kept["id"]).update(next_run=kept["next_run"], last_run=kept["last_run"],
                                                  runs_created=kept["runs_created"])  # fmt: skip
    Run.objects.bulk_create(Run(**kept) for kept in backup[1])
    tomorrow = at(24 * 60)
    tick_and_run(tomorrow)
    tick_and_run(tomorrow)
    assert ran() == [0, 0, 0, 1440, 1440, 1440]
    assert [run.missed_count for run in Run.objects.filter(status=RunStatus.MISSED)] == [COUNTED] * len(tasks)
