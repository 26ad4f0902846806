"""Celery on Redis with two prefork children, django-celery-beat with its schedules in PostgreSQL."""

import sys
from datetime import timedelta
from typing import ClassVar

import django
from celery import Celery
from django.core.management import call_command
from django.utils import timezone

from benchmarks import effects, side, stores

django.setup()
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks  # noqa: E402 - needs the apps

app = Celery("benchmarks", broker=stores.REDIS)
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=64,  # what its guide to optimizing says of short tasks
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
    timezone="UTC",
)


@app.task(name="job")
def job(number: int) -> None:
    """Do a job."""
    effects.work(number)


CELERY: side.Command = [sys.executable, "-m", "celery", "-A", "benchmarks.contenders.celery", "-q"]


class Contender(side.Contender):
    """See the module."""

    title: ClassVar[str] = "Celery + beat"
    stores: ClassVar[str] = "Redis, schedules in PostgreSQL"
    distributions: ClassVar[tuple[str, ...]] = ("celery", "django-celery-beat", "Django", "redis")
    works: ClassVar[tuple[str, ...]] = ("burst", "enqueue", "storm", "latency", "idle", "mixed")
    settings: ClassVar[str] = "prefork, 2 children, prefetch multiplier 64, results off, no gossip, no mingle"

    def create(self) -> None:
        stores.create_database("celery", lambda: call_command("migrate", verbosity=0))
        stores.empty_redis()

    def reset(self) -> None:
        stores.reset_database("celery")
        stores.empty_redis()

    def drop(self) -> None:
        stores.drop_databases("celery")
        stores.empty_redis()

    def enqueue(self, number: int) -> None:
        job.delay(number)

    def schedule(self, plan: side.Plan) -> None:
        later = timezone.now() + timedelta(days=90)
        when = (
            {} if plan.kind == "boundary" else {"minute": "0", "day_of_month": later.day, "month_of_year": later.month}
        )
        crontab = CrontabSchedule.objects.create(timezone="UTC", **when)
        PeriodicTask.objects.bulk_create(
            (PeriodicTask(name=f"task {n}", task="job", args=f"[{n}]", crontab=crontab) for n in range(plan.count)),
            batch_size=1_000,
        )
        PeriodicTasks.update_changed()

    def workers(self, *, processes: int, slots: int | None) -> list[side.Command]:
        options = ["--without-gossip", "--without-mingle", "-c", str(processes * (slots or 1))]
        return [[*CELERY, "worker", *options]]

    def schedulers(self, *, interval: float) -> list[side.Command]:
        return [[*CELERY, "beat", "-S", "django", "-s", "/dev/null", "--pidfile="]]

    def transactions(self) -> int | None:
        return stores.transactions("celery")
