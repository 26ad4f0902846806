"""The supervisor's decisions, with children that are no processes; tests/flow has real ones."""

import itertools
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sisy.worker import supervisor


class Child:
    """Stands for a process: ends after so many looks at it, or when it is told to."""

    def __init__(self, *, looks: int | None = None, code: int = 0, code_when_told: int = 0) -> None:
        self.signals: list[int] = []
        self._looks = itertools.count(1)
        self._ends_at = looks
        self._code, self._code_when_told = code, code_when_told

    def poll(self) -> int | None:
        looks = next(self._looks)
        if looks > 2000:
            raise AssertionError("nobody ever told this child to stop")
        if self.signals:
            return self._code_when_told
        return self._code if self._ends_at is not None and looks >= self._ends_at else None

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let seconds pass as milliseconds, and give the signals back at the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    monkeypatch.setattr(supervisor, "_GLANCE", 0.001)
    monkeypatch.setattr(supervisor.Backoff, "failed", lambda self, error: self._log.warning("%s", error) or 0.01)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Child]]:
    """Say which children are started one after another; returns the list of those that were."""

    def set_up(*children: Child, meanwhile: Callable[[], None] = lambda: None) -> list[Child]:
        waiting, started = list(children), list[Child]()

        def start(arguments: Any) -> Child:
            meanwhile()
            started.append(waiting.pop(0))
            return started[-1]

        monkeypatch.setattr(supervisor, "_start", start)
        return started

    return set_up


def terminate_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class TellsOff(Child):
    """Looked at for the third time, it has its supervisor told to stop."""

    def __init__(self, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self._countdown, self._number = iter(range(3)), number

    def poll(self) -> int | None:
        if next(self._countdown, None) == 2:
            os.kill(os.getpid(), self._number)
        return super().poll()


def test_a_burst_is_over_when_all_children_are(starts: Callable[..., list[Child]]) -> None:
    started = starts(Child(looks=1), Child(looks=5))
    assert supervisor.supervise(["sisy_worker"], processes=2) == 0
    assert [child.signals for child in started] == [[], []]


def test_a_child_that_ends_badly_is_started_again(
    starts: Callable[..., list[Child]], caplog: pytest.LogCaptureFixture
) -> None:
    started = starts(Child(looks=1, code=70), Child(looks=1, code=-9), Child(looks=1))
    assert supervisor.supervise(["sisy_worker"], processes=1) == 0
    assert len(started) == 3
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "exit code 70" in warnings[0]
    assert "-9" in warnings[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_passed_on_as_sigterm(starts: Callable[..., list[Child]], number: signal.Signals) -> None:
    started = starts(Child(), TellsOff(number))
    assert supervisor.supervise(["sisy_worker"], processes=2) == 0
    assert [set(child.signals) for child in started] == [{signal.SIGTERM}] * 2


def test_the_worst_exit_code_is_the_parent_s(starts: Callable[..., list[Child]]) -> None:
    starts(Child(code_when_told=75), TellsOff())
    assert supervisor.supervise(["sisy_worker"], processes=2) == 75


def test_a_child_that_was_told_to_stop_before_it_had_begun_has_ended_well(starts: Callable[..., list[Child]]) -> None:
    """A worker that works takes SIGTERM as a request; one that dies of it was still starting, with nothing in hand."""
    starts(Child(code_when_told=-signal.SIGTERM), TellsOff())
    assert supervisor.supervise(["sisy_worker"], processes=2) == 0


def test_a_child_killed_while_stopping_counts_as_by_a_shell(starts: Callable[..., list[Child]]) -> None:
    starts(Child(code_when_told=-9), TellsOff())
    assert supervisor.supervise(["sisy_worker"], processes=2) == 137


def test_a_signal_that_comes_while_a_child_is_being_started_reaches_it(starts: Callable[..., list[Child]]) -> None:
    started = starts(Child(), meanwhile=terminate_this_process)
    assert supervisor.supervise(["sisy_worker"], processes=1) == 0
    assert set(started[0].signals) == {signal.SIGTERM}


def test_nothing_is_started_once_it_is_stopping(starts: Callable[..., list[Child]]) -> None:
    started = starts(Child(), meanwhile=terminate_this_process)
    assert supervisor.supervise(["sisy_worker"], processes=3) == 0
    assert len(started) == 1


def test_a_child_is_the_same_program_with_the_same_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []
    monkeypatch.setattr(supervisor.subprocess, "Popen", lambda command, **options: commands.append((command, options)))
    supervisor._start(["sisy_worker", "--burst"])
    ((command, options),) = commands
    assert command[0] == supervisor.sys.executable
    assert command[-2:] == ["sisy_worker", "--burst"]
    assert options["start_new_session"] is True
    assert options["env"]["PYTHONPATH"]
