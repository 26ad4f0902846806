"""What a test run covers: the servers it needs, the tests left out without them, and a closing account of both.

SISY_TEST_REQUIRE names what must not be left out (postgresql, mariadb, redis, browser, axe, gettext, redis_server,
postgresql_server; with commas): the run fails at its start when one is out of reach, and at its end when no test has
used it. The databases: tests/project/settings.py. SISY_TEST_SOAK_SECONDS: tests/faults/test_soak.py.
"""

import importlib.util
import inspect
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import hypothesis
import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connections

pytest_plugins = ["tests.flow.processes"]

# A deadline for each example would judge how busy the machine is.
hypothesis.settings.register_profile("sisy", deadline=None)
hypothesis.settings.load_profile("sisy")

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}
MARKED = {
    "redis": "Redis",
    "redis_server": "Redis servers that are stopped and filled",
    "postgresql_server": "PostgreSQL servers that crash",
    "browser": "browser",
    "axe": "axe-core",
    "gettext": "GNU gettext",
    "soak": "the soak",
}
PROGRAMS = {
    "redis_server": ("redis-server", "apt-get install redis-server"),
    "postgresql_server": ("initdb", "apt-get install postgresql"),
}
SOAK = "SISY_TEST_SOAK_SECONDS"
used: Counter[str] = Counter()  # how many tests with a marker have run


class Need(NamedTuple):
    """What has to be there for one kind of tests, and how to get it."""

    package: str
    extra: str  # of pyproject.toml, in which the package is
    address: tuple[str, int] | None = None
    hint: str = ""


def need(name: str) -> Need:
    if name == "redis":
        url = urlsplit(settings.REDIS_URL.split(",")[0])
        return Need("redis", "test", (url.hostname or "127.0.0.1", url.port or 6379), "SISY_TEST_REDIS_URL")
    if name in ("browser", "axe"):
        return Need("playwright", "browser")
    if name == "gettext":
        return Need("polib", "test")
    package, extra, port = {
        "postgresql": ("psycopg", "postgresql", "5432"),
        "mariadb": ("MySQLdb", "mysql", "3306"),
    }[name]
    prefix = f"SISY_TEST_{name.upper()}_"
    host, port = os.environ.get(prefix + "HOST", "127.0.0.1"), os.environ.get(prefix + "PORT", port)
    return Need(package, extra, (host, int(port)), f"{prefix}HOST and {prefix}PORT")


def obstacle(name: str) -> str | None:
    """Say what stands in the way of the tests that need this, or return None."""
    if name in PROGRAMS:
        program, remedy = PROGRAMS[name]
        return None if server_program(program) else f"no {program} (on Debian: {remedy})"
    if name == "soak":
        return None if os.environ.get(SOAK) else f"{SOAK} is not set"
    package, extra, address, hint = need(name)
    if importlib.util.find_spec(package) is None:
        return f'{package} is not installed: python -m pip install -e ".[{extra}]"'
    if name in ("browser", "axe") and not chromium():
        return "no Chromium on the PATH (on Debian: apt-get install chromium)"
    if name == "axe" and not shutil.which("npm"):
        return "no npm on the PATH, which fetches axe-core (on Debian: apt-get install npm)"
    if name == "gettext" and not shutil.which("xgettext"):
        return "no xgettext on the PATH (on Debian: apt-get install gettext)"
    if address:
        try:
            socket.create_connection(address, timeout=2).close()
        except OSError as error:
            return f"no server at {address[0]}:{address[1]} ({error.strerror or error}); {hint} can name another"
    return None


def server_program(name: str) -> str | None:
    """Return the path of a server's program; Debian has those of PostgreSQL beside the PATH."""
    found = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
    return found[-1] if found else shutil.which(name)


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def database() -> str:
    return os.environ.get("SISY_TEST_DATABASE") or "sqlite"


def required() -> set[str]:
    return {name.strip() for name in os.environ.get("SISY_TEST_REQUIRE", "").split(",") if name.strip()}


def pytest_sessionstart() -> None:
    for name in sorted((required() | {database()}) - {"sqlite"}):
        if name not in DATABASES | MARKED:
            raise pytest.UsageError(f"SISY_TEST_REQUIRE names {name!r}; it knows {', '.join(DATABASES | MARKED)}")
        if problem := obstacle(name):
            raise pytest.UsageError(f"this run requires {name}: {problem}")
        if name in DATABASES and name != database():
            raise pytest.UsageError(f"SISY_TEST_REQUIRE names {name}, but SISY_TEST_DATABASE is {database()}")


@pytest.hookimpl(tryfirst=True)  # before pytest-django sorts by these marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "redis_url" in fixtures:
            item.add_marker(pytest.mark.redis)
        if "own_redis" in fixtures:
            item.add_marker(pytest.mark.redis_server)
        if "own_postgresql" in fixtures:
            item.add_marker(pytest.mark.postgresql_server)
        if "flow_database" in fixtures:
            item.add_marker(pytest.mark.django_db(transaction=True, databases=["default", "other"]), append=False)
        elif uses_the_orm_from_a_coroutine(item):
            given = item.get_closest_marker("django_db")
            options = {**(given.kwargs if given else {}), "transaction": True}
            item.add_marker(pytest.mark.django_db(**options), append=False)


def uses_the_orm_from_a_coroutine(item: Any) -> bool:
    """Such a test writes through the connection of another thread, so a transaction of this one can't undo it."""
    if not inspect.iscoroutinefunction(getattr(item, "function", None)):
        return False
    return item.get_closest_marker("django_db") is not None or "db" in item.fixturenames


@pytest.fixture(autouse=True)
def no_connection_stays_open_in_the_thread_of_async_code(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close what the asynchronous ORM calls of a coroutine test have opened: a server won't drop a database in use."""
    yield
    if uses_the_orm_from_a_coroutine(request.node):
        SyncToAsync.single_thread_executor.submit(connections.close_all).result()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in MARKED:
        if item.get_closest_marker(name) and (problem := obstacle(name)):
            pytest.skip(problem)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.outcome != "skipped":
        used.update(name for name in MARKED if name in report.keywords)


def pytest_unconfigure() -> None:
    """Remove the journals that SQLite leaves beside a database file when that is deleted while still open somewhere."""
    for path in Path(tempfile.gettempdir()).glob(f"test_sisy_{os.getpid()}_*.sqlite3*"):
        path.unlink(missing_ok=True)


def unused() -> list[str]:
    return sorted(name for name in required() & set(MARKED) if not used[name])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workerinput"):  # one of several processes of a run: what they used counts together
        return
    if exitstatus == pytest.ExitCode.OK and unused() and not session.config.option.collectonly:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("covered and left out")
    for line in account():
        terminalreporter.line(line)
    for name in unused():
        terminalreporter.line(f"SISY_TEST_REQUIRE names {name}, but no test marked {name} has run", red=True)


def account() -> Iterator[str]:
    """One line for each database, Redis and the browser: covered, or why not and the command that includes it."""
    for name, title in DATABASES.items():
        if name == database():
            yield f"covered   {title}"
        else:
            yield f"left out  {title}: {how_to_include(name, f'SISY_TEST_DATABASE={name} python -m pytest')}"
    for name, title in MARKED.items():
        if used[name]:
            yield f"covered   {title} (tests: {used[name]})"
        else:
            variable = "SISY_TEST_DATABASE=postgresql " if name == "postgresql_server" else ""
            yield f"left out  {title}: {how_to_include(name, f'{variable}python -m pytest -m {name}')}"
    if importlib.util.find_spec("furo") is None:
        install = 'python -m pip install -e ".[docs]"'
        yield f"left out  building the docs: {install}; then python -m pytest tests/test_docs.py"


def how_to_include(name: str, command: str) -> str:
    if name == "soak":
        return f"to include it, for an hour: {SOAK}=3600 python -m pytest -s -m soak"
    problem = obstacle(name) if name != "sqlite" else None
    return f"{problem}; then {command}" if problem else f"to include it: {command}"


@pytest.fixture(autouse=True)
def the_overview_is_read_anew() -> None:
    """What it keeps for half a second is of an earlier test's rows."""
    from sisy.admin import overview  # the plugin is loaded before Django is set up

    overview.forget()


@pytest.fixture
def redis_url() -> str:
    """Where Redis is; a test that uses it is marked `redis`, and left out when there is none."""
    return settings.REDIS_URL.split(",")[0]


@pytest.fixture
def chromium_path() -> Path:
    """The browser to give to playwright as executable_path, for tests marked `browser`."""
    return Path(chromium() or "chromium")
