"""Procrastinate on PostgreSQL with two workers, which look after its schedules too."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import procrastinate

from benchmarks import effects, side, stores

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=stores.url("procrastinate")),
    import_paths=["benchmarks.contenders.procrastinate"],
)


@app.task(name="job")
def job(number: int) -> None:
    """Do a job."""
    effects.work(number)


@app.task(name="scheduled")
async def scheduled(timestamp: int, number: int) -> None:
    """Do the job of a schedule."""
    effects.work(number)


_CRON = {
    "boundary": "* * * * * */5" if side.plan().seconds else "* * * * *",
    "second": "* * * * * *",
    "never": "0 0 29 2 *",
}
for _number in range(side.plan().count):
    app.periodic(cron=_CRON[side.plan().kind], periodic_id=f"{_number}", task_kwargs={"number": _number})(scheduled)


class Contender(side.Contender):
    """See the module."""

    title: ClassVar[str] = "Procrastinate"
    stores: ClassVar[str] = "PostgreSQL, schedules in code"
    distributions: ClassVar[tuple[str, ...]] = ("procrastinate", "psycopg")
    works: ClassVar[tuple[str, ...]] = ("burst", "enqueue", "storm", "accuracy", "latency", "mixed")
    settings: ClassVar[str] = "two workers, each with concurrency 4"
    burst: ClassVar[int] = 4_000
    has_bulk: ClassVar[bool] = True
    has_seconds: ClassVar[bool] = True

    def create(self) -> None:
        def migrate() -> None:
            with _synchronous().open() as opened:
                opened.schema_manager.apply_schema()

        stores.create_database("procrastinate", migrate)

    def reset(self) -> None:
        stores.reset_database("procrastinate")

    def drop(self) -> None:
        stores.drop_databases("procrastinate")

    def fill(self, numbers: list[int], bulk: bool) -> float:
        with app.replace_connector(_synchronous().connector), app.open():
            return super().fill(numbers, bulk)

    def latency(self, count: int, pause: float) -> list[float]:
        with app.replace_connector(_synchronous().connector), app.open():
            return super().latency(count, pause)

    def enqueue(self, number: int) -> None:
        job.defer(number=number)

    def enqueue_bulk(self, numbers: Iterable[int]) -> None:
        numbers = list(numbers)
        for start in range(0, len(numbers), 1_000):
            job.batch_defer(*({"number": number} for number in numbers[start : start + 1_000]))

    def workers(self, *, processes: int, slots: int | None) -> list[side.Command]:
        program = Path(sys.executable).parent / "procrastinate"
        command = [os.fspath(program), "--app=benchmarks.contenders.procrastinate.app", "worker"]
        return [[*command, f"--concurrency={slots or 4}"]] * processes

    def transactions(self) -> int | None:
        return stores.transactions("procrastinate")


def _synchronous() -> procrastinate.App:
    """Return the application with a connector for sync code."""
    connector = procrastinate.SyncPsycopgConnector(conninfo=stores.url("procrastinate"))
    return procrastinate.App(connector=connector)
