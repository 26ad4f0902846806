"""Checks of how the database that holds sisy's tables is configured. Nothing is asked of it; stored.py does that."""

from collections.abc import Iterator
from typing import Any, Final

from django.core.checks import CheckMessage, register
from django.db import connections, router

from sisy.checks.catalogue import TAG, found
from sisy.models import Run, Task, Worker

_SHORTEST_TIMEOUT: Final = 20  # seconds; some transactions of a busy worker take turns within that
_SQLITE_TIMEOUT: Final = 5  # seconds, unless OPTIONS says otherwise
_UTC_NAMES: Final = ("UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu", "Etc/Zulu")


@register(TAG)
def check_database_settings(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check the routers, the time zone of the database, and for SQLite what lets several processes write."""
    aliases = {router.db_for_write(model) for model in (Task, Run, Worker)}
    if len(aliases) > 1:
        text = f"The database routers put sisy's tables into {', '.join(sorted(aliases))}."
        hint = "A task and its runs change in one transaction. Have db_for_write give one alias for the app 'sisy'."
        return [found("sisy.E010", text, hint=hint)]
    connection: Any = connections[aliases.pop()]
    messages = list(_local_times(connection))
    if connection.vendor == "sqlite" and not connection.is_in_memory_db():
        messages += [*_transaction_mode(connection), *_timeout(connection)]
    return messages


def _local_times(connection: Any) -> Iterator[CheckMessage]:
    zone = connection.settings_dict["TIME_ZONE"]
    if zone and zone not in _UTC_NAMES and not connection.features.supports_timezones:
        text = f"DATABASES[{connection.alias!r}] has the TIME_ZONE {zone!r}, so that local times are stored in it."
        hint = (
            "In the hour that a clock repeats, two slots look like one, and the second does not run; leases are off by "
            "the offset. Remove TIME_ZONE there, or have a router put the app 'sisy' into a database without it."
        )
        yield found("sisy.E009", text, hint=hint)


def _transaction_mode(connection: Any) -> Iterator[CheckMessage]:
    mode = str(connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED").upper()
    if mode not in ("IMMEDIATE", "EXCLUSIVE"):
        text = f"SQLite opens {mode} transactions on the database {connection.alias!r}."
        hint = (
            "One that reads and then writes fails at once with 'database is locked' when another process wrote in "
            f'between. Set DATABASES[{connection.alias!r}]["OPTIONS"]["transaction_mode"] to "IMMEDIATE".'
        )
        yield found("sisy.W010", text, hint=hint)


def _timeout(connection: Any) -> Iterator[CheckMessage]:
    timeout = connection.settings_dict["OPTIONS"].get("timeout", _SQLITE_TIMEOUT)
    if timeout < _SHORTEST_TIMEOUT:
        text = f"SQLite waits at most {timeout:g} s for other writers of the database {connection.alias!r}."
        hint = (
            "Then it raises 'database is locked', in your tasks too. Set "
            f'DATABASES[{connection.alias!r}]["OPTIONS"]["timeout"] to {_SHORTEST_TIMEOUT} or more.'
        )
        yield found("sisy.W011", text, hint=hint)
