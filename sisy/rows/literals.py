"""Values as statements of our own take them: JSON as text, and many values as one array.

changes.py, inserts.py and lookups.py write such statements.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, JSONField


def stored(value: Any, field: "Field[Any, Any]", connection: BaseDatabaseWrapper) -> Any:
    """Return a field's value as the database takes it; JSON as text."""
    if isinstance(field, JSONField):
        return None if value is None else json.dumps(value, cls=field.encoder)
    return field.get_db_prep_save(value, connection)


def array(values: Sequence[Any]) -> str | list[Any]:
    """Return values as PostgreSQL's text of an array where they are whole numbers, texts or aware instants.

    psycopg would look at each value to find its type, and quote it by itself; others are left to that.
    """
    kinds = {type(value) for value in values} - {type(None)}
    as_text = _AS_TEXT.get(kinds.pop()) if len(kinds) == 1 else None
    if as_text is None:
        return list(values)
    return "{" + ",".join(["NULL" if value is None else as_text(value) for value in values]) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_AS_TEXT: Final[dict[type, Callable[[Any], str]]] = {int: str, datetime: datetime.isoformat, str: _quoted}
