"""New rows in one prepared statement: one row, or many that differ in one column.

What creates tasks and runs calls it. The ORM compiles each INSERT anew, which for tables as wide as ours takes longer
than executing it; rows that are alike are sent as what they have in common and the one column that differs.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, JSONField, Model
from django.db.models.signals import post_save, pre_save

Columns = Sequence["Field[Any, Any]"]
M = TypeVar("M", bound=Model)

_statements: dict[tuple[type[Model], str, str | None], str] = {}
"""By model, database vendor and the column that differs, if any."""


def insert(row: Model, *, using: str | None) -> None:
    """Insert a new row and set its key; by the ORM where that has more to do than to insert it."""
    using = using or router.db_for_write(type(row), instance=row)
    connection, model = connections[using], type(row)
    if row.pk is not None or not connection.features.can_return_columns_from_insert or _is_special(model):
        row.save_base(force_insert=True, using=using)
        return
    with connection.cursor() as cursor:
        cursor.execute(_statement(connection, model, None), _values(connection, row, _fields(model)))
        row.pk = cursor.fetchone()[0]
    row._state.adding, row._state.db = False, using


def insert_alike(pattern: Model, column: str, values: Sequence[Any], *, using: str) -> list[int] | None:
    """Insert rows that differ in one column; return their keys in the order of the values.

    Args:
        pattern: what they have in common; it is not inserted itself.
        column: the name of the field that differs: a JSON field, or a key.
        values: its value in each row.
        using: alias of the database.

    Returns:
        the keys, or None when nothing was inserted since this database can't do it.
    """
    connection, model = connections[using], type(pattern)
    if connection.vendor not in _MANY or not model._meta.local_concrete_fields:
        return None
    different = model._meta.get_field(column)
    common = [field for field in _fields(model) if field is not different]
    if isinstance(different, JSONField):
        values = [json.dumps(value, cls=different.encoder) for value in values]
    many: Any = values if connection.vendor == "postgresql" else json.dumps(values)
    with connection.cursor() as cursor:
        cursor.execute(_statement(connection, model, column), [*_values(connection, pattern, common), many])
        return sorted(row[0] for row in cursor.fetchall())  # they were drawn in order; RETURNING promises none


_MANY = {
    "postgresql": (
        "SELECT {common}, v.value FROM unnest(%s::{array}[]) WITH ORDINALITY AS v(value, place) ORDER BY v.place"
    ),
    "sqlite": "SELECT {common}, v.value FROM json_each(%s) AS v WHERE true ORDER BY v.key",
}


def copies(pattern: M, column: str, values: Sequence[Any], keys: Sequence[int], *, using: str) -> list[M]:
    """Return instances of the rows that `insert_alike` has inserted."""
    names = [field.attname for field in pattern._meta.concrete_fields]
    row = [pattern.__dict__[name] for name in names]
    key, different = names.index("id"), names.index(pattern._meta.get_field(column).attname)  # type: ignore[union-attr]
    made = []
    for row[key], row[different] in zip(keys, values, strict=True):
        made.append(type(pattern).from_db(using, names, row))
    return made


def _is_special(model: type[Model]) -> bool:
    """Tell whether receivers want to hear of each row, or its columns are in several tables."""
    return bool(model._meta.proxy or model._meta.parents) or any(
        signal.has_listeners(model) for signal in (pre_save, post_save)
    )


def _fields(model: type[Model]) -> Columns:
    return [field for field in model._meta.local_concrete_fields if not field.primary_key]


def _values(connection: BaseDatabaseWrapper, row: Model, fields: Columns) -> list[Any]:
    state = row.__dict__
    return [field.get_db_prep_save(state[field.attname], connection) for field in fields]


def _statement(connection: BaseDatabaseWrapper, model: type[Model], column: str | None) -> str:
    known = _statements.get((model, connection.vendor, column))
    if known is None:
        known = _statements[model, connection.vendor, column] = _written(connection, model, column)
    return known


def _written(connection: BaseDatabaseWrapper, model: type[Model], column: str | None) -> str:
    quote = connection.ops.quote_name
    common = [field for field in _fields(model) if field.name != column]
    different = [] if column is None else [model._meta.get_field(column)]
    names = ", ".join(quote(str(field.column)) for field in (*common, *different))  # type: ignore[union-attr]
    if column is None:
        rows = f"VALUES ({', '.join('%s' for _ in common)})"
    else:
        typed = [f"%s::{field.cast_db_type(connection)}" for field in common]
        rows = _MANY[connection.vendor].format(
            common=", ".join(typed if connection.vendor == "postgresql" else ["%s"] * len(common)),
            array=different[0].cast_db_type(connection),  # type: ignore[union-attr]
        )
    return f"INSERT INTO {quote(model._meta.db_table)} ({names}) {rows} RETURNING {quote(str(model._meta.pk.column))}"
