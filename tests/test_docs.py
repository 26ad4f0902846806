"""The documentation: every example in it is run, or says above itself why not; its tables are right; it builds."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.dispatch import Signal

from sisy import registry, signals
from sisy.cron import Schedule
from sisy.models import RunStatus
from tests import docs_page
from tests.rst_blocks import Block, blocks, included

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]

FIRST_RUN = (
    "python -m pip install -e . && python -m sisy.demo",
    'python -m pip install -e ".[test]" && python -m pytest',
)
NOT_RUN = {
    ("docs/explanation/faults.rst", "it takes an hour"),
    ("docs/explanation/speed.rst", "it takes most of an hour, with PostgreSQL and Redis"),
    ("docs/reference/commands.rst", "what a system in use shows"),
    ("docs/tutorial/demo.rst", "what the demo prints"),
    ("docs/using/dashboard.rst", "a header that a web server sends"),
    ("docs/tutorial/project.rst", "here a worker in another process does it"),
}
"""Page and reason of each example that is not run; a new one has to be added here on purpose."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def examples(path: Path) -> list[Block]:
    return list(blocks(path, root=ROOT))


def test_only_these_examples_are_not_run() -> None:
    left_out = {(block.page, block.not_run) for path in PAGES for block in examples(path) if block.not_run}
    assert left_out == NOT_RUN


def test_every_other_example_is_of_a_kind_that_is_run() -> None:
    found = [block for path in PAGES for block in examples(path) if not block.not_run]
    odd = [block.where for block in found if block.language not in docs_page.RUNNERS]
    assert not odd, f"nothing runs these; write `.. not run: REASON` above them: {odd}"


@pytest.mark.parametrize(
    "text", ["So:\n\n>>> 1\n1\n", "So::\n\n    x = 1\n", ".. code:: python\n\n    x = 1\n", ".. not run: why\n\nSo.\n"]
)
def test_an_example_that_would_be_overlooked_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "page.rst").write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError, match=r"page\.rst:\d"):
        list(blocks(tmp_path / "page.rst", root=tmp_path))


def test_the_readme_begins_with_the_two_commands() -> None:
    lines = [line.strip() for line in (ROOT / "README.rst").read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if line.startswith("python -m pip install -e")][:2] == list(FIRST_RUN)


def test_the_files_that_pages_show_exist() -> None:
    missing = [f"{name_of(page)}: {path}" for page in PAGES for path in included(page) if not path.is_file()]
    assert not missing


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_examples_work(path: Path, install: Callable[[list[Block]], None]) -> None:
    found = [block for block in examples(path) if not block.not_run]
    install(found)
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in found:
        docs_page.RUNNERS[block.language](block, namespace)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Callable[[list[Block]], None]]:
    """Write a page's files and install its app; afterwards nothing of it is left in this process."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_labels", dict(registry._labels))
    files: dict[str, str] = {}

    def make(found: list[Block]) -> None:
        files.update(docs_page.files_of(found))
        docs_page.install(files, tmp_path, settings)

    yield make
    if apps.is_installed(docs_page.APP):
        docs_page.migrate("zero")
        apps.all_models.pop(docs_page.APP, None)
    for module in list(sys.modules):
        if module.partition(".")[0] in (docs_page.APP, docs_page.PROJECT):
            del sys.modules[module]
    apps.clear_cache()


def test_the_table_of_changing_clocks_is_what_sisy_computes() -> None:
    rows = re.findall(r"\* - ``(.+)``\n +- (.+)\n +- (.+)\n", (ROOT / "docs/explanation/time.rst").read_text("utf-8"))
    computed = [(text, slots_in_words(text, day=(3, 8)), slots_in_words(text, day=(11, 1))) for text, _, _ in rows]
    assert len(rows) == 8
    assert rows == computed


def slots_in_words(text: str, *, day: tuple[int, int]) -> str:
    """Say which slots of a schedule lie between midnight and five in the morning of a day of 2026 in New York."""
    zone = ZoneInfo("America/New_York")
    midnight, five = datetime(2026, *day, tzinfo=zone), datetime(2026, *day, 5, tzinfo=zone)
    slots = [slot.astimezone(zone) for slot in Schedule(text, timezone=zone).between(midnight, five)]
    if len(slots) > 6:
        return f"{len(slots)} slots"
    return ", ".join(f"{slot:%H:%M:%S}".removesuffix(":00") + f"{slot: %Z}" for slot in slots) or "none"


def test_the_reference_has_every_signal() -> None:
    text = (ROOT / "docs/reference/signals.rst").read_text("utf-8")
    names = [name for name, value in vars(signals).items() if isinstance(value, Signal)]
    assert re.findall(r"autodata:: (\w+)", text) == names


def test_the_picture_and_the_table_of_states_have_every_state() -> None:
    for file in ("docs/explanation/states.svg", "docs/explanation/run.rst", "docs/reference/models.rst"):
        text = (ROOT / file).read_text("utf-8")
        assert [status for status in RunStatus.values if status not in text] == [], file


@pytest.mark.skipif(not importlib.util.find_spec("furo"), reason='needs: python -m pip install -e ".[docs]"')
def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", "-b", "html", ROOT / "docs", tmp_path / "html"]
    command += ["-d", tmp_path / "doctrees"]
    environment = {**os.environ, "PYTHONDEVMODE": ""}  # it would show warnings of Sphinx's own code
    built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert built.returncode == 0, built.stdout
    assert (tmp_path / "html" / "index.html").is_file()
