"""What a task's columns say about time: its schedule, its slots, its end. Reads, computes, changes nothing.

models/task.py adds saving and the verbs; the transitions and the scheduler ask here.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from sisy import conf, policy
from sisy.cron import Schedule
from sisy.models.columns import TaskColumns

ONCE: Final = "@once"
"""The schedule of a one-shot."""


class TaskTiming(TaskColumns):
    """A task's columns, and what follows from them about time."""

    class Meta:
        abstract = True

    @property
    def is_one_shot(self) -> bool:
        """Whether it runs once, at a given instant or at once."""
        return self.schedule == ONCE

    @property
    def is_used_up(self) -> bool:
        """Whether its iterations have all been created."""
        return bool(self.iterations) and self.runs_created >= self.iterations

    @property
    def zone_name(self) -> str:
        """The time zone of its schedule: its own or the project's."""
        return self.timezone or timezone.get_default_timezone_name()

    def parsed_schedule(self) -> Schedule:
        """Return its schedule, ready to compute.

        Raises:
            InvalidSchedule: the schedule or the zone in the row is bad.
        """
        anchor: object = self.start_running or self.created_at
        if not isinstance(anchor, datetime):  # a value that is refused elsewhere
            return Schedule(self.schedule, timezone=self.zone_name)
        return Schedule(
            self.schedule,
            timezone=self.zone_name,
            hash_id=self.hash_seed or self.new_hash_seed(),
            anchor=_whole_second(anchor) if self.schedule != ONCE else anchor,
        )

    def new_hash_seed(self) -> str:
        """Return what H in its schedule stands on: what the task is when it is created, kept when it is renamed."""
        text = f"{self.callable}:{self.instance_pk or ''}:{self.label or self.callable}"
        return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=16).hexdigest()

    def timetable(self) -> policy.Timetable:
        """Return what decides when it runs, as one value.

        Raises:
            InvalidSchedule: as for `parsed_schedule`.
        """
        return policy.Timetable(
            schedule=self.parsed_schedule(),
            next_run=self.next_run,
            start=self.start_running,
            end=self.end_running,
            runs_left=max(0, self.iterations - self.runs_created) if self.iterations else None,
            misfire=self.misfire,
            misfire_grace=self.misfire_grace,
            misfire_cap=conf.current().misfire_cap,
        )

    def slot_after(self, instant: datetime) -> datetime | None:
        """Return its first slot after an instant, or None when no run or no slot is left."""
        if self.is_used_up:
            return None
        if self.is_one_shot:
            return max(self.start_running or instant, instant)
        return policy.first_slot(self.timetable(), after=instant)

    def delay_of(self, slot: datetime) -> timedelta:
        """Return by how much its jitter delays the run of a slot."""
        return policy.jitter_of(task_key=f"{self.pk}", slot=slot, jitter=self.jitter)

    def upcoming(self, n: int = 5) -> list[datetime]:
        """Return up to n of the next slots, UTC; fewer when its window or its iterations end before.

        >>> from sisy.models import Task
        >>> Task(callable="shop.tasks.note", schedule="0 9 * * *", timezone="Europe/Paris").upcoming(0)
        []
        """
        slots: list[datetime] = []
        left = n if not self.iterations else min(n, max(0, self.iterations - self.runs_created))
        now = timezone.now()
        slot = self.next_run if self.enabled and self.next_run is not None else self.slot_after(now)
        while slot is not None and len(slots) < left:
            slots.append(slot)
            slot = None if self.is_one_shot else policy.first_slot(self.timetable(), after=slot)
        return slots

    def describe(self) -> str:
        """Say its schedule in words.

        >>> from sisy.models import Task
        >>> Task(schedule="*/15 9-17 * * mon-fri", timezone="Europe/Paris").describe()
        'Every 15 minutes from 09:00 to 17:45, Monday to Friday, Europe/Paris'
        """
        return self.parsed_schedule().describe()


def _whole_second(instant: datetime) -> datetime:
    """Return the first whole second that is not before an instant."""
    return instant if not instant.microsecond else instant.replace(microsecond=0) + timedelta(seconds=1)
