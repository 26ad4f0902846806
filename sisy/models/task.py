"""The Task row: what to call and when. The verbs that people use on it are here; each is one transition.

Saving writes the user's columns that were changed and nothing else, so that a stale instance can't undo what the
scheduler or another person wrote meanwhile.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from copy import copy
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from sisy import callables, conf, instants, jsondata, registry
from sisy.errors import InvalidInput
from sisy.models.checking import problems
from sisy.models.columns import SCHEDULER_COLUMNS, TIMING_COLUMNS, Misfire, Overlap
from sisy.models.entry import create, insert_copies, lock_rows, prepare
from sisy.models.queries import TaskQuerySet
from sisy.models.timing import ONCE, TaskTiming
from sisy.rows.run import Run
from sisy.transitions import endings, planning
from sisy.transitions.atomic import announce_tasks, tried_again, write


class Task(TaskTiming):
    """What to call, when, and with what.

    Create one with `task_with_callable` and save it, or with `Task.run_once` and `Task.run_iterations`.
    """

    Overlap = Overlap
    Misfire = Misfire

    objects = TaskQuerySet.as_manager()

    current_run: Run | None = None
    """The run that is being executed; set on the task that a task function receives."""

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        permissions = [("run_task", _("Can run a task now")), ("pause_task", _("Can pause and resume a task"))]
        constraints = [
            models.CheckConstraint(
                condition=Q(end_running=None) | Q(start_running=None) | Q(end_running__gt=F("start_running")),
                name="sisy_task_ends_after_start",
            ),
            models.CheckConstraint(condition=Q(priority__gte=-100, priority__lte=100), name="sisy_task_priority"),
            models.CheckConstraint(condition=Q(error="") | Q(enabled=False), name="sisy_task_parked_is_disabled"),
        ]
        indexes = [
            models.Index(fields=["enabled", "next_run", "id"], name="sisy_task_due"),
            models.Index(fields=["callable"], name="sisy_task_callable"),
        ]

    _loaded: ClassVar[dict[str, Any]] = {}  # instances have their own: the user's columns as the database has them
    _userdata_seen: str | None = ""  # what userdata was when it was first looked at; None: it was replaced

    def __str__(self) -> str:
        return self.label or self.callable

    @classmethod
    def from_db(cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any) -> Self:
        """Remember what was loaded, so that saving writes only what was changed."""
        task = super().from_db(db, field_names, values, **more)
        task._loaded = dict(zip(field_names, values, strict=False))  # type: ignore[misc]
        return task

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Self] | None = None,
    ) -> None:
        """Read the row again, forgetting what was changed in this instance."""
        names = None if fields is None else list(fields)
        super().refresh_from_db(using=using, fields=names, from_queryset=from_queryset)
        self.remember(names)
        if names is None or "_extra_data" in names:
            self._userdata_seen = ""

    # What a task says ------------------------------------------------------------------------------------------------

    @property
    def userdata(self) -> dict[str, Any]:
        """The user's own data: a dict of strict JSON. What a task function changes in it is kept."""
        if self._userdata_seen == "":
            self._userdata_seen = jsondata.canonical(self._extra_data)
        return self._extra_data  # type: ignore[no-any-return]

    @userdata.setter
    def userdata(self, value: dict[str, Any]) -> None:
        self._extra_data = jsondata.checked_userdata(value, max_bytes=conf.current().userdata_max_bytes)
        self._userdata_seen = None

    @property
    def userdata_changed(self) -> bool:
        """Whether userdata differs from what was loaded or last saved."""
        if self._userdata_seen == "":  # nobody looked at it; a form may have replaced the column
            return "_extra_data" in self.__dict__ and self._loaded.get("_extra_data") is not self._extra_data
        return self._userdata_seen is None or jsondata.canonical(self._extra_data) != self._userdata_seen

    # Checking and saving ---------------------------------------------------------------------------------------------

    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Check each column; durations may be numbers of seconds here too."""
        for field in self._meta.concrete_fields:
            value = self.__dict__.get(field.attname)
            if isinstance(field, models.DurationField) and isinstance(value, int | float):
                try:
                    setattr(self, field.attname, instants.to_duration(value, field=field.name))
                except InvalidInput as error:
                    raise ValidationError({field.name: str(error)}) from error
        super().clean_fields(exclude=exclude)

    def clean(self) -> None:
        """Check every value.

        Raises:
            ValidationError: all problems, by field.
        """
        super().clean()
        found: dict[str, list[str]] = {}
        for problem in self._all_problems():
            field = "_extra_data" if problem.field == "userdata" else problem.field
            found.setdefault(field or "__all__", []).append(str(problem))
        if found:
            raise ValidationError(found)

    def _all_problems(self) -> Iterator[InvalidInput]:
        if not self._state.adding:
            yield from problems(self)
            return
        self.created_at = timezone.now()
        found = list(problems(self))
        yield from found
        if not found:
            try:
                prepare(self, now=self.created_at)
            except InvalidInput as error:  # there is no slot before its end
                yield error

    def check_values(self, columns: Collection[str] | None = None) -> None:
        """Check values and put them into their stored form.

        Raises:
            InvalidInput: the first problem.
        """
        for problem in problems(self, columns):
            raise problem

    def save(
        self,
        *,
        force_insert: bool | tuple[models.base.ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Create the task, active from here on; or write those of the user's columns that this instance changed.

        When that changes the timing, the next slot is computed from now; nothing is made up for.

        Raises:
            InvalidInput: a value is wrong; nothing was written.
            TaskGone: the row does not exist any more.
        """
        if self._state.adding:
            create(self, using=using)
        else:
            self._edit(using=using, update_fields=update_fields)

    @tried_again
    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete the task; its runs stay, without a reference to it. What waits is cancelled, what runs goes on."""
        with write():
            lock_rows(type(self), [self.pk])
            announce_tasks("deleted", [copy(self)])
            return super().delete(using=using, keep_parents=keep_parents)

    def _edit(self, *, using: str | None, update_fields: Iterable[str] | None) -> None:
        changed = self._changed_columns()
        if update_fields is not None:
            changed &= {"_extra_data" if name == "userdata" else name for name in update_fields}
        self.check_values(changed)
        now = self.modified_at = timezone.now()
        with write():
            row = planning.locked_row(self)
            for name in changed:
                setattr(row, name, getattr(self, name))
            row.check_values(changed)  # together with what somebody else wrote meanwhile
            mended = row.error and changed & {*TIMING_COLUMNS, "callable", "instance_pk", "instance_db"}
            if mended:
                self.error = ""  # in the same UPDATE: an enabled task has no error
            super().save(using=using, update_fields=[*changed, "modified_at", *(["error"] if mended else [])])
            if changed & TIMING_COLUMNS:
                planning.reschedule(self, now=now)
            else:
                announce_tasks("edited", [self])
        self.remember(changed)

    def _changed_columns(self) -> set[str]:
        """Return the user's columns that differ from what was loaded."""
        columns = set()
        for field in self._meta.concrete_fields:
            name = field.attname
            if name in SCHEDULER_COLUMNS or field.primary_key or name not in self.__dict__ or name == "_extra_data":
                continue
            if name not in self._loaded or self._loaded[name] != self.__dict__[name]:
                columns.add(name)
        return columns | ({"_extra_data"} if self.userdata_changed else set())

    def remember(self, columns: Collection[str] | None = None) -> None:
        """Take what this instance holds as what the database has."""
        names = [field.attname for field in self._meta.concrete_fields] if columns is None else columns
        self._loaded = {**self._loaded, **{name: self.__dict__[name] for name in names if name in self.__dict__}}  # type: ignore[misc]
        if self._userdata_seen != "" and "_extra_data" in names:
            self._userdata_seen = jsondata.canonical(self._extra_data)  # a function may still hold the dict

    # Verbs -----------------------------------------------------------------------------------------------------------

    def run_asap(self) -> Run:
        """Create a run now, next to the schedule: the next slot stays where it is, a paused task stays paused.

        It counts as an iteration, and the overlap policy holds: the run may be SKIPPED with its reason.

        Raises:
            TaskGone, TaskExhausted, TaskParked: no run was created.
        """
        return planning.enqueue_now(self, now=timezone.now())

    def pause(self) -> bool:
        """Create no runs until `resume`; return whether it was not paused already. What is running goes on.

        Raises:
            TaskGone: the row does not exist any more.
        """
        paused = planning.pause(self)
        self.remember({"enabled"})
        return paused

    def resume(self) -> None:
        """Create runs again from the next slot after now on; nothing is made up for. A task's error is forgotten.

        Raises:
            InvalidSchedule: the row still has the error for which it was parked.
            TaskGone: the row does not exist any more.
        """
        planning.reschedule(self, now=timezone.now(), resume=True)
        self.remember({"enabled"})

    def cancel(self) -> int:
        """Cancel its runs that wait or run; a delayed one-shot as a whole. Return how many.

        The schedule stays: `pause` stops that, `delete` removes the task.
        """
        return endings.cancel_task(self, now=timezone.now())

    def unsaved_run(self, *, now: datetime) -> Run:
        """Return an ad hoc run of this task that is not saved yet."""
        return planning.run_of(self, slot=None, now=now)

    async def arun_asap(self) -> Run:
        """As `run_asap`, in async code."""
        return await sync_to_async(self.run_asap)()

    async def apause(self) -> bool:
        """As `pause`, in async code."""
        return await sync_to_async(self.pause)()

    async def aresume(self) -> None:
        """As `resume`, in async code."""
        await sync_to_async(self.resume)()

    async def acancel(self) -> int:
        """As `cancel`, in async code."""
        return await sync_to_async(self.cancel)()

    # Odd jobs --------------------------------------------------------------------------------------------------------

    @classmethod
    def new(cls, the_callable: Callable[..., object] | str, **columns: Any) -> Self:
        """Return an unsaved task for a callable, checked; see `task_with_callable`."""
        task = cls._unchecked(the_callable, **columns)
        task.check_values()
        return task

    @classmethod
    def _unchecked(cls, the_callable: Any, *, pk_override: object = None, **columns: Any) -> Self:
        if isinstance(the_callable, str):
            registry.check_allowed(the_callable, conf.current().allowed_callables)  # before it is imported
        target = callables.target_of(the_callable, pk_override=pk_override)
        given = {name: value for name, value in columns.items() if value is not None}
        found = {"callable": target.path, "instance_pk": target.instance_pk, "instance_db": target.instance_db}
        return cls(**{**found, **given, "created_at": timezone.now()})

    @classmethod
    def run_once(
        cls,
        the_callable: Callable[..., object] | str,
        userdata: dict[str, Any] | None = None,
        delay_until: datetime | None = None,
        **columns: Any,
    ) -> Self:
        """Run a callable once, now or later; the task is deleted when the run has ended, the run is kept.

        Args:
            the_callable: as for task_with_callable.
            userdata: the user's own data, or None for an empty dict.
            delay_until: when to run, aware; None for as soon as possible.
            columns: any other field of Task, and pk_override.

        Raises:
            InvalidInput: something given is wrong; nothing was stored.
        """
        task = cls._unchecked(the_callable, userdata=userdata, schedule=ONCE, iterations=1, **columns)
        task.start_running = instants.to_later(delay_until, field="delay_until", now=timezone.now())
        task.save()
        return task

    @classmethod
    def run_iterations(
        cls,
        the_callable: Callable[..., object] | str,
        iterations: int = 1,
        schedule: str | timedelta | None = None,
        userdata: dict[str, Any] | None = None,
        label: str | None = None,
        run_immediately: bool = False,
        delay_until: datetime | None = None,
        **columns: Any,
    ) -> Self:
        """Run a callable a number of times on a schedule; then the task is deleted, its runs are kept.

        Args:
            the_callable: as for task_with_callable.
            iterations: how many runs.
            schedule: when, or None for SISY["DEFAULT_SCHEDULE"].
            userdata: the user's own data, or None for an empty dict.
            label: a name for people, or None for the callable's path.
            run_immediately: whether the first run does not wait for the schedule.
            delay_until: no run before it, aware; with run_immediately the first run is at that instant.
            columns: any other field of Task, and pk_override.

        Raises:
            InvalidInput: something given is wrong; nothing was stored.
        """
        columns |= {"label": label, "schedule": schedule, "userdata": userdata, "iterations": iterations}
        task = cls.new(the_callable, **columns)
        task.wait_for_schedule = not run_immediately
        later = instants.to_later(delay_until, field="delay_until", now=timezone.now())
        task.start_running = later or task.start_running
        task.save()
        return task

    @classmethod
    def bulk_run_once(
        cls, the_callable: Callable[..., object] | str, userdatas: Iterable[dict[str, Any]], **columns: Any
    ) -> list[Self]:
        """Run a callable once for each userdata, as soon as possible; all are stored, or none.

        Args:
            the_callable: as for task_with_callable.
            userdatas: one dict for each run.
            columns: any other field of Task, and pk_override.

        Raises:
            InvalidInput: something given is wrong; nothing was stored.
        """
        first = cls.new(the_callable, schedule=ONCE, iterations=1, **columns)
        return insert_copies(first, userdatas, now=timezone.now())

    @classmethod
    async def arun_once(cls, *args: Any, **kwargs: Any) -> Self:
        """As `run_once`, in async code."""
        return await sync_to_async(cls.run_once)(*args, **kwargs)

    @classmethod
    async def arun_iterations(cls, *args: Any, **kwargs: Any) -> Self:
        """As `run_iterations`, in async code."""
        return await sync_to_async(cls.run_iterations)(*args, **kwargs)

    @classmethod
    async def abulk_run_once(cls, *args: Any, **kwargs: Any) -> list[Self]:
        """As `bulk_run_once`, in async code."""
        return await sync_to_async(cls.bulk_run_once)(*args, **kwargs)
