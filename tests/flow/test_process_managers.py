"""honcho and supervisord run daphne, a heartbeat and a worker on Redis: started, a task runs, stopped without loss."""

import signal
import socket
import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import psutil
import pytest

from sisy.models import Run, RunStatus, Task, Worker, task_with_callable
from tests.flow.processes import MANAGE, Process, Processes, wait_for, wait_for_ends
from tests.project.shop import ledger, tasks

ENVIRONMENT = {"SISY_TEST_LAYER": "redis", "SISY_TEST_SETTINGS": '{"POLL_INTERVAL": 60}'}
HEARTBEAT = f"{sys.executable} -u {MANAGE} sisy_heartbeat --interval 1"
WORKER = f"{sys.executable} -u {MANAGE} sisy_worker"

SUPERVISOR = """
[supervisord]
nodaemon = true
directory = {directory}
logfile = {directory}/supervisord.log
pidfile = {directory}/supervisord.pid
childlogdir = {directory}

[program:web]
command = {web}

[program:heartbeat]
command = {heartbeat}

[program:worker]
command = {worker} --processes 2
stopwaitsecs = 30
stopasgroup = true
killasgroup = true
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def web(port: int) -> str:
    return f"{sys.executable} -m daphne -b 127.0.0.1 -p {port} tests.project.asgi:application"


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/admin/login/", timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def assert_tasks_run_and_nothing_is_lost_at_the_end(manager: Process, port: int, workers: int) -> int:
    """Return the manager's exit code; it is stopped in the middle of a run."""
    wait_for(lambda: Worker.objects.count() == workers or not manager.is_alive, what="the workers")
    task_with_callable(tasks.note, label="scheduled", schedule="* * * * * *").save()
    Task.run_once(tasks.anote, label="once")
    wait_for_ends(2, label="scheduled")
    wait_for_ends(1, label="once")
    wait_for(lambda: answers(port), what="the admin's login page")
    Task.run_once(tasks.slow, {"seconds": 1}, label="slow")
    wait_for(lambda: ledger.lines(kind="begin", label="slow"), what="the slow one")
    family = psutil.Process(manager.pid).children(recursive=True)
    assert len(family) >= 3
    code = manager.stop(signal.SIGTERM)
    wait_for(lambda: not any(child.is_running() for child in family), what="the end of all processes")
    assert Run.objects.get(label="slow").status == RunStatus.SUCCESSFUL
    assert not Run.objects.filter(status=RunStatus.RUNNING).exists()
    assert not Worker.objects.filter(stopped_at=None).exists()
    return code


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory whose path is short and without special characters, as supervisord's configuration wants it."""
    return tmp_path


def test_honcho(processes: Processes, redis_layer: str, directory: Path, port: int) -> None:
    procfile = directory / "Procfile"
    procfile.write_text(f"web: {web(port)}\nheartbeat: {HEARTBEAT}\nworker: {WORKER}\n")
    honcho = processes.start([sys.executable, "-m", "honcho", "-f", procfile, "start"], **ENVIRONMENT)
    code = assert_tasks_run_and_nothing_is_lost_at_the_end(honcho, port, workers=1)
    assert code == 128 + signal.SIGTERM, "honcho's own way to say that it was told to stop"
    assert "worker.1" in honcho.output


def test_supervisord(processes: Processes, redis_layer: str, directory: Path, port: int) -> None:
    config = directory / "supervisord.conf"
    config.write_text(SUPERVISOR.format(directory=directory, web=web(port), heartbeat=HEARTBEAT, worker=WORKER))
    supervisord = Path(sys.executable).parent / "supervisord"
    manager = processes.start([sys.executable, supervisord, "-n", "-c", config], **ENVIRONMENT)
    assert assert_tasks_run_and_nothing_is_lost_at_the_end(manager, port, workers=2) == 0
    assert "WARN killing" not in manager.output
