"""manage.py sisy_status: how sisy is doing, for people and for probes."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone, translation

from sisy import health, layer
from sisy.health import Health, Problem, duration

_CLEAR = "\x1b[2J\x1b[H"


class Command(BaseCommand):
    """Shows how sisy is doing; exit codes: 0 no error (there may be warnings), 1 an error, 2 wrong options."""

    help = (
        "Show heartbeats, workers, what is due, what waits and what went wrong within a day. Exits with 1 when "
        "something is wrong that needs somebody, so it can be a probe."
    )

    requires_system_checks: list[str] = []  # a probe is asked every few seconds

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="Write one JSON object a look.")
        parser.add_argument(
            "--watch", type=_pause, nargs="?", const=2.0, metavar="SECONDS",
            help="Look again every so many seconds (2 unless given) until Ctrl-C.",
        )  # fmt: skip
        parser.add_argument("--strict", action="store_true", help="Exit with 1 for warnings too.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Look, once or again and again."""
        while True:
            problems = self._look(as_json=options["json"], clear=bool(options["watch"]))
            if options["watch"] is None:
                break
            try:
                time.sleep(options["watch"])
            except KeyboardInterrupt:
                break
        if problems and (options["strict"] or problems[0].level == "error"):
            sys.exit(1)

    def _look(self, *, as_json: bool, clear: bool) -> list[Problem]:
        found, problems = _found()
        trip = layer.round_trip()
        problems += _about_layer(trip)
        problems.sort(key=lambda problem: problem.level != "error")
        if as_json:
            self.stdout.write(json.dumps(_as_json(found, trip, problems)))
            return problems
        if clear and self.stdout.isatty():
            self.stdout.write(_CLEAR, ending="")
        self._show(found, trip, problems)
        return problems

    def _show(self, found: Health | None, trip: layer.RoundTrip, problems: list[Problem]) -> None:
        for name, value in [*(_lines(found) if found else ()), ("channel layer", _said(trip))]:
            self.stdout.write(f"{name:<14} {value}")
        for problem in problems:
            style = self.style.ERROR if problem.level == "error" else self.style.WARNING
            self.stdout.write(style(f"{problem.level}: {problem.text}"))
        if not problems:
            self.stdout.write(self.style.SUCCESS("Nothing is wrong."))


def _found() -> tuple[Health | None, list[Problem]]:
    try:
        found = health.look(timezone.now())
    except (DatabaseError, InterfaceError) as error:
        connection.close()
        text = f"The database can't be asked: {str(error).strip()}. Is it running, and were the migrations run?"
        return None, [Problem(level="error", code="database", text=text)]
    with translation.override("en"):  # as everything else that a command prints
        return found, health.judge(found)


def _about_layer(trip: layer.RoundTrip) -> list[Problem]:
    if not trip.error:
        return []
    text = f"The channel layer does not work ({trip.error}); nothing is lost, workers poll the database instead."
    return [Problem(level="warning", code="layer", text=text)]


def _lines(found: Health) -> Iterator[tuple[str, str]]:
    ticking, working = found.ticking, found.working
    heard = "" if ticking.age is None else f", heard of {health.ago(ticking.age)}: {ticking.holder}"
    yield "heartbeats", f"{ticking.alive} alive{heard}"
    yield "workers", f"{working.alive} alive, {working.running} of {working.slots} slots in use"
    late = "" if found.oldest_due is None else f", the first for {duration(found.oldest_due)}"
    yield "due tasks", f"{found.due}{late}"
    for backlog in found.backlog:
        waited = max(found.at - backlog.oldest_at, timedelta(0))
        yield "ready runs", f"{backlog.ready} in {backlog.queue}, the first for {duration(waited)}"
    if not found.backlog:
        yield "ready runs", "0"
    yield "within a day", f"{found.failed} failed, {found.lost} lost, {found.missed} missed"
    yield "parked tasks", str(found.parked)
    ahead = "ahead of" if found.clock_difference >= timedelta(0) else "behind"
    yield "clock", f"{duration(abs(found.clock_difference))} {ahead} the database's"


def _said(trip: layer.RoundTrip) -> str:
    if trip.time is None:
        return trip.error or "none, workers poll the database"
    return f"{trip.time.total_seconds() * 1000:.1f} ms there and back, reaches {trip.reaches}"


def _as_json(found: Health | None, trip: layer.RoundTrip, problems: list[Problem]) -> dict[str, Any]:
    status = problems[0].level if problems else "ok"
    shown: dict[str, Any] = {"status": status, "problems": [vars(problem) for problem in problems]}
    shown["layer"] = {"reaches": trip.reaches, "round_trip_seconds": _seconds(trip.time), "error": trip.error}
    if found is None:
        return shown
    ticking, working = found.ticking, found.working
    return shown | {
        "at": _iso(found.at),
        "clock_difference_seconds": _seconds(found.clock_difference),
        "heartbeat": {"alive": ticking.alive, "holder": ticking.holder, "age_seconds": _seconds(ticking.age)},
        "workers": {
            "alive": working.alive, "slots": working.slots, "running": working.running,
            "queues": None if working.all_queues else sorted(working.queues), "versions": working.versions,
        },
        "due": {"tasks": found.due, "oldest_at": _iso(found.oldest_due_at), "late_seconds": _seconds(found.oldest_due)},
        "queues": {
            backlog.queue: {"ready": backlog.ready, "oldest_at": _iso(backlog.oldest_at)} for backlog in found.backlog
        },
        "last_day": {"failed": found.failed, "lost": found.lost, "missed": found.missed},
        "parked_tasks": found.parked,
    }  # fmt: skip


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else round(length.total_seconds(), 6)


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _pause(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds
