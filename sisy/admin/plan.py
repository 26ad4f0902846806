"""A task's schedule in words and its next slots, each in the task's zone, in UTC and with what clocks do on its day.

The page of a task shows it for the row, preview.py for what is being typed into the form.
"""

from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from sisy.admin import clocks, shown
from sisy.models import Task

_SLOTS = 5


@dataclass(frozen=True, kw_only=True)
class PlannedSlot:
    """A slot as it is shown.

    Args:
        at: the instant.
        local: it in the task's zone.
        utc: it in UTC, without the date where that is the same.
        distance: how far away it is.
        note: what the change of clocks on its day means for it, or an empty text.
    """

    at: datetime
    local: str
    utc: str
    distance: str
    note: str

    @property
    def iso(self) -> str:
        """The instant as <time> has it."""
        return self.at.isoformat()


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """When a task runs.

    Args:
        words: the schedule in words; where it can't be read, what is wrong with it.
        error: what is wrong with it, or an empty text.
        raw: the schedule as it was written.
        zone: the name of its zone.
        slots: the next slots within its window and iterations.
    """

    words: str
    error: str
    raw: str
    zone: str
    slots: tuple[PlannedSlot, ...]

    @property
    def note(self) -> str:
        """What clocks do on the days of the slots, if one of them is such a day."""
        return next((slot.note for slot in self.slots if slot.note), "")


def plan_of(task: Task) -> TaskPlan:
    """Return when a task runs; nothing that may be in its row makes this raise."""
    words, error = schedule_in_words(task)
    raw, zone = shown.visible(task.schedule), shown.visible(task.zone_name)
    slots = () if error else tuple(_planned(slot, task.zone_name) for slot in _upcoming(task))
    return TaskPlan(words=words, error=error, raw=raw, zone=zone, slots=slots)


def schedule_in_words(task: Task) -> tuple[str, str]:
    """Return a task's schedule in words and an empty text, or what it is and what is wrong with it."""
    try:
        return shown.visible(task.describe()), ""
    except Exception as error:  # whatever somebody wrote into the row by SQL: the page must show it
        return shown.short(error, 300), str(error)


def _upcoming(task: Task) -> list[datetime]:
    """Return the next slots; those of a paused task are counted from now, as they will be when it is resumed."""
    if not task.enabled:
        task = copy(task)
        task.next_run = None
    return task.upcoming(_SLOTS)


def _planned(slot: datetime, zone_name: str) -> PlannedSlot:
    zone = ZoneInfo(zone_name)
    local, utc = slot.astimezone(zone), slot.astimezone(UTC)
    return PlannedSlot(
        at=slot,
        local=f"{local:%Y-%m-%d} {_clock(local)} {local:%Z}",
        utc=_clock(utc) if utc.date() == local.date() else f"{utc:%Y-%m-%d} {_clock(utc)}",
        distance=shown.distance(slot),
        note=clocks.note_on(slot, zone),
    )


def _clock(value: datetime) -> str:
    return f"{value:%H:%M:%S}" if value.second else f"{value:%H:%M}"
