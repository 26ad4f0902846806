"""The database's clock, as an expression: the only clock that judges leases.

Django's own Now() is the session zone's wall clock on MySQL and MariaDB, where Django never sets that zone.
"""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler


class DatabaseNow(models.Func):
    """The instant at which the statement runs, UTC, by the database's clock."""

    template = "STATEMENT_TIMESTAMP()"
    output_field = models.DateTimeField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return SQLite's clock, which has milliseconds."""
        return self.as_sql(
            compiler, connection, template="STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW')", **context
        )

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return UTC whatever the session's zone is."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)

    def as_oracle(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return UTC whatever the session's zone is."""
        return self.as_sql(compiler, connection, template="SYS_EXTRACT_UTC(SYSTIMESTAMP)", **context)
