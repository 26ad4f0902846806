"""A contender as the driver sees it: its verbs, its processes, the effects of its jobs, and the meters.

works.py uses one for each measurement; whatever happens, `close` ends everything it started.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import effects, environments, side
from benchmarks.effects import Effect

_GLANCE: Final = 0.02  # seconds between two looks at the effects
_SETTLE: Final = 0.3  # seconds in which jobs that were doubled would still show
_STOP_SECONDS: Final = 15.0


Process = subprocess.Popen[bytes]


class ContenderError(Exception):
    """A contender could not do its work; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Meters:
    """What a contender's processes have used so far: CPU seconds, and memory in MiB (PSS: shared pages are shared)."""

    cpu: float
    memory: float


class Stage:
    """One contender and the places where it works.

    Args:
        name: of its file in contenders/.
        python: the interpreter of its environment.
        environment: variables for all of its processes.
    """

    def __init__(self, name: str, *, python: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self._python = python
        self._directory = Path(tempfile.mkdtemp(prefix=f"sisy-benchmark-{name}-"))
        self._effects = self._directory / "effects"
        self._fetches = self._directory / "fetches"
        self._processes: list[Process] = []
        self._environment = {
            **os.environ,
            **environment,
            effects.VARIABLE: str(self._effects),
            "BENCHMARK_CONTENDER": name,
            "BENCHMARK_FETCHES": str(self._fetches),
            "BENCHMARK_DIRECTORY": str(self._directory),
            "BENCHMARK_RUN": f"_{secrets.token_hex(4)}",
            "PYTHONPATH": str(environments.ROOT),
            "PYTHONDONTWRITEBYTECODE": "",
        }
        self._environment.pop("PYTHONDEVMODE", None)  # a debugger's settings are not for measuring
        if name in _DJANGO:
            self._environment["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        else:
            self._environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.facts: dict[str, Any] = self.call("facts")
        self.call("create")

    def fresh(self, plan: side.Plan | None = None) -> None:
        """End all processes and start from empty stores; make the schedules that a work needs."""
        self.stop()
        self._effects.unlink(missing_ok=True)
        self._fetches.unlink(missing_ok=True)
        self._environment.pop(side.PLAN_VARIABLE, None)
        self.call("reset")
        if plan is not None:
            self._environment[side.PLAN_VARIABLE] = plan.to_text()
            self.call("make_schedules")

    def call(self, verb: str, **keywords: Any) -> Any:
        """Call a verb of the contender's side and return its answer.

        Raises:
            ContenderError: with the end of what it printed.
        """
        command = [self._python, "-m", "benchmarks.side", self.name, verb, "-"]
        done = subprocess.run(
            command, env=self._environment, cwd=self._directory, input=json.dumps(keywords), capture_output=True,
            text=True, timeout=900,
        )  # fmt: skip
        if done.returncode:
            raise ContenderError(f"{verb} of {self.name} ended with {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def start(self, commands: Sequence[side.Command], **environment: str) -> list[Process]:
        """Start processes, each in a session of its own, and return them."""
        started = []
        for command in commands:
            number = len(list(self._directory.glob("process-*.log")))
            with (self._directory / f"process-{number}.log").open("wb") as output:
                process = subprocess.Popen(
                    command, env={**self._environment, **environment}, cwd=self._directory, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            started.append(process)
        self._processes += started
        return started

    def start_workers(self, *, processes: int = 2, slots: int | None = None, interval: float = 60) -> None:
        """Start its workers."""
        commands = self.call("workers", processes=processes, slots=slots)
        self.start(commands, BENCHMARK_INTERVAL=f"{interval:g}")

    def start_schedulers(self, *, interval: float = 60) -> None:
        """Start what looks after its schedules, beside the workers."""
        self.start(self.call("schedulers", interval=interval))

    def open_dashboards(self, command: side.Command, count: int, *, patience: float = 60) -> list[Process]:
        """Start browsers that have the overview open; return them when each has fetched it, and all is quiet.

        Args:
            command: that starts them.
            count: how many they are.
            patience: seconds.
        """
        self._fetches.unlink(missing_ok=True)
        started, deadline = self.start([command]), time.monotonic() + patience
        while self.fetches() < count:
            self._check_alive()
            if time.monotonic() > deadline:
                raise ContenderError(f"{self.fetches()} of {count} dashboards were open after {patience:g} s")
            time.sleep(_GLANCE)
        self.wait_until_idle()
        return started

    def fetches(self) -> int:
        """Return how often open dashboards have fetched something."""
        return self._fetches.stat().st_size // 8 if self._fetches.exists() else 0

    def wait(self, count: int, *, patience: float, until: float | None = None) -> list[Effect]:
        """Wait for effects; return them, also when there are less.

        Args:
            count: how many.
            patience: how long to wait for the next one, in seconds.
            until: when to give up at the latest, in seconds since 1970, or None.
        """
        seen, changed = 0, time.monotonic()
        while seen < count and time.monotonic() - changed < patience and (until is None or time.time() < until):
            time.sleep(_GLANCE)
            now = effects.count(self._effects)
            if now != seen:
                seen, changed = now, time.monotonic()
            self._check_alive()
        time.sleep(_SETTLE)
        return self.effects()

    def effects(self) -> list[Effect]:
        """Return the effects so far."""
        return effects.read(self._effects)

    def forget_effects(self) -> None:
        """Begin to count anew; nothing may be running."""
        if self._effects.exists():
            os.truncate(self._effects, 0)

    def wait_until_idle(self, *, patience: float = 120, least: float = 1.5) -> None:
        """Wait until its processes have started: until they use next to no CPU for a second."""
        deadline = time.monotonic() + patience
        time.sleep(least)
        while time.monotonic() < deadline:
            before = self.meters().cpu
            time.sleep(1)
            if self.meters().cpu - before < 0.03:
                return

    def meters(self, processes: Sequence[Process] | None = None) -> Meters:
        """Read the meters of some of its processes, or of all, children included."""
        cpu = memory = 0.0
        for process in self._family(self._processes if processes is None else processes):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_full_info().pss / 2**20
        return Meters(cpu=cpu, memory=memory)

    def output(self) -> str:
        """Return the last lines that its processes have printed."""
        lines = [log.read_text(errors="replace")[-600:] for log in sorted(self._directory.glob("process-*.log"))]
        return "\n".join(filter(None, lines[-4:]))

    def stop(self) -> None:
        """End its processes: ask first."""
        self.end(self._processes)

    def end(self, processes: Sequence[Process]) -> None:
        """End some of its processes: ask first."""
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for process in processes:
            family = _family_of(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            for child in family:
                with contextlib.suppress(psutil.Error):
                    child.kill()
            process.wait()
        self._processes = [process for process in self._processes if process not in processes]

    def close(self) -> None:
        """End everything, and leave nothing behind."""
        self.stop()
        try:
            self.call("drop")
        except ContenderError as error:  # what was measured counts all the same
            print(error, flush=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _check_alive(self) -> None:
        for process in self._processes:
            if process.poll() is not None:
                raise ContenderError(
                    f"a process of {self.name} ended with {process.returncode}: {self.output()[-1500:]}"
                )

    def _family(self, processes: Sequence[Process]) -> Iterator[psutil.Process]:
        for process in processes:
            yield from _family_of(process.pid)


_DJANGO: Final = ("sisy", "sisy_sqlite", "sisy_watched", "celery", "django_ox")


def _family_of(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []
