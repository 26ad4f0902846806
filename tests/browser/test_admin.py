"""The admin as an operator uses it: a real browser, a real server, clicks."""

from collections.abc import Iterator
from typing import Any

import pytest

from sisy.models import Run, Task, task_with_callable
from sisy.testing import drain
from tests.flow.processes import wait_for
from tests.project.shop import tasks

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of a new browser; the test fails when a page logs an error."""
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    yield page
    assert [error for error in errors if "favicon" not in error and "404" not in error] == []


@pytest.mark.django_db(transaction=True)
def test_an_operator_looks_at_a_task_runs_it_and_reads_its_traceback(
    live_server: Any, page: Any, admin_user: Any
) -> None:
    task = task_with_callable(tasks.fail, label=HOSTILE, schedule="*/15 9-17 * * mon-fri", timezone="Europe/Paris")
    task.save()
    page.goto(f"{live_server.url}/admin/sisy/task/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "password")
    page.click("[type=submit]")
    assert "Every 15 minutes from 09:00 to 17:45, Monday to Friday, Europe/Paris" in page.inner_text("#changelist")
    assert HOSTILE in page.inner_text("#changelist")
    page.click(f"a[href*='/admin/sisy/task/{task.pk}/']")
    page.click("text=Run now")
    page.wait_for_selector(".messagelist")
    assert Run.objects.get().status == "READY"
    drain()
    page.goto(f"{live_server.url}/admin/sisy/run/{Run.objects.get().pk}/change/")
    assert "the shop is on fire" in page.inner_text("body")
    assert page.title() != "owned"


@pytest.mark.django_db(transaction=True)
def test_an_operator_pauses_and_resumes_a_task(live_server: Any, page: Any, admin_user: Any) -> None:
    task = task_with_callable(tasks.note, label="digest")
    task.save()
    page.goto(f"{live_server.url}/admin/sisy/task/{task.pk}/change/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "password")
    page.click("[type=submit]")
    for verb, enabled in (("Pause", False), ("Resume", True)):
        page.click(f"text={verb}")
        page.wait_for_selector(".messagelist")
        wait_for(lambda enabled=enabled: Task.objects.get().enabled is enabled, what=verb)
