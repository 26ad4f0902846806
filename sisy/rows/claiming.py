"""What a worker asks the moment it is nudged, written down once: the claim, and when the next run is to start.

transitions/claims.py executes the claim, on PostgreSQL in one message that is a transaction by itself. Three statements
of the ORM take longer to compile, and to go there and back six times, than PostgreSQL takes for the work: that was most
of what passed between a nudge and the start of a run.
"""

import functools
import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from sisy.rows.clock import DatabaseNow
from sisy.rows.glance import Glance
from sisy.rows.reading import columns, instance, is_constructed
from sisy.rows.run import Run, RunStatus

BY_INDEX: Final = "SELECT " + ", ".join(
    f"set_config('{name}', 'off', true)"
    for name in ("enable_seqscan", "enable_sort", "enable_hashjoin", "enable_mergejoin", "jit")
)
"""PostgreSQL: look rows up by indexes, in this transaction; where there is another way only, don't compile it first.

Bitmaps stay: several slots of many tasks are several parts of an index. Without sorting, none serves what is ordered.
"""

_NOW: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for the present in statements that are written down."""


class _Written(NamedTuple):
    statement: str
    which: tuple[Any, ...]
    """Parameters of what to choose; before the limit."""
    place: int
    """Which of them is the present."""
    clock: tuple[Any, ...]
    """Parameters of the database's clock; after the limit."""


def can_claim_at_once(using: str) -> bool:
    """Tell whether a claim can be one message: on PostgreSQL, unless the project has parameters sent by themselves.

    Args:
        using: alias of the database.
    """
    connection: Any = connections[using]
    models = (Run, apps.get_model("sisy", "Task"))
    if connection.vendor != "postgresql" or any(is_constructed(model) for model in models):
        return False
    commits = connection.in_atomic_block or connection.get_autocommit()
    return bool(commits and not connection.features.uses_server_side_binding)


def claim_at_once(
    *,
    token: uuid.UUID,
    worker: uuid.UUID,
    queues: Sequence[str] | None,
    limit: int,
    lease: timedelta,
    now: datetime,
    lacking: Collection[str],
    using: str,
) -> list[Run]:
    """Claim ready runs and commit; return them, the most urgent first, each with a task of its own.

    Args:
        token: the claim.
        worker: the id of the worker.
        queues: the queues that it serves, or None for all.
        limit: the most runs to claim.
        lease: how long the claim is valid.
        now: runs that are to start later are left out.
        lacking: callables to leave out.
        using: alias of the database.

    Raises:
        ValueError, OverflowError, DataError: a value can't be read; the runs are claimed.
    """
    if queues is not None and not queues:
        return []
    written = _write(using, None if queues is None else tuple(queues), tuple(sorted(lacking)))
    which = list(written.which)
    which[written.place] = now
    connection: Any = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(written.statement, [*which, limit, *written.clock, lease, RunStatus.RUNNING, token, worker])
        if connection.Database.__name__ != "psycopg2":  # which forgets all results but the last
            cursor.nextset()
        runs = _with_tasks(cursor.fetchall(), connection)
    runs.sort(key=lambda run: (-run.priority, run.run_after, run.pk))
    return runs


def _with_tasks(rows: Sequence[tuple[Any, ...]], connection: BaseDatabaseWrapper) -> list[Run]:
    """Return runs from rows that hold the columns of a run, and then those of its task or nothing."""
    task_model = apps.get_model("sisy", "Task")
    its, of_task = columns(Run, connection.alias), columns(task_model, connection.alias)
    width, key = len(its.names), of_task.names.index("id")
    runs = []
    for row in rows:
        run, task = instance(Run, row[:width], its, connection), row[width:]
        run.task = None if task[key] is None else instance(task_model, task, of_task, connection)
        runs.append(run)
    return runs


def next_start(*, queues: Sequence[str] | None, lacking: Collection[str], using: str) -> datetime | None:
    """Return when the first of the ready runs may be claimed, or None; asks for no lock, and waits for none.

    An instant that has passed means that somebody holds the row, or that it came a moment ago.

    Args:
        queues: only these queues; None for all.
        lacking: callables to leave out.
        using: alias of the database.
    """
    glance = _next_start(None if queues is None else tuple(queues), tuple(sorted(lacking)))
    first: datetime | None = glance.take(using=using)[0]
    return first


@functools.lru_cache(maxsize=64)
def _next_start(queues: tuple[str, ...] | None, lacking: tuple[str, ...]) -> Glance:
    return Glance(lambda: [Run.objects.to_start(queues=queues, lacking=lacking).values_list("run_after")])


@functools.lru_cache(maxsize=64)
def _write(using: str, queues: tuple[str, ...] | None, lacking: tuple[str, ...]) -> _Written:
    connection, task_model = connections[using], apps.get_model("sisy", "Task")
    ready = Run.objects.using(using).ready(_NOW, queues=queues, lacking=lacking).values("pk")
    compiler = ready.query.get_compiler(using)
    choice, which = compiler.as_sql()
    clock, of_clock = compiler.compile(DatabaseNow())
    run, task = (connection.ops.quote_name(model._meta.db_table) for model in (Run, task_model))
    its, of_task = columns(Run, using).sql, columns(task_model, using).sql
    # Materialized: it locks what it chooses, and must not do so more than once.
    statement = (
        f"{BY_INDEX}; WITH chosen (id) AS MATERIALIZED ({choice} LIMIT %s FOR UPDATE SKIP LOCKED), claimed AS ("  # noqa: S608 - our own columns
        f"UPDATE {run} SET lease_expires_at = {clock} + %s, status = %s, claim = %s, worker = %s "
        f"FROM chosen WHERE {run}.id = chosen.id RETURNING {its}) "
        f"SELECT {its.replace(run, 'claimed')}, {of_task} FROM claimed LEFT JOIN {task} ON {task}.id = claimed.task_id"
    )
    return _Written(statement, tuple(which), which.index(_NOW), tuple(of_clock))
