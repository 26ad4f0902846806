"""From measurements to pages: one line for the terminal; a table and a chart for the documentation."""

from pathlib import Path

from benchmarks.figures import Measurement, Results


def line(measurement: Measurement) -> str:
    """Return one line for the terminal."""
    figures = ", ".join(f"{name} {_with_range(values)}" for name, values in measurement.figures.items())
    counted = f"; LOST {measurement.lost}" if measurement.lost else ""
    counted += f"; DOUBLED {measurement.doubled}" if measurement.doubled else ""
    return " ".join(filter(None, [
        f"{measurement.contender:14} {measurement.work:9}", measurement.case, figures + counted, measurement.error,
    ]))  # fmt: skip


def write(results: Results, directory: Path) -> None:
    """Write the table."""


def _with_range(values: list[float]) -> str:
    ordered = sorted(values)
    median = ordered[len(ordered) // 2]
    return _short(median) if len(ordered) == 1 else f"{_short(median)} ({_short(ordered[0])} to {_short(ordered[-1])})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
