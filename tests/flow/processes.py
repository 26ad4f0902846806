"""Real processes for tests: start one, wait for what it does, stop it; none outlives its test.

    def test_a_worker_drains(manage, ledger_file):
        worker = manage("sisy_worker", settings={"LEASE": 2}, layer="redis")
        worker.wait_for_output("ready")
        assert worker.stop(signal.SIGTERM) == 0

A pytest plugin, loaded by tests/conftest.py. When a test fails, the output of its processes is part of the report.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import redis
from django.db import connections

from tests.project.shop import ledger

ROOT = Path(__file__).resolve().parents[2]
MANAGE = ROOT / "tests" / "project" / "manage.py"
PATIENCE = 30.0  # seconds; several times what the slowest start took on two busy cores

T = TypeVar("T")
started_by_test = pytest.StashKey["Processes"]()


def wait_for(predicate: Callable[[], T], timeout: float = PATIENCE, what: str = "") -> T:
    """Call the predicate until it returns something true, and return that; fail after the timeout in seconds."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what or predicate}")
        time.sleep(0.02)
    return value


def wait_for_ends(count: int = 1, timeout: float = PATIENCE, **wanted: Any) -> list[dict[str, Any]]:
    """Wait until so many functions have come to their end by the ledger; return those lines, the oldest first."""

    def ends() -> list[dict[str, Any]] | None:
        found = ledger.lines(kind="end", **wanted)
        return found if len(found) >= count else None

    return wait_for(ends, timeout, f"{count} ends of {wanted or 'anything'}") or []


def wait_for_workers(*processes: "Process") -> None:
    """Wait until these processes have begun to look for runs."""
    from sisy.models import Worker  # the plugin is loaded before Django is set up

    def are_registered() -> bool:
        ended = [process for process in processes if not process.is_alive]
        if ended:
            raise AssertionError(f"`{ended[0].command}` ended with {ended[0].wait()}:\n{ended[0].output}")
        return Worker.objects.filter(pid__in=[process.pid for process in processes]).count() == len(processes)

    wait_for(are_registered, what="the rows of the workers")


class Process:
    """A running command: leader of a process group of its own, its stdout and stderr together in one file."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], output: Path, cwd: Path) -> None:
        self.command = " ".join(map(str, command))
        self._output = output
        with output.open("wb") as file:
            self._popen = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text(errors="replace")

    def wait_for_output(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until the text has been printed; fail at once when the process ended without."""
        wait_for(lambda: text in self.output or not self.is_alive, timeout, f"{text!r} from `{self.command}`")
        if text not in self.output:
            code = self.wait()
            raise AssertionError(f"`{self.command}` ended with {code} and never printed {text!r}:\n{self.output}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, not to its children."""
        self._popen.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for the end and return the exit code; -9 is "killed by signal 9"."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)  # has Python write where each thread is, see `Processes.start`
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(2)
            raise AssertionError(f"`{self.command}` did not end within {timeout:g} s:\n{self.output}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Send the signal, wait for the end and return the exit code."""
        self.send(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """End the process and everything it started, also what left its process group; safe to repeat."""
        family = []
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._popen.wait()


class Processes:
    """Starts processes for one test and remembers them.

    Args:
        environment: variables for all of them, on top of those of the test run.
        directory: where the files with their output go.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self._environment = environment
        self._directory = directory
        self.started: list[Process] = []

    def start(self, command: Sequence[str | Path], *, cwd: Path = ROOT, **environment: str) -> Process:
        """Start any command; keywords are environment variables."""
        process = Process(
            [str(part) for part in command],
            environment={**os.environ, "PYTHONFAULTHANDLER": "1", **self._environment, **environment},
            output=self._directory / f"process-{len(self.started)}.log",
            cwd=cwd,
        )
        self.started.append(process)
        return process

    def manage(
        self, *arguments: str, settings: Mapping[str, Any] | None = None, layer: str | None = None, **environment: str
    ) -> Process:
        """Start `manage.py` with the arguments.

        Args:
            settings: the SISY dict of this process.
            layer: memory, redis or none; None means that of the test run.
            environment: further environment variables.
        """
        if settings is not None:
            environment["SISY_TEST_SETTINGS"] = json.dumps(settings)
        if layer is not None:
            environment["SISY_TEST_LAYER"] = layer
        return self.start([sys.executable, "-u", MANAGE, *arguments], **environment)

    def kill(self) -> None:
        for process in self.started:
            process.kill()


@pytest.fixture
def flow_database(transactional_db: None) -> dict[str, str]:
    """Committed rows, on "default" and "other"; the environment variables that lead another process to them.

    Using it marks a test with django_db(transaction=True, databases=["default", "other"]), see tests/conftest.py.
    """
    return {
        "SISY_TEST_DATABASE_NAME": str(connections["default"].settings_dict["NAME"]),
        "SISY_TEST_OTHER_NAME": str(connections["other"].settings_dict["NAME"]),
    }


@pytest.fixture
def ledger_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ledger (see tests/project/shop/ledger.py) for this process and those that it starts."""
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setenv("SISY_TEST_LEDGER", str(path))
    return path


@pytest.fixture
def redis_prefix(tmp_path: Path) -> str:
    """What the test's keys in Redis begin with; other runs may use the same server at the same time."""
    return f"sisy_{os.getpid()}_{tmp_path.name}"


@pytest.fixture
def own_sender(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A sender that no earlier test has started on its layer, and that sends nothing in the time of a later one."""
    from sisy import layer, sender  # the plugin is loaded before Django is set up

    own = sender.Sender()
    monkeypatch.setattr(layer, "_sender", own)
    yield own
    own.close()


@pytest.fixture
def redis_layer(redis_url: str, redis_prefix: str, settings: Any, own_sender: Any) -> Iterator[str]:
    """Make Redis this process's channel layer, the one of processes started with layer="redis"; return its URL."""
    use_redis(redis_url, redis_prefix, settings)
    yield redis_url
    forget(redis_url, redis_prefix)


def use_redis(url: str, prefix: str, settings: Any) -> None:
    """Make a Redis server this process's channel layer for the time of a test, which uses own_sender."""
    config = {"hosts": [url], "prefix": prefix}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}


def forget(url: str, prefix: str) -> int:
    """Delete every key with this prefix from Redis; return how many there were."""
    with redis.Redis.from_url(url) as client:
        return sum(client.delete(key) for key in client.scan_iter(f"*{prefix}*"))


@pytest.fixture
def processes(
    request: pytest.FixtureRequest, flow_database: dict[str, str], ledger_file: Path, redis_prefix: str, tmp_path: Path
) -> Iterator[Processes]:
    """Start processes on the test's own database, ledger and part of Redis; all are killed at the end."""
    environment = {
        **flow_database,
        "DJANGO_SETTINGS_MODULE": "tests.flow.settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "SISY_TEST_LEDGER": str(ledger_file),
        "SISY_TEST_LOG_LEVEL": "INFO",
        "SISY_TEST_REDIS_PREFIX": redis_prefix,
    }
    started = request.node.stash[started_by_test] = Processes(environment, tmp_path)
    try:
        yield started
    finally:
        started.kill()


@pytest.fixture
def manage(processes: Processes) -> Callable[..., Process]:
    """Start `manage.py COMMAND`: see Processes.manage."""
    return processes.manage


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Show what a failed test's processes have printed."""
    report = yield
    if report.when == "call" and report.failed and started_by_test in item.stash:
        for process in item.stash[started_by_test].started:
            report.sections.append((f"output of `{process.command}` (pid {process.pid})", process.output))
    return report
