"""Several questions with one answer each, asked in one statement: what a tick does when there is nothing to do.

scheduler.py and maintenance.py bring the questions. What takes time in a query of one row is the way there and back,
and to write it down: the latter is done once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet

Questions = Callable[[], "Sequence[QuerySet[Any, Any]]"]


class Glance:
    """Questions that are always the same.

    Args:
        questions: returns querysets of one column each, ordered if the order matters, without values that change.
    """

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._written: dict[str, _Written] = {}

    def take(self, *, using: str) -> list[Any]:
        """Return the first row's value of each queryset, None where it has no row.

        Args:
            using: alias of the database.

        Raises:
            ValueError, OverflowError, DataError: a value can't be read.
        """
        written = self._written.get(using)
        if written is None:
            written = self._written[using] = _write(self._questions(), using)
        connection = connections[using]
        with connection.cursor() as cursor:
            cursor.execute(written.statement, written.parameters)
            row = cursor.fetchone()
        return [_converted(value, steps, connection) for value, steps in zip(row, written.converters, strict=True)]


class _Written(NamedTuple):
    statement: str
    parameters: tuple[Any, ...]
    converters: list[list[tuple[Any, Any]]]
    """For each answer, what makes Python's value of it, each with the expression that it belongs to."""


def _write(questions: "Sequence[QuerySet[Any, Any]]", using: str) -> _Written:
    texts, parameters, converters = list[str](), list[Any](), list[list[tuple[Any, Any]]]()
    for question in questions:
        compiler = question.using(using)[:1].query.get_compiler(using)
        try:
            text, its_parameters = compiler.as_sql()
        except EmptyResultSet:
            text, its_parameters = "SELECT NULL", ()
        texts.append(f"({text})")
        parameters += its_parameters
        found = compiler.get_converters([column for column, *_ in compiler.select or ()]).values()
        converters.append([(converter, expression) for steps, expression in found for converter in steps])
    return _Written(f"SELECT {', '.join(texts)}", tuple(parameters), converters)


def _converted(value: Any, steps: list[tuple[Any, Any]], connection: Any) -> Any:
    """Return a value as the ORM would have it: times with their zone."""
    for converter, expression in steps:
        value = converter(value, expression, connection)
    return value
