"""The README's "In your own project", done for real: a generated project, the README's own lines, real processes."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.flow.processes import ROOT, Process, Processes
from tests.rst_blocks import Block, blocks

Manage = Callable[..., Process]
README = list(blocks(ROOT / "README.rst", root=ROOT))


def the_only(wanted: Callable[[Block], bool]) -> str:
    (block,) = [block for block in README if wanted(block)]
    return block.text


@pytest.fixture
def manage(tmp_path: Path) -> Iterator[Manage]:
    """A project as Django makes it, with an app, the README's settings and function; starts its manage.py."""
    environment = {"DJANGO_SETTINGS_MODULE": "mysite.settings", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    processes = Processes(environment, tmp_path)

    def start(*arguments: str) -> Process:
        return processes.start([sys.executable, "manage.py", *arguments], cwd=tmp_path)

    made = processes.start(
        [sys.executable, "-m", "django", "startproject", "mysite", "."], cwd=tmp_path, DJANGO_SETTINGS_MODULE=""
    )
    assert made.wait() == 0, made.output
    assert start("startapp", "bakery").wait() == 0
    settings = tmp_path / "mysite" / "settings.py"
    code = settings.read_text(encoding="utf-8")
    settings.write_text(re.sub(r"INSTALLED_APPS = \[", 'INSTALLED_APPS = [\n    "bakery",\n    "sisy",', code), "utf-8")
    tasks = the_only(lambda block: block.file == "bakery/tasks.py")
    (tmp_path / "bakery" / "tasks.py").write_text(tasks, encoding="utf-8")
    try:
        yield start
    finally:
        processes.kill()


def succeeds(process: Process) -> str:
    assert process.wait() == 0, process.output
    return process.output


def test_a_task_runs_in_a_project_of_ones_own_with_one_line_of_settings(manage: Manage) -> None:
    assert "sisy.E" not in succeeds(manage("check"))
    succeeds(manage("migrate"))
    create = the_only(lambda block: block.language == "python" and not block.file)
    succeeds(manage("shell", "-c", create))

    sisy = manage("sisy")
    sisy.wait_for_output("The digest goes to 1 people.")
    assert sisy.stop(signal.SIGTERM) == 0, sisy.output

    history = succeeds(manage("dumpdata", "sisy.run", "sisy.task"))
    assert '"status": "SUCCESSFUL"' in history
    assert '"schedule": "*/15 9-17 * * mon-fri"' in history  # the one-shot is gone, the repeating task stays
    assert '"schedule": "@once"' not in history


def test_a_schedule_with_seconds_keeps_them_in_a_project_of_ones_own(manage: Manage) -> None:
    succeeds(manage("migrate"))
    code = (
        "from datetime import timedelta as t; from sisy.models import task_with_callable as new;"
        "new('bakery.tasks.send_digest', schedule=t(seconds=1), userdata={'recipients': 5}).save()"
    )
    sisy = manage("sisy")
    sisy.wait_for_output("Ctrl-C")
    succeeds(manage("shell", "-c", code))
    sisy.wait_for_output("The digest goes to 5 people.\nThe digest goes to 5 people.\n")
    assert sisy.stop(signal.SIGINT) == 0, sisy.output
