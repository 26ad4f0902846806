"""Every screen in both themes, on a desk and on a phone: axe-core finds no serious fault, nothing is too wide.

axe-core is fetched by npm, once a test session, into a temporary directory.
"""

import shutil
import subprocess
import tarfile
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone

from sisy.models import Run, Task, Worker, task_with_callable
from sisy.testing import drain
from tests.past import write_run
from tests.project.shop import tasks

PACKAGE = "axe-core@4.14.1"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
NOT_OURS = [["#header"], ["#nav-sidebar"], [".breadcrumbs"], ["#footer"], ["#toggle-nav-sidebar"], ["#toolbar"]]

pytestmark = [pytest.mark.browser, pytest.mark.axe, pytest.mark.django_db(transaction=True)]

SCREENS = (
    "sisy/dashboard/",
    "sisy/task/",
    "sisy/task/?state=enabled",
    "sisy/task/add/",
    "sisy/task/{task}/change/",
    "sisy/task/{task}/history/",
    "sisy/task/upcoming/",
    "sisy/run/",
    "sisy/run/{run}/change/",
    "sisy/worker/",
    "sisy/worker/{worker}/change/",
)
TOO_WIDE = """() => {
    const width = document.documentElement.clientWidth, excess = document.documentElement.scrollWidth - width;
    const outside = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > width);
    return excess > 0 ? [`${excess} pixels`, ...outside.map((one) => one.outerHTML.slice(0, 120))] : [];
}"""
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's source, to be evaluated in a page."""
    directory = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    assert npm is not None, "the marker has this test left out where there is no npm"
    command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    archives = list(directory.glob("*.tgz"))
    if result.returncode or not archives:
        pytest.skip(f"npm can't fetch {PACKAGE}: {result.stderr.strip()[-300:]}")
    with tarfile.open(archives[0]) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.fixture
def keys(admin_user: Any) -> dict[str, Any]:
    """Rows for each screen to show: all states of runs, parked and paused tasks, a worker, a log."""
    task, now = (
        task_with_callable(tasks.note, label="Digest", schedule="30 2 * * *", timezone="Europe/Paris"),
        timezone.now(),
    )
    task.save()
    for hours, status in enumerate(
        ("SUCCESSFUL", "FAILED", "LOST", "CANCELLED", "SKIPPED", "MISSED", "SUCCESSFUL") * 3
    ):
        write_run(task, status, at=now - timedelta(hours=30 * hours), seconds=hours, reason="because")
    task_with_callable(tasks.note, label="Each second", schedule="* * * * * *").save()
    task_with_callable(tasks.note, label="Paused", schedule="0 * * * *", iterations=5).save()
    Task.objects.get(label="Paused").pause()
    Task.run_once(tasks.fail, label="burning")
    drain()
    Task.run_once(tasks.note, label="waits", delay_until=now + timedelta(hours=2))
    task.run_asap()
    worker = Worker.objects.create(
        id=uuid.uuid4(), host="web-1", pid=1, version="2", concurrency=4, started_at=now, seen_at=now
    )
    changed = {"fields": ["Schedule"], "sisy": {"schedule": ["0 2 * * *", "30 2 * * *"]}}
    log = ContentType.objects.get(app_label="admin", model="logentry").model_class()
    log.objects.log_actions(admin_user.pk, [task], 2, [{"changed": changed}])
    return {"task": task.pk, "run": Run.objects.get(label="burning").pk, "worker": worker.pk}


def logged_in(browser: Any, url: str, **options: Any) -> Any:
    """Return a page of a new context in which the administrator is logged in."""
    page = browser.new_context(**options).new_page()
    page.goto(f"{url}/admin/login/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "password")
    page.click("[type=submit]")
    return page


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_screen_has_a_serious_fault(
    browser: Any,
    live_server: Any,
    keys: dict[str, Any],
    axe: str,
    theme: str,
    size: str,
) -> None:
    page = logged_in(browser, live_server.url, color_scheme=theme, viewport=SIZES[size], reduced_motion="reduce")
    found = {}
    for screen in SCREENS:
        address = screen.format(**keys)
        assert page.goto(f"{live_server.url}/admin/{address}").status == 200, address
        if address.endswith("/change/") or "add" in address:
            page.wait_for_timeout(600)  # the preview of the schedule is part of the screen
        if faulty := faults(page, axe):
            found[address] = faulty
        if wider := page.evaluate(TOO_WIDE):
            found[f"{address}, too wide"] = wider
    assert found == {}


def faults(page: Any, axe: str) -> list[str]:
    """Return the serious faults on a page, each with the rule and the elements, without those in Django's own frame."""
    page.evaluate(axe)
    found = page.evaluate(
        """async ([tags, exclude]) => (await axe.run({exclude}, {
            runOnly: {type: "tag", values: tags}, resultTypes: ["violations"],
        })).violations""",
        [TAGS, NOT_OURS],
    )
    return [
        f"{fault['id']}: {fault['help']}: {node['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
