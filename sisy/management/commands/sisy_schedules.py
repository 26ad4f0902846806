"""manage.py sisy_schedules: what the stored schedules mean, and whether they mean something else after an upgrade."""

import importlib.metadata
import json
import platform
import zoneinfo
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from sisy import meaning
from sisy.cron import Schedule
from sisy.errors import InvalidInput
from sisy.models import Task
from sisy.models.timing import ONCE
from sisy.rows.reading import readable

_FORMAT: Final = 1
_BATCH: Final = 500
_SHOWN: Final = 3  # slots of a difference that are printed


class Command(BaseCommand):
    """Lists what the stored schedules mean. Exit code 0, or 1 when ``--compare`` finds one that means something else.

    A FILE that can't be read or written ends it with 2. One-shots are left out: they have an instant, and no schedule.
    """

    help = (
        "List the schedules of all tasks in words and with their next slots; or save what they mean before an upgrade "
        "of croniter, tzdata or sisy, and compare afterwards."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument("--json", action="store_true", help="Print JSON.")
        parser.add_argument(
            "--slots", type=_count, default=3, metavar="N", help="How many of the next slots to list (default 3)."
        )
        files = parser.add_mutually_exclusive_group()
        files.add_argument("--save", type=Path, metavar="FILE", help="Write what the schedules mean to a file.")
        files.add_argument(
            "--compare", type=Path, metavar="FILE", help="Say which of a saved file's schedules mean something else."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """List, save or compare."""
        if options["save"]:
            self._save(options["save"])
        elif options["compare"]:
            changed = self._compare(options["compare"], as_json=options["json"])
            if changed:
                raise SystemExit(1)
        else:
            self._list(options["slots"], as_json=options["json"])

    def _list(self, count: int, *, as_json: bool) -> None:
        entries = [_listed(key, task, error, count=count) for key, task, error in _tasks()]
        if as_json:
            self.stdout.write(json.dumps({"versions": versions(), "tasks": entries}, indent=2))
            return
        for entry in entries:
            what = "  ".join(str(entry[name]) for name in ("id", "label", "schedule") if entry[name] is not None)
            self.stdout.write(f"{what}  ({entry['state']})")
            self.stdout.write(f"    {entry['error'] or entry['description']}")
            for slot in entry["slots"]:
                self.stdout.write(f"    {_in_zone(datetime.fromisoformat(slot), entry['timezone'])}")

    def _save(self, file: Path) -> None:
        now = timezone.now()
        schedules: dict[Schedule, list[dict[str, Any]]] = {}
        unread = 0
        for _, task, error in _tasks():
            schedule = None if task is None or error else _parsed(task)
            if schedule is None or task is None:
                unread += 1
                continue
            schedules.setdefault(schedule, []).append({"id": task.pk, "label": str(task)})
        saved = {
            "format": _FORMAT,
            "saved_at": now.isoformat(),
            "versions": versions(),
            "schedules": [_saved(schedule, tasks, now=now) for schedule, tasks in schedules.items()],
        }
        try:
            file.write_text(json.dumps(saved, indent=1), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{file} can't be written: {error.strerror or error}.", returncode=2) from error
        tasks = sum(map(len, schedules.values()))
        left_out = f"; {unread} tasks whose schedule can't be read were left out" if unread else ""
        self.stdout.write(f"sisy_schedules: {len(schedules)} schedules of {tasks} tasks saved in {file}{left_out}.")

    def _compare(self, file: Path, *, as_json: bool) -> bool:
        saved = _read(file)
        stored = {task.pk: (task.schedule, task.zone_name) for _, task, _ in _tasks() if task is not None}
        changes = [change for entry in saved.entries if (change := _change(entry, saved_at=saved.at, stored=stored))]
        edited = sum(not _is_stored(task, entry, stored) for entry in saved.entries for task in entry["tasks"])
        then, now = saved.versions, versions()
        if as_json:
            told = {"then": then, "now": now, "changed": changes, "edited_or_deleted_since": edited}
            self.stdout.write(json.dumps(told, indent=2))
            return bool(changes)
        for change in changes:
            self._tell(change)
        upgrades = [f"{name} {then.get(name, '?')} -> {now[name]}" for name in now if then.get(name) != now[name]]
        self.stdout.write(
            f"sisy_schedules: {sum(len(change['tasks']) for change in changes)} tasks mean something else"
            f"{f' ({edited} were edited or deleted since)' if edited else ''}; "
            f"{', '.join(upgrades) or 'the versions are the same'}."
        )
        return bool(changes)

    def _tell(self, change: dict[str, Any]) -> None:
        tasks = ", ".join(f"{task['id']} {task['label']}" for task in change["tasks"])
        self.stdout.write(f"{change['schedule']}  {change['timezone']}: {tasks}")
        if change["error"]:
            self.stdout.write(f"    is refused: {change['error']}")
        for word in ("gone", "new"):
            slots = [_in_zone(datetime.fromisoformat(slot), change["timezone"]) for slot in change[word][:_SHOWN]]
            more = len(change[word]) - len(slots)
            if slots:
                self.stdout.write(f"    {word}: {', '.join(slots)}{f' and {more} more' if more else ''}")


def versions() -> dict[str, str]:
    """Return the versions of what decides on the meaning of a schedule."""
    found = {"Python": platform.python_version(), "time zones": _version_of_zones()}
    for package in ("croniter", "sisy"):
        found[package] = importlib.metadata.version(package)
    return found


@dataclass(frozen=True, kw_only=True)
class _SavedFile:
    """What `--save` wrote."""

    at: datetime
    versions: dict[str, str]
    entries: list[dict[str, Any]]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1000:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to 1000")
    return int(text)


def _tasks() -> Iterator[tuple[int, Task | None, str]]:
    """Yield each task that has a schedule, or its key and what is wrong where its row can't be read."""
    last = 0
    while keys := list(Task.objects.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:_BATCH]):
        tasks, errors = readable(Task.objects.filter(pk__in=keys).defer("_extra_data").order_by("pk"))
        yield from ((task.pk, task, "") for task in tasks if task.schedule != ONCE)
        yield from ((key, None, error) for key, error in errors.items())
        last = keys[-1]


def _parsed(task: Task) -> Schedule | None:
    try:
        return task.parsed_schedule()
    except InvalidInput:
        return None


def _listed(key: int, task: Task | None, error: str, *, count: int) -> dict[str, Any]:
    """Return what the list says of one task."""
    if task is None:
        nothing = dict.fromkeys(("label", "schedule", "timezone", "description", "next_run"))
        return {"id": key, **nothing, "state": "unreadable", "error": error, "slots": []}
    entry = {
        "id": task.pk, "label": str(task), "schedule": task.schedule, "timezone": task.zone_name, "description": None,
        "state": "parked" if task.error else "enabled" if task.enabled else "paused", "error": task.error or None,
        "next_run": task.next_run and task.next_run.isoformat(), "slots": [],
    }  # fmt: skip
    try:
        return {
            **entry,
            "description": task.describe(),
            "slots": [slot.isoformat() for slot in task.upcoming(count)] if count and not task.error else [],
        }
    except InvalidInput as wrong:
        return {**entry, "error": str(wrong)}


def _saved(schedule: Schedule, tasks: Sequence[dict[str, Any]], *, now: datetime) -> dict[str, Any]:
    return {
        "schedule": schedule.text,
        "timezone": schedule.timezone,
        "hash_id": schedule.hash_id,
        "anchor": schedule.anchor and schedule.anchor.isoformat(),
        "tasks": tasks,
        "slots": [slot.isoformat() for slot in meaning.sample(schedule, after=now)],
    }


def _read(file: Path) -> _SavedFile:
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        if saved["format"] != _FORMAT:
            raise ValueError(f"its format is {saved['format']!r}, and this version of sisy reads {_FORMAT}")
        return _SavedFile(
            at=datetime.fromisoformat(saved["saved_at"]), versions=saved["versions"], entries=saved["schedules"]
        )
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror or error}.", returncode=2) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{file} was not written by `manage.py sisy_schedules --save`: {error}. Save a new one.", returncode=2
        ) from error


def _is_stored(task: dict[str, Any], entry: dict[str, Any], stored: dict[int, tuple[str, str]]) -> bool:
    """Tell whether a task still has the schedule that it was saved with."""
    return stored.get(task["id"]) == (entry["schedule"], entry["timezone"])


def _change(entry: dict[str, Any], *, saved_at: datetime, stored: dict[int, tuple[str, str]]) -> dict[str, Any] | None:
    """Return what is different about one saved schedule now, or None."""
    tasks = [task for task in entry["tasks"] if _is_stored(task, entry, stored)]
    if not tasks:
        return None
    change = {"schedule": entry["schedule"], "timezone": entry["timezone"], "tasks": tasks, "gone": [], "new": []}
    anchor = entry["anchor"] and datetime.fromisoformat(entry["anchor"])
    try:
        schedule = Schedule(entry["schedule"], timezone=entry["timezone"], hash_id=entry["hash_id"], anchor=anchor)
    except InvalidInput as error:
        return {**change, "error": str(error)}
    older = [datetime.fromisoformat(slot) for slot in entry["slots"]]
    found = meaning.difference(older, meaning.sample(schedule, after=saved_at))
    if found is None:
        return None
    return {**change, "error": None, "gone": _texts(found.gone), "new": _texts(found.new)}


def _texts(slots: Iterable[datetime]) -> list[str]:
    return [slot.isoformat() for slot in slots]


def _in_zone(slot: datetime, zone: str) -> str:
    """Say an instant by the wall clock of a zone; by UTC's where there is no such zone."""
    try:
        local = slot.astimezone(zoneinfo.ZoneInfo(zone))
    except (LookupError, ValueError, OSError):
        local = slot
    return f"{local:%Y-%m-%d %H:%M:%S %Z}"


def _version_of_zones() -> str:
    """Return the version of the IANA database that zoneinfo reads: the system's if it has one, else the package's."""
    for folder in zoneinfo.TZPATH:
        if (Path(folder) / "tzdata.zi").is_file():
            with (Path(folder) / "tzdata.zi").open(encoding="ascii", errors="replace") as file:
                return file.readline().removeprefix("# version").strip()
        if (Path(folder) / "UTC").is_file():
            return f"unknown, in {folder}"
    return importlib.metadata.version("tzdata")
