"""huey on Redis, its consumer with two worker processes, which is also its scheduler."""

import os
import sys
from pathlib import Path
from typing import ClassVar

from huey import RedisHuey, crontab

from benchmarks import effects, side, stores

huey = RedisHuey("benchmarks", url=stores.REDIS, results=False)


@huey.task()
def job(number: int) -> None:
    """Do a job."""
    effects.work(number)


def _periodic(number: int, plan: side.Plan) -> None:
    never = {"minute": "0", "hour": "0", "day": "29", "month": "2"}
    when = crontab() if plan.kind == "boundary" else crontab(**never)
    huey.periodic_task(when, name=f"task_{number}")(lambda: effects.work(number))


for _number in range(side.plan().count):
    _periodic(_number, side.plan())


class Contender(side.Contender):
    """See the module."""

    title: ClassVar[str] = "huey"
    stores: ClassVar[str] = "Redis, schedules in code"
    distributions: ClassVar[tuple[str, ...]] = ("huey", "redis")
    works: ClassVar[tuple[str, ...]] = ("burst", "enqueue", "storm", "latency", "mixed")
    settings: ClassVar[str] = "huey_consumer -k process -w 2; results off"
    burst: ClassVar[int] = 20_000

    def create(self) -> None:
        self.reset()

    def reset(self) -> None:
        stores.empty_redis()

    def drop(self) -> None:
        stores.empty_redis()

    def enqueue(self, number: int) -> None:
        job(number)

    def workers(self, *, processes: int, slots: int | None) -> list[side.Command]:
        kind, count = ("process", processes) if slots is None else ("thread", processes * slots)
        consumer = Path(sys.executable).parent / "huey_consumer"
        return [[os.fspath(consumer), "benchmarks.contenders.huey.huey", "-k", kind, "-w", str(count), "-q"]]
