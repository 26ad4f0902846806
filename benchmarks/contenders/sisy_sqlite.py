"""sisy on SQLite in one process: `manage.py sisy`, no Redis, no server at all."""

import os
from pathlib import Path
from typing import ClassVar

from django.core.management import call_command
from django.db import connection

from benchmarks import side
from benchmarks.contenders import sisy


class Contender(sisy.Contender):
    """See the module; its process is heartbeat and worker."""

    title: ClassVar[str] = "sisy, one process"
    stores: ClassVar[str] = "SQLite"
    distributions: ClassVar[tuple[str, ...]] = ("sisy", "Django")
    works: ClassVar[tuple[str, ...]] = ("burst", "enqueue", "storm", "accuracy", "idle", "mixed")
    settings: ClassVar[str] = "manage.py sisy with 8 slots (the default); WAL, synchronous NORMAL, IMMEDIATE"

    def create(self) -> None:
        self.reset()

    def reset(self) -> None:
        path = connection.settings_dict["NAME"]
        for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            Path(file).unlink(missing_ok=True)
        call_command("migrate", verbosity=0)

    def drop(self) -> None:
        pass  # the file goes with its directory

    def workers(self, *, processes: int, slots: int | None) -> list[side.Command]:
        interval = os.environ.get("BENCHMARK_INTERVAL", "60")
        return [[*sisy.DJANGO, "sisy", "--verbosity=0", f"--concurrency={slots or 8}", f"--interval={interval}"]]

    def schedulers(self, *, interval: float) -> list[side.Command]:
        return []

    def transactions(self) -> int | None:
        return None

    def versions(self) -> dict[str, str]:
        return side.Contender.versions(self)
