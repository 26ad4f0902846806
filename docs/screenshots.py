"""Take the pictures of the admin that are in docs/images: `python docs/screenshots.py [NAME ...]`.

Runs the demo in a directory of its own, with a made-up past so that there is something to see, opens each screen in
Chromium, light and dark, and writes docs/images/NAME-light.png and -dark.png. Needs `pip install -e ".[browser,docs]"`
and Chromium. Labels and past are the same each time; what depends on the hour of the day is not.
"""

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

IMAGES = Path(__file__).parent / "images"
SETTINGS = "sisy.demo.settings"
READY = 30  # seconds that the demo may take to answer


class Screen(NamedTuple):
    """One picture: where the page is, how high it is cut off, and what to do on it before."""

    path: str
    height: int = 800
    prepare: Callable[[Any], None] | None = None
    width: int = 1280


def type_a_schedule(page: Any) -> None:
    page.fill("#id_schedule", "30 2 * mar,oct L0")
    page.select_option("#id_timezone", "Europe/Paris")
    page.wait_for_selector(".sisy-preview tbody tr")
    page.evaluate("document.querySelector('#id_schedule').closest('fieldset').scrollIntoView()")


SCREENS = {
    "overview": Screen("sisy/dashboard/", height=900),
    "tasks": Screen("sisy/task/?o=1", height=860),
    "task": Screen("sisy/task/{digest}/change/", height=1060),
    "schedule": Screen("sisy/task/add/", height=620, prepare=type_a_schedule),
    "upcoming": Screen("sisy/task/upcoming/", height=760),
    "runs": Screen("sisy/run/", height=760),
    "run": Screen("sisy/run/{failed}/change/", height=900),
    "workers": Screen("sisy/worker/", height=420),
    "phone": Screen("sisy/task/{digest}/change/", height=844, width=390),
}


def main() -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"which; all if none is given: {', '.join(SCREENS)}")
    parser.add_argument("--to", type=Path, default=IMAGES, help="the directory to write into")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)  # what this script starts itself for
    options = parser.parse_args()
    if options.serve is not None:
        return serve(options.serve)
    if unknown := set(options.names) - set(SCREENS):
        parser.error(f"no such screen: {', '.join(sorted(unknown))}")
    options.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sisy-screenshots-") as directory, demo(Path(directory)) as (url, keys):
        take(url, keys, names=options.names or list(SCREENS), to=options.to)
    return 0


# The demo, with a past ------------------------------------------------------------------------------------------------


@contextmanager
def demo(directory: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Run the demo on a filled database; yield its admin's address and the keys of tasks that have screens."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS, "DEMO_DATABASE": str(directory / "demo.sqlite3")}
    root = Path(__file__).parents[1]
    environment["PYTHONPATH"] = f"{root}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    subprocess.run([sys.executable, "-m", "sisy.demo.manage", "setup", "--verbosity", "0"], env=environment, check=True)
    port = free_port()
    command = [sys.executable, __file__, "--serve", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{port}/admin/"
        assert process.stdout is not None
        digest, failed = process.stdout.readline().split()
        wait_for(url)
        yield url, {"digest": int(digest), "failed": int(failed)}
    finally:
        process.terminate()
        process.communicate(timeout=30)


def serve(port: int) -> int:
    """Fill the database, say the keys of the task and of the run whose pages are shown, and serve."""
    import django

    django.setup()
    from django.db import connection

    from sisy.demo import ports, server

    keys = fill()
    connection.close()
    print(*keys, flush=True)
    with ports.listen(port) as listener:
        return server.serve(listener, seconds=None)


def fill() -> tuple[int, int]:
    """Write tasks and their past; return the keys of the task and of the run whose pages are shown."""
    from django.conf import settings

    from sisy.models import Run, Task, task_with_callable

    settings.SISY = {**settings.SISY, "KEEP_RUNS_DAYS": 100, "KEEP_RUNS_PER_TASK": 1000}
    chance = random.Random(7)
    sample, delete = "sisy.demo.tasks.sample_machine", "sisy.demo.models.Sample.delete_old"
    made = [
        ("Morning digest", sample, "0 9 * * mon-fri", "Europe/Paris", 24, 0.05, {}),
        ("Import the price lists", sample, "*/30 6-20 * * *", "America/New_York", 2100, 0.02, {"overlap": "queue"}),
        ("Rebuild the search index", delete, "15 */2 * * *", "Europe/Berlin", 340, 0.08, {"max_attempts": 3}),
        ("Close the books", delete, "30 2 1 * *", "Australia/Lord_Howe", 600, 0, {"at_most_once": True}),
        ("Invoices of the night", sample, "30 1 * * *", "Europe/London", 95, 0.12, {"timeout": timedelta(minutes=10)}),
        ("Remind of open orders", sample, "H 8-18 * * mon-sat", "Asia/Tokyo", 3, 0, {"iterations": 400}),
    ]
    shown = 0
    for label, path, schedule, zone, seconds, failing, fields in made:
        secret = {"list": 7, "api_key": "k-5c1e"}
        task = task_with_callable(path, label=label, schedule=schedule, timezone=zone, userdata=secret, **fields)
        task.save()
        write_past(task, seconds=seconds, failing=failing, chance=chance)
        shown = shown or task.pk
    write_log(shown)
    Task.objects.get(label="Close the books").pause()
    failed = Run.objects.filter(status="FAILED").order_by("-slot").first()
    assert failed is not None
    return shown, failed.pk


def write_past(task: Any, *, seconds: float, failing: float, chance: random.Random) -> None:
    """Write the runs that a task would have had in the past ninety days."""
    from django.utils import timezone

    from sisy.models import Run, Task

    now = timezone.now()
    slots = list(task.parsed_schedule().between(now - timedelta(days=88), now))[-600:]
    runs = []
    for place, slot in enumerate(slots):
        started = slot + timedelta(milliseconds=chance.randint(20, 900))
        took = timedelta(seconds=seconds * chance.lognormvariate(0, 0.35))
        values: dict[str, Any] = {"status": "SUCCESSFUL", "started_at": started, "finished_at": started + took}
        if chance.random() < failing:
            values |= {"status": "FAILED", "reason": REASON, "errors": [error_at(started + took)]}
        elif place % 41 == 17:
            values = {
                "status": "MISSED",
                "finished_at": started,
                "missed_count": 3,
                "missed_since": slot,
                "reason": "nothing ticked",
            }
        elif place % 37 == 5:
            values = {"status": "SKIPPED", "finished_at": started, "reason": "an older run was not over"}
        common = {"label": task.label, "callable": task.callable, "slot": slot, "enqueued_at": slot, "run_after": slot}
        runs.append(Run(task=task, **common, **values))
    Run.objects.bulk_create(runs)
    created = now - timedelta(days=120)
    Task._base_manager.filter(pk=task.pk).update(
        created_at=created, last_run=slots[-1] if slots else None, runs_created=min(len(slots), 230)
    )


REASON = "ConnectionError: the mail server does not answer"


def error_at(instant: datetime) -> dict[str, Any]:
    """Return an attempt's error as the worker writes it."""
    lines = ["Traceback (most recent call last):"]
    lines += ['  File "/srv/shop/digest.py", line 41, in send_digest', "    mail.send(letters)"]
    lines += ['  File "/srv/shop/mail.py", line 12, in send', "    raise ConnectionError(NO_ANSWER)", REASON]
    return {"attempt": 1, "at": instant.isoformat(), "exception": "ConnectionError", "traceback": "\n".join(lines)}


def write_log(key: int) -> None:
    """Let the administrator have changed the schedule."""
    from django.contrib.admin.models import LogEntry
    from django.contrib.auth import get_user_model

    from sisy.models import Task

    user = get_user_model()._default_manager.get()
    change = {"fields": ["Schedule", "Timeout"], "sisy": {
        "schedule": ["0 8 * * mon-fri", "0 9 * * mon-fri"], "timeout": [None, "00:10:00"],
    }}  # fmt: skip
    LogEntry.objects.log_actions(user.pk, [Task.objects.get(pk=key)], 2, [{"changed": change}])


# The browser ----------------------------------------------------------------------------------------------------------


def take(url: str, keys: dict[str, int], *, names: list[str], to: Path) -> None:
    """Log in, open each screen in both themes, and write its picture."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    arguments = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for theme in ("light", "dark"):
            context = browser.new_context(color_scheme=theme, timezone_id="America/Chicago", reduced_motion="reduce")
            page = context.new_page()
            page.goto(f"{url}login/")
            page.fill("input[name=username]", "demo")
            page.fill("input[name=password]", "demo")
            page.click("[type=submit]")
            for name in names:
                screen = SCREENS[name]
                page.set_viewport_size({"width": screen.width, "height": screen.height})
                page.goto(url + screen.path.format(**keys))
                if screen.prepare:
                    screen.prepare(page)
                page.wait_for_timeout(300)  # what the page asks for when it is open
                write(page.screenshot(), to / f"{name}-{theme}.png")
        browser.close()


def write(picture: bytes, path: Path) -> None:
    """Write a picture with 256 colours, which is a third of the size."""
    from PIL import Image

    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size // 1024, "KB")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str) -> None:
    end = time.monotonic() + READY
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - the demo's own address
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
