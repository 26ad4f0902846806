"""The Worker row: one worker process.

pump.py writes it when the worker starts, keeper.py each time it renews the leases. Whether a run is lost is judged by
the run's own lease, never by this row.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _

from sisy.rows.process import Process


class Worker(Process):
    """One worker process."""

    queues = models.JSONField(_("queues"), null=True, help_text=_("Empty: all queues."))
    concurrency = models.PositiveIntegerField(_("concurrency"))

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
