"""Many rows as model instances: what a list of a queryset gives, at a third of its cost.

Claims and ends read two instances for each run, with more than thirty columns each; Model.__init__ sets every one of
them by itself and sends two signals, which takes longer than all that the database does for the run.
"""

import json
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

from django.db.models import ExpressionWrapper, F, JSONField, Model, QuerySet, TextField
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

M = TypeVar("M", bound=Model)

_EMPTY: Final[dict[str | None, Callable[[], object]]] = {"[]": list, "{}": dict, None: lambda: None}
"""What most JSON columns of most rows hold."""


def read(rows: QuerySet[M], *, only: Collection[str] = ()) -> list[M]:
    """Return the instances of a queryset; by the ORM where somebody wants to hear of each.

    Args:
        rows: of a model of ours; without annotations.
        only: names of columns; the others are loaded when somebody asks. None: all that the queryset has.
    """
    model = rows.model
    if model.__init__ is not Model.__init__ or any(signal.has_listeners(model) for signal in (pre_init, post_init)):
        return list(rows.only(*only) if only else rows)
    fields = [f for f in model._meta.concrete_fields if not only or f.primary_key or f.name in only]
    names = [field.attname for field in fields]
    documents = [(field.attname, field.decoder) for field in fields if isinstance(field, JSONField)]
    columns = [_as_text(field.attname) if isinstance(field, JSONField) else field.attname for field in fields]
    using, found = rows.db, list[M]()
    for row in rows.values_list(*columns):
        values = dict(zip(names, row, strict=True))
        for name, decoder in documents:
            text = values[name]
            values[name] = _EMPTY[text]() if text in _EMPTY else json.loads(text, cls=decoder)
        found.append(_instance(model, values, using))
    return found


def _as_text(name: str) -> "ExpressionWrapper[Any]":
    """Have a JSON column as it comes from the database, which Django decodes with more ceremony."""
    return ExpressionWrapper(F(name), output_field=TextField())


def _instance(model: type[M], values: dict[str, Any], using: str) -> M:
    """Return an instance that holds these values: as Model.from_db, and as Task's, which keeps what was loaded."""
    instance = model.__new__(model)
    state = ModelState()
    state.adding, state.db = False, using
    instance.__dict__.update(values, _state=state)
    if hasattr(model, "_loaded"):
        instance.__dict__["_loaded"] = values
    return instance
