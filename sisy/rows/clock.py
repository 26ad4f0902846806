"""The database's clock, as an expression: the only clock that judges leases.

Django's own Now() is the session zone's wall clock on MySQL and MariaDB, where Django never sets that zone.
"""

from datetime import datetime
from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
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


def database_now(using: str) -> datetime | None:
    """Ask a database what time it is; None while it has no tables of Django's.

    Args:
        using: the database's alias.
    """
    # Any table will do that has a row as soon as sisy's own exist.
    rows: Any = MigrationRecorder(connections[using]).migration_qs
    instant: datetime | None = rows.annotate(now=DatabaseNow()).values_list("now", flat=True).first()
    return instant
