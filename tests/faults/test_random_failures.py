"""A fifth of all transactions fail, before or after a statement or the commit: every run ends all the same."""

import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.faults.stage import EACH_SECOND, LONG, QUICK, Settled
from tests.flow.processes import Process, wait_for, wait_for_ends, wait_for_workers
from tests.project.shop import ledger, tasks

EACH = 125  # of four kinds: 500 runs
SCHEDULED = 4
SHARE = 0.2
SEED = os.environ.get("SISY_TEST_SEED", "20261124")


def test_a_fifth_of_all_transactions_fails(manage: Callable[..., Process], settle: Settled, tmp_path: Path) -> None:
    """Claims, starts, ends, renewals, ticks: of each some fail, some only seem to."""
    settle.lost_lines, settle.max_crashes = True, 10  # a tick's MISSED row can be committed without an answer
    trouble = tmp_path / "trouble"
    sabotage = {"failures": SHARE, "seed": SEED, "while": str(trouble)}
    started = [
        manage(command, settings={**QUICK, "LEASE": 6, "MAX_CRASHES": 10}, sabotage=sabotage)
        for command in ("sisy_worker", "sisy_worker", "sisy_worker", "sisy_heartbeat")
    ]
    wait_for_workers(*started[:3])
    trouble.touch()
    for number in range(SCHEDULED):
        task_with_callable(tasks.note, label=f"scheduled {number}", schedule=EACH_SECOND).save()
    items = [{"seconds": 0.005, "n": n} for n in range(EACH)]
    Task.bulk_run_once(tasks.slow, items, label="plain")
    Task.bulk_run_once(tasks.acount, items, label="async", at_most_once=True)
    Task.bulk_run_once(tasks.slow, items, label="once", at_most_once=True)
    Task.bulk_run_once(tasks.fail, items, label="retried", max_attempts=2, retry_backoff=timedelta(seconds=0.1))
    wait_for(lambda: not Run.objects.active().filter(slot=None).exists(), 2 * LONG, "the end of all one-shots")
    for number in range(SCHEDULED):
        wait_for_ends(1, LONG, label=f"scheduled {number}")
    settle()
    assert [process.stop() for process in started] == [0, 0, 0, 0]
    ends = Counter(Run.objects.filter(slot=None).values_list("label", "status"))
    assert sum(ends.values()) == 4 * EACH
    assert ends["plain", RunStatus.SUCCESSFUL] == ends["retried", RunStatus.FAILED] == EACH
    once = Counter(line["run"] for line in ledger.lines(kind="begin") if line["label"] in ("once", "async"))
    assert set(once.values()) == {1}
    assert any("sabotage: " in process.output for process in started)
