"""Several questions with one answer each, asked in one statement: what a tick does when there is nothing to do.

scheduler.py and maintenance.py bring the questions. What takes time in a query of one row is the way there and back.
"""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet


def first_values(*questions: "QuerySet[Any, Any]", using: str) -> list[Any]:
    """Return the first row's value of each queryset, None where it has no row.

    Args:
        questions: querysets of one column each, ordered if the order matters.
        using: alias of the database.

    Raises:
        ValueError, OverflowError, DataError: a value can't be read.
    """
    connection = connections[using]
    compilers = [question.using(using)[:1].query.get_compiler(using) for question in questions]
    texts: list[str] = []
    parameters: list[Any] = []
    for compiler in compilers:
        try:
            text, its_parameters = compiler.as_sql()
        except EmptyResultSet:
            text, its_parameters = "SELECT NULL", ()
        texts.append(f"({text})")
        parameters += its_parameters
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(texts)}", parameters)
        row = cursor.fetchone()
    return [_converted(value, compiler) for value, compiler in zip(row, compilers, strict=True)]


def _converted(value: Any, compiler: Any) -> Any:
    """Return a value as the ORM would have it: times with their zone."""
    for converters, expression in compiler.get_converters([column for column, *_ in compiler.select or ()]).values():
        for converter in converters:
            value = converter(value, expression, compiler.connection)
    return value
