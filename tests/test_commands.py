"""The commands' options: what is wrong is said in words, at once; tests/flow runs the commands themselves."""

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from sisy.management.commands import sisy_heartbeat, sisy_worker
from sisy.models import Run, RunStatus
from sisy.worker import supervisor
from sisy.worker.heartbeat import Heartbeat
from sisy.worker.listener import SisyWorker


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("sisy_worker", ["--concurrency", "0"], "argument --concurrency: '0' is not a whole number, at least 1"),
        ("sisy_worker", ["--concurrency", "many"], "'many' is not a whole number, at least 1"),
        ("sisy_worker", ["--concurrency=-2"], "'-2' is not a whole number, at least 1"),
        ("sisy_worker", ["--processes", "1.5"], "argument --processes: '1.5' is not a whole number, at least 1"),
        ("sisy_worker", ["--queues", "mail,two words"], "argument --queues: 'two words' is not a queue"),
        ("sisy_worker", ["--queues", ","], "',' is not a queue: write names of letters, digits"),
        ("sisy_worker", ["--queues", ""], "'' is not a queue"),
        ("sisy_worker", ["sisy.run"], "unrecognized arguments: sisy.run"),
        ("sisy_heartbeat", ["--interval", "0"], "argument --interval: '0' is not a number of seconds, at least 0.1"),
        ("sisy_heartbeat", ["--interval", "soon"], "'soon' is not a number of seconds"),
        ("sisy_heartbeat", ["--interval", "nan"], "'nan' is not a number of seconds"),
        ("sisy_heartbeat", ["--interval", "inf"], "'inf' is not a number of seconds"),
        ("sisy_heartbeat", ["--interval=-1"], "'-1' is not a number of seconds"),
        ("sisy", ["--interval", "0.01"], "'0.01' is not a number of seconds, at least 0.1"),
        ("sisy", ["--concurrency", "0"], "'0' is not a whole number, at least 1"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name_and_value(command: str, arguments: list[str], text: str) -> None:
    with pytest.raises(CommandError) as raised:
        call_command(command, *arguments)
    assert text in str(raised.value)


def test_a_heartbeat_interval_may_be_a_fraction() -> None:
    assert sisy_heartbeat.seconds("0.5") == timedelta(seconds=0.5)


def test_queues_are_names_with_commas_in_between() -> None:
    assert sisy_worker._queues(" mail, print,,mail ") == {"mail", "print"}


def test_options_reach_the_children(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(
        supervisor, "supervise", lambda arguments, *, processes: given.append((arguments, processes)) or 75
    )
    with pytest.raises(SystemExit) as raised:
        call_command(
            "sisy_worker", "--processes", "3", "--concurrency", "2", "--queues", "print,mail", "--burst",
            "--settings", "tests.project.settings", verbosity=0,
        )  # fmt: skip
    assert raised.value.code == 75
    ((arguments, processes),) = given
    assert processes == 3
    assert arguments[0] == "sisy_worker"
    assert {
        "--verbosity=0", "--settings=tests.project.settings", "--concurrency=2", "--queues=mail,print", "--burst"
    } == set(arguments[1:])  # fmt: skip


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[SisyWorker]:
    """The workers that would have worked."""
    workers: list[SisyWorker] = []

    def work(self: SisyWorker) -> int:
        workers.append(self)
        return len(workers) - 1

    monkeypatch.setattr(SisyWorker, "work", work)
    monkeypatch.setattr("sisy.worker.engine._engine", None)
    return workers


def test_a_worker_of_all_queues_listens_to_the_common_channel(worked: list[SisyWorker]) -> None:
    call_command("sisy_worker", verbosity=0)
    assert worked[0].channels[:-1] == ["sisy.heartbeat", "sisy.run"]
    assert re.fullmatch(r"sisy\.run-[0-9a-f]{32}", worked[0].channels[-1]), "its own, for cancellations"
    assert worked[0]._engine.pump._queues is None


def test_a_worker_of_some_queues_listens_to_theirs(worked: list[SisyWorker], settings: Any) -> None:
    settings.SISY = {"HEARTBEAT_CHANNEL": "beat", "RUN_CHANNEL": "work"}
    call_command("sisy_worker", "--queues", "print,mail", verbosity=0)
    assert worked[0].channels[:-1] == ["beat", "work.mail", "work.print"]
    assert worked[0]._engine.pump._queues == ["mail", "print"]


def test_the_worker_s_exit_code_is_the_command_s(worked: list[SisyWorker]) -> None:
    call_command("sisy_worker", verbosity=0)
    with pytest.raises(SystemExit) as raised:
        call_command("sisy_worker", verbosity=0)
    assert raised.value.code == 1


@pytest.mark.parametrize(
    ("layers", "is_said"), [({}, True), ({"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}, True)]
)
def test_a_worker_that_no_message_reaches_says_so(
    worked: list[SisyWorker], settings: Any, layers: dict[str, Any], is_said: bool
) -> None:
    settings.CHANNEL_LAYERS = layers
    output = StringIO()
    call_command("sisy_worker", stdout=output)
    assert ("polls the database every 5 s" in output.getvalue()) is is_said


def test_the_one_process_command_needs_no_layer(worked: list[SisyWorker], settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    output = StringIO()
    call_command("sisy", "--interval", "2", "--concurrency", "3", stdout=output)
    assert worked[0].channels[:-1] == ["sisy.heartbeat", "sisy.run"]
    assert re.fullmatch(r"sisy\.run-[0-9a-f]{32}", worked[0].channels[-1]), "its own, for cancellations"
    assert worked[0].channel_layer is not None
    assert worked[0]._heartbeat.interval == timedelta(seconds=2)
    assert worked[0]._engine.pump.pool.concurrency == 3
    assert "a tick every 2 s" in output.getvalue()


def test_one_tick_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ticked: list[Heartbeat] = []

    async def tick(self: Heartbeat) -> None:
        ticked.append(self)

    monkeypatch.setattr(Heartbeat, "tick", tick)
    output = StringIO()
    call_command("sisy_heartbeat", "--once", stdout=output)
    assert len(ticked) == 1
    assert output.getvalue() == ""


@pytest.mark.django_db
def test_pruning_says_how_much_it_deleted(settings: Any) -> None:
    settings.SISY = {"KEEP_RUNS_DAYS": 1}
    now = timezone.now()
    for days in (0, 2, 3):
        Run.objects.create(
            label="old", callable="shop.old", status=RunStatus.SUCCESSFUL, enqueued_at=now - timedelta(days=days),
            started_at=now, finished_at=now - timedelta(days=days),
        )  # fmt: skip
    output = StringIO()
    call_command("sisy_prune", stdout=output)
    assert output.getvalue() == "sisy_prune: 2 runs deleted.\n"
    assert Run.objects.count() == 1
