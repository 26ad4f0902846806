"""The Run row: one planned execution of a task, from READY to its final state. It outlives its task.

transitions/ is the only code that changes a Run; everybody else reads. Statuses follow django.tasks where that has a
word, the others are for what only a scheduler knows.
"""

import asyncio
import math
import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from sisy import signals
from sisy.errors import InvalidInput
from sisy.jsondata import printable
from sisy.rows.clock import DatabaseNow
from sisy.rows.indexes import LeanIndex
from sisy.rows.lookups import Among


class RunStatus(models.TextChoices):
    """The states of a run."""

    READY = "READY", _("Ready")
    RUNNING = "RUNNING", _("Running")
    SUCCESSFUL = "SUCCESSFUL", _("Successful")
    FAILED = "FAILED", _("Failed")
    CANCELLED = "CANCELLED", _("Cancelled")
    SKIPPED = "SKIPPED", _("Skipped")
    MISSED = "MISSED", _("Missed")
    LOST = "LOST", _("Lost")


ACTIVE = (RunStatus.READY, RunStatus.RUNNING)
"""The states that a run leaves again."""

_PROGRESS_EVERY = 0.5  # seconds: a loop that reports each step must not wait for the database each time
_MOST_LINES = 1000  # a run that logs without end must not fill the database

TROUBLE = (RunStatus.FAILED, RunStatus.LOST, RunStatus.MISSED)
"""The states that an operator looks for."""

_ACTIVE = Q(status__in=[str(status) for status in ACTIVE])


class RunQuerySet(models.QuerySet["Run"]):
    """Runs by what can be done with them."""

    def ready(
        self, now: datetime, *, queues: Sequence[str] | None = None, lacking: Collection[str] = ()
    ) -> "RunQuerySet":
        """Runs that may be claimed, in the order in which they should be.

        Args:
            now: runs that are to start later are left out.
            queues: only these queues; None for all.
            lacking: callables to leave out.
        """
        ready = self.filter(status=RunStatus.READY, run_after__lte=now)
        if queues is not None:
            ready = ready.filter(queue=queues[0]) if len(queues) == 1 else ready.filter(queue__in=queues)
        if lacking:
            ready = ready.exclude(callable__in=lacking)
        return ready.order_by("-priority", "run_after", "pk")

    def to_start(self, *, queues: Sequence[str] | None = None, lacking: Collection[str] = ()) -> "RunQuerySet":
        """Runs that may be claimed, now or later, the earliest first.

        Args:
            queues: only these queues; None for all.
            lacking: callables to leave out.
        """
        ready = self.filter(status=RunStatus.READY, run_after__isnull=False)
        if lacking:
            ready = ready.exclude(callable__in=lacking)
        if queues is not None:
            ready = ready.filter(queue__in=queues)
        return ready.order_by("run_after")

    def waiting(self) -> "RunQuerySet":
        """Runs that wait for another run of their task to end."""
        return self.filter(status=RunStatus.READY, run_after=None)

    def active(self) -> "RunQuerySet":
        """Runs that are not over."""
        return self.filter(_ACTIVE)

    def ended(self) -> "RunQuerySet":
        """Runs that are over."""
        return self.exclude(_ACTIVE)

    def in_trouble(self) -> "RunQuerySet":
        """Runs that failed, were lost, or stand for slots that were missed."""
        return self.filter(status__in=TROUBLE)

    def expired(self) -> "RunQuerySet":
        """Runs whose worker has not renewed its lease, by the database's clock."""
        return self.filter(status=RunStatus.RUNNING, lease_expires_at__lt=DatabaseNow())


class Run(models.Model):
    """One planned execution of a task."""

    task = models.ForeignKey(
        "sisy.Task",
        verbose_name=_("task"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="runs",
        db_index=False,  # the unique (task, slot) serves it
    )
    label = models.CharField(_("label"), max_length=255)
    callable = models.CharField(_("callable"), max_length=255)
    instance_pk = models.CharField(_("instance key"), max_length=255, null=True, blank=True)  # noqa: DJ001 - null: none
    instance_db = models.CharField(_("instance database"), max_length=64, blank=True)
    queue = models.CharField(_("queue"), max_length=64, default="default")
    priority = models.SmallIntegerField(_("priority"), default=0)
    at_most_once = models.BooleanField(_("at most once"), default=False)

    status = models.CharField(_("status"), max_length=10, choices=RunStatus.choices, default=RunStatus.READY)
    reason = models.CharField(_("reason"), max_length=255, blank=True)
    slot = models.DateTimeField(_("slot"), null=True, help_text=_("The instant this run is for; empty if ad hoc."))
    run_after = models.DateTimeField(
        _("run after"), null=True, help_text=_("Not before this; empty while it waits for another run of its task.")
    )
    enqueued_at = models.DateTimeField(_("enqueued at"))
    started_at = models.DateTimeField(_("started at"), null=True)
    finished_at = models.DateTimeField(_("finished at"), null=True)

    attempt = models.PositiveSmallIntegerField(_("attempt"), default=1)
    crashes = models.PositiveSmallIntegerField(_("crashes"), default=0)
    worker = models.UUIDField(_("worker"), null=True)
    claim = models.UUIDField(_("claim"), null=True)
    lease_expires_at = models.DateTimeField(_("lease expires at"), null=True)
    declined_at = models.DateTimeField(
        _("declined at"), null=True, help_text=_("Since when workers hand it back, as they lack its code.")
    )
    cancel_requested_at = models.DateTimeField(_("cancel requested at"), null=True)

    args = models.JSONField(_("arguments"), default=list)
    kwargs = models.JSONField(_("keyword arguments"), default=dict)
    userdata = models.JSONField(
        _("userdata"), null=True, help_text=_("What the task held before its last run, kept when the task is deleted.")
    )
    result = models.JSONField(_("result"), null=True)
    errors = models.JSONField(_("errors"), default=list, encoder=DjangoJSONEncoder)
    progress = models.JSONField(_("progress"), null=True)
    missed_count = models.PositiveIntegerField(_("missed count"), default=0)
    missed_since = models.DateTimeField(_("missed since"), null=True)

    objects = RunQuerySet.as_manager()

    _progress_written = -math.inf  # time.monotonic() of the last write
    _lines_logged = 0

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        get_latest_by = "enqueued_at"
        permissions = [("cancel_run", _("Can cancel a run")), ("retry_run", _("Can run a run again"))]
        constraints = [
            models.UniqueConstraint(fields=["task", "slot"], name="sisy_run_one_for_each_slot"),
            models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="sisy_run_known_status"),
            models.CheckConstraint(
                condition=Q(status=RunStatus.RUNNING, claim__isnull=False, lease_expires_at__isnull=False)
                | (~Q(status=RunStatus.RUNNING) & Q(claim__isnull=True, lease_expires_at__isnull=True)),
                name="sisy_run_running_is_claimed",
            ),
            models.CheckConstraint(
                condition=(_ACTIVE & Q(finished_at__isnull=True)) | (~_ACTIVE & Q(finished_at__isnull=False)),
                name="sisy_run_ended_is_finished",
            ),
        ]
        indexes = [
            LeanIndex(
                fields=["status", "-priority", "run_after", "id"],
                name="sisy_run_ready",
                only=Q(status=RunStatus.READY),
            ),
            LeanIndex(
                fields=["status", "queue", "-priority", "run_after", "id"],
                name="sisy_run_ready_by_queue",
                only=Q(status=RunStatus.READY),
            ),
            LeanIndex(fields=["status", "lease_expires_at"], name="sisy_run_lease", only=Q(status=RunStatus.RUNNING)),
            LeanIndex(fields=["status", "finished_at"], name="sisy_run_ended", only=Q(finished_at__isnull=False)),
            LeanIndex(fields=["task", "status"], name="sisy_run_active", only=_ACTIVE),
            models.Index(fields=["task", "id"], name="sisy_run_newest"),  # a task's newest runs, wherever it is shown
        ]

    def __str__(self) -> str:
        return f"{self.label} #{self.pk} {self.status}"

    @property
    def is_over(self) -> bool:
        """Whether the run has reached its final state."""
        return self.status not in ACTIVE

    @property
    def duration(self) -> timedelta | None:
        """Time between start and end, or None while there is none."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    @property
    def traceback(self) -> str:
        """The last attempt's traceback, or an empty string."""
        return str(self.errors[-1].get("traceback", "")) if self.errors else ""

    # What a task function says of its run -----------------------------------------------------------------------------

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to cancel the run; in a sync function this asks the database.

        In a coroutine it is what the worker knows, which looks once a second.
        """
        if self.cancel_requested_at is None and not _in_event_loop():
            found = Run.objects.filter(pk=self.pk).values_list("cancel_requested_at", flat=True).first()
            self.cancel_requested_at = found
        return self.cancel_requested_at is not None

    def set_progress(self, fraction: float, text: str = "") -> None:
        """Say how far the run is. Written at once, but at most twice a second; the last value is written at the end.

        Args:
            fraction: from 0 to 1.
            text: what it is doing, at most 255 characters.

        Raises:
            InvalidInput: fraction is not a number from 0 to 1.
        """
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise InvalidInput(f"fraction is {fraction!r}; it must be a number from 0 to 1.", field="fraction")
        self.progress = {"fraction": float(fraction), "text": printable(text, limit=255)}
        now = time.monotonic()
        if now - self._progress_written >= _PROGRESS_EVERY:
            self._progress_written = now
            if Run.objects.filter(pk=self.pk, claim=self.claim).update(progress=self.progress):
                signals.run_progressed.send_robust(sender=Run, run=self)

    def log(self, text: str) -> None:
        """Add a line to the run's own log; a run keeps its first 1,000 lines of at most 2,000 characters."""
        self._lines_logged += 1
        if self._lines_logged <= _MOST_LINES:
            RunLine.objects.create(run=self, attempt=self.attempt, at=timezone.now(), text=printable(text, limit=2000))
            signals.run_progressed.send_robust(sender=Run, run=self)

    async def aset_progress(self, fraction: float, text: str = "") -> None:
        """As `set_progress`, in a coroutine."""
        await sync_to_async(self.set_progress)(fraction, text)

    async def alog(self, text: str) -> None:
        """As `log`, in a coroutine."""
        await sync_to_async(self.log)(text)


Run._meta.get_field("id").register_lookup(Among)
Run._meta.get_field("task").register_lookup(Among)


class RunLine(models.Model):
    """A line that a task function wrote with `task.current_run.log`."""

    run = models.ForeignKey(Run, verbose_name=_("run"), on_delete=models.CASCADE, related_name="lines")
    attempt = models.PositiveSmallIntegerField(_("attempt"))
    at = models.DateTimeField(_("at"))
    text = models.TextField(_("text"))

    class Meta:
        verbose_name = _("log line")
        verbose_name_plural = _("log lines")
        ordering = ["pk"]
        default_permissions = ()

    def __str__(self) -> str:
        return self.text


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
