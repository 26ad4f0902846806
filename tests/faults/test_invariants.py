"""The invariants find what they are for: rows, ledgers and logs in which each of them is broken."""

from typing import Any

import pytest

from sisy import scheduler
from sisy.models import Run, Task
from tests.faults import invariants
from tests.project.shop import ledger
from tests.project.shop.rows import NOON, at, claim, end, every_minute, put_in, stored, tick_and_claim

pytestmark = pytest.mark.django_db


@pytest.fixture
def sound() -> Run:
    """A task with a run that is over, and nothing wrong."""
    task = every_minute(label="sound", created_at=at(-1))
    (run,) = tick_and_claim(NOON)
    end(run, error=RuntimeError("no"))
    Task.objects.filter(pk=task.pk).update(created_at=at(-1))
    assert found() == []
    return stored(run)


def found(**evidence: Any) -> list[str]:
    return [sentence.partition(":")[0] for sentence in invariants.violations(**evidence)]


def lines(*kinds: str, run: Run, claim: str = "a", at: float = 0.0) -> list[dict[str, Any]]:
    return [{"kind": kind, "run": run.pk, "claim": claim, "at": at + n} for n, kind in enumerate(kinds)]


def test_a_slot_without_a_run(sound: Run) -> None:
    put_in(sound.task, next_run=at(3).replace(tzinfo=None))
    assert found() == ["I1", "I1"]


def test_a_slot_with_a_run_and_in_a_row_for_those_that_passed(sound: Run) -> None:
    scheduler.tick(at(3))
    for run in claim(at(3)):
        end(run)
    put_in(Run.objects.get(status="MISSED"), missed_since=NOON.replace(tzinfo=None))
    assert found() == ["I1"]


def test_a_task_that_has_counted_wrongly(sound: Run) -> None:
    put_in(sound.task, runs_created=0)
    assert found() == ["I1"]
    put_in(sound.task, runs_created=2, iterations=1)
    assert found() == ["I1", "I1"]


def test_a_run_that_was_started_too_often(sound: Run) -> None:
    assert found(started=lines("begin", run=sound)) == []
    assert found(started=lines("begin", "begin", run=sound)) == ["I2"]
    put_in(sound, crashes=1)
    assert found(started=lines("begin", "begin", run=sound)) == []


def test_a_run_that_went_on_after_too_many_crashes(sound: Run) -> None:
    put_in(sound, crashes=3)
    assert found() == []
    put_in(sound, crashes=4)
    assert found() == ["I2"]
    put_in(sound, crashes=1, at_most_once=True)
    assert found() == ["I2"]
    put_in(sound, crashes=1, at_most_once=True, status="LOST")
    assert found() == []


def test_a_success_of_a_function_that_was_never_called(sound: Run) -> None:
    put_in(sound, status="SUCCESSFUL")
    assert found(started=[]) == ["I2"]


def test_a_run_that_is_not_over(sound: Run) -> None:
    scheduler.tick(at(1))
    assert found() == ["I3"]
    assert found(may_be_active=True) == []


def test_runs_of_one_task_at_the_same_time(sound: Run) -> None:
    (other,) = tick_and_claim(at(1))
    end(other, error=RuntimeError("no"))
    first = lines("begin", "end", run=sound)
    assert found(started=[*first, *lines("begin", "end", run=other, at=2)]) == []
    assert found(started=[*first, *lines("begin", "end", run=other, at=0.5)]) == ["I4"]
    put_in(sound, crashes=1)  # its worker was fenced, and what that still does can't be helped
    assert found(started=[*first, *lines("begin", "end", run=other, at=0.5)]) == []


def test_an_end_without_a_reason_or_a_line(sound: Run) -> None:
    said = f"Run {sound.pk} of sound FAILED in 0.000 s: RuntimeError: no\n"
    assert found(log=said) == []
    assert found(log="") == ["I5"]
    assert found(log="", lost_lines=True) == []
    assert found(log=2 * said) == ["I5"]
    put_in(sound, reason="")
    assert found(log=said) == ["I5"]


HALF = '{"kind": "end", "userdata": {"n": 0.'
WHOLE = '{"kind": "begin", "userdata": {"n": 1}}'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (WHOLE + "\n", {"kind": "begin", "userdata": {"n": 1}}),
        (HALF + WHOLE + "\n", {"kind": "begin", "userdata": {"n": 1}}),
        ('{"kin{"ki' + WHOLE, {"kind": "begin", "userdata": {"n": 1}}),
        (HALF, None),
        ("\n", None),
    ],
)
def test_a_writer_that_was_killed_within_a_line_spoils_no_other(line: str, expected: dict[str, Any] | None) -> None:
    assert ledger.parsed(line) == expected
