"""django-ox on PostgreSQL, a worker with two processes of four threads, which looks after its schedules too."""

import sys
from collections.abc import Iterable
from typing import ClassVar

from django.core.management import call_command
from django.tasks import task
from django_ox.bulk import enqueue_many

from benchmarks import effects, side, stores


@task
def job(number: int) -> None:
    """Do a job."""
    effects.work(number)


class Contender(side.Contender):
    """See the module."""

    title: ClassVar[str] = "django-ox"
    stores: ClassVar[str] = "PostgreSQL, schedules in settings"
    distributions: ClassVar[tuple[str, ...]] = ("django-ox", "Django", "psycopg")
    works: ClassVar[tuple[str, ...]] = ("burst", "enqueue", "storm", "latency", "mixed")
    settings: ClassVar[str] = "ox_worker --processes 2 --concurrency 4, persistent connections"
    burst: ClassVar[int] = 3_000
    has_bulk: ClassVar[bool] = True

    def create(self) -> None:
        stores.create_database("django_ox", lambda: call_command("migrate", verbosity=0))

    def reset(self) -> None:
        stores.reset_database("django_ox")

    def drop(self) -> None:
        stores.drop_databases("django_ox")

    def enqueue(self, number: int) -> None:
        job.enqueue(number)

    def enqueue_bulk(self, numbers: Iterable[int]) -> None:
        enqueue_many(job, [((number,), {}) for number in numbers])

    def workers(self, *, processes: int, slots: int | None) -> list[side.Command]:
        command = [sys.executable, "-m", "django", "ox_worker", "--verbosity=0", f"--concurrency={slots or 4}"]
        return [[*command, f"--processes={processes}"]]

    def transactions(self) -> int | None:
        return stores.transactions("django_ox")
