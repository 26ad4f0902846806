"""Dramatiq on Redis with two processes of eight threads; periodiq looks after its schedules."""

import os
import sys
from pathlib import Path
from typing import ClassVar

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from periodiq import PeriodiqMiddleware, cron

from benchmarks import effects, side, stores

broker = RedisBroker(url=stores.REDIS, namespace="benchmarks")
broker.add_middleware(PeriodiqMiddleware(skip_delay=120))
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=0)
def job(number: int) -> None:
    """Do a job."""
    effects.work(number)


def _periodic(number: int, when: str) -> None:
    dramatiq.actor(lambda: effects.work(number), actor_name=f"task_{number}", periodic=cron(when), max_retries=0)


for _number in range(side.plan().count):
    _periodic(_number, "* * * * *" if side.plan().kind == "boundary" else "0 0 29 2 *")

BIN = Path(sys.executable).parent


class Contender(side.Contender):
    """See the module."""

    title: ClassVar[str] = "Dramatiq"
    stores: ClassVar[str] = "Redis, schedules in code"
    distributions: ClassVar[tuple[str, ...]] = ("dramatiq", "periodiq", "redis")
    works: ClassVar[tuple[str, ...]] = ("burst", "enqueue", "storm", "latency", "mixed")
    settings: ClassVar[str] = "dramatiq --processes 2 --threads 8 (the default), no results; periodiq"
    burst: ClassVar[int] = 20_000

    def create(self) -> None:
        self.reset()

    def reset(self) -> None:
        stores.empty_redis()

    def drop(self) -> None:
        stores.empty_redis()

    def enqueue(self, number: int) -> None:
        job.send(number)

    def workers(self, *, processes: int, slots: int | None) -> list[side.Command]:
        options = ["--processes", str(processes), "--threads", str(slots or 8), "--skip-logging"]
        return [[os.fspath(BIN / "dramatiq"), "benchmarks.contenders.dramatiq", *options]]

    def schedulers(self, *, interval: float) -> list[side.Command]:
        return [[os.fspath(BIN / "periodiq"), "benchmarks.contenders.dramatiq"]]
