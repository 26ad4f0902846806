"""An index that leaves out the rows nobody looks for, on each database that can do that.

The models' Meta classes use it. Django's own Index(condition=...) is not created at all on MySQL and MariaDB, and its
system check complains there.
"""

from typing import Any

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement


class LeanIndex(models.Index):
    """An index of the rows for which `only` holds; of all rows where the database has no partial indexes.

    Args:
        only: the condition, as a Q over columns of this model.
    """

    def __init__(self, *expressions: Any, only: models.Q, **kwargs: Any) -> None:
        super().__init__(*expressions, **kwargs)
        self.only = only

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Statement:
        """Return the statement that creates the index on this database."""
        if not schema_editor.connection.features.supports_partial_indexes:
            return super().create_sql(model, schema_editor, using, **kwargs)
        self.condition = self.only
        try:
            return super().create_sql(model, schema_editor, using, **kwargs)
        finally:
            self.condition = None

    def deconstruct(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return what a migration writes down."""
        path, expressions, kwargs = super().deconstruct()
        return path, tuple(expressions), {**kwargs, "only": self.only}
