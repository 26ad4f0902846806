"""Rows whose methods are run as tasks: integer, UUID and string keys, a proxy, a child, a manager that hides rows.

Every method writes a Ledger row (what a test in the same process looks at) and lines in the ledger file (what a flow
test looks at); the note says which method it was and of which row.
"""

import uuid
from typing import Any

from django.db import models
from django.utils import timezone

from . import heard, ledger
from .politeness import please


class Ledger(models.Model):
    """One row for each call that came to its end."""

    note = models.CharField(max_length=200)
    task_label = models.CharField(max_length=255)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.note} ({self.task_label})"

    @classmethod
    def write(cls, message: dict[str, Any], note: str) -> None:
        heard.hear(message, note)
        with ledger.entry(message, note):
            cls.objects.create(note=note, task_label=message["task"].label)

    @classmethod
    async def awrite(cls, message: dict[str, Any], note: str) -> None:
        heard.hear(message, note)
        with ledger.entry(message, note):
            await cls.objects.acreate(note=note, task_label=message["task"].label)


class Reminding(models.Model):
    """Methods that the models below inherit from an abstract parent."""

    name = models.CharField(max_length=100)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    def remind(self, message: dict[str, Any]) -> None:
        Ledger.write(message, f"{type(self).__name__}.remind {self.name}")

    async def aremind(self, message: dict[str, Any]) -> None:
        await Ledger.awrite(message, f"{type(self).__name__}.aremind {self.name}")

    @please
    def remind_politely(self, message: dict[str, Any]) -> None:
        Ledger.write(message, f"{type(self).__name__}.remind_politely {self.name}")

    @please
    async def aremind_politely(self, message: dict[str, Any]) -> None:
        await Ledger.awrite(message, f"{type(self).__name__}.aremind_politely {self.name}")


class Order(models.Model):
    """An integer key, and every kind of method."""

    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name

    def remind(self, message: dict[str, Any]) -> None:
        Ledger.write(message, f"{type(self).__name__}.remind {self.name}")

    async def aremind(self, message: dict[str, Any]) -> None:
        await Ledger.awrite(message, f"{type(self).__name__}.aremind {self.name}")

    @please
    def remind_politely(self, message: dict[str, Any]) -> None:
        Ledger.write(message, f"{type(self).__name__}.remind_politely {self.name}")

    @please
    async def aremind_politely(self, message: dict[str, Any]) -> None:
        await Ledger.awrite(message, f"{type(self).__name__}.aremind_politely {self.name}")

    @classmethod
    def archive(cls, message: dict[str, Any]) -> None:
        Ledger.write(message, f"{cls.__name__}.archive")

    @classmethod
    async def aarchive(cls, message: dict[str, Any]) -> None:
        await Ledger.awrite(message, f"{cls.__name__}.aarchive")

    @staticmethod
    def audit(message: dict[str, Any]) -> None:
        Ledger.write(message, "Order.audit")

    @staticmethod
    async def aaudit(message: dict[str, Any]) -> None:
        await Ledger.awrite(message, "Order.aaudit")

    class Desk:
        """A class inside of a class."""

        @classmethod
        def open(cls, message: dict[str, Any]) -> None:
            Ledger.write(message, f"{cls.__qualname__}.open")

        @classmethod
        async def aopen(cls, message: dict[str, Any]) -> None:
            await Ledger.awrite(message, f"{cls.__qualname__}.aopen")

        @staticmethod
        def close(message: dict[str, Any]) -> None:
            Ledger.write(message, "Order.Desk.close")

        @staticmethod
        async def aclose(message: dict[str, Any]) -> None:
            await Ledger.awrite(message, "Order.Desk.aclose")


class RushOrder(Order):
    """A multi-table child: its key is a link to the parent's row."""

    fee = models.PositiveIntegerField(default=0)


class OrderProxy(Order):
    """The same rows under another class."""

    class Meta:
        proxy = True


class Parcel(Reminding):
    """A UUID key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


class Country(Reminding):
    """A key that is text."""

    code = models.CharField(max_length=20, primary_key=True)


class Nothing(models.Manager["HiddenOrder"]):
    """A default manager through which no row can be seen."""

    def get_queryset(self) -> models.QuerySet["HiddenOrder"]:
        return super().get_queryset().none()


class HiddenOrder(Reminding):
    """Rows that only the base manager finds."""

    objects = Nothing()
    everything = models.Manager()  # noqa: DJ012  not above: the first manager is the default one
