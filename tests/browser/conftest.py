"""A web server and a worker as processes of their own on Redis, and a real browser in front of them.

A page fails its test when the browser reports an error, a violation of the policy, or a dialog that nobody asked for.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.flow.processes import Process, Processes, wait_for, wait_for_workers

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
WATCH = """
window.owned = [];
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
    window.violations.push(event.violatedDirective + " " + event.blockedURI);
});
"""


class Site:
    """The address of the web server, which can be stopped and started again."""

    def __init__(self, processes: Processes, port: int) -> None:
        self._processes, self.port = processes, port
        self.url = f"http://127.0.0.1:{port}"
        self.web: Process | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "daphne",
            "-b",
            "127.0.0.1",
            "-p",
            f"{self.port}",
            "tests.browser.asgi:application",
        ]
        self.web = self._processes.start(
            command, DJANGO_SETTINGS_MODULE="tests.browser.settings", SISY_TEST_LAYER="redis"
        )
        wait_for(self._is_there, what="the web server")

    def stop(self) -> None:
        assert self.web is not None
        self.web.stop()

    def _is_there(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def site(processes: Processes, redis_layer: str) -> Site:
    """A web server on a port of its own, with Redis as its channel layer."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    site = Site(processes, port)
    site.start()
    return site


@pytest.fixture
def worker(manage: Callable[..., Process], redis_layer: str) -> Process:
    """A worker that runs what the tests create."""
    process = manage("sisy_worker", "--concurrency", "4", layer="redis")
    wait_for_workers(process)
    return process


@pytest.fixture
def browser(chromium_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # playwright's event loop runs in this thread
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium_path), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, site: Site) -> Any:
    """Open a page as somebody: `with open_page(user, size="phone", theme="dark") as page`."""

    @contextmanager
    def open_it(
        user: User | None = None, *, size: str = "desktop", theme: str = "light", **options: Any
    ) -> Iterator[Any]:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, base_url=site.url, **options
        )
        if user is not None:
            client = Client()
            client.force_login(user)
            context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site.url}])
        errors: list[str] = []
        page = context.new_page()
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.on("dialog", lambda dialog: (errors.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.errors = errors
        yield page
        if options.get("java_script_enabled", True):
            assert page.evaluate("[...window.violations, ...window.owned]") == []
        assert [error for error in errors if "favicon" not in error and "404" not in error] == []
        context.close()

    return open_it


@pytest.fixture
def superuser(flow_database: Any) -> User:
    return User.objects.create_superuser("root", "root@example.com", "password")


@pytest.fixture
def staff(flow_database: Any) -> Callable[..., User]:
    """Make a user who may log in and has these permissions."""

    def make(*permissions: str, name: str = "ada") -> User:
        user = User.objects.create_user(name, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions, content_type__app_label="sisy"))
        assert user.user_permissions.count() == len(permissions)
        return user

    return make


@pytest.fixture
def until_file(tmp_path: Path) -> Path:
    """A file whose coming ends tasks.climb."""
    return tmp_path / f"stop-{os.getpid()}"
