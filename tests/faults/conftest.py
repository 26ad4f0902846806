"""Fixtures of the fault tests: processes that can be sabotaged, and the invariants after each test."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from tests.faults import invariants
from tests.faults.proxy import Proxy
from tests.faults.sabotage import VARIABLE
from tests.faults.servers import PostgresqlServer, RedisServer
from tests.faults.stage import QUICK, Settled, database
from tests.flow.processes import Process, Processes, use_redis
from tests.project.shop import ledger

OWN_SERVERS = ("own_postgresql",)
"""Fixtures that lead this process to another database."""


@pytest.fixture
def manage(processes: Processes) -> Callable[..., Process]:
    """Start `manage.py COMMAND` with the settings of the fault tests; `sabotage` is for sabotage.py."""

    def start(*arguments: str, sabotage: dict[str, Any] | None = None, **options: Any) -> Process:
        options = {"settings": QUICK, "layer": "none", "DJANGO_SETTINGS_MODULE": "tests.faults.settings", **options}
        return processes.manage(*arguments, **options, **{VARIABLE: json.dumps(sabotage or {})})

    return start


@pytest.fixture
def own_redis(
    tmp_path: Path, redis_prefix: str, settings: Any, own_sender: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RedisServer]:
    """Start a Redis server: the channel layer of this process, and of those started with layer="redis"."""
    directory = tmp_path / "redis"
    directory.mkdir()
    with RedisServer(directory) as server:
        use_redis(server.url, redis_prefix, settings)
        monkeypatch.setenv("SISY_TEST_REDIS_URL", server.url)
        yield server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Start a PostgreSQL server for all tests of this process, with the tables in the database "migrated"."""
    with PostgresqlServer() as server:
        server.execute("CREATE DATABASE migrated")
        yield server


@pytest.fixture
def own_postgresql(
    postgresql_server: PostgresqlServer, flow_database: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[PostgresqlServer]:
    """Make a new database on it the one of this process and of those that it starts."""
    default = connections["default"]
    name = f"fault_{time.monotonic_ns()}"
    address = {"HOST": "127.0.0.1", "PORT": str(postgresql_server.port), "USER": "postgres", "PASSWORD": ""}
    default.close()
    for key, value in {**address, "NAME": "migrated"}.items():
        monkeypatch.setitem(default.settings_dict, key, value)
    call_command("migrate", verbosity=0)
    default.close()
    postgresql_server.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
    monkeypatch.setitem(default.settings_dict, "NAME", name)
    monkeypatch.setitem(flow_database, "SISY_TEST_DATABASE_NAME", name)
    for key, value in address.items():
        monkeypatch.setenv(f"SISY_TEST_POSTGRESQL_{key}", value)
    yield postgresql_server
    default.close()


@pytest.fixture
def database_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A way to the database server that all started processes take, and this process does not."""
    address = connections["default"].settings_dict
    with Proxy(address["HOST"], int(address["PORT"])) as proxy:
        kind = database().upper()
        monkeypatch.setenv(f"SISY_TEST_{kind}_HOST", "127.0.0.1")
        monkeypatch.setenv(f"SISY_TEST_{kind}_PORT", str(proxy.port))
        yield proxy


@pytest.fixture
def settle() -> Settled:
    """Call it at the end: `settle()`; and say `settle.lost_lines = True` where processes were killed."""
    return Settled()


@pytest.fixture(autouse=True)
def the_invariants_hold(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check the invariants on the rows, the ledger and the log lines that a test with processes has left."""
    if "processes" not in request.fixturenames:
        yield
        return
    for server in set(OWN_SERVERS) & set(request.fixturenames):
        request.getfixturevalue(server)  # before the others, so that it is there until they are torn down
    processes, settled = request.getfixturevalue("processes"), request.getfixturevalue("settle")
    caplog = request.getfixturevalue("caplog")
    caplog.set_level("INFO", logger="sisy")
    yield
    said = [*(process.output for process in processes.started), *caplog.messages]
    found = invariants.violations(
        started=ledger.lines(),
        log="\n".join(said),
        lost_lines=settled.lost_lines,
        max_crashes=settled.max_crashes,
    )
    assert found == []
