"""An app for the processes of the fault tests: it damages its own process, as SISY_TEST_SABOTAGE says (JSON).

failures      the share of transactions that fail, at a random place: before or after a statement or the commit
while         the path of a file: they fail as long as it is there
seed          of the chance
clock         seconds by which this process's clock is ahead
options       OPTIONS of the default database, on top of those of the settings
"""

import json
import os
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.apps import AppConfig
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils import timezone

VARIABLE = "SISY_TEST_SABOTAGE"

FRAME = ("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK")  # of a transaction; not statements of their own


def wanted() -> dict[str, Any]:
    """Return what the environment asks for."""
    return dict(json.loads(os.environ.get(VARIABLE, "{}")))


class Sabotage(AppConfig):
    """Does the damage once the apps are loaded."""

    name = "tests.faults"
    label = "sabotage"

    def ready(self) -> None:
        if share := wanted().get("failures"):
            chance = random.Random(f"{wanted()['seed']} {os.getpid()}")
            FailingTransactions(share, chance=chance, while_there_is=wanted()["while"]).install()
        if seconds := wanted().get("clock"):
            shift_clock(timedelta(seconds=seconds))


def shift_clock(by: timedelta) -> None:
    """Make the clock of this process differ from the true one."""
    true_now: Callable[[], datetime] = timezone.now
    timezone.now = lambda: true_now() + by


class FailingTransactions:
    """Makes a share of the transactions fail, as they do on a database that loses connections.

    Each transaction, and each statement outside of one, is doomed by chance. A doomed one fails at one of its first
    statements or at its commit, before that takes effect or after it has.
    """

    def __init__(self, share: float, *, chance: random.Random, while_there_is: str) -> None:
        self._file = while_there_is
        self._share = share
        self._chance = chance

    def install(self) -> None:
        """Take hold of every connection that this process opens from now on."""
        connection_created.connect(self._watch, weak=False, dispatch_uid="sabotage")
        commit, fail = BaseDatabaseWrapper._commit, self._fail

        def doomed_commit(wrapper: Any) -> None:
            doom = wrapper.__dict__.pop("sabotage_doom", None)
            if doom is None or doom["afterwards"]:
                commit(wrapper)
            if doom is not None:
                fail(wrapper, "COMMIT", afterwards=doom["afterwards"])

        BaseDatabaseWrapper._commit = doomed_commit

    def _watch(self, connection: Any, **_: Any) -> None:
        if connection.alias == "default" and self._statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._statement)

    def _statement(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        connection = context["connection"]
        if sql.startswith(FRAME):
            return execute(sql, params, many, context)
        if not connection.in_atomic_block or not connection.__dict__.get("sabotage_drawn"):
            self._draw(connection)
        connection.sabotage_drawn = connection.in_atomic_block
        doom = connection.__dict__.get("sabotage_doom")
        if doom is None:
            return execute(sql, params, many, context)
        doom["statements"] -= 1
        if doom["statements"] >= 0:
            return execute(sql, params, many, context)
        del connection.sabotage_doom
        if doom["afterwards"]:
            execute(sql, params, many, context)
        return self._fail(connection, sql[:60], afterwards=doom["afterwards"])

    def _draw(self, connection: Any) -> None:
        """Draw the lot of a transaction that begins."""
        connection.__dict__.pop("sabotage_doom", None)
        if self._chance.random() < self._share and os.path.exists(self._file):
            statements = self._chance.randrange(8) if connection.in_atomic_block else 0
            connection.sabotage_doom = {"statements": statements, "afterwards": self._chance.random() < 0.5}

    def _fail(self, connection: Any, what: str, *, afterwards: bool) -> Any:
        if connection.vendor == "postgresql":  # gone, and nobody has told Django
            connection.connection.close()
            connection.errors_occurred = True
        raise OperationalError(f"sabotage: the connection was lost {'after' if afterwards else 'before'} {what}")
