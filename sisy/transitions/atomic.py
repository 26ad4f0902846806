"""Transactions as the transitions need them: locked from the start, tried again when the database asks for it.

Only the other modules of transitions/ use this.
"""

import functools
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from django.db import OperationalError, connections, router, transaction
from django.db.models import Model, QuerySet

from sisy import signals
from sisy.rows.claiming import BY_INDEX
from sisy.rows.run import Run

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Model)

_log = logging.getLogger("sisy.rows")
_ATTEMPTS: Final = 6
_PASSING: Final = ("deadlock", "lock wait timeout", "could not serialize", "database is locked", "record has changed")
"""What databases say of a transaction that would succeed if it were tried again."""


def alias() -> str:
    """Return the alias of the database that holds sisy's tables."""
    return router.db_for_write(Run)


@contextmanager
def write(*, by_index: bool = False) -> Iterator[None]:
    """Open a transaction that may read and then write.

    SQLite would take the write lock at the first write only, and fail at once when somebody wrote since the first
    read; an UPDATE of no rows takes it now, waiting as long as the connection's timeout says.

    Args:
        by_index: have PostgreSQL go by indexes, whatever its statistics say. Those of a queue are always old: planned
            for the empty table of a minute ago, a claim reads and sorts all that waits.
    """
    using = alias()
    connection = connections[using]
    with transaction.atomic(using=using):
        if connection.vendor == "sqlite" and len(connection.savepoint_ids) == 0:
            with connection.cursor() as cursor:
                cursor.execute(f"UPDATE {connection.ops.quote_name(Run._meta.db_table)} SET id = id WHERE 0")  # noqa: S608
        elif by_index and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(BY_INDEX)
        yield


def tried_again(function: Callable[P, R]) -> Callable[P, R]:
    """Run a transition again when the database ended it for the sake of another transaction.

    Within a caller's transaction it is not tried again: that transaction is over.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, _ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except OperationalError as error:
                if connections[alias()].in_atomic_block or not any(text in str(error).lower() for text in _PASSING):
                    raise
                _log.debug("%s is tried again: %s", function.__name__, error)
                time.sleep(random.uniform(0.5, 1) * 0.02 * 2**attempt)  # noqa: S311 - spreads the next tries
        return function(*args, **kwargs)

    return wrapper


def locked(queryset: QuerySet[M], *, skip: bool = False) -> QuerySet[M]:
    """Lock the rows of a queryset, leaving out those that others hold if `skip` and the database can."""
    features = connections[alias()].features
    skip = skip and features.has_select_for_update_skip_locked
    only_self = ("self",) if features.has_select_for_update_of else ()
    return queryset.using(alias()).select_for_update(skip_locked=skip, of=only_self)


def announce(event: str, runs: Sequence[Run]) -> None:
    """Tell the observers, once the change is committed."""
    if runs:
        _after_commit(signals.runs_changed, Run, event=event, runs=list(runs))


def announce_tasks(event: str, tasks: Sequence[Any]) -> None:
    """Tell the observers that the timing of tasks changed, once that is committed."""
    if tasks:
        _after_commit(signals.tasks_changed, type(tasks[0]), event=event, tasks=list(tasks))


def _after_commit(signal: Any, sender: type, **news: Any) -> None:
    if signal.has_listeners(sender):
        transaction.on_commit(functools.partial(signal.send_robust, sender, **news), using=alias(), robust=True)
