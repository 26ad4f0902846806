"""The way from the transitions down to task rows, without importing Task, which lives above them."""

from typing import TYPE_CHECKING

from django.apps import apps
from django.db.models import QuerySet

if TYPE_CHECKING:
    from sisy.models.task import Task


def task_rows(using: str) -> "QuerySet[Task]":
    """Return all task rows of a database, past any manager of a project's own."""
    rows: QuerySet[Task] = apps.get_model("sisy", "Task")._base_manager.using(using)
    return rows
