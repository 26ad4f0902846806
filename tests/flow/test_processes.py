"""The flow tests' own tools: a started process sees the test's rows, is waited for, stopped, and never left behind."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from channels.layers import get_channel_layer

from tests.flow.processes import Process, Processes, wait_for
from tests.project.shop import ledger
from tests.project.shop.models import Order

SLEEPER = "import time; print('asleep'); time.sleep(60)"


def test_a_process_has_the_test_project_without_errors(manage: Callable[..., Process]) -> None:
    process = manage("check")
    assert process.wait() == 0, process.output


def test_a_process_finds_every_migration_applied(manage: Callable[..., Process]) -> None:
    for alias in ("default", "other"):
        process = manage("migrate", "--check", "--database", alias)
        assert process.wait() == 0, process.output


def test_models_and_migrations_say_the_same(manage: Callable[..., Process]) -> None:
    process = manage("makemigrations", "--check", "--dry-run")
    assert process.wait() == 0, process.output


@pytest.mark.parametrize("alias", ["default", "other"])
def test_a_process_sees_the_rows_that_a_test_has_saved(manage: Callable[..., Process], alias: str) -> None:
    Order.objects.using(alias).create(name=f"a kettle on {alias}")
    process = manage("dumpdata", "shop.order", "--database", alias)
    process.wait_for_output(f"a kettle on {alias}")
    assert process.wait() == 0


def test_a_test_sees_what_processes_write(manage: Callable[..., Process], ledger_file: Path) -> None:
    code = (
        "from tests.project.shop import ledger, models;"
        "models.Order.objects.create(name='tea');"
        "ledger.append(kind='begin', function='bought')"
    )
    buyers = [manage("shell", "-c", code) for _ in range(2)]
    assert [buyer.wait() for buyer in buyers] == [0, 0]
    assert Order.objects.filter(name="tea").count() == 2
    assert {line["pid"] for line in ledger.lines(function="bought")} == {buyer.pid for buyer in buyers}


async def test_a_test_and_its_processes_share_a_part_of_redis(manage: Callable[..., Process], redis_layer: str) -> None:
    code = (
        "from asgiref.sync import async_to_sync; from channels.layers import get_channel_layer;"
        "async_to_sync(get_channel_layer().send)('kitchen', {'type': 'tea.ready'})"
    )
    assert manage("shell", "-c", code, layer="redis").wait() == 0
    message = await asyncio.wait_for(get_channel_layer().receive("kitchen"), timeout=10)
    assert message == {"type": "tea.ready"}


def test_stop_returns_the_exit_code(manage: Callable[..., Process]) -> None:
    process = manage("shell", "-c", SLEEPER)
    process.wait_for_output("asleep")
    assert process.stop(signal.SIGTERM) == -signal.SIGTERM


def test_waiting_for_output_ends_with_the_process(manage: Callable[..., Process]) -> None:
    process = manage("shell", "-c", "print('nothing to say'); raise SystemExit(4)")
    with pytest.raises(AssertionError, match=r"ended with 4 and never printed 'ready'.*(?s:.*)nothing to say"):
        process.wait_for_output("ready")


def test_nothing_that_a_process_has_started_is_left(tmp_path: Path) -> None:
    processes = Processes({}, tmp_path)
    child = f"subprocess.Popen([sys.executable, '-u', '-c', {SLEEPER!r}], start_new_session=True)"
    code = f"import subprocess, sys, time; child = {child}; child.wait()"
    parent = processes.start([sys.executable, "-u", "-c", code])
    parent.wait_for_output("asleep")
    pids = [parent.pid, *(child.pid for child in wait_for(lambda: children_of(parent.pid)))]
    processes.kill()
    assert len(pids) == 2
    wait_for(lambda: not any(map(is_running, pids)), what="the end of both")


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children()


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.05 s in vain for a miracle"):
        wait_for(lambda: False, timeout=0.05, what="a miracle")
