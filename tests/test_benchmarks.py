"""The benchmarks still work: every work, small, for sisy on SQLite and PostgreSQL; no figure is judged."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.db import connection

from benchmarks import effects, report
from benchmarks.figures import Measurement, Results, percentile

ROOT = Path(__file__).parents[1]


def run(tmp_path: Path, *options: str) -> Results:
    """Call the command in this environment and read its results."""
    command = [sys.executable, "-W", "error", "-m", "benchmarks", "--quick", "--in-place", "--output", str(tmp_path)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return Results.read(tmp_path / "speed-results.json")


def test_the_works_run_on_sqlite(tmp_path):
    results = run(tmp_path, "--contender", "sisy_sqlite", "--only", "burst", "enqueue", "storm", "mixed")
    assert [measurement.work for measurement in results.measurements] == ["burst", "enqueue", "storm", "mixed"]
    assert [(m.lost, m.doubled, m.error) for m in results.measurements] == [(0, 0, "")] * 4
    assert all(min(values) > 0 for m in results.measurements for values in m.figures.values())
    assert "sisy, one process" in (tmp_path / "speed-results.rst").read_text()
    ElementTree.parse(tmp_path / "speed-results.svg")  # noqa: S314 - we have just written it


@pytest.mark.redis
@pytest.mark.skipif(connection.vendor != "postgresql", reason="for PostgreSQL")
def test_the_works_run_on_postgresql(tmp_path):
    """Each run has databases of its own, so that any number can be under way, and leaves none behind."""
    address = connection.settings_dict
    login = f"{address['USER']}:{address['PASSWORD']}" if address["PASSWORD"] else address["USER"]
    url = f"postgresql://{login}@{address['HOST']}:{address['PORT']}"
    works = ("burst", "latency", "accuracy", "growth", "dashboard")
    results = run(tmp_path, "--contender", "sisy", "sisy_watched", "--postgresql", url, "--only", *works)
    assert {measurement.work for measurement in results.measurements} == set(works)
    assert [(m.lost, m.doubled, m.error) for m in results.measurements] == [(0, 0, "")] * len(results.measurements)


def test_jobs_are_counted_once_and_only_once(tmp_path, monkeypatch):
    monkeypatch.setenv(effects.VARIABLE, str(tmp_path / "effects"))
    for number in (0, 2, 2, 7):
        effects.work(number)
    found = effects.read(tmp_path / "effects")
    assert [effect.number for effect in found] == [0, 2, 2, 7]
    assert effects.count(tmp_path / "effects") == 4
    assert effects.lost_and_doubled(found, range(4)) == (2, 2)  # 1 and 3; 2 once too often, and 7 that nobody wanted


def test_a_contender_that_failed_is_a_row_and_not_the_end(tmp_path):
    good = Measurement(work="burst", contender="sisy", title="sisy", figures={"rate": [3.0, 1.0, 2.0]})
    bad = Measurement(work="burst", contender="huey", title="huey", error="it fell over")
    results = Results(machine=dict.fromkeys(("taken", "processors", "memory", "system", "python", "options"), "x"))
    good.note = "in an hour of calm"
    results.measurements = [bad, good]
    report.write(results, tmp_path)
    text = (tmp_path / "speed-results.rst").read_text()
    assert "2 (1 to 3)" in text
    assert "failed" in text
    assert "     - in an hour of calm\n" in text
    results.write(tmp_path / "speed-results.json")
    assert Results.read(tmp_path / "speed-results.json") == results


def test_percentiles():
    assert [percentile([3, 1, 2], share) for share in (0, 0.5, 0.99)] == [1, 2, 3]
