"""The databases that contenders use: each its own, made anew for each measurement.

Only the contenders' side imports this, in an environment that has the clients.
"""

import os
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

POSTGRESQL: Final = os.environ.get("BENCHMARK_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432")
REDIS: Final = os.environ.get("BENCHMARK_REDIS", "redis://127.0.0.1:6379/9")
RUN: Final = os.environ.get("BENCHMARK_RUN", "")
"""What tells this run of the benchmarks from another one at the same time."""

MARK: Final = "sisy-benchmarks"
"""A key in Redis that says that this database is for benchmarks and may be emptied."""


def database(contender: str) -> str:
    """Return the name of a contender's database."""
    return f"sisy_benchmarks_{contender}{RUN}"


def url(contender: str, *, scheme: str = "postgresql") -> str:
    """Return the address of a contender's database."""
    return f"{scheme}://{POSTGRESQL.split('://', 1)[1]}/{database(contender)}"


def django_database(contender: str) -> dict[str, Any]:
    """Return the address of a contender's database as an entry of DATABASES."""
    parts = urlsplit(POSTGRESQL)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database(contender),
        "HOST": parts.hostname,
        "PORT": parts.port,
        "USER": parts.username,
        "PASSWORD": parts.password,
    }


def create_database(contender: str, migrate: Callable[[], None]) -> None:
    """Make a contender's database and keep a copy of it as it is before the first job."""
    name = database(contender)
    _copy(name, of="template1")
    migrate()
    _copy(f"{name}_fresh", of=name)


def reset_database(contender: str) -> None:
    """Put a contender's database back to what it was before the first job."""
    name = database(contender)
    _copy(name, of=f"{name}_fresh")


def drop_databases(contender: str) -> None:
    """Drop a contender's database and its copy."""
    for name in (database(contender), f"{database(contender)}_fresh"):
        _maintain(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def transactions(contender: str) -> int:
    """Return how many transactions a contender's database has seen; reading it is none of them."""
    query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"
    return int(_maintain(query, database(contender))[0][0])


def postgresql_version() -> str:
    """Return the server's version and the settings that matter for durability."""
    version = _maintain("SHOW server_version")[0][0]
    fsync, commit = _maintain("SHOW fsync")[0][0], _maintain("SHOW synchronous_commit")[0][0]
    return f"{version.split()[0]}, fsync {fsync}, synchronous_commit {commit}"


def empty_redis() -> None:
    """Empty the Redis database of the benchmarks.

    Raises:
        RuntimeError: it holds keys of somebody else.
    """
    import redis  # only some contenders' environments have it

    with redis.Redis.from_url(REDIS) as client:
        if client.dbsize() and not client.exists(MARK):
            raise RuntimeError(f"{REDIS} is not empty. Give the benchmarks a database of their own: --redis URL")
        client.flushdb()
        client.set(MARK, "may be emptied")


def _copy(name: str, *, of: str) -> None:
    _maintain(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    if of != "template1":  # a session that lingers, the one that has just migrated among them, forbids the copy
        _maintain("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", of)
    _maintain(f'CREATE DATABASE "{name}" TEMPLATE "{of}"')


def _maintain(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    import psycopg  # only some contenders' environments have it

    with psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []
