"""What must hold whatever went wrong: five invariants, as SQL over the rows, the ledger and the log lines.

    assert invariants.violations() == []

- I1: every slot that has come has exactly one run, or lies in one MISSED row.
- I2: a run starts again only as its policy allows, and has one end.
- I3: every run is over.
- I4: with overlap "skip" or "queue", no two runs of a task are under way at the same time.
- I5: every end but a success has a reason, and is one log line.

tests/faults/conftest.py checks them after each test; whoever has rows can call `violations` on them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

from sisy import conf
from sisy.errors import TimedOut
from sisy.models import Run, RunStatus, Task

Line = dict[str, Any]

END = re.compile(r"Run (\d+) of .* ([A-Z]+) in \d+\.\d+ s")
"""The log line of an end, with the run's key and its state."""

_SECOND = timedelta(seconds=1)
_CREATED = (RunStatus.SKIPPED, RunStatus.MISSED)  # rows of these states were never a run that counts


def violations(
    *,
    started: Sequence[Line] | None = None,
    log: str | None = None,
    lost_lines: bool = False,
    max_crashes: int | None = None,
    may_be_active: bool = False,
) -> list[str]:
    """Return one sentence for each invariant that does not hold, by the rows of the default database.

    Args:
        started: the ledger: a line of kind "begin" for each call of a function and one of kind "end" where it came to
            its end, with the keys run, claim, label and at, as `ledger.entry` writes them; None if nobody keeps one.
        log: what all processes have logged, or None if nobody has kept it.
        lost_lines: whether log lines may be missing: a process was killed between a commit and its line, or the answer
            to a commit was lost.
        max_crashes: SISY["MAX_CRASHES"] of the workers; None for the setting of this process.
        may_be_active: whether runs may be under way still.
    """
    limit = conf.current().max_crashes if max_crashes is None else max_crashes
    runs = list(Run.objects.order_by("pk"))
    found = [*slots_without_one_run(runs), *crashes_beyond_the_policy(runs, max_crashes=limit)]
    if started is not None:
        found += [*starts_beyond_the_policy(runs, started), *overlapping_runs(runs, started)]
    if not may_be_active:
        found += [f"I3: run {run.pk} of {run.label} is {run.status} still" for run in runs if not run.is_over]
    found += ends_without_a_word(runs, log, lost_lines=lost_lines)
    return [*found, *counts_that_are_wrong(runs)]


def slots_without_one_run(runs: Iterable[Run]) -> Iterator[str]:
    """I1, for each task whose timing was not edited."""
    by_task = defaultdict(list)
    for run in runs:
        if run.task_id is not None and run.slot is not None:
            by_task[run.task_id].append(run)
    for task in Task.objects.exclude(schedule="@once"):
        covered = Counter(slot for run in by_task[task.pk] for slot in _slots_of(run, task))
        yield from (f"I1: {task} has {n} runs for its slot {slot}" for slot, n in sorted(covered.items()) if n > 1)
        if task.schedule_version <= 1 and task.next_run is not None and not task.error:
            expected = set(_slots_up_to_next(task, covered))
            yield from (f"I1: {task} has no run for its slot {slot}" for slot in sorted(expected - set(covered)))


def crashes_beyond_the_policy(runs: Iterable[Run], *, max_crashes: int) -> Iterator[str]:
    """I2, by what the rows have counted."""
    for run in runs:
        allowed = (0 if run.at_most_once else max_crashes) + (run.status == RunStatus.LOST)
        if run.crashes > allowed:
            yield f"I2: run {run.pk} of {run.label} is {run.status} with {run.crashes} crashes; {allowed} are allowed"


def starts_beyond_the_policy(runs: Iterable[Run], started: Sequence[Line]) -> Iterator[str]:
    """I2, by what has happened: each start but the first is a crash that was counted, or a further attempt."""
    begins = Counter(line["run"] for line in started if line["kind"] == "begin" and "run" in line)
    ends = Counter(line["run"] for line in started if line["kind"] == "end" and "run" in line)
    for run in runs:
        starts = begins[run.pk] or ends[run.pk]  # some functions write one line only
        if starts > run.attempt + run.crashes:
            yield (
                f"I2: run {run.pk} of {run.label} was started {starts} times, "
                f"with {run.attempt} attempts and {run.crashes} crashes"
            )
        if run.status == RunStatus.SUCCESSFUL and not ends[run.pk]:
            yield f"I2: run {run.pk} of {run.label} is SUCCESSFUL, and its function never came to its end"


def overlapping_runs(runs: Iterable[Run], started: Sequence[Line]) -> Iterator[str]:
    """I4: by when functions began and came to their end; what a fenced worker goes on to do can't be helped."""
    watched = set(Task.objects.filter(overlap__in=["skip", "queue"]).values_list("pk", flat=True))
    task_of = {run.pk: run.task_id for run in runs if run.task_id in watched and not _may_have_been_fenced(run)}
    begun: dict[tuple[int, str], float] = {}
    intervals = defaultdict(list)
    for line in started:
        if line.get("run") not in task_of or "claim" not in line:
            continue
        key = (line["run"], line["claim"])
        if line["kind"] == "begin":
            begun[key] = line["at"]
        elif key in begun:
            intervals[task_of[line["run"]]].append((begun.pop(key), line["at"], line["run"]))
    for found in intervals.values():
        for (_, end, run), (begin, _, other) in pairwise(sorted(found)):
            if begin < end and run != other:
                yield f"I4: run {other} began {end - begin:.3f} s before run {run} of the same task had ended"


def ends_without_a_word(runs: Iterable[Run], log: str | None, *, lost_lines: bool) -> Iterator[str]:
    """I5: a reason in the row, and one line in the log."""
    said = Counter((int(key), status) for key, status in END.findall(log or ""))
    for run in runs:
        if not run.is_over or run.status == RunStatus.SUCCESSFUL:
            continue
        if not run.reason:
            yield f"I5: run {run.pk} of {run.label} is {run.status} and does not say why"
        if log is not None and not said[run.pk, run.status] and not lost_lines:
            yield f"I5: nothing was logged when run {run.pk} of {run.label} became {run.status}"
    ends = Counter(key for key, _ in said.elements())
    yield from (f"I5: the end of run {key} was logged {n} times" for key, n in ends.items() if n > 1)


def counts_that_are_wrong(runs: Iterable[Run]) -> Iterator[str]:
    """I1 again: a task has counted its runs, and has no more than its iterations."""
    created = Counter(run.task_id for run in runs if run.status not in _CREATED)
    skipped_by_its_function = {run.task_id for run in runs if run.status == RunStatus.SKIPPED and run.started_at}
    for task in Task.objects.all():
        if task.runs_created < created[task.pk] or (
            task.runs_created > created[task.pk] and task.pk not in skipped_by_its_function
        ):
            yield f"I1: {task} has counted {task.runs_created} runs and has {created[task.pk]}"
        if task.iterations and task.runs_created > task.iterations:
            yield f"I1: {task} has {task.runs_created} runs, and {task.iterations} iterations are allowed"


def _slots_of(run: Run, task: Task) -> Iterator[Any]:
    """Yield the slots that a row stands for."""
    if run.status == RunStatus.MISSED and run.missed_since is not None and run.missed_since != run.slot:
        yield run.missed_since
        yield from task.parsed_schedule().between(run.missed_since + _SECOND, run.slot)
    yield run.slot


def _slots_up_to_next(task: Task, covered: Iterable[Any]) -> Iterator[Any]:
    """Yield the slots from the creation of a task up to the one that is announced, and not that one."""
    earliest = min(covered, default=None)
    first = task.parsed_schedule().next_after(max(task.created_at, task.start_running or task.created_at) - _SECOND)
    if first is not None and first <= task.created_at:
        first = task.parsed_schedule().next_after(task.created_at)
    if earliest is not None and (first is None or earliest < first):  # next_run was set by hand
        first = earliest
    if first is None or task.next_run is None or first >= task.next_run:
        return
    yield first
    yield from task.parsed_schedule().between(first + _SECOND, task.next_run)


def _may_have_been_fenced(run: Run) -> bool:
    return run.crashes > 0 or run.status == RunStatus.LOST or run.reason.startswith(TimedOut.__name__)
