"""The lookup `among`: `in` for hundreds of keys that are known to be keys.

The transitions work on batches; `in` prepares, binds and parses each key by itself, several times for each run. Here
PostgreSQL receives one array, and the others a list whose values nobody looks at again.
"""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Lookup
from django.db.models.sql.compiler import SQLCompiler

from sisy.rows.literals import array


class Among(Lookup):
    """The column is one of these whole numbers; no more than a thousand."""

    lookup_name = "among"
    prepare_rhs = False

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, Any]:
        """Return the condition and its parameters."""
        keys = list(self.rhs)
        if not keys:
            raise EmptyResultSet
        column, parameters = self.process_lhs(compiler, connection)
        if connection.vendor == "postgresql":
            return f"{column} = ANY(%s::{self.lhs.output_field.rel_db_type(connection)}[])", [*parameters, array(keys)]
        return f"{column} IN ({', '.join(['%s'] * len(keys))})", [*parameters, *keys]
