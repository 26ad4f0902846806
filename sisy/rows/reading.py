"""Many rows as model instances: what a list of a queryset gives, at a third of its cost.

Claims and ends read two instances for each run, with more than thirty columns each; Model.__init__ sets every one of
them by itself and sends two signals, which takes longer than all that the database does for the run.
"""

from collections.abc import Collection
from typing import TypeVar

from django.db.models import Model, QuerySet
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

M = TypeVar("M", bound=Model)


def read(rows: QuerySet[M], *, only: Collection[str] = ()) -> list[M]:
    """Return the instances of a queryset; by the ORM where somebody wants to hear of each.

    Args:
        rows: of a model of ours; without annotations.
        only: names of columns; the others are loaded when somebody asks. None: all that the queryset has.
    """
    model = rows.model
    if model.__init__ is not Model.__init__ or any(signal.has_listeners(model) for signal in (pre_init, post_init)):
        return list(rows.only(*only) if only else rows)
    names = [
        field.attname for field in model._meta.concrete_fields if not only or field.primary_key or field.name in only
    ]
    remembers = hasattr(model, "_loaded")
    return [
        _instance(model, dict(zip(names, row, strict=True)), rows.db, remembers) for row in rows.values_list(*names)
    ]


def _instance(model: type[M], values: dict[str, object], using: str, remembers: bool) -> M:
    """Return an instance that holds these values: as Model.from_db, and as Task's, which keeps what was loaded."""
    instance = model.__new__(model)
    state = ModelState()
    state.adding, state.db = False, using
    instance.__dict__.update(values, _state=state)
    if remembers:
        instance.__dict__["_loaded"] = values
    return instance
