"""The demo as people start it: one process from a terminal, the Procfile under honcho, supervisor; and its pages."""

import asyncio
import configparser
import io
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import URLError

import psutil
import pytest
import redis
from django.utils import timezone

from sisy.conf import Settings
from sisy.demo import machine, ports
from sisy.demo.console import Console, printable
from sisy.models import Run, RunStatus
from sisy.routing import application
from sisy.worker.engine import Engine
from sisy.worker.listener import SisyWorker
from tests.flow.processes import ROOT, Process, Processes, started_by_test, wait_for

DEPLOY = ROOT / "sisy" / "demo" / "deploy"
DEMO = [sys.executable, "-m", "sisy.demo"]
MANAGE = [sys.executable, "-m", "sisy.demo.manage"]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the demo is started: not the repository; a short path, since supervisor's socket is in it."""
    with tempfile.TemporaryDirectory(prefix="d") as directory:
        yield Path(directory)


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path, directory: Path) -> Iterator[Callable[..., Process]]:
    """Start a command in an environment that belongs to another project; what is left at the end is killed."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.project.settings",
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    processes = request.node.stash[started_by_test] = Processes(environment, tmp_path)
    yield lambda *command, **variables: processes.start(command, cwd=directory, **variables)
    processes.kill()


@pytest.fixture
def project(directory: Path, redis_url: str, redis_prefix: str) -> Iterator[dict[str, str]]:
    """The environment of a demo on Redis, whose keys are deleted at the end."""
    yield {
        "DEMO_DATABASE": str(directory / "demo.sqlite3"),
        "DEMO_REDIS_PREFIX": redis_prefix,
        "PORT": str(free_port()),
        "REDIS_URL": redis_url,
    }
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"*{redis_prefix}*"):
            client.delete(key)


class Visitor:
    """A browser without a screen: keeps cookies, sends forms with their token."""

    def __init__(self, port: int | str) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.url = ""
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        return self._open(path, None)

    def post(self, path: str, **fields: str) -> str:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(path))
        assert token
        return self._open(path, {**fields, "csrfmiddlewaretoken": token[1]})

    def is_answered(self) -> bool:
        with suppress(URLError, ConnectionError):
            return bool(self.get("/"))
        return False

    def _open(self, path: str, fields: dict[str, str] | None) -> str:
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        with self._opener.open(self.address + path, data, timeout=10) as answer:
            self.url = answer.url
            return answer.read().decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# In one process ------------------------------------------------------------------------------------------------------


def test_tasks_run_at_once_and_the_pages_can_be_looked_at(start: Callable[..., Process]) -> None:
    port = free_port()
    demo = start(*DEMO, "--port", str(port), REDIS_URL="redis://nowhere.invalid")
    demo.wait_for_output("SUCCESSFUL  Sample the machine")
    used = psutil.Process(demo.pid).cpu_times()
    assert used.user + used.system < 5  # seconds; not on the clock, which counts what else the machine has to do
    assert f"open http://127.0.0.1:{port}/" in demo.output
    assert re.search(r"^\d\d:\d\d:\d\d  SUCCESSFUL  Sample the machine +load [\d.]+, memory", demo.output, re.M)

    visitor = Visitor(port)
    overview = visitor.get("/")
    assert "Sample the machine" in overview
    assert "Every 2 seconds" in overview
    stylesheet = re.search(r'href="(/static/[^"]+\.css)"', overview)
    assert stylesheet
    assert "prefers-color-scheme: dark" in visitor.get(stylesheet[1])
    job(visitor)
    name, password = re.findall(r"login (\w+), password (\w+)", demo.output)[0]
    visitor.post("/admin/login/?next=/admin/sisy/task/", username=name, password=password)
    assert visitor.url == f"{visitor.address}/admin/sisy/task/"
    assert "Sample the machine" in visitor.get("/admin/sisy/task/")


def job(visitor: Visitor) -> None:
    """Have the words of a text counted."""
    visitor.post("/", kind="words", text="To be, or not to be")
    page, path = "", visitor.url.removeprefix(visitor.address)
    assert re.fullmatch(r"/reports/[0-9a-f-]{36}/", path)

    def is_done() -> bool:
        nonlocal page
        page = visitor.get(path)
        return "SUCCESSFUL" in page

    wait_for(is_done, what="a visitor's job")
    assert "6 words, 4 different ones" in page
    assert visitor.get(path.removesuffix("/") + ".csv").splitlines()[:3] == ["word,times", "to,2", "be,2"]


def test_the_demo_ends_by_itself_and_leaves_nothing(start: Callable[..., Process]) -> None:
    demo = start(*DEMO, "--port", "0", "--seconds", "2")
    demo.wait_for_output("SUCCESSFUL")
    directory = re.search(r"the demo, in (\S+)", demo.output)
    assert directory
    assert Path(directory[1]).is_dir()
    assert demo.wait() == 0
    assert not Path(directory[1]).exists()
    assert re.search(r"Stopped after \d+ runs", demo.output)
    assert "Traceback" not in demo.output
    assert "\x1b" not in demo.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_without_a_traceback(start: Callable[..., Process], number: signal.Signals) -> None:
    demo = start(*DEMO, "--port", "0")
    demo.wait_for_output("SUCCESSFUL")
    assert demo.stop(number) == 0
    assert re.search(r"Stopped after \d+ runs", demo.output)
    assert "Traceback" not in demo.output


def test_a_signal_before_the_demo_is_set_up_ends_it_too(start: Callable[..., Process]) -> None:
    demo = start(sys.executable, "-c", EARLY_SIGNAL)
    assert demo.wait() == 0
    assert demo.output == ""


EARLY_SIGNAL = """
import os, signal, sys
from sisy.demo import __main__ as demo
demo.call_command = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
sys.exit(demo.main([]))
"""


def test_the_demo_ends_when_nobody_reads_its_lines_any_more(start: Callable[..., Process]) -> None:
    demo = start("bash", "-c", f"{' '.join(DEMO)} --port 0 | head -1; exit ${{PIPESTATUS[0]}}")
    assert demo.wait() == 0
    assert "Traceback" not in demo.output


def test_a_taken_port_is_named_with_the_way_out(start: Callable[..., Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start(*DEMO, "--port", str(port))
        assert demo.wait() == 1
    assert demo.output == (
        f"sisy.demo: port {port} on 127.0.0.1 is taken by another program. "
        "Choose another with --port, or leave --port out.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "70000"], "'70000' is not a port: give a number from 0 to 65535"),
        (["--seconds", "soon"], "'soon' is not a number of seconds above 0"),
        (["--seconds", "0"], "'0' is not a number of seconds above 0"),
    ],
)
def test_a_wrong_argument_is_refused(start: Callable[..., Process], arguments: list[str], said: str) -> None:
    demo = start(*DEMO, *arguments)
    assert demo.wait() == 2
    assert said in demo.output


def test_the_next_port_is_used_when_none_was_asked_for_and_the_usual_one_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = taken.getsockname()[1]
        monkeypatch.setattr(ports, "USUAL", usual)
        with ports.listen(None) as listener:
            assert usual < listener.getsockname()[1] < usual + 20


# In three processes on Redis -----------------------------------------------------------------------------------------


def test_honcho_runs_the_procfile(start: Callable[..., Process], project: dict[str, str], directory: Path) -> None:
    set_up(start, project)
    command = (sys.executable, "-m", "honcho", "-f", str(ROOT / "Procfile"), "-d", str(directory), "start")
    honcho = start(*command, **project)
    wait_for(lambda: has_ticked(honcho.output) or not honcho.is_alive, what="runs under honcho")
    wait_for(Visitor(project["PORT"]).is_answered, what="the web process")
    assert "WARNINGS:" not in honcho.output  # of the system checks
    assert honcho.stop(signal.SIGTERM) == 128 + signal.SIGTERM  # honcho's own way to say that it was told to
    stopped = re.findall(r"(\w+)\.1 stopped \(rc=(-?\d+)\)", honcho.output)
    assert sorted(stopped) == [("heartbeat", "0"), ("web", "0"), ("worker", "0")]
    assert "SIGTERM: claiming nothing more" in honcho.output
    assert "Traceback" not in honcho.output


def test_supervisor_runs_its_configuration(
    start: Callable[..., Process], project: dict[str, str], directory: Path
) -> None:
    set_up(start, project)
    shutil.copy(DEPLOY / "supervisord.conf", directory)
    supervisord = start(sys.executable, "-m", "supervisor.supervisord", "-c", "supervisord.conf", **project)
    log = directory / "worker.log"
    wait_for(lambda: log.exists() and has_ticked(log.read_text()), what="runs under supervisor")
    wait_for(Visitor(project["PORT"]).is_answered, what="the web process")
    control = start(sys.executable, "-m", "supervisor.supervisorctl", "-c", "supervisord.conf", "status", **project)
    assert control.wait() == 0
    assert len(re.findall(r"^sisy-demo:(?:web|heartbeat|worker) +RUNNING", control.output, re.M)) == 3
    assert supervisord.stop(signal.SIGTERM) == 0
    assert len(re.findall(r"stopped: (?:web|heartbeat|worker) \(exit status 0\)", supervisord.output)) == 3
    assert "SIGTERM: claiming nothing more" in log.read_text()
    for path in directory.glob("*.log"):
        assert "Traceback" not in path.read_text(), path


def has_ticked(log: str) -> bool:
    """Tell from a worker's lines whether the heartbeat is there: only the first run needs no tick."""
    return len(re.findall(r"Run \d+ of Sample the machine SUCCESSFUL", log)) > 1


def set_up(start: Callable[..., Process], project: dict[str, str]) -> None:
    setup = start(*MANAGE, "setup", **project)
    assert setup.wait() == 0, setup.output
    pause = "from sisy.models import Task; Task.objects.get(label='Audit the samples').pause()"
    paused = start(*MANAGE, "shell", "-c", pause, **project)  # it takes longer than honcho waits for a worker to drain
    assert paused.wait() == 0, paused.output


def test_a_worker_is_given_the_time_that_it_takes_to_drain() -> None:
    drain = Settings().drain_timeout
    supervisor = configparser.ConfigParser(interpolation=None)
    supervisor.read(DEPLOY / "supervisord.conf")
    assert timedelta(seconds=supervisor.getint("program:worker", "stopwaitsecs")) > drain
    unit = configparser.ConfigParser(interpolation=None)
    unit.read(DEPLOY / "sisy-demo-worker.service")
    assert timedelta(seconds=unit.getint("Service", "TimeoutStopSec")) > drain
    assert unit["Service"]["KillMode"] == "mixed"


# The project ---------------------------------------------------------------------------------------------------------


def test_setting_up_twice_changes_nothing_and_migrating_back_leaves_nothing(
    start: Callable[..., Process], directory: Path
) -> None:
    process = start(*MANAGE, "shell", "-c", THERE_AND_BACK)
    assert process.wait() == 0, process.output
    lines = [line.strip() for line in process.output.splitlines()]
    assert (directory / "sisy-demo.sqlite3").exists()
    assert "The demo is set up. The admin's login is demo, its password demo." in lines
    assert "The demo is set up. The login demo is kept." in lines
    assert "No changes detected" in lines
    assert [line for line in lines if line.startswith("tasks")] == ["tasks: 8", "tasks: 8", "tasks: 0"]


THERE_AND_BACK = """
from django.core.management import call_command
from sisy.models import Task
call_command("setup")
print("tasks:", Task.objects.count())
call_command("setup")
print("tasks:", Task.objects.count())
call_command("makemigrations", check=True, dry_run=True)
call_command("migrate", "sisy_demo", "zero", verbosity=0)
print("tasks:", Task.objects.count())
"""


def test_a_watch_writes_one_alert_for_each_crossing(start: Callable[..., Process]) -> None:
    process = start(*MANAGE, "shell", "-c", CROSSINGS, DEMO_LOG_LEVEL="ERROR")
    assert process.wait() == 0, process.output
    assert process.output.splitlines()[-3:] == ["disk 95 % has reached 90 %", "disk 20 % is below 90 %", "SKIPPED"]


CROSSINGS = """
from django.core.management import call_command
from sisy.demo.models import Alert, Sample
from sisy.models import Task
from sisy.testing import drain
call_command("setup", verbosity=0)
drain()
task = Task.objects.get(label="Watch the disk")
for percent in (20, 95, 96, 20, 21):
    Sample.objects.create(disk_percent=percent)
    task.run_asap()
    drain()
print(*Alert.objects.reverse(), sep="\\n")
Sample.objects.all().delete()
task.run_asap()
print(*[run.status for run in drain()])
"""


def test_the_examples_in_its_docstrings_are_right(start: Callable[..., Process]) -> None:
    process = start(*MANAGE, "shell", "-c", EXAMPLES)
    assert process.wait() == 0, process.output
    assert process.output.splitlines()[-1] == "TestResults(failed=0, attempted=3)"


EXAMPLES = """
import doctest
from sisy.demo import console, models
results = [doctest.testmod(module) for module in (console, models)]
print(doctest.TestResults(*map(sum, zip(*results))))
"""


# On the ground -------------------------------------------------------------------------------------------------------


def test_what_the_machine_does_not_tell_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("not here")

    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "missing")
    monkeypatch.setattr(machine.os, "getloadavg", refuse)
    reading = machine.read(tmp_path)
    assert (reading.load, reading.memory_percent) == (None, None)
    assert 0 < reading.disk_percent <= 100


def test_memory_in_use_is_what_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    750 kB\n", encoding="ascii")
    monkeypatch.setattr(machine, "_MEMINFO", meminfo)
    assert machine.read(tmp_path).memory_percent == 25


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colours_are_for_terminals_only(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen(is_terminal=is_terminal)
    run = Run(label="tea\x1b[2J", status=RunStatus.FAILED, reason="out of\nwater", finished_at=timezone.now())
    Console(screen, on_closed=pytest.fail).show(run)
    assert ("\x1b[31mFAILED" in screen.getvalue()) is coloured
    assert "\x1b[2J" not in screen.getvalue()
    assert screen.getvalue().endswith("out of water\n")


def test_a_line_is_cut_to_its_width() -> None:
    assert printable("two\nlines", 20) == "two lines"
    assert printable("too long", 5) == "too …"


# Found by running the demo on Python 3.11: asyncio.wait_for loses a cancellation that meets its result ----------------


class DeafLayer:
    """A channel layer that overhears the first cancellation."""

    async def receive(self, channel: str) -> dict[str, Any]:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)
        raise AssertionError("nobody sends anything")


class IdleEngine(Engine):
    """An engine with nothing to do."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.drained.set()


async def test_a_worker_ends_although_its_channel_layer_swallows_a_cancellation() -> None:
    worker = SisyWorker(application, ["sisy.run"], DeafLayer(), engine=IdleEngine())
    work = asyncio.create_task(worker.handle())
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait([work], timeout=2)
    assert work.done()
    assert work.exception() is None
