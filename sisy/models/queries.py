"""Task's queryset: tasks by what is to be done with them, and bulk changes that keep their timing right."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.utils import timezone

from sisy import callables
from sisy.models.columns import TIMING_COLUMNS
from sisy.models.entry import enter, lock_rows, prepare
from sisy.transitions import planning
from sisy.transitions.atomic import announce_tasks, tried_again, write

if TYPE_CHECKING:
    from sisy.models.task import Task


class TaskQuerySet(models.QuerySet["Task"]):
    """Tasks by what is to be done with them."""

    def enabled(self) -> Self:
        """Tasks that are neither paused nor parked."""
        return self.filter(enabled=True)

    def due(self, now: datetime | None = None) -> Self:
        """Tasks whose next slot has come, the oldest first.

        Args:
            now: the instant to look from; None for the present.
        """
        return self.enabled().filter(next_run__lte=now or timezone.now()).order_by("next_run", "pk")

    def parked(self) -> Self:
        """Tasks that were set aside because of an error in their row."""
        return self.exclude(error="")

    def for_callable(self, the_callable: Callable[..., object] | str) -> Self:
        """Tasks that call this function, or this method of this very row.

        Args:
            the_callable: as for task_with_callable; the path of an instance method finds those of all rows.

        Raises:
            InvalidCallable: it can't be a task's callable at all.
        """
        if isinstance(the_callable, str):
            return self.filter(callable=the_callable)
        target = callables.target_of(the_callable)
        found = self.filter(callable=target.path)
        return found if target.instance_pk is None else found.filter(
            instance_pk=target.instance_pk, instance_db=target.instance_db
        )  # fmt: skip

    @tried_again
    def update(self, **values: Any) -> int:
        """Update as Django does; where that changes the timing, compute the next slots anew, from now.

        Raises:
            InvalidSchedule: the new schedule or zone is bad; nothing was written.
        """
        timing = {name: value for name, value in values.items() if name in TIMING_COLUMNS}
        if not timing or "next_run" in values:
            return super().update(**values)
        if values.get("enabled") is True:
            values.setdefault("error", "")  # enabling a parked task forgets its error
        with write():
            moved = self.order_by()
            if not any(hasattr(value, "resolve_expression") for value in timing.values()):
                moved = moved.exclude(**timing)
            keys = list(moved.values_list("pk", flat=True))
            updated = super().update(**values)
            for task in self.model._base_manager.using(self.db).filter(pk__in=keys):
                task.check_values(timing)
                planning.reschedule(task, now=timezone.now())
        return updated

    update.alters_data = True  # type: ignore[attr-defined]

    @tried_again
    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete as Django does; the runs stay, without a reference to the task."""
        with write():
            keys = list(self.order_by().values_list("pk", flat=True))
            lock_rows(self.model, keys)
            announce_tasks("deleted", [self.model(pk=key) for key in keys])
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable["Task"], *args: Any, **kwargs: Any) -> list["Task"]:
        """Create many tasks in a few statements, each active as if it had been saved."""
        tasks, now = list(objs), timezone.now()
        for task in tasks:
            prepare(task, now=now)
        with write():
            created = super().bulk_create(tasks, *args, **kwargs)
            enter(created, now=now)
        return created
