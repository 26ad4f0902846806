"""Many rows as model instances: what a list of a queryset gives, at a third of its cost.

Claims and ends read two instances for each run, with more than thirty columns each. Model.__init__ sets every one of
them by itself and sends two signals, and the ORM writes them all down for each query: both take longer than what the
database does for the run.
"""

import functools
import json
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import DataError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import JSONField, Model, QuerySet
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

M = TypeVar("M", bound=Model)

_EMPTY: Final[dict[str | None, Callable[[], object]]] = {"[]": list, "{}": dict, None: lambda: None}
"""What most JSON columns of most rows hold."""

UNREADABLE: Final = (ValueError, OverflowError, DataError)
"""What reading a row raises that holds what Python can't."""


class Columns(NamedTuple):
    """The columns of a model as a database gives them.

    Args:
        sql: what to select.
        names: the attributes for which they are.
        documents: those that hold JSON, with the decoder.
        converters: for an attribute, what makes Python's value of the database's, and the column that it asks for.
    """

    sql: str
    names: tuple[str, ...]
    documents: tuple[tuple[str, type[json.JSONDecoder] | None], ...]
    converters: tuple[tuple[str, Callable[[Any, Any, Any], Any], Any], ...]


def read(rows: QuerySet[M], *, only: Collection[str] = ()) -> list[M]:
    """Return the instances of a queryset; by the ORM where somebody wants to hear of each, or more is asked.

    Args:
        rows: of a model of ours.
        only: names of columns; the others are loaded when somebody asks. Empty: all that the queryset has.
    """
    asks_more = rows.query.annotations or rows.query.deferred_loading[0]
    if asks_more or is_constructed(rows.model):
        return list(rows.only(*only) if only else rows)
    its = columns(rows.model, rows.db, frozenset(only))
    try:
        statement, parameters = rows.values_list("pk").query.get_compiler(rows.db).as_sql()
    except EmptyResultSet:
        return []
    connection = connections[rows.db]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {its.sql} FROM {statement.partition(' FROM ')[2]}", parameters)  # noqa: S608 - its own
        return [instance(rows.model, row, its, connection) for row in cursor.fetchall()]


def readable(rows: QuerySet[M]) -> tuple[list[M], dict[int, str]]:
    """Read rows, and say of those that can't be read what is wrong: one bad value must not hide the other rows.

    Returns:
        the instances, in the queryset's order, and what is wrong, by key, with rows that hold what Python can't: a 30th
        of February in SQLite, an infinite date in PostgreSQL.
    """
    try:
        return read(rows), {}
    except UNREADABLE:
        found, errors = list[M](), dict[int, str]()
    for key in list(rows.values_list("pk", flat=True)):
        try:
            found += rows.model._base_manager.using(rows.db).filter(pk=key)
        except UNREADABLE as error:
            errors[key] = f"a value in its row can't be read: {error}"
    return found, errors


def is_constructed(model: type[Model]) -> bool:
    """Tell whether instances have to go through the model's constructor: it is special, or somebody hears of each."""
    return model.__init__ is not Model.__init__ or any(s.has_listeners(model) for s in (pre_init, post_init))


def instance(model: type[M], row: tuple[Any, ...], its: Columns, connection: BaseDatabaseWrapper) -> M:
    """Return an instance that holds these values: as Model.from_db, and as Task's, which keeps what was loaded.

    Args:
        model: its class.
        row: the values, as the database gave them.
        its: which columns they are for.
        connection: where they come from.
    """
    values = dict(zip(its.names, row, strict=True))
    for name, decoder in its.documents:
        text = values[name]
        values[name] = _EMPTY[text]() if text in _EMPTY else json.loads(text, cls=decoder)
    for name, converter, column in its.converters:
        values[name] = converter(values[name], column, connection)
    made = model.__new__(model)
    state = ModelState()
    state.adding, state.db = False, connection.alias
    made.__dict__.update(values, _state=state)
    if hasattr(model, "_loaded"):
        made.__dict__["_loaded"] = values
    return made


@functools.cache
def columns(model: type[Model], using: str, only: frozenset[str] = frozenset()) -> Columns:
    """Return the columns of a model, in the order in which `instance` takes their values.

    Args:
        model: one of ours.
        using: alias of the database.
        only: names of fields; empty: all.
    """
    connection, table = connections[using], model._meta.db_table
    fields = [f for f in model._meta.concrete_fields if not only or f.primary_key or f.name in only]
    quote, converters = connection.ops.quote_name, list[tuple[str, Callable[[Any, Any, Any], Any], Any]]()
    for field in fields:
        column = field.get_col(table)
        own = [] if isinstance(field, JSONField) else column.get_db_converters(connection)
        converters += [(field.attname, step, column) for step in (*connection.ops.get_db_converters(column), *own)]
    return Columns(
        sql=", ".join(f"{quote(table)}.{quote(str(field.column))}" for field in fields),
        names=tuple(field.attname for field in fields),
        documents=tuple((field.attname, field.decoder) for field in fields if isinstance(field, JSONField)),
        converters=tuple(converters),
    )
