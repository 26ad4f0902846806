"""For as long as SISY_TEST_SOAK_SECONDS says: work without end, and every few seconds something is killed or restarted.

    SISY_TEST_SOAK_SECONDS=3600 SISY_TEST_DATABASE=postgresql python -m pytest -s -m soak

It prints its figures; the invariants hold at its end. On PostgreSQL the server is the test's own, and crashes, too.
"""

import faulthandler
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, connection

from sisy.models import Run, Task, Worker, task_with_callable
from tests.faults.servers import RedisServer
from tests.faults.stage import EACH_SECOND, QUICK, Settled, database
from tests.flow.processes import Process, wait_for_workers
from tests.project.shop import ledger, tasks

SETTINGS = {**QUICK, "LEASE": 4, "KEEP_RUNS_DAYS": None, "KEEP_RUNS_PER_TASK": None}
COMMANDS = [["sisy_worker"], ["sisy_worker"], ["sisy_worker", "--processes", "2"], ["sisy_heartbeat"]]
POLICIES: list[dict[str, Any]] = [
    {"overlap": overlap, "misfire": misfire}
    for overlap in ("skip", "queue", "allow", "replace")
    for misfire in ("latest", "all", "skip")
]
KINDS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (tasks.slow, {}),
    (tasks.aslow, {}),
    (tasks.slow, {"at_most_once": True}),
    (tasks.fail, {"max_attempts": 3, "retry_backoff": timedelta(seconds=0.5)}),
    (tasks.slow, {"timeout": timedelta(seconds=0.1)}),
]

servers = ("own_postgresql",) if database() == "postgresql" else ()


class Disaster:
    """Kills one process every few seconds, and restarts servers now and then.

    Args:
        manage: starts processes.
        restarts: what else can be restarted, by name.
    """

    def __init__(self, manage: Callable[..., Process], restarts: dict[str, Callable[[], None]]) -> None:
        self.chance = random.Random(20261124)
        self.happened: Counter[str] = Counter()
        self.running = [manage(*command, layer="redis", settings=SETTINGS) for command in COMMANDS]
        self._manage = manage
        self._restarts = restarts
        self._next = time.monotonic() + 5
        self._next_restart = time.monotonic() + 10

    def strike(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if now >= self._next_restart and self._restarts:
            name = self.chance.choice(sorted(self._restarts))
            self._restarts[name]()
            self.happened[f"restarts of {name}"] += 1
            self._next_restart = time.monotonic() + self.chance.uniform(15, 45)
        elif now >= self._next:
            number = self.chance.randrange(len(COMMANDS))
            self.running[number].kill()
            self.running[number] = self._manage(*COMMANDS[number], layer="redis", settings=SETTINGS)
            self.happened[f"kill -9 of {COMMANDS[number][0]}"] += 1
            self._next = time.monotonic() + self.chance.uniform(2, 5)


def create_some(chance: random.Random) -> None:
    """Create runs of each kind, as a web process would, whatever becomes of its connection."""
    function, fields = chance.choice(KINDS)
    items = [{"seconds": chance.uniform(0, 0.2)} for _ in range(chance.randrange(1, 30))]
    try:
        Task.bulk_run_once(function, items, label=function.__name__, **fields)
    except (DatabaseError, InterfaceError):
        connection.close()


@pytest.mark.soak
@pytest.mark.usefixtures("own_redis", *servers)
def test_endurance(
    manage: Callable[..., Process],
    own_redis: RedisServer,
    settle: Settled,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settle.lost_lines = True
    faulthandler.cancel_dump_traceback_later()  # that a test takes so long would be a sign of a deadlock elsewhere
    restarts = {"Redis": own_redis.restart}
    restarts |= {server.removeprefix("own_"): request.getfixturevalue(server).restart for server in servers}
    disaster = Disaster(manage, restarts)
    wait_for_workers(*disaster.running[:2])
    for number, policy in enumerate(POLICIES):
        task_with_callable(
            tasks.slow, label=f"scheduled {number}", schedule=EACH_SECOND, userdata={"seconds": 0.3}, **policy
        ).save()
    end = time.monotonic() + float(os.environ["SISY_TEST_SOAK_SECONDS"])
    while time.monotonic() < end:
        create_some(disaster.chance)
        disaster.strike()
        time.sleep(0.3)
    settle(timeout=300)
    assert [process.stop() for process in disaster.running] == [0] * len(COMMANDS)
    with capsys.disabled():
        for line in figures(disaster):
            print(line)  # noqa: T201 - what this test is for


def figures(disaster: Disaster) -> list[str]:
    """Say what has happened."""
    states = Counter(Run.objects.values_list("status", flat=True))
    starts = Counter(line["run"] for line in ledger.lines(kind="begin"))
    again = sum(1 for count in starts.values() if count > 1)
    crashed = Run.objects.filter(crashes__gt=0).count()
    return [
        "",
        f"  {sum(states.values())} runs, {sum(starts.values())} starts, on {database()}, "
        f"by {Worker.objects.count()} workers after one another",
        *(f"  {count} {what}" for what, count in sorted(disaster.happened.items())),
        *(f"  {count} {state}" for state, count in sorted(states.items())),
        f"  {again} runs started more than once (attempts and crashes), {crashed} whose worker died",
    ]
