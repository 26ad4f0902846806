"""What was measured: one Measurement for each contender and work, its figures with every repeat's value.

works.py makes them, report.py reads them; results.json is a list of them with the machine and the versions.
"""

import json
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Measurement:
    """What one contender did in one work.

    Args:
        work: the name of the work.
        contender: the name of the contender's file.
        title: its name for people.
        case: which of several sizes of the work, or an empty string.
        figures: the values of each repeat, by what they are.
        lost: jobs without an effect, in all repeats.
        doubled: effects that were one too many, in all repeats.
        note: what a reader must know, or an empty string.
        error: why there are no figures, or an empty string.
    """

    work: str
    contender: str
    title: str
    case: str = ""
    figures: dict[str, list[float]] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    note: str = ""
    error: str = ""

    def add(self, **values: float) -> None:
        """Add the values of one repeat."""
        for name, value in values.items():
            self.figures.setdefault(name, []).append(round(value, 6))

    def median(self, name: str) -> float | None:
        """Return the median of a figure's values, or None when it has none."""
        values = self.figures.get(name)
        return statistics.median(values) if values else None


@dataclass(kw_only=True)
class Results:
    """All measurements of one call of the command."""

    machine: dict[str, str]
    contenders: dict[str, dict[str, Any]] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write results.json."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read results.json."""
        data = json.loads(path.read_text())
        return cls(
            machine=data["machine"],
            contenders=data["contenders"],
            measurements=[Measurement(**entry) for entry in data["measurements"]],
        )

    def of(self, work: str) -> list[Measurement]:
        """Return the measurements of one work."""
        return [measurement for measurement in self.measurements if measurement.work == work]


def machine(options: Mapping[str, object]) -> dict[str, str]:
    """Describe this machine and the options of the command."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "taken": datetime.now(tz=UTC).strftime("%d %B %Y"),
        "processors": f"{os.cpu_count()} cores ({_processor()})",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "options": ", ".join(f"{name}: {value}" for name, value in options.items()),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
