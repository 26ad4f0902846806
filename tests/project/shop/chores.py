"""More functions to run as tasks, each for one question of the row-level tests; none is registered.

Those of Clerk are class and static methods of a class that is no model, plain, async and decorated.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .models import Ledger
from .politeness import please

Message = dict[str, Any]


def politely_note(message: Message) -> None:
    """Written without @, as some decorators are applied."""
    Ledger.write(message, "politely_note")


politely_note = please(politely_note)


class Clerk:
    """Nobody's row."""

    @classmethod
    def file(cls, message: Message) -> None:
        Ledger.write(message, f"{cls.__qualname__}.file")

    @classmethod
    async def afile(cls, message: Message) -> None:
        await Ledger.awrite(message, f"{cls.__qualname__}.afile")

    @classmethod
    @please
    def file_politely(cls, message: Message) -> None:
        Ledger.write(message, f"{cls.__qualname__}.file_politely")

    @classmethod
    @please
    async def afile_politely(cls, message: Message) -> None:
        await Ledger.awrite(message, f"{cls.__qualname__}.afile_politely")

    @staticmethod
    def stamp(message: Message) -> None:
        Ledger.write(message, "Clerk.stamp")

    @staticmethod
    async def astamp(message: Message) -> None:
        await Ledger.awrite(message, "Clerk.astamp")

    @staticmethod
    @please
    def stamp_politely(message: Message) -> None:
        Ledger.write(message, "Clerk.stamp_politely")

    @staticmethod
    @please
    async def astamp_politely(message: Message) -> None:
        await Ledger.awrite(message, "Clerk.astamp_politely")

    class Drawer:
        """One class further in."""

        class Folder:
            """And one more."""

            @classmethod
            def open(cls, message: Message) -> None:
                Ledger.write(message, f"{cls.__qualname__}.open")

            @staticmethod
            @please
            def close(message: Message) -> None:
                Ledger.write(message, "Clerk.Drawer.Folder.close")


class Apprentice(Clerk):
    """Inherits its methods: a class method must get this class, not the parent."""


def does(message: Message) -> Any:
    """Do what the test put in place of `action` with `doing`; stored by its path like any other function."""
    return action(message)


async def adoes(message: Message) -> Any:
    """The same for a coroutine function."""
    return await action(message)


def nothing(message: Message) -> None:
    """Do nothing."""


action: Callable[[Message], Any] = nothing


@contextmanager
def doing(function: Callable[[Message], Any]) -> Iterator[None]:
    """Make `does` and `adoes` call a function of the test's own, which could not be a task itself."""
    global action
    before, action = action, function
    try:
        yield
    finally:
        action = before
