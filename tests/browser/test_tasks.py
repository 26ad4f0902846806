"""The pages of tasks in a real browser: typing a schedule, the buttons in the list, charts by keyboard, no scripts."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from sisy.models import Run, Task, task_with_callable
from tests.past import write_run
from tests.project.shop import tasks

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def opened(browser: Any, live_server: Any, admin_user: Any) -> Any:
    """Open a page of the admin as the administrator, in a context with options of playwright."""

    def open_page(address: str, **options: Any) -> Any:
        page = browser.new_context(**options).new_page()
        page.goto(f"{live_server.url}/admin/{address}")
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", "password")
        page.click("[type=submit]")
        page.wait_for_url(lambda url: "/login/" not in url)
        return page

    return open_page


def saved(**fields: Any) -> Task:
    task = task_with_callable(tasks.note, **fields)
    task.save()
    return task


def test_what_a_schedule_means_appears_while_it_is_typed(opened: Any) -> None:
    page = opened("sisy/task/add/", timezone_id="America/New_York")
    page.fill("#id_schedule", "0 9 * * mon-fri")
    page.select_option("#id_timezone", "Asia/Tokyo")
    page.wait_for_selector("text=At 09:00, Monday to Friday, Asia/Tokyo")
    preview = page.inner_text(".sisy-preview")
    assert "America/New_York" in preview
    assert preview.count("09:00 JST") == 5
    assert page.get_attribute(".sisy-preview", "role") == "status"
    page.fill("#id_schedule", "61 9 * * <b>")
    page.wait_for_selector(".sisy-preview .sisy-error")
    assert page.get_attribute("#id_schedule", "aria-invalid") == "true"
    assert page.query_selector(".sisy-preview b") is None


def test_typing_fast_asks_the_server_once(opened: Any) -> None:
    page = opened("sisy/task/add/")
    page.wait_for_selector(".sisy-preview .sisy-words")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/preview/" in request.url else None)
    page.fill("#id_schedule", "")
    page.type("#id_schedule", "*/7 * * * *", delay=10)
    page.wait_for_selector("text=Every 7 minutes")
    assert 1 <= len(asked) <= 2


def test_the_buttons_in_the_list_act_at_once_and_the_list_stays(opened: Any) -> None:
    task = saved(label="Digest", schedule="0 9 * * *")
    page = opened("sisy/task/?q=dig")
    address = page.url
    page.click("button:has-text('Pause')")
    page.wait_for_selector("button:has-text('Resume')")
    task.refresh_from_db()
    assert (task.enabled, page.url) == (False, address)
    page.click("button:has-text('Run now')")
    page.wait_for_selector("text=A paused task was run anyway")
    assert Run.objects.get().task_id == task.pk


def test_without_scripts_the_buttons_lead_back_to_the_list_as_it_was(opened: Any) -> None:
    task = saved(label="Digest", schedule="0 9 * * *")
    page = opened("sisy/task/?q=dig", java_script_enabled=False)
    page.click("button:has-text('Pause')")
    assert page.url.endswith("/admin/sisy/task/?q=dig")
    task.refresh_from_db()
    assert not task.enabled
    page.goto(page.url.replace("?q=dig", f"{task.pk}/change/"))
    assert "At 09:00, UTC" in page.inner_text(".sisy-page")


def test_charts_are_walked_through_with_the_arrow_keys(opened: Any) -> None:
    task, now = saved(), timezone.now()
    runs = [write_run(task, at=now - timedelta(days=3 - day)) for day in range(3)]
    page = opened(f"sisy/task/{task.pk}/change/")
    page.focus(".sisy-strip a:not([tabindex])")
    for key, run in (("ArrowLeft", runs[1]), ("Home", runs[0]), ("ArrowRight", runs[1]), ("End", runs[2])):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.getAttribute('href')") == f"/admin/sisy/run/{run.pk}/change/"
    assert page.locator(".sisy-strip a:not([tabindex])").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/run/{runs[2].pk}/change/")


def test_a_menu_of_filters_closes_with_escape_and_a_click_elsewhere(opened: Any) -> None:
    saved(label="enabled")
    saved(label="paused").pause()
    page = opened("sisy/task/")
    page.click("summary:has-text('By state')")
    page.keyboard.press("Escape")
    assert page.locator("details.sisy-filter[open]").count() == 0
    page.click("summary:has-text('By state')")
    page.click("h1")
    assert page.locator("details.sisy-filter[open]").count() == 0
    page.click("summary:has-text('By state')")
    page.click("details.sisy-filter a:has-text('Paused')")
    page.wait_for_url("**/?state=paused")
    assert page.inner_text("summary:has-text('By state')").startswith("By state: Paused")
    assert page.locator("#result_list tbody tr").count() == 1


def test_nothing_moves_for_those_who_want_it_so(opened: Any) -> None:
    saved().run_asap()
    Run.objects.update(
        status="RUNNING",
        claim="0" * 32,
        lease_expires_at=timezone.now() + timedelta(hours=1),
        started_at=timezone.now(),
    )
    name = "getComputedStyle(document.querySelector('.sisy-bar-running path:last-child')).animationName"
    assert opened("sisy/task/").evaluate(name) == "sisy-march"
    assert opened("sisy/task/", reduced_motion="reduce").evaluate(name) == "none"


@pytest.mark.parametrize("address", ["sisy/task/", "sisy/task/upcoming/", "sisy/task/{}/change/"])
def test_the_pages_can_be_read_from_right_to_left(opened: Any, settings: Any, address: str) -> None:
    settings.LANGUAGE_CODE = "ar"
    task = saved(schedule="0 * * * *")
    page = opened(address.format(task.pk))
    assert page.get_attribute("html", "dir") == "rtl"
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    charts = page.eval_on_selector_all(
        ".sisy-strip, .sisy-heatmap, .sisy-load, .sisy-marks-lane",
        "charts => charts.map((chart) => getComputedStyle(chart).direction)",
    )
    assert set(charts) == {"ltr"}  # time goes from left to right
