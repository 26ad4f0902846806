"""What runs in a contender's own environment: one verb of the contender, its answer as one line of JSON.

`stage` starts it: python -m benchmarks.side NAME VERB [ARGUMENT...]
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, ClassVar, Final, Literal

Command = list[str]

PLAN_VARIABLE: Final = "BENCHMARK_PLAN"
"""Environment variable with the schedules that a work needs, for contenders that have theirs in code."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which schedules a work needs.

    Args:
        kind: due once, at `boundary`; at each full second; or not for months.
        count: how many.
        boundary: seconds since 1970.
        seconds: whether the boundary is no full minute.
    """

    kind: Literal["boundary", "second", "never"]
    count: int
    boundary: float = 0.0
    seconds: bool = False

    def to_text(self) -> str:
        """Return the plan as the environment variable has it."""
        return json.dumps(asdict(self))


def plan() -> Plan:
    """Return the plan of the work that is going on; without schedules if it needs none."""
    text = os.environ.get(PLAN_VARIABLE)
    return Plan(**json.loads(text)) if text else Plan(kind="never", count=0)


class Contender:
    """What a contender can do. Its file in contenders/ has a child of this class, named Contender too.

    Attributes:
        title: its name in tables.
        stores: where jobs wait, and where schedules are.
        distributions: packages whose versions are told.
        works: the works that it can do.
        settings: how it is set up, for the reader of the results.
        burst: how many jobs make a burst that takes it some seconds.
        has_bulk: whether it has a way to enqueue many jobs at once.
        has_seconds: whether its schedules can be due at any full second.
    """

    title: ClassVar[str]
    stores: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]
    works: ClassVar[tuple[str, ...]]
    settings: ClassVar[str]
    burst: ClassVar[int] = 5_000
    has_bulk: ClassVar[bool] = False
    has_seconds: ClassVar[bool] = False

    def create(self) -> None:
        """Make the stores; called once."""

    def reset(self) -> None:
        """Put the stores back to what they were after `create`."""

    def drop(self) -> None:
        """Leave nothing behind."""

    def enqueue(self, number: int) -> None:
        """Enqueue one job, durably as far as the contender's store is."""
        raise NotImplementedError

    def enqueue_bulk(self, numbers: Iterable[int]) -> None:
        """Enqueue many jobs in the fastest way that is documented."""
        for number in numbers:
            self.enqueue(number)

    def schedule(self, plan: Plan) -> None:
        """Make schedules; nothing to do for those that have theirs in code."""

    def workers(self, *, processes: int, slots: int | None) -> list[Command]:
        """Return the commands of worker processes; slots: jobs at a time in each, None for the recommended number."""
        raise NotImplementedError

    def schedulers(self, *, interval: float) -> list[Command]:
        """Return the commands of what looks after schedules, beside the workers."""
        return []

    def latency(self, count: int, pause: float) -> list[float]:
        """Enqueue jobs with pauses in between; return when each enqueue began."""
        began = []
        for number in range(count):
            time.sleep(pause)
            began.append(time.time())
            self.enqueue(number)
        return began

    def transactions(self) -> int | None:
        """Return a counter of the database's transactions, or None."""
        return None

    def versions(self) -> dict[str, str]:
        """Return the versions that matter."""
        return {name: metadata.version(name) for name in self.distributions}

    # What the driver asks for ----------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Say what the driver has to know."""
        names = ("title", "stores", "settings", "works", "burst", "has_bulk", "has_seconds")
        return {**{name: getattr(self, name) for name in names}, "versions": self.versions()}

    def fill(self, numbers: list[int], bulk: bool) -> float:
        """Enqueue jobs; return the seconds that it took."""
        began = time.perf_counter()
        if bulk:
            self.enqueue_bulk(numbers)
        else:
            for number in numbers:
                self.enqueue(number)
        return time.perf_counter() - began

    def make_schedules(self) -> None:
        """Make the schedules that the work needs."""
        self.schedule(plan())


def load(name: str) -> Contender:
    """Import a contender, with Django set up where it is a Django app."""
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        importlib.import_module("django").setup()
    contender: Contender = importlib.import_module(f"benchmarks.contenders.{name}").Contender()
    return contender


def main(name: str, verb: str, keywords: str = "{}") -> None:
    """Call one verb with keywords as JSON; its answer is the last line of standard output."""
    answer = getattr(load(name), verb)(**json.loads(sys.stdin.read() if keywords == "-" else keywords))
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
