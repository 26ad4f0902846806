"""Functions to run as tasks: those with @sisy.task are registered and can be chosen in the admin, the others not."""

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any

import sisy

from . import ledger
from .models import Ledger

Message = dict[str, Any]


@sisy.task
def note(message: Message) -> None:
    """Write down that it ran."""
    Ledger.write(message, "note")


@sisy.task
async def anote(message: Message) -> None:
    """Write down that it ran, asynchronously."""
    await Ledger.awrite(message, "anote")


@sisy.task
def fail(message: Message) -> None:
    """Raise, each time."""
    with ledger.entry(message, "fail"):
        raise RuntimeError("the shop is on fire")


@sisy.task
async def afail(message: Message) -> None:
    """Raise, each time, asynchronously."""
    with ledger.entry(message, "afail"):
        raise RuntimeError("the shop is on fire")


@sisy.task
def slow(message: Message) -> None:
    """Sleep for userdata["seconds"], in slices: an exception raised in a thread arrives between two of them."""
    with ledger.entry(message, "slow"):
        end = time.monotonic() + message["task"].userdata["seconds"]
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))


async def aslow(message: Message) -> None:
    """Sleep for userdata["seconds"], asynchronously."""
    with ledger.entry(message, "aslow"):
        await asyncio.sleep(message["task"].userdata["seconds"])


@sisy.task
def count(message: Message) -> None:
    """Add one to userdata["n"]."""
    with ledger.entry(message, "count"):
        message["task"].userdata["n"] += 1


async def acount(message: Message) -> None:
    """Add one to userdata["n"], asynchronously."""
    with ledger.entry(message, "acount"):
        message["task"].userdata["n"] += 1


def politely(function: Callable[[Message], Any]) -> Callable[[Message], Any]:
    """Say please first."""

    @functools.wraps(function)
    def wrapper(message: Message) -> Any:
        ledger.append(kind="please", function=function.__name__)
        return function(message)

    return wrapper


@politely
def decorated(message: Message) -> None:
    """Write down that it ran, through a decorator."""
    Ledger.write(message, "decorated")


@politely
async def adecorated(message: Message) -> None:
    """The same; what the plain wrapper returns has to be awaited."""
    await Ledger.awrite(message, "adecorated")


def returns(message: Message) -> Any:
    """Return userdata["result"]."""
    with ledger.entry(message, "returns"):
        return message["task"].userdata["result"]


def returns_an_object(message: Message) -> object:
    """Return what JSON can't say."""
    with ledger.entry(message, "returns_an_object"):
        return object()


def exits(message: Message) -> None:
    """Try to take the worker along."""
    with ledger.entry(message, "exits"):
        raise SystemExit(3)
