"""The Heartbeat row: one process that ticks; worker/heartbeat.py writes it, health.py and the admin show it."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from sisy.rows.process import Process


class Heartbeat(Process):
    """One process that ticks."""

    interval = models.DurationField(_("interval"))

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")
