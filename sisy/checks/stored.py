"""Checks that ask the database which holds sisy's tables: its clock, and the tasks that are stored.

They run for the databases that `check --database` or `migrate` names. Each looks at a bounded number of rows, whatever
there is, and says nothing while the tables are not there yet.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, Final

from django.core.checks import CheckMessage, Tags, register
from django.db import DatabaseError, connections, router
from django.utils import timezone

from sisy import callables, conf, registry
from sisy.checks.catalogue import found
from sisy.checks.project import sound_settings
from sisy.errors import InvalidInput
from sisy.models import Run, Task
from sisy.rows.clock import database_now

_MOST_CALLABLES: Final = 200  # one indexed query each
_MOST_TASKS: Final = 1000
_MOST_SHOWN: Final = 10
_CLOCKS_MAY_DIFFER: Final = timedelta(seconds=2)


@register(Tags.database)  # and not sisy's own tag: with a tag of its own, Django 6.1 would ask all databases
def check_stored(app_configs: object, databases: Any = None, **kwargs: object) -> list[CheckMessage]:
    """Check the database's clock and the stored tasks; for SQLite, the journal too."""
    alias, settings = router.db_for_write(Run), sound_settings()
    if settings is None or alias not in (databases or ()):
        return []
    messages: list[CheckMessage] = []
    looks: tuple[Callable[[str, conf.Settings], Iterator[CheckMessage]], ...]
    looks = (_journal, _clocks, _callables, _schedules, _parked)
    for look in looks:
        try:
            messages += islice(look(alias, settings), _MOST_SHOWN)
        except DatabaseError:  # before `migrate` has made the tables, or nobody answers: that shows by itself
            continue
    return messages


def _journal(alias: str, settings: conf.Settings) -> Iterator[CheckMessage]:
    connection: Any = connections[alias]
    if connection.vendor != "sqlite" or connection.is_in_memory_db():
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = str(cursor.fetchone()[0])
    if mode.lower() != "wal":
        text = f"SQLite has the journal mode {mode!r} on the database {alias!r}."
        hint = (
            "Workers wait for whoever reads, and pages for workers. Set "
            f'DATABASES[{alias!r}]["OPTIONS"]["init_command"] to "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL".'
        )
        yield found("sisy.W012", text, hint=hint)


def _clocks(alias: str, settings: conf.Settings) -> Iterator[CheckMessage]:
    before = timezone.now()
    there = database_now(alias)
    after = timezone.now()
    if there is None:
        return
    ahead, behind = there - after, before - there
    if max(ahead, behind) > _CLOCKS_MAY_DIFFER:
        word, difference = ("ahead of", ahead) if ahead > behind else ("behind", behind)
        text = f"The clock of the database {alias!r} is {difference.total_seconds():.1f} s {word} this host's."
        hint = (
            "Slots are due by the hosts' clocks and leases end by the database's, so runs start early, late or in "
            "another order than people see. Have both hosts keep time by NTP."
        )
        yield found("sisy.W013", text, hint=hint)


def _callables(alias: str, settings: conf.Settings) -> Iterator[CheckMessage]:
    for path, instance_pk in _distinct_callables(alias):
        try:
            registry.check_allowed(path, settings.allowed_callables)  # first: the next line imports it
            callables.target_of(path, pk_override=instance_pk)
        except InvalidInput as error:
            hint = "Its runs fail. Change the tasks that call it (Task.objects.for_callable), or pause or delete them."
            yield found("sisy.W014", f"Stored tasks have a callable that can't run: {error}", hint=hint)


def _distinct_callables(alias: str) -> Iterator[tuple[str, str | None]]:
    """Yield each callable of the enabled tasks, with an example of its row's key, hopping along the index."""
    rows = Task.objects.using(alias).enabled().order_by("callable").values_list("callable", "instance_pk")
    row = rows.first()
    for _ in range(_MOST_CALLABLES):
        if row is None:
            return
        yield row
        row = rows.filter(callable__gt=row[0]).first()


def _schedules(alias: str, settings: conf.Settings) -> Iterator[CheckMessage]:
    columns = ("label", "callable", "instance_pk", "schedule", "timezone", "start_running", "created_at")
    seen: set[tuple[str, str]] = set()
    for task in Task.objects.using(alias).enabled().order_by("pk").only(*columns)[:_MOST_TASKS]:
        if (task.schedule, task.timezone) in seen:
            continue
        seen.add((task.schedule, task.timezone))
        try:
            task.parsed_schedule()
        except InvalidInput as error:
            hint = "At its next tick it will be set aside. Correct its schedule or timezone, and save it."
            yield found("sisy.W015", f"{_named(task)} can't be scheduled: {error}", hint=hint)


def _parked(alias: str, settings: conf.Settings) -> Iterator[CheckMessage]:
    parked = Task.objects.using(alias).filter(enabled=False).parked().order_by("pk")  # "enabled" has an index
    for task in parked.only("label", "callable", "error")[:_MOST_SHOWN]:
        hint = "It does not run. Mend what the error says, save the task, and resume it; or delete it."
        yield found("sisy.W016", f"{_named(task)} was set aside: {task.error:.300}", hint=hint)


def _named(task: Task) -> str:
    return f"Task {task.pk} ({str(task)!r:.80})"
