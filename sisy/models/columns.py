"""The columns of a task: what its user decides, and what only the scheduler writes.

models/task.py adds to them how a task is checked, saved and run.
"""

from datetime import timedelta
from typing import Final

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from sisy import conf
from sisy.cron import Schedule

SCHEDULER_COLUMNS: Final = frozenset(
    {"next_run", "last_run", "runs_created", "schedule_version", "hash_seed", "error", "created_at", "modified_at"}
)
"""What task.save() never writes to a row that exists (but for modified_at)."""

TIMING_COLUMNS: Final = frozenset({"schedule", "timezone", "start_running", "end_running", "iterations", "enabled"})
"""What moves the next slot when it changes."""


def default_schedule() -> str:
    """Return SISY["DEFAULT_SCHEDULE"] as a row stores it."""
    schedule = conf.current().default_schedule
    return schedule if isinstance(schedule, str) else Schedule(schedule).text


class Overlap(models.TextChoices):
    """What becomes of a new run while an older one of the same task is not over."""

    SKIP = "skip", _("Skip the new run")
    QUEUE = "queue", _("Let one run wait")
    ALLOW = "allow", _("Run both")
    REPLACE = "replace", _("Cancel the older run")


class Misfire(models.TextChoices):
    """What becomes of slots that passed while nothing ticked."""

    LATEST = "latest", _("Run the newest")
    ALL = "all", _("Run each of them")
    SKIP = "skip", _("Run none that is too old")


class TaskColumns(models.Model):
    """The columns of a task."""

    label = models.CharField(
        _("label"), max_length=255, blank=True, help_text=_("Its name for people; the callable's path if left empty.")
    )
    callable = models.CharField(_("callable"), max_length=255, help_text=_("Dotted path of the function to call."))
    instance_pk = models.CharField(  # noqa: DJ001 - null: there is no row; an empty string may be a key
        _("instance key"), max_length=255, null=True, blank=True, help_text=_("Primary key of the row, for its method.")
    )
    instance_db = models.CharField(_("instance database"), max_length=64, blank=True)
    schedule = models.CharField(
        _("schedule"),
        max_length=255,
        default=default_schedule,
        help_text=_("minute hour day month weekday [second], or @hourly, @daily, @every 90s, @once"),
    )
    timezone = models.CharField(
        _("time zone"), max_length=64, blank=True, help_text=_("An IANA name; the project's zone if left empty.")
    )
    enabled = models.BooleanField(_("enabled"), default=True, help_text=_("Runs are created only while it is enabled."))
    _extra_data = models.JSONField(_("userdata"), default=dict, blank=True)
    iterations = models.PositiveIntegerField(
        _("iterations"), default=0, help_text=_("How many runs to create in all; 0 for no limit.")
    )
    start_running = models.DateTimeField(_("start running"), null=True, blank=True)
    end_running = models.DateTimeField(_("end running"), null=True, blank=True)
    wait_for_schedule = models.BooleanField(
        _("wait for schedule"),
        default=True,
        help_text=_("If not, the first run starts as soon as the task is created."),
    )
    queue = models.CharField(_("queue"), max_length=64, default="default")
    priority = models.SmallIntegerField(
        _("priority"),
        default=0,
        validators=[MinValueValidator(-100), MaxValueValidator(100)],
        help_text=_("-100 to 100; higher ones run first."),
    )
    overlap = models.CharField(_("overlap"), max_length=7, choices=Overlap.choices, default=Overlap.SKIP)
    misfire = models.CharField(_("misfire"), max_length=6, choices=Misfire.choices, default=Misfire.LATEST)
    misfire_grace = models.DurationField(
        _("misfire grace"),
        default=timedelta(seconds=60),
        help_text=_('With "run none that is too old": how old a slot may be and still run.'),
    )
    max_attempts = models.PositiveSmallIntegerField(
        _("attempts"), default=1, validators=[MinValueValidator(1), MaxValueValidator(1000)]
    )
    retry_backoff = models.DurationField(
        _("retry backoff"), default=timedelta(seconds=10), help_text=_("Wait after the first failure; then it doubles.")
    )
    timeout = models.DurationField(_("timeout"), null=True, blank=True)
    at_most_once = models.BooleanField(
        _("at most once"), default=False, help_text=_("Never start a run again whose worker died.")
    )
    jitter = models.DurationField(
        _("jitter"), default=timedelta(0), blank=True, help_text=_("Delay runs by up to this much, to spread load.")
    )

    next_run = models.DateTimeField(_("next run"), null=True, editable=False)
    last_run = models.DateTimeField(_("last run"), null=True, editable=False)
    runs_created = models.PositiveBigIntegerField(_("runs created"), default=0, editable=False)
    hash_seed = models.CharField(_("seed of H"), max_length=32, blank=True, editable=False)
    schedule_version = models.PositiveBigIntegerField(_("schedule version"), default=0, editable=False)
    error = models.TextField(_("error"), blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), editable=False)
    modified_at = models.DateTimeField(_("modified at"), editable=False)

    class Meta:
        abstract = True
