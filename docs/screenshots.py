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
from math import sin
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


def wait_for_an_audit(page: Any) -> None:
    page.wait_for_selector(".sisy-progress", timeout=90_000)  # one begins each minute
    page.wait_for_timeout(5_000)


SCREENS = {
    "overview": Screen("sisy/dashboard/", height=1000, prepare=wait_for_an_audit),
    "tasks": Screen("sisy/task/?o=1", height=860),
    "task": Screen("sisy/task/{digest}/change/", height=1060),
    "schedule": Screen("sisy/task/add/", height=620, prepare=type_a_schedule),
    "upcoming": Screen("sisy/task/upcoming/", height=760),
    "runs": Screen("sisy/run/", height=760),
    "run": Screen("sisy/run/{failed}/change/", height=1040),
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

    from sisy.models import Task, task_with_callable

    settings.SISY = {**settings.SISY, "KEEP_RUNS_DAYS": 100, "KEEP_RUNS_PER_TASK": 1000}
    chance = random.Random(7)
    sample, delete = "sisy.demo.tasks.sample_machine", "sisy.demo.models.Sample.delete_old"
    made = [
        ("Morning digest", sample, "0 9 * * mon-fri", "Europe/Paris", 24, 0.05, {}),
        ("Import the price lists", sample, "*/30 6-20 * * *", "America/New_York", 900, 0.03, {"overlap": "queue"}),
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
    write_change(shown)
    Task.objects.get(label="Close the books").pause()
    write_confirmations(chance)
    failed = write_failed_import()
    return shown, failed


def write_past(task: Any, *, seconds: float, failing: float, chance: random.Random) -> None:
    """Write the runs that a task would have had in the past ninety days."""
    from django.utils import timezone

    from sisy.models import Run, Task

    now = timezone.now()
    slots = list(task.parsed_schedule().between(now - timedelta(days=88), now))[-600:]
    runs = []
    for place, slot in enumerate(slots):
        started = slot + timedelta(milliseconds=chance.randint(20, 900))
        finished = started + timedelta(seconds=seconds * chance.lognormvariate(0, 0.35))
        values: dict[str, Any] = {"status": "SUCCESSFUL", "started_at": started, "finished_at": min(finished, now)}
        if chance.random() < failing:
            values |= failed_with(task.label, at=finished)
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


def write_confirmations(chance: random.Random) -> None:
    """Write the odd jobs of an hour: a shop confirms its orders."""
    from django.utils import timezone

    from sisy.models import Run

    now, runs = timezone.now(), []
    for minute in range(60):
        for _ in range(round(9 + 6 * sin(minute / 8) + 5 * chance.random())):
            began = now - timedelta(minutes=minute, seconds=60 * chance.random())
            ended = began + timedelta(seconds=0.4 * chance.lognormvariate(0, 0.4))
            values: dict[str, Any] = {"status": "SUCCESSFUL", "started_at": began, "finished_at": ended}
            if chance.random() < 0.04:
                values |= failed_with(ORDER, at=ended)
            common = {"enqueued_at": began, "run_after": began, "callable": "sisy.demo.models.Report.write"}
            runs.append(Run(label=ORDER, **common, **values))
    Run.objects.bulk_create(sorted(runs, key=lambda run: run.enqueued_at))


def write_failed_import() -> int:
    """Write a run that says how far it came before it failed, and return its key."""
    from django.utils import timezone

    from sisy.models import Run, Task
    from sisy.rows.run import RunLine

    task = Task.objects.get(label="Import the price lists")
    slot = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(minutes=30)
    Run.objects.filter(task=task, slot=slot).delete()
    began, ended = slot + timedelta(milliseconds=420), slot + timedelta(minutes=9, seconds=31)
    common = {"label": task.label, "callable": task.callable, "slot": slot, "enqueued_at": slot, "run_after": slot}
    progress = {"fraction": 0.62, "text": "list 5 of 8"}
    error = failed_with(task.label, at=ended)
    run = Run.objects.create(task=task, **common, started_at=began, progress=progress, **error)
    for place, (name, count) in enumerate([("garden", 1_912), ("kitchen", 4_070), ("lamps", 633), ("paper", 2_208)]):
        at = began + timedelta(minutes=2 * place + 1, seconds=7 * place)
        RunLine.objects.create(run=run, attempt=1, at=at, text=f"{name}: {count:,} prices")
    RunLine.objects.create(run=run, attempt=1, at=ended, text="tools: line 1,204 is no price")
    return int(run.pk)


ORDER = "Confirm an order"
REASONS = {
    "Morning digest": "ConnectionError: the mail server does not answer",
    "Import the price lists": "ValueError: could not convert string to float: '12,50'",
    "Rebuild the search index": "TimeoutError: the search server has not answered for 30 s",
    "Invoices of the night": "KeyError: 'vat_id'",
    ORDER: "ConnectionError: the mail server does not answer",
}
WORKS = {
    "Morning digest": ("digest.py", "send_digest", "mail.send(letters)"),
    "Import the price lists": ("prices.py", "import_list", "prices = [float(row[2]) for row in csv.reader(lines)]"),
    "Rebuild the search index": ("search.py", "rebuild", "index.refresh(timeout=30)"),
    "Invoices of the night": ("invoices.py", "write", 'number = customer["vat_id"]'),
    ORDER: ("orders.py", "confirm", "mail.send([letter])"),
}


def failed_with(label: str, *, at: datetime) -> dict[str, Any]:
    """Return what a worker writes of a run that failed."""
    (name, function, line), reason = WORKS[label], REASONS[label]
    lines = ["Traceback (most recent call last):"]
    lines += [f'  File "/srv/shop/tasks.py", line 41, in {function}_task', f"    {name[:-3]}.{function}()"]
    lines += ['  File "/usr/lib/python3.12/contextlib.py", line 81, in inner', "    return func(*args, **kwds)"]
    lines += [f'  File "/srv/shop/{name}", line 112, in {function}', f"    {line}", reason]
    error = {"attempt": 1, "at": at.isoformat(), "exception": reason.split(":")[0], "traceback": "\n".join(lines)}
    return {"status": "FAILED", "finished_at": at, "reason": reason, "errors": [error]}


def write_change(key: int) -> None:
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
