"""New rows in one statement that is written once: one row, or many.

What creates tasks and runs calls it. The ORM compiles each INSERT anew, which for tables as wide as ours takes longer
than executing it; many rows are sent as what they have in common and the columns in which they differ.
"""

import functools
import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, JSONField, Model
from django.db.models.base import ModelState
from django.db.models.signals import post_save, pre_save
from django.utils.duration import duration_iso_string

from sisy.rows.literals import array, stored
from sisy.rows.reading import is_constructed

Columns = Sequence["Field[Any, Any]"]
M = TypeVar("M", bound=Model)

_statements: dict[tuple[type[Model], str, tuple[str, ...] | None], str] = {}
"""By model, database vendor and the columns in which the rows differ; None for one row."""


def insert(row: Model, *, using: str | None) -> None:
    """Insert a new row and set its key; by the ORM where that has more to do than to insert it."""
    using = using or router.db_for_write(type(row), instance=row)
    connection, model = connections[using], type(row)
    if row.pk is not None or not connection.features.can_return_columns_from_insert or _is_special(model):
        row.save_base(force_insert=True, using=using)
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"{_from_document(model, using)} RETURNING id", [_document(row)])
        else:
            cursor.execute(_statement(connection, model, None), _values(connection, row, _fields(model)))
        row.pk = cursor.fetchone()[0]
    row._state.adding, row._state.db = False, using


def insert_both(row: Model, other: Model, *, link: str, using: str | None) -> bool:
    """Insert a new row, and one that refers to it, in one statement, which commits by itself.

    Within somebody's transaction it is not done: a failure would need a savepoint to leave that one in order.

    Args:
        row: the first one; its key is set.
        other: the second one.
        link: name of its field that refers to the first.
        using: alias of the database, or None for the first one's.

    Returns:
        whether that was possible; if not, nothing was inserted.
    """
    using = using or router.db_for_write(type(row), instance=row)
    connection = connections[using]
    if connection.vendor != "postgresql" or row.pk is not None or using != router.db_for_write(type(other)):
        return False
    if connection.in_atomic_block or not connection.get_autocommit():
        return False
    if _is_special(type(row)) or _is_special(type(other)):
        return False
    key = connection.ops.quote_name(str(type(other)._meta.get_field(link).column))  # type: ignore[union-attr]
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH first AS ({_from_document(type(row), using)} RETURNING id) "
            f"{_from_document(type(other), using, link=link, other=', first')} RETURNING {key}, id",
            [_document(row), _document(other)],
        )
        row.pk, other.pk = cursor.fetchone()
    for inserted in (row, other):
        inserted._state.adding, inserted._state.db = False, using
    setattr(other, link, row)
    return True


def new(model: type[M], **values: Any) -> M:
    """Return a new instance, as the model's constructor does, at a fifth of its cost.

    Args:
        model: one of ours.
        values: by attribute; the other columns get their defaults.
    """
    if is_constructed(model):
        return model(**values)
    instance = model.__new__(model)
    constants, made = _defaults(model)
    instance.__dict__.update(constants, _state=ModelState(), **values)
    for name, make in made.items():
        if name not in values:
            instance.__dict__[name] = make()
    return instance


def insert_many(rows: Sequence[Model], *, using: str, different: Collection[str] | None = None) -> None:
    """Insert new rows of one model in one statement and set their keys; as bulk_create, without signals.

    Args:
        rows: at most a thousand or so.
        using: alias of the database.
        different: names of the fields in which the rows may differ, or None to find out.
    """
    if not rows:
        return
    connection, model = connections[using], type(rows[0])
    if connection.vendor not in _MANY or model._meta.proxy or model._meta.parents:
        model._base_manager.using(using).bulk_create(rows)
        return
    fields = _fields(model)
    varying = [field for field in fields if (_varies(field, rows) if different is None else field.name in different)]
    common = [field for field in fields if field not in varying]
    values = [[stored(row.__dict__[field.attname], field, connection) for field in varying] for row in rows]
    names = tuple(field.name for field in varying)
    with connection.cursor() as cursor:
        cursor.execute(
            _statement(connection, model, names),
            [*_values(connection, rows[0], common), *_as_table(connection, values)],
        )
        for row, (key,) in zip(rows, cursor.fetchall(), strict=True):
            row.pk = key
            row._state.adding, row._state.db = False, using


def copies(pattern: M, column: str, values: Sequence[Any], *, using: str) -> list[M]:
    """Return instances that differ in one column, as if they had been read, but without a key."""
    names = [field.attname for field in pattern._meta.concrete_fields]
    row = [pattern.__dict__[name] for name in names]
    row[names.index("id")] = None
    place = names.index(pattern._meta.get_field(column).attname)  # type: ignore[union-attr]
    made = []
    for row[place] in values:
        made.append(type(pattern).from_db(using, names, row))
    return made


_MANY = {
    "postgresql": "SELECT {columns} FROM unnest({arrays}) WITH ORDINALITY AS v({names}, place) ORDER BY v.place",
    "sqlite": "SELECT {columns} FROM json_each(%s) AS v WHERE true ORDER BY v.key",
}


def _varies(field: "Field[Any, Any]", rows: Sequence[Model]) -> bool:
    """Tell whether a column differs between rows; JSON that is not empty counts as different, since 1 equals True."""
    name, first = field.attname, rows[0].__dict__[field.attname]
    if isinstance(field, JSONField):
        return any(row.__dict__[name] is not first and (first or row.__dict__[name] != first) for row in rows)
    return any(row.__dict__[name] != first for row in rows)


def _as_table(connection: BaseDatabaseWrapper, values: list[list[Any]]) -> list[Any]:
    """Return the values of the varying columns as parameters: an array for each column, or one JSON text."""
    if connection.vendor == "postgresql":
        return [array(column) for column in zip(*values, strict=True)] or [[0] * len(values)]
    return [json.dumps(values)]


def _is_special(model: type[Model]) -> bool:
    """Tell whether receivers want to hear of each row, or its columns are in several tables."""
    return bool(model._meta.proxy or model._meta.parents) or any(
        signal.has_listeners(model) for signal in (pre_save, post_save)
    )


@functools.cache
def _defaults(model: type[Model]) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """Return a new row's values by attribute, and what makes those that no two rows may share."""
    made = {f.attname: f.default for f in _fields(model) if f.has_default() and callable(f.default)}
    constants = {field.attname: field.get_default() for field in _fields(model) if field.attname not in made}
    return {"id": None, **constants}, made


@functools.cache
def _fields(model: type[Model]) -> Columns:
    return [field for field in model._meta.local_concrete_fields if not field.primary_key]


def _values(connection: BaseDatabaseWrapper, row: Model, fields: Columns) -> list[Any]:
    state = row.__dict__
    return [field.get_db_prep_save(state[field.attname], connection) for field in fields]


def _statement(connection: BaseDatabaseWrapper, model: type[Model], varying: tuple[str, ...] | None) -> str:
    """Return the INSERT of one row, or of many that differ in some columns."""
    known = _statements.get((model, connection.vendor, varying))
    if known is None:
        known = _statements[model, connection.vendor, varying] = _written(connection, model, varying)
    return known


def _written(connection: BaseDatabaseWrapper, model: type[Model], varying: tuple[str, ...] | None) -> str:
    def quoted(field: "Field[Any, Any]") -> str:
        return connection.ops.quote_name(str(field.column))

    common = [field for field in _fields(model) if field.name not in (varying or ())]
    different = [field for field in _fields(model) if field not in common]
    names = ", ".join(quoted(field) for field in (*common, *different))
    if varying is None:
        rows = f"VALUES ({', '.join('%s' for _ in common)})"
    elif connection.vendor == "postgresql":
        columns = [f"%s::{field.cast_db_type(connection)}" for field in common]
        columns += [f"v.{quoted(field)}::{field.cast_db_type(connection)}" for field in different]
        arrays = [f"%s::{_array_type(connection, field)}[]" for field in different] or ["%s::integer[]"]
        rows = _MANY["postgresql"].format(
            columns=", ".join(columns), arrays=", ".join(arrays),
            names=", ".join(quoted(field) for field in different) or "nothing",
        )  # fmt: skip
    else:
        columns = ["%s" for _ in common] + [f"json_extract(v.value, '$[{place}]')" for place in range(len(different))]
        rows = _MANY["sqlite"].format(columns=", ".join(columns))
    table, key = connection.ops.quote_name(model._meta.db_table), model._meta.pk
    return f"INSERT INTO {table} ({names}) {rows} RETURNING {quoted(key)}"


@functools.cache
def _from_document(model: type[Model], using: str, *, link: str = "", other: str = "") -> str:
    """Return PostgreSQL's INSERT of one row that comes as a JSON document, which Python writes faster than parameters.

    Args:
        link: name of the field that refers to the row that was inserted before, if there is one.
        other: what else to select from.
    """
    quote = connections[using].ops.quote_name
    table, names = quote(model._meta.db_table), ", ".join(quote(str(field.column)) for field in _fields(model))
    values = ", ".join("first.id" if f.name == link else f"v.{quote(str(f.column))}" for f in _fields(model))
    rows = f"json_populate_record(NULL::{table}, %s::json) AS v{other}"
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM {rows}"  # noqa: S608 - names of our own columns


def _document(row: Model) -> str:
    state = row.__dict__
    return json.dumps({field.column: state[field.attname] for field in _fields(type(row))}, default=_as_text)


def _as_text(value: object) -> str:
    if isinstance(value, timedelta):
        return duration_iso_string(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _array_type(connection: BaseDatabaseWrapper, field: "Field[Any, Any]") -> str | None:
    return "text" if isinstance(field, JSONField) else field.cast_db_type(connection)
