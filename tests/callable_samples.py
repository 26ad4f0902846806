"""What may be a task, and what may not: functions, classes and models for the tests of callables, paths and registry.

The models have no tables. Their rows can't be printed, because an error's text must never run a model's own code.
"""

import functools
import json
import uuid
from types import MethodType

from django.db import models


def keeps_the_name(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def loses_the_name(function):
    def wrapper(message):
        return function(message)

    return wrapper


def plain(message):
    return "plain", message


async def awaited(message):
    return "awaited", message


def with_default(message=None):
    return "with_default", message


def by_position_only(message, /):
    return "by_position_only", message


@keeps_the_name
@keeps_the_name
def wrapped(message):
    return "wrapped", message


@keeps_the_name
async def awaited_wrapped(message):
    return "awaited_wrapped", message


@loses_the_name
def nameless(message):
    return "nameless", message


def no_parameter():
    """Not a task function."""


def two_parameters(message, other):
    """Not a task function."""


def optional_second(message, other=None):
    """Not a task function."""


def another_name(msg):
    """Not a task function."""


def keyword_only(*, message):
    """Not a task function."""


def any_number(*message):
    """Not a task function."""


def any_keywords(message, **keywords):
    """Not a task function."""


@keeps_the_name
def wrapped_wrong(message, other):
    """Not a task function."""


def generator(message):
    yield message


async def async_generator(message):
    yield message


def nested():
    def inner(message):
        """Not a task function."""

    return inner


def shadowed(message):
    """Hidden by the next one."""


hidden = shadowed


def shadowed(message):
    """Hides the one before."""


a_lambda = lambda message: None  # noqa: E731 -- a lambda is the sample
a_partial = functools.partial(two_parameters, other=1)
a_constant = 7
nothing = None


class Plain:
    @classmethod
    def of_class(cls, message):
        return f"{cls.__name__}.of_class", message

    @classmethod
    async def awaited_of_class(cls, message):
        return f"{cls.__name__}.awaited_of_class", message

    @classmethod
    @keeps_the_name
    def wrapped_of_class(cls, message):
        return f"{cls.__name__}.wrapped_of_class", message

    @staticmethod
    def static(message):
        return "static", message

    @staticmethod
    async def awaited_static(message):
        return "awaited_static", message

    @classmethod
    def wrong_of_class(cls, first, message):
        """Not a task function."""

    def method(self, message):
        """Not a task function: no worker can find the object again."""

    def __call__(self, message):
        """Not a task function either."""

    class Inner:
        @classmethod
        def of_class(cls, message):
            return f"{cls.__name__}.of_class", message

        @staticmethod
        def static(message):
            return "inner static", message


class Child(Plain):
    """Inherits all of its methods."""


an_object = Plain()
bound_to_an_object = an_object.method


class Mixin:
    def from_mixin(self, message):
        return "from_mixin", self.pk, message


class Sample(Mixin, models.Model):
    class Meta:
        abstract = True

    def __str__(self):
        raise AssertionError("an error's text ran a model's own code")

    __repr__ = __str__

    def remind(self, message):
        return "remind", self.pk, message

    async def awaited(self, message):
        return "awaited", self.pk, message

    @keeps_the_name
    def wrapped(self, message):
        return "wrapped", self.pk, message

    @classmethod
    def nightly(cls, message):
        return f"{cls.__name__}.nightly", message

    @staticmethod
    def static(message):
        return "static", message

    def _private(self, message):
        """Not a task function."""

    def wrong(self, message, other):
        """Not a task function."""

    def without_message(self):
        """Not a task function."""

    def without_self():
        """Not a task function."""

    fixed = functools.partialmethod(wrong, other=1)


class Order(Sample):
    class Meta:
        app_label = "samples"
        managed = False


class UuidOrder(Sample):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    class Meta:
        app_label = "samples"
        managed = False


class TextOrder(Sample):
    code = models.CharField(primary_key=True, max_length=50)

    class Meta:
        app_label = "samples"
        managed = False


class DatedOrder(Sample):
    at = models.DateTimeField(primary_key=True)

    class Meta:
        app_label = "samples"
        managed = False


class BinaryOrder(Sample):
    digest = models.BinaryField(primary_key=True)

    class Meta:
        app_label = "samples"
        managed = False


class ProxyOrder(Order):
    class Meta:
        app_label = "samples"
        proxy = True

    def only_proxy(self, message):
        return "only_proxy", self.pk, message


class ChildOrder(Order):
    note = models.CharField(max_length=50)

    class Meta:
        app_label = "samples"
        managed = False

    def remind(self, message):
        return "child remind", self.pk, message

    @property
    def parent_remind(self):
        return super().remind


class ChildOfUuid(UuidOrder):
    class Meta:
        app_label = "samples"
        managed = False


class ItemOfOrder(Sample):
    pk = models.CompositePrimaryKey("tenant", "number")
    tenant = models.UUIDField()
    number = models.IntegerField()

    class Meta:
        app_label = "samples"
        managed = False


class JsonKeyField(models.JSONField):
    """Has no text form that reads back as the same value, so its rows can't be found again."""

    def to_python(self, value):
        return json.dumps(value)


class LossyOrder(Sample):
    key = JsonKeyField(primary_key=True)

    class Meta:
        app_label = "samples"
        managed = False


class Outer:
    class NestedOrder(Sample):
        class Meta:
            app_label = "samples"
            managed = False


def saved(model, *, db="default", **fields):
    """Make a row that looks as if it came from a database."""
    return model.from_db(db, list(fields), list(fields.values()))


def monkeypatched(row):
    """Put another function in the place of a row's method."""
    row.remind = MethodType(two_parameters, row)
    return row.remind
