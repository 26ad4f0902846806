"""sisy on PostgreSQL, nudged through Redis: two sisy_worker processes and a sisy_heartbeat."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from django.core.management import call_command
from django.db import connection
from django.db.models import Count
from django.utils import timezone

from benchmarks import effects, side, stores
from sisy import scheduler
from sisy.models import Run, Task, task_with_callable

JOB = "benchmarks.contenders.sisy.job"
DJANGO: side.Command = [sys.executable, "-m", "django"]
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")


def job(message: dict[str, Any]) -> None:
    """Do a job: its number is in the task's userdata."""
    effects.work(message["task"].userdata["number"])


class Contender(side.Contender):
    """See the module."""

    title: ClassVar[str] = "sisy"
    stores: ClassVar[str] = "PostgreSQL, nudges in Redis"
    distributions: ClassVar[tuple[str, ...]] = ("sisy", "Django", "channels-redis", "psycopg")
    works: ClassVar[tuple[str, ...]] = (
        "burst", "enqueue", "storm", "accuracy", "latency", "idle", "growth", "memory", "mixed",
    )  # fmt: skip
    settings: ClassVar[str] = (
        "sisy_worker with 8 slots (the default); channels_redis.pubsub.RedisPubSubChannelLayer; the history is kept"
    )
    burst: ClassVar[int] = 20_000
    database: ClassVar[str] = "sisy"
    has_bulk: ClassVar[bool] = True
    has_seconds: ClassVar[bool] = True

    def create(self) -> None:
        stores.create_database(self.database, lambda: call_command("migrate", verbosity=0))

    def reset(self) -> None:
        stores.reset_database(self.database)

    def drop(self) -> None:
        stores.drop_databases(self.database)

    def enqueue(self, number: int) -> None:
        Task.run_once(job, userdata={"number": number})

    def enqueue_bulk(self, numbers: Iterable[int]) -> None:
        Task.bulk_run_once(job, [{"number": number} for number in numbers])

    def schedule(self, plan: side.Plan) -> None:
        tasks = (
            task_with_callable(job, label=f"task {number}", userdata={"number": number}, **timing)
            for number, timing in enumerate(_timings(plan))
        )
        while batch := list(islice(tasks, 5_000)):
            Task.objects.bulk_create(batch, batch_size=1_000)

    def workers(self, *, processes: int, slots: int | None) -> list[side.Command]:
        command = [*DJANGO, "sisy_worker", "--verbosity=0", f"--concurrency={slots or 8}"]
        return [command] * processes

    def schedulers(self, *, interval: float) -> list[side.Command]:
        return [[*DJANGO, "sisy_heartbeat", "--verbosity=0", f"--interval={interval:g}"]]

    def transactions(self) -> int | None:
        return stores.transactions(self.database)

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "PostgreSQL": stores.postgresql_version()}

    # Only sisy: what it looks like after a long time -----------------------------------------------------------------

    def add_history(self, count: int) -> None:
        """Insert runs that have ended, as a task of each minute leaves them, in a few statements."""
        tasks = Task.objects.bulk_create(
            [task_with_callable(job, label=f"history {n}", enabled=False, userdata={"number": -1}) for n in range(100)]
        )
        first = timezone.now() - timedelta(days=7)
        Run.objects.bulk_create(
            _ended(tasks[n % 100], first + timedelta(seconds=n // 100)) for n in range(min(count, 2_000))
        )
        while (left := count - Run.objects.count()) > 0:
            self._copy_history(left)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE sisy_run" if connection.vendor == "sqlite" else "VACUUM ANALYZE sisy_run")

    def _copy_history(self, most: int) -> None:
        """Copy runs with slots that are later than all others."""
        columns = [field.column for field in Run._meta.concrete_fields if field.column not in ("id", "slot")]
        names = ", ".join(connection.ops.quote_name(column) for column in columns)
        table = Run.objects.order_by("slot")
        first, last = table.values_list("slot", flat=True).first(), table.values_list("slot", flat=True).last()
        step = (last - first).total_seconds() + 1
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO sisy_run (slot, {names}) "  # noqa: S608 - our own column names
                f"SELECT slot + make_interval(secs => %s), {names} FROM sisy_run ORDER BY id LIMIT %s",
                [step, most],
            )

    def time_tick(self, repeats: int) -> list[float]:
        """Return how long ticks take with nothing due, in seconds."""
        seconds = []
        for _ in range(repeats + 3):
            began = time.perf_counter()
            scheduler.tick(timezone.now())
            seconds.append(time.perf_counter() - began)
        return seconds[3:]

    def states(self) -> dict[str, int]:
        """Count the runs by their status."""
        return dict(Run.objects.values_list("status").annotate(Count("pk")))


def _timings(plan: side.Plan) -> Iterator[dict[str, Any]]:
    """Yield schedules: hundreds of different ones, in four zones."""
    if plan.kind == "second":
        yield from ({"schedule": "* * * * * *"} for _ in range(plan.count))
        return
    if plan.kind == "never":
        later = timezone.now() + timedelta(days=90)
        for number in range(plan.count):
            yield {"schedule": f"{number % 60} {number // 60 % 24} {later.day} {later.month} *"}
        return
    instant = datetime.fromtimestamp(plan.boundary, tz=UTC)
    for number in range(plan.count):
        yield _due_at(instant, number, seconds=plan.seconds)


def _due_at(instant: datetime, number: int, *, seconds: bool) -> dict[str, Any]:
    zone = ZONES[number % len(ZONES)]
    local = timezone.localtime(instant, ZoneInfo(zone))
    later = (local.minute + 3 + number % 29) % 60
    days = ("*", f"{local.day}", f"{local.day},{local.day % 28 + 1}")[number % 3]
    minutes = (f"{local.minute}", f"{local.minute},{later}")[number // 3 % 2]
    hours = ("*", f"{local.hour}", f"{local.hour},{(local.hour + 2) % 24}")[number // 6 % 3]
    text = f"{minutes} {hours} {days} * *" + (f" {local.second}" if seconds else "")
    return {"schedule": text, "timezone": zone}


def _ended(task: Task, slot: datetime) -> Run:
    run = task.unsaved_run(now=slot)
    run.slot = run.run_after = run.enqueued_at = run.started_at = slot
    run.status, run.finished_at = "SUCCESSFUL", slot + timedelta(milliseconds=5)
    return run
