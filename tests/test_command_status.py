"""sisy_status: the same look for people and for probes, with an exit code."""

import json
import re
import time
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone

from sisy import health, layer
from sisy.management.commands import sisy_status
from tests.test_health import beat, run, work

pytestmark = pytest.mark.django_db


def status(*arguments: str) -> tuple[int, str]:
    output, code = StringIO(), 0
    try:
        call_command("sisy_status", "--no-color", *arguments, stdout=output)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, output.getvalue()


def test_a_healthy_system_is_shown_and_exits_with_0() -> None:
    beat(host="box", pid=7)
    work()
    code, text = status()
    assert code == 0
    assert re.search(r"^heartbeats     1 alive, heard of \d\.\d s ago: box:7$", text, re.MULTILINE)
    assert re.search(r"^workers        1 alive, 0 of 4 slots in use$", text, re.MULTILINE)
    assert text.endswith("Nothing is wrong.\n")


def test_an_error_exits_with_1_and_says_what_to_do() -> None:
    beat()
    code, text = status()
    assert code == 1
    assert "error: No worker is alive. Start manage.py sisy_worker (or manage.py sisy)." in text


def test_a_warning_exits_with_0_unless_strict() -> None:
    beat()
    work()
    run("LOST")
    assert status()[0] == 0
    code, text = status("--strict")
    assert code == 1
    assert "warning: 1 run was LOST within a day" in text


def test_json_holds_everything_in_plain_numbers() -> None:
    beat(host="box", pid=7)
    work(queues=["mail"])
    run(queue="mail")
    run("FAILED")
    code, text = status("--json")
    found = json.loads(text)
    assert code == 0
    assert found["status"] == "ok"
    assert found["heartbeat"]["holder"] == "box:7"
    assert 0 <= found["heartbeat"]["age_seconds"] < 5
    assert found["workers"] == {
        "alive": 1, "slots": 4, "running": 0, "queues": ["mail"], "versions": found["workers"]["versions"]
    }  # fmt: skip
    assert found["queues"]["mail"]["ready"] == 1
    assert found["last_day"] == {"failed": 1, "lost": 0, "missed": 0}
    assert found["layer"]["reaches"] == "this process"


def test_json_names_each_problem_by_its_code() -> None:
    code, text = status("--json")
    found = json.loads(text)
    assert (code, found["status"]) == (1, "error")
    assert [problem["code"] for problem in found["problems"]] == ["no-worker", "no-heartbeat"]


def test_a_database_that_does_not_answer_is_an_error_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(now: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(health, "look", unreachable)
    monkeypatch.setattr(sisy_status.connection, "close", lambda: None)
    code, text = status()
    assert code == 1
    assert "error: The database can't be asked: connection refused." in text
    assert json.loads(status("--json")[1])["problems"][0]["code"] == "database"


def test_a_layer_that_does_not_work_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    beat()
    work()
    broken = layer.RoundTrip(reaches="all processes", error="ConnectionError: refused")
    monkeypatch.setattr(layer, "round_trip", lambda: broken)
    code, text = status()
    assert code == 0
    assert "warning: The channel layer does not work (ConnectionError: refused); nothing is lost" in text


def test_watching_looks_again_until_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    beat()
    work()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    code, text = status("--watch", "0.5", "--json")
    assert (code, pauses) == (0, [0.5, 0.5, 0.5])
    looks = [json.loads(line)["at"] for line in text.splitlines()]
    assert len(looks) == 3
    assert looks == sorted(set(looks))
    assert looks[-1] <= timezone.now().isoformat()
