"""The way from the transitions down to task rows, without importing Task, which lives above them."""

from typing import TYPE_CHECKING, Final

from django.apps import apps
from django.db import DataError
from django.db.models import QuerySet

from sisy.rows.reading import read

if TYPE_CHECKING:
    from sisy.models.task import Task


UNREADABLE: Final = (ValueError, OverflowError, DataError)
"""What reading a row raises that holds what Python can't."""


def task_rows(using: str) -> "QuerySet[Task]":
    """Return all task rows of a database, past any manager of a project's own."""
    rows: QuerySet[Task] = apps.get_model("sisy", "Task")._base_manager.using(using)
    return rows


def readable(rows: "QuerySet[Task]") -> "tuple[list[Task], dict[int, str]]":
    """Read tasks, and say of those that can't be read what is wrong: one bad value must not hide the other rows.

    Returns:
        the tasks, in the queryset's order, and what is wrong, by key, with rows that hold what Python can't: a 30th of
        February in SQLite, an infinite date in PostgreSQL.
    """
    try:
        return read(rows), {}
    except UNREADABLE:
        tasks, errors = list["Task"](), dict[int, str]()
    for key in list(rows.values_list("pk", flat=True)):
        try:
            tasks += rows.model._base_manager.using(rows.db).filter(pk=key)
        except UNREADABLE as error:
            errors[key] = f"a value in its row can't be read: {error}"
    return tasks, errors
