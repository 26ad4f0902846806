"""What the rows of worker and heartbeat processes share: where it runs, since when, and its last sign of life.

For people to look at; nothing is decided by these rows. A process writes its own, by the database's clock.
"""

import os
import socket
import uuid
from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

import sisy
from sisy.rows.clock import DatabaseNow


class ProcessQuerySet(models.QuerySet[Any]):
    """Processes by whether they were heard of."""

    def alive(self, age: timedelta) -> Self:
        """Processes that have not said goodbye, and gave a sign of life within this time."""
        return self.seen_within(age).filter(stopped_at=None)

    def seen_within(self, age: timedelta) -> Self:
        """Processes that gave a sign of life within this time, by the database's clock."""
        return self.filter(seen_at__gte=before_now(age))

    def unseen_for(self, age: timedelta) -> Self:
        """Processes that were not heard of for this long, by the database's clock."""
        return self.filter(seen_at__lt=before_now(age))

    def sign(self, key: uuid.UUID, **columns: Any) -> None:
        """Give a sign of life of this process; its row begins with the first one.

        Args:
            key: the row's key.
            columns: what the row says beside the host and its like.
        """
        if not self.filter(pk=key).update(seen_at=DatabaseNow()):  # two threads may find that at once
            self.bulk_create([self.model(id=key, **self._here(), **columns)], ignore_conflicts=True)

    def leave(self, key: uuid.UUID) -> None:
        """Write that one process has ended."""
        self.filter(pk=key).update(stopped_at=DatabaseNow())

    def _here(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname()[:255], "pid": os.getpid(), "version": sisy.__version__,
            "started_at": DatabaseNow(), "seen_at": DatabaseNow(),
        }  # fmt: skip


class Process(models.Model):
    """One process from its start to its end."""

    id = models.UUIDField(primary_key=True, editable=False)
    host = models.CharField(_("host"), max_length=255)
    pid = models.PositiveIntegerField(_("process"))
    version = models.CharField(_("version of sisy"), max_length=32)
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("seen at"))
    stopped_at = models.DateTimeField(_("stopped at"), null=True)

    objects = ProcessQuerySet.as_manager()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


def before_now(age: timedelta) -> "models.ExpressionWrapper[Any]":
    """Return the instant this long ago, by the database's clock."""
    return models.ExpressionWrapper(DatabaseNow() - age, models.DateTimeField())
