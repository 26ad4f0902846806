"""From measurements to pages: a line for the terminal, and tables and a chart for the documentation.

__main__.py calls `line` for each measurement as it comes, and `write` at the end.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import chart
from benchmarks.figures import Measurement, Results

_HEADINGS: Final = {
    "burst": "Burst: jobs that wait, two worker processes that have just been started",
    "enqueue": "Enqueue, jobs a second",
    "latency": "Latency: idle, from before the enqueue to the job's first line, in milliseconds",
    "mixed": "Mixed load: fast jobs, alone and with eight slow ones of a second in between, eight slots",
    "accuracy": "Accuracy: schedules that are due each second, lateness in milliseconds",
    "storm": "Storm: schedules that are all due at the same minute, seconds after it",
    "idle": "Idle: schedules of which none is due",
    "growth": "Growth: the same work beside more and more rows",
    "memory": "Memory of one worker process, MiB",
    "dashboard": "Dashboard: the overview read from the database, and a burst while many have it open",
}
_COLUMNS: Final = {
    "rate": "jobs/s",
    "cpu_ms": "CPU ms a job",
    "memory": "MiB",
    "one_by_one": "one by one",
    "bulk": "in bulk",
    "p50": "p50",
    "p95": "p95",
    "p99": "p99",
    "max": "max",
    "alone": "alone, jobs/s",
    "beside_slow": "beside slow, jobs/s",
    "beside_dashboards": "beside dashboards, jobs/s",
    "share": "share, %",
    "fetches": "fetches/s",
    "web_cpu_percent": "web server, % of a core",
    "server_ms": "server, ms",
    "queries": "queries",
    "page_kb": "page, KiB",
    "script_kb": "script, KiB",
    "started": "started",
    "first": "first",
    "median": "median",
    "last": "last",
    "cpu_percent": "CPU, % of a core",
    "transactions_per_minute": "transactions a minute",
    "tick_ms": "tick, ms",
    "at_rest": "at rest",
    "after_a_tenth": "after a tenth",
    "after_all": "after all",
}


def line(measurement: Measurement) -> str:
    """Return one line for the terminal."""
    figures = ", ".join(f"{name} {_with_range(values)}" for name, values in measurement.figures.items())
    counted = f"; LOST {measurement.lost}" if measurement.lost else ""
    counted += f"; DOUBLED {measurement.doubled}" if measurement.doubled else ""
    return " ".join(filter(None, [
        f"{measurement.contender:14} {measurement.work:9}", measurement.case, figures + counted, measurement.error,
    ]))  # fmt: skip


def write(results: Results, directory: Path) -> None:
    """Write speed-results.rst and speed-results.svg beside the JSON."""
    directory.mkdir(parents=True, exist_ok=True)
    parts = [
        _preamble(results),
        *(_section(results, work) for work in _HEADINGS if results.of(work)),
        _contenders(results),
    ]
    (directory / "speed-results.rst").write_text("\n".join(parts))
    (directory / "speed-results.svg").write_text(chart.draw(results))


def _preamble(results: Results) -> str:
    machine = results.machine
    return "\n".join([
        ".. Written by `python -m benchmarks`; do not edit.",
        "",
        f"Taken {machine['taken']} on {machine['processors']}, {machine['memory']}, {machine['system']}, Python "
        f"{machine['python']}; {machine['options']}. Databases, workers and the driver share this machine.",
        "Medians; in brackets the lowest and the highest of the repeats. Differences under about 15 % mean nothing.",
        "",
    ])  # fmt: skip


def _section(results: Results, work: str) -> str:
    measurements = results.of(work)
    names = [name for name in _COLUMNS if any(name in measurement.figures for measurement in measurements)]
    rows = [["contender", "size", *(_COLUMNS[name] for name in names), "lost", "doubled"]]
    for measurement in measurements:
        size = ", ".join(filter(None, [measurement.case, measurement.note]))
        if measurement.error:
            rows.append([measurement.title, size, *["failed"] * len(names), "", ""])
            continue
        figures = [_with_range(measurement.figures[name]) if name in measurement.figures else "" for name in names]
        rows.append([measurement.title, size, *figures, f"{measurement.lost:,}", f"{measurement.doubled:,}"])
    used = [place for place, _ in enumerate(rows[0]) if any(row[place] for row in rows[1:])]
    return _table(_HEADINGS[work], [[row[place] for place in used] for row in rows])


def _contenders(results: Results) -> str:
    rows = [["contender", "stores", "settings", "versions"]]
    for facts in results.contenders.values():
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        rows.append([facts["title"], facts["stores"], facts["settings"], versions])
    return _table("What was measured, and how it was set up", rows)


def _table(title: str, rows: Sequence[Sequence[str]]) -> str:
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in rows:
        for place, cell in enumerate(row):
            lines.append(f"   {'*' if place == 0 else ' '} - {cell}".rstrip())
    return "\n".join([*lines, ""])


def _with_range(values: Sequence[float]) -> str:
    ordered = sorted(values)
    median = ordered[len(ordered) // 2]
    return _short(median) if len(ordered) == 1 else f"{_short(median)} ({_short(ordered[0])} to {_short(ordered[-1])})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
