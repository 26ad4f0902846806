"""The Worker row: one process from its start to its end. For people to look at; nothing is decided by it.

worker.py writes it when it starts and each time it renews its leases; whether a run is lost is judged by the run's own
lease.
"""

from datetime import timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _

from sisy.rows.clock import DatabaseNow


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers by whether they were heard of."""

    def seen_within(self, age: timedelta) -> "WorkerQuerySet":
        """Workers that wrote a sign of life within this time, by the database's clock."""
        return self.filter(seen_at__gte=models.ExpressionWrapper(DatabaseNow() - age, models.DateTimeField()))

    def unseen_for(self, age: timedelta) -> "WorkerQuerySet":
        """Workers that were not heard of for this long, by the database's clock."""
        return self.filter(seen_at__lt=models.ExpressionWrapper(DatabaseNow() - age, models.DateTimeField()))


class Worker(models.Model):
    """One worker process."""

    id = models.UUIDField(primary_key=True, editable=False)
    host = models.CharField(_("host"), max_length=255)
    pid = models.PositiveIntegerField(_("process"))
    version = models.CharField(_("version of sisy"), max_length=32)
    queues = models.JSONField(_("queues"), null=True, help_text=_("Empty: all queues."))
    concurrency = models.PositiveIntegerField(_("concurrency"))
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("seen at"))
    stopped_at = models.DateTimeField(_("stopped at"), null=True)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
