"""APScheduler in one process with its jobs in PostgreSQL: the only shape in which it may run on one store."""

import os
import pickle
import sys
import time
from datetime import UTC, datetime
from typing import ClassVar

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from benchmarks import effects, side, stores


def scheduler(*, slots: int = 10) -> BackgroundScheduler:
    """Return a scheduler on the benchmarks' store; the grace limit is lifted, or it would drop jobs that are late."""
    return BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=stores.url("apscheduler", scheme="postgresql+psycopg"))},
        executors={"default": ThreadPoolExecutor(slots)},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        timezone=UTC,
    )


class Contender(side.Contender):
    """See the module."""

    title: ClassVar[str] = "APScheduler"
    stores: ClassVar[str] = "PostgreSQL"
    distributions: ClassVar[tuple[str, ...]] = ("apscheduler", "sqlalchemy", "psycopg")
    works: ClassVar[tuple[str, ...]] = ("burst", "enqueue", "storm", "accuracy", "latency", "idle", "mixed")
    settings: ClassVar[str] = "one process (it may not be two), 10 threads, misfire_grace_time=None"
    has_seconds: ClassVar[bool] = True

    def create(self) -> None:
        stores.create_database("apscheduler", self._migrate)

    def reset(self) -> None:
        stores.reset_database("apscheduler")

    def drop(self) -> None:
        stores.drop_databases("apscheduler")

    def fill(self, numbers: list[int], bulk: bool) -> float:
        self._paused = scheduler()
        self._paused.start(paused=True)
        try:
            return super().fill(numbers, bulk)
        finally:
            self._paused.shutdown()

    def enqueue(self, number: int) -> None:
        self._paused.add_job(effects.work, args=[number], id=f"{number}")

    def schedule(self, plan: side.Plan) -> None:
        """Put jobs straight into its table: adding them one by one takes minutes, and is not what is measured."""
        paused = scheduler()
        paused.start(paused=True)
        store = paused._lookup_jobstore("default")
        triggers = {
            "boundary": CronTrigger(second="*/5" if plan.seconds else "0", timezone=UTC),
            "second": CronTrigger(second="*", timezone=UTC),
            "never": CronTrigger(month=(datetime.now(tz=UTC).month + 2) % 12 + 1, timezone=UTC),
        }
        job = paused.add_job(effects.work, triggers[plan.kind], args=[0], id="pattern")
        state, due = job.__getstate__(), job.next_run_time.timestamp()
        rows = [
            {
                "id": f"task {number}",
                "next_run_time": due,
                "job_state": pickle.dumps({**state, "id": f"task {number}", "args": (number,)}, store.pickle_protocol),
            }
            for number in range(plan.count)
        ]
        with store.engine.begin() as connection:
            connection.execute(store.jobs_t.delete())
            connection.execute(store.jobs_t.insert(), rows)
        paused.shutdown()

    def latency(self, count: int, pause: float) -> list[float]:
        """Enqueue in the scheduler's own process: it hears of no other's jobs."""
        self._paused = scheduler()
        self._paused.start()
        time.sleep(0.5)
        began = super().latency(count, pause)
        time.sleep(0.5)
        self._paused.shutdown()
        return began

    def workers(self, *, processes: int, slots: int | None) -> list[side.Command]:
        command = [sys.executable, "-m", "benchmarks.side", "apscheduler", "serve"]
        return [[*command, f'{{"slots": {slots or 10}}}']]

    def serve(self, slots: int) -> None:
        """Run what is due until the process is stopped."""
        scheduler(slots=slots).start()
        while os.getppid() != 1:
            time.sleep(1)

    def transactions(self) -> int | None:
        return stores.transactions("apscheduler")

    def _migrate(self) -> None:
        paused = scheduler()
        paused.start(paused=True)
        paused.shutdown()
