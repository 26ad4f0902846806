"""The live pages in a real browser: what happens in other processes is seen, and what people click is done there."""

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from sisy.models import Run, RunStatus, Task, task_with_callable
from tests.browser import tasks
from tests.browser.conftest import Site
from tests.flow.processes import Process, wait_for, wait_for_workers

pytestmark = pytest.mark.browser

OVERVIEW, SOON = "/admin/sisy/dashboard/", 5000  # milliseconds, on a machine that does much else
POLLING = 5.0  # seconds: what comes sooner came by a hint


def live(page: Any, state: str = "live", timeout: float = 15_000) -> None:
    page.wait_for_selector(f"#sisy-live[data-state={state}]", timeout=timeout)


def until(page: Any, script: str) -> None:
    """Wait until an expression is true; the policy forbids what playwright's own way would do in the page."""
    deadline = time.monotonic() + SOON / 1000
    while not page.evaluate(script):
        assert time.monotonic() < deadline, f"{script}: {page.inner_text('#content, body')}"
        page.wait_for_timeout(50)


def climbing(stop: Path, label: str = "Climb") -> Run:
    return Task.run_once(tasks.climb, label=label, userdata={"stop": str(stop)}).runs.get()


def open_run(page: Any, run: Run) -> None:
    """Open the page of a climbing run, and wait until it is live and shows some of its log."""
    page.goto(f"/admin/sisy/run/{run.pk}/change/")
    live(page)
    page.wait_for_selector("#sisy-log >> text=line 2", timeout=SOON)


def percent(page: Any, within: str) -> int:
    found = re.search(r"(\d+) %", page.inner_text(within))
    return int(found[1]) if found else -1


def test_a_run_started_elsewhere_appears_moves_and_goes_without_a_reload(
    site: Site, worker: Any, open_page: Any, superuser: User, until_file: Path
) -> None:
    with open_page(superuser) as page:
        page.goto(OVERVIEW)
        live(page)
        page.evaluate("window.isTheSame = true")
        assert "Nothing runs at this moment." in page.inner_text("#sisy-running")
        page.focus("#sisy-counts a >> nth=0")
        began = time.monotonic()
        climbing(until_file)
        page.wait_for_selector("#sisy-running >> text=Climb", timeout=SOON)
        assert time.monotonic() - began < POLLING
        until(page, "/step ([3-9]|\\d\\d)/.test(document.querySelector('#sisy-running').innerText)")
        assert page.evaluate("document.activeElement.tagName") == "A"  # merged, not replaced: focus stays
        until_file.touch()
        page.wait_for_selector("#sisy-running >> text=Nothing runs", timeout=SOON)
        page.wait_for_selector("#sisy-counts >> text=1 Successful", timeout=SOON)
        assert page.evaluate("window.isTheSame")


def test_the_page_of_a_run_shows_progress_and_log_as_they_come_and_cancels_after_asking(
    site: Site, worker: Any, open_page: Any, superuser: User, until_file: Path
) -> None:
    run = climbing(until_file)
    with open_page(superuser) as page:
        open_run(page, run)
        before = page.locator("#sisy-log li").count()
        until(page, f"document.querySelectorAll('#sisy-log li').length > {before} + 3")
        page.click("#sisy-buttons >> text=Cancel")
        page.click("#sisy-ask >> text=No, leave it")
        assert Run.objects.get().cancel_requested_at is None
        page.click("#sisy-buttons >> text=Cancel")
        page.click("#sisy-ask >> text=Yes")
        page.wait_for_selector(".messagelist >> text=asked to stop it", timeout=SOON)
        page.wait_for_selector("#sisy-summary >> text=Cancelled", timeout=SOON)
        page.wait_for_selector("#sisy-buttons >> text=Retry", timeout=SOON)
        assert Run.objects.get().status == RunStatus.CANCELLED


def test_what_was_asked_about_is_done_although_the_page_has_changed_meanwhile(
    site: Site, worker: Any, open_page: Any, superuser: User, until_file: Path
) -> None:
    run = climbing(until_file)
    with open_page(superuser) as page:
        open_run(page, run)
        page.click("#sisy-buttons >> text=Cancel")
        page.wait_for_selector("#sisy-ask[open]")
        until_file.touch()
        page.wait_for_selector("#sisy-buttons >> text=Run again", timeout=SOON)  # where Cancel was
        with page.expect_response(lambda response: response.request.method == "POST") as posted:
            page.click("#sisy-ask >> text=Yes")
        assert posted.value.url.endswith("/cancel/")
    assert Run.objects.count() == 1


def test_a_list_with_selected_rows_waits_until_none_is_selected(
    site: Site, worker: Any, open_page: Any, superuser: User, until_file: Path
) -> None:
    until_file.touch()  # each run is over at once
    climbing(until_file, "first")
    with open_page(superuser) as page:
        page.goto("/admin/sisy/run/")
        live(page)
        page.check("#sisy-results input.action-select")
        climbing(until_file, "second")
        page.wait_for_timeout(2000)
        assert "second" not in page.inner_text("#sisy-results")
        page.uncheck("#sisy-results input.action-select")
        page.wait_for_selector("#sisy-results >> text=second", timeout=SOON)


def test_two_workers_are_watched_side_by_side_and_one_is_seen_to_leave(
    site: Site, manage: Callable[..., Process], open_page: Any, superuser: User, until_file: Path
) -> None:
    first, second = workers = [manage("sisy_worker", "--concurrency", "1", layer="redis") for _ in range(2)]
    wait_for_workers(*workers)
    with open_page(superuser) as overview, open_page(superuser) as page:
        overview.goto(OVERVIEW)
        page.goto("/admin/sisy/worker/")
        for each in (overview, page):
            live(each)
        for label in ("one", "other"):
            climbing(until_file, label)
        for pid in (first.pid, second.pid):
            overview.wait_for_selector(f"#sisy-running >> text=:{pid}", timeout=SOON)
        overview.wait_for_selector("#sisy-health >> text=2 of 2 slots busy", timeout=SOON)
        for label in ("one", "other"):
            page.wait_for_selector(f"#sisy-results >> text={label}", timeout=SOON)
        until_file.touch()
        overview.wait_for_selector("#sisy-counts >> text=2 Successful", timeout=SOON)
        first.stop()
        overview.wait_for_selector("#sisy-health >> text=1 alive", timeout=SOON)
        page.wait_for_selector("#sisy-results tbody >> text=Stopped", timeout=SOON)


WHEN_SEEN = """() => {
    window.seen = {};
    const look = () => {
        for (const [text] of document.querySelector("#sisy-log").innerText.matchAll(/line \\d+/g)) {
            window.seen[text] ??= Date.now() / 1000;
        }
    };
    look();
    window.before = Object.keys(window.seen);
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


def test_what_a_run_says_elsewhere_is_seen_within_a_second(
    site: Site, worker: Any, open_page: Any, superuser: User, until_file: Path
) -> None:
    """The median of many: any one of them may meet a machine that does much else."""
    run = climbing(until_file)
    with open_page(superuser) as page:
        open_run(page, run)
        page.evaluate(WHEN_SEEN)
        until(page, "Object.keys(window.seen).length > window.before.length + 12")
        seen, before = page.evaluate("[window.seen, window.before]")
    said = {line.text: line.at.timestamp() for line in run.lines.all()}
    late = [at - said[text] for text, at in seen.items() if text not in before]
    assert statistics.median(late) < 1, sorted(late)


def test_the_page_of_a_task_gets_a_bar_for_a_run_that_ends_elsewhere_and_keeps_what_is_typed(
    site: Site, worker: Any, open_page: Any, superuser: User
) -> None:
    task = task_with_callable(tasks.fall, label="Fall", schedule="0 0 1 1 *", userdata={"text": "ouch"})
    task.save()
    with open_page(superuser) as page:
        page.goto(f"/admin/sisy/task/{task.pk}/change/")
        live(page)
        page.wait_for_selector(".sisy-browser:visible")
        page.fill("#id_label", "Half typ")
        page.focus("#id_label")
        began = time.monotonic()
        task.run_asap()
        page.wait_for_selector(".sisy-page .sisy-bar-failed", timeout=SOON)
        assert time.monotonic() - began < POLLING
        page.wait_for_selector(".sisy-recent >> text=ValueError: ouch", timeout=SOON)
        assert page.input_value("#id_label") == "Half typ"
        assert page.evaluate("document.activeElement.id") == "id_label"
        until(page, "!document.querySelector('.sisy-browser[hidden]')")  # the browser's own zone is there again


def test_what_failed_is_run_again_one_by_one_and_all_together(
    site: Site, worker: Any, open_page: Any, superuser: User
) -> None:
    for number in range(2):
        task = task_with_callable(tasks.fall, label=f"Fall {number}", schedule="0 0 1 1 *", userdata={"text": "ouch"})
        task.save()
        task.run_asap()
    with open_page(superuser) as page:
        page.goto(OVERVIEW)
        live(page)
        page.wait_for_selector("#sisy-failures >> text=2×", timeout=SOON)
        wait_for(lambda: page.title().startswith("(2) "), SOON / 1000, "the failures in the title")
        page.click("#sisy-failures >> text=Retry all")
        page.click("#sisy-ask >> text=Yes")
        page.wait_for_selector(".messagelist >> text=2 runs were created now", timeout=SOON)
        page.wait_for_selector("#sisy-failures >> text=4×", timeout=SOON)
        page.click("#sisy-failures >> text=last one")
        page.wait_for_selector("text=ValueError: ouch")
        page.check("text=Only my frames")
        assert "sisy/executor.py" not in page.inner_text("#sisy-errors pre")
        assert "tests/browser/tasks.py" in page.inner_text("#sisy-errors pre")
        page.click("#sisy-errors >> text=Copy")
        page.wait_for_selector("#sisy-errors >> text=Copied")
        page.click("#sisy-buttons >> text=Retry")
        page.wait_for_selector(".messagelist >> text=A run was created now", timeout=SOON)
    wait_for(lambda: Run.objects.filter(status=RunStatus.FAILED).count() == 5)


def test_who_may_only_look_finds_nothing_to_press_and_is_refused_what_is_posted(
    site: Site, worker: Any, open_page: Any, staff: Callable[..., User], until_file: Path
) -> None:
    run = climbing(until_file)
    with open_page(staff("view_dashboard", "view_run", "cancel_run")) as page:
        page.goto(OVERVIEW)
        live(page)
        page.wait_for_selector("#sisy-running >> text=Cancel", timeout=SOON)
        User.objects.get().user_permissions.remove(*User.objects.get().user_permissions.filter(codename="cancel_run"))
        page.click("#sisy-running >> text=Cancel")
        page.click("#sisy-ask >> text=Yes")
        page.wait_for_selector(".messagelist >> text=not permitted", timeout=SOON)
        until(page, "!document.querySelector('#sisy-running button')")
        page.goto(f"/admin/sisy/run/{run.pk}/change/")
        assert page.locator("#sisy-buttons button").count() == 0
        assert [error for error in page.errors if "403" in error]
        page.errors.clear()
    assert Run.objects.get().cancel_requested_at is None


def test_a_page_outlives_its_web_server(site: Site, open_page: Any, superuser: User) -> None:
    with open_page(superuser) as page:
        page.goto("/admin/sisy/run/")
        live(page)
        site.stop()
        live(page, "offline")
        Task.run_once(tasks.fall, label="Meanwhile", userdata={"text": ""})
        site.start()
        live(page, timeout=40_000)
        page.wait_for_selector("#sisy-results >> text=Meanwhile", timeout=SOON)
        page.errors.clear()  # of connections refused


def test_without_a_socket_it_polls_and_says_so(site: Site, open_page: Any, superuser: User) -> None:
    with open_page(superuser) as page:
        page.route_web_socket(re.compile("/ws/sisy/"), lambda socket: socket.close())
        page.goto("/admin/sisy/run/")
        live(page, "polling")
        Task.run_once(tasks.fall, label="Found by polling", userdata={"text": ""})
        page.wait_for_selector("#sisy-results >> text=Found by polling", timeout=10_000)
        page.check("#sisy-results input.action-select")
        Task.run_once(tasks.fall, label="The second", userdata={"text": ""})
        page.wait_for_timeout(6000)
        assert "The second" not in page.inner_text("#sisy-results")  # rows that are selected stay where they are
        page.uncheck("#sisy-results input.action-select")
        page.wait_for_selector("#sisy-results >> text=The second", timeout=10_000)


def test_a_tab_that_nobody_sees_does_nothing_and_shows_the_truth_when_it_comes_back(
    site: Site, open_page: Any, superuser: User
) -> None:
    with open_page(superuser) as page:
        page.goto("/admin/sisy/run/")
        live(page)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.evaluate(HIDE, True)
        Task.run_once(tasks.fall, label="Unseen", userdata={"text": ""})
        page.wait_for_timeout(6000)
        assert requests == []
        page.evaluate(HIDE, False)
        page.wait_for_selector("#sisy-results >> text=Unseen", timeout=SOON)
        live(page)


HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_without_javascript_everything_can_be_read_and_done(
    site: Site, worker: Any, open_page: Any, superuser: User, until_file: Path
) -> None:
    run = climbing(until_file)
    wait_for(lambda: Run.objects.get().progress)
    with open_page(superuser, java_script_enabled=False) as page:
        page.goto(OVERVIEW)
        assert "Climb" in page.inner_text("#sisy-running")
        page.click("#sisy-running >> text=Cancel")
        assert "Are you sure?" in page.inner_text("#content")
        page.click("[type=submit][value^=Yes]")
        assert "asked to stop it" in page.inner_text(".messagelist")
        wait_for(lambda: Run.objects.get(pk=run.pk).status == RunStatus.CANCELLED)
        page.reload()
        page.click("text=Retry")
        assert "new one-shot" in page.inner_text(".messagelist")
    until_file.touch()


def test_a_visitor_watches_the_own_job_and_nobody_elses(
    site: Site, worker: Any, open_page: Any, until_file: Path
) -> None:
    run = climbing(until_file)
    with open_page() as page:
        page.goto(f"/export/{run.pk}/")
        until(page, "/step ([3-9]|\\d\\d)/.test(document.body.innerText)")
        address = page.get_attribute(".sisy-job", "data-sisy-url")
        until_file.touch()
        page.wait_for_selector("text=done: at the top", timeout=SOON)
        assert page.request.get(address).status == 200
        assert page.request.get(address.replace("/job/", "/job/x")).status == 404


HOSTILE = [
    "<img src=x onerror=window.owned.push(1)>",
    '"><script>window.owned.push(2)</script>',
    "' onmouseover='window.owned.push(3)' x='",
    "javascript:window.owned.push(4)",
    "</title><script>window.owned.push(5)</script>",
    "{{ 7|add:7 }}{% now 'Y' %}${window.owned.push(6)}",
    "\x1b]0;owned\x07\u202eevil\u2066",
]


@pytest.fixture
def hostile_rows(site: Site, worker: Any) -> list[str]:
    """Runs with hostile labels, userdata, logs and tracebacks; return the addresses of all pages that show them."""
    for text in HOSTILE:
        task = task_with_callable(
            tasks.fall, label=text[:255], schedule="0 * * * *", userdata={"text": text, text: [text]}
        )
        task.save()
        task.run_asap()
    wait_for(lambda: Run.objects.filter(status=RunStatus.FAILED).count() == len(HOSTILE))
    for run in Run.objects.all():
        run.log(HOSTILE[0])
        Run.objects.filter(pk=run.pk).update(
            progress={"fraction": 0.5, "text": HOSTILE[1]}, result={HOSTILE[2]: HOSTILE}
        )
    rows = [f"/admin/sisy/run/{key}/change/" for key in Run.objects.order_by("pk").values_list("pk", flat=True)[:3]]
    rows += [f"/admin/sisy/task/{key}/change/" for key in Task.objects.order_by("pk").values_list("pk", flat=True)[:2]]
    tasks_pages = ["/admin/sisy/task/", "/admin/sisy/task/upcoming/", "/admin/sisy/task/add/"]
    return [OVERVIEW, "/admin/sisy/run/", *tasks_pages, "/admin/sisy/worker/", *rows]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_hostile_text_executes_nothing_and_every_page_fits_its_screen(
    open_page: Any, superuser: User, hostile_rows: list[str], size: str, theme: str
) -> None:
    with open_page(superuser, size=size, theme=theme) as page:
        for address in hostile_rows:
            page.goto(address)
            if not address.endswith("/add/"):  # what is not there yet does not change
                live(page)
            page.wait_for_timeout(700)
            assert page.evaluate("[...window.violations, ...window.owned]") == [], address
            assert page.title() != "owned", "as the last one would have it, which stands in the titles of its own pages"
            if "/dashboard/" in address or "/run/" in address and "change" in address:
                assert page.evaluate(TOO_WIDE) == [], address


TOO_WIDE = """[...document.querySelectorAll("#content *")]
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".sisy-log, .sisy-pre"))
    .map((one) => one.tagName + "." + one.className)"""
