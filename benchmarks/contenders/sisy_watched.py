"""sisy on PostgreSQL with its admin: what the overview costs, and what open overviews cost a burst."""

import re
import socket
import statistics
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from django.contrib.staticfiles import finders
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from benchmarks import side
from benchmarks.contenders import sisy
from sisy.admin import overview
from sisy.models import Run


class Contender(sisy.Contender):
    """See the module."""

    title: ClassVar[str] = "sisy, watched"
    works: ClassVar[tuple[str, ...]] = ("dashboard",)
    settings: ClassVar[str] = "as sisy; one daphne with the admin, each open overview fetches as live.js does"
    burst: ClassVar[int] = 10_000
    database: ClassVar[str] = "sisy_watched"

    def overview(self, repeats: int) -> dict[str, list[float]]:
        """Ask for the overview again and again, read from the database each time."""
        client, address = _client(), reverse("admin:sisy_dashboard_changelist")
        figures: dict[str, list[float]] = {"server_ms": [], "queries": [], "page_kb": []}
        for number in range(repeats + 3):  # the first ones import, compile templates, and wait for the round trip
            overview.forget()
            began = time.perf_counter()
            page = client.get(address)
            seconds = time.perf_counter() - began
            assert page.status_code == 200, page  # noqa: S101
            if number >= 3:
                figures["server_ms"].append(seconds * 1000)
                figures["page_kb"].append(len(page.content) / 1024)
        overview.forget()
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        figures["queries"] = [len(queries)]
        figures["script_kb"] = [Path(str(finders.find("sisy/live.js"))).stat().st_size / 1024]
        return {name: [statistics.median(values)] for name, values in figures.items()}

    def fill_at_once(self, count: int, seconds: float) -> float:
        """Empty the store and fill it with jobs that are due all at once, so many seconds later; return when."""
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE sisy_run, sisy_task CASCADE")
        with transaction.atomic():
            self.enqueue_bulk(range(count))
            due = timezone.now() + timedelta(seconds=seconds)
            Run.objects.update(run_after=due)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE sisy_run, sisy_task")
        return due.timestamp()

    def watchers(self, count: int) -> list[side.Command]:
        """Return two commands: a web server, and what has so many overviews open there."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        client, address = _client(), reverse("admin:sisy_dashboard_changelist")
        page = client.get(address).content.decode()
        regions = re.findall(r'data-sisy-url="[^"]*/fragment/(\w+)/', page)
        watch = {
            "origin": f"http://127.0.0.1:{port}",
            "fragments": f"{address}fragment/{'+'.join(regions)}/",
            "socket": re.findall(r'data-sisy-socket="([^"]+)"', page)[0],
            "cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items()),
        }
        serve = [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port)]
        return [
            [*serve, "benchmarks.site:application"],
            [
                sys.executable,
                "-m",
                "benchmarks.viewers",
                str(count),
                *(f"--{name}={value}" for name, value in watch.items()),
            ],
        ]


def _client() -> Any:
    """Return a browser that is logged in."""
    from django.contrib.auth import get_user_model  # once the apps are set up

    users: Any = get_user_model()
    user = users.objects.filter(username="operator").first() or users.objects.create_superuser("operator")
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(user)
    return client
