"""The next 24 hours as lanes, one a task: where its slots are, which of them collide, on which of them clocks change.

Bounded whatever the schedule is: the first slots one by one, and where there are more than that, which quarters of an
hour have any. Values in, values out; upcoming.py reads the tasks, templates/admin/sisy/task/upcoming.html draws.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sisy import policy
from sisy.admin import clocks, shown
from sisy.models import Task
from sisy.models.columns import Overlap

SPAN: Final = timedelta(hours=24)
MOST_SINGLE: Final = 40
"""Slots of one lane that are computed and drawn one by one."""

_DRAWN_HOURS: Final = 25  # from the begin of the present hour, so that the lines are at whole hours
_WIDTH: Final = 40 * _DRAWN_HOURS
_CELL: Final = timedelta(minutes=15)
_HOUR: Final = timedelta(hours=1)
_LOAD_HEIGHT: Final = 40


@dataclass(frozen=True, kw_only=True)
class Window:
    """The span that is drawn.

    Args:
        now: its begin.
        zone: that of the clock above the lanes.
    """

    now: datetime
    zone: ZoneInfo
    end: datetime = field(init=False)
    begin: datetime = field(init=False)
    width: int = field(init=False, default=_WIDTH)

    def __post_init__(self) -> None:
        local = self.now.astimezone(self.zone)
        past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        object.__setattr__(self, "begin", self.now - past)
        object.__setattr__(self, "end", self.now + SPAN)

    def x(self, instant: datetime) -> float:
        """Return where an instant is drawn; what is due already stands at the begin."""
        return _WIDTH * ((max(instant, self.now) - self.begin) / (_DRAWN_HOURS * _HOUR))

    @property
    def now_line(self) -> str:
        """The line at the present, as path data for any height."""
        return f"M{self.x(self.now):.1f} 0v100"

    @property
    def grid(self) -> str:
        """The lines at each third hour, as path data for any height."""
        return "".join(f"M{40 * hour} 0v100" for hour in range(0, _DRAWN_HOURS, 3))

    @property
    def hours(self) -> list[str]:
        """What the clock shows at each third hour."""
        instants = (self.begin + hour * _HOUR for hour in range(0, _DRAWN_HOURS - 1, 3))
        return [f"{instant.astimezone(self.zone):%H:%M}" for instant in instants]


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One slot; or from the first to the last of many that were not counted."""

    first: datetime
    last: datetime
    is_many: bool = False


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A slot or a stretch as it is drawn.

    Args:
        kind: "slot", "overlap" (the run before it will probably not be over) or "many".
        path: its line, or its outline, as path data.
        body: how long its run usually takes, as path data; an empty text where that is too short, or not known.
        clock: a sign that clocks change on its day, as path data; an empty text on other days.
        text: what there is to say of it.
    """

    kind: str
    path: str
    body: str
    clock: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The slots of one task.

    Args:
        task: the task.
        words: its schedule in words.
        stretches: its slots.
        marks: the same as they are drawn.
        summary: the same in words.
        notes: what people should know: collisions, clocks that change.
        error: why its slots can't be computed, or an empty text.
    """

    task: Task
    words: str
    stretches: tuple[Stretch, ...] = ()
    marks: tuple[Mark, ...] = ()
    summary: str = ""
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def label(self) -> str:
        """The task's name."""
        return shown.short(self.task.label or self.task.callable)

    @property
    def raw(self) -> str:
        """Its schedule as it was written, and its zone."""
        return f"{shown.visible(self.task.schedule)} · {shown.visible(self.task.zone_name)}"


def lane(task: Task, *, words: str, window: Window, usual: timedelta | None) -> Lane:
    """Return the lane of an enabled task.

    Args:
        task: as it is in its row.
        words: its schedule in words.
        window: the span to draw.
        usual: how long its runs take, or None if nobody knows.
    """
    try:
        stretches = tuple(stretches_of(task, until=window.end))
        zone = ZoneInfo(task.zone_name)
    except Exception as error:  # whatever somebody wrote into the row by SQL: the other lanes are shown
        return Lane(task=task, words=words, error=shown.short(error))
    late = colliding(stretches, usual)
    marks = tuple(
        _mark(stretch, window=window, zone=zone, usual=usual, collides=place in late)
        for place, stretch in enumerate(stretches)
    )
    notes = _notes(task, window=window, zone=zone, collisions=len(late), usual=usual)
    return Lane(
        task=task, words=words, stretches=stretches, marks=marks, summary=_summary(stretches, zone), notes=notes
    )


def stretches_of(task: Task, *, until: datetime) -> Iterator[Stretch]:
    """Yield the slots of an enabled task from its next one on, within its window and its iterations.

    Forty are computed one by one. If there are more, quarters of an hour are: a hundred steps for a day, whether the
    task runs every minute or every second.
    """
    singles = list(_slots(task, until=until, most=MOST_SINGLE + 1))
    if len(singles) <= MOST_SINGLE:
        yield from (Stretch(first=slot, last=slot) for slot in singles)
        return
    timetable = task.timetable()
    first: datetime | None = singles[0]
    while first is not None and first < until:
        last = first
        following = policy.first_slot(timetable, after=last + _CELL)
        while following is not None and following < until and following - last <= 2 * _CELL:
            last = following
            following = policy.first_slot(timetable, after=last + _CELL)
        yield Stretch(first=first, last=last, is_many=True)
        first = following


def colliding(stretches: Sequence[Stretch], usual: timedelta | None) -> set[int]:
    """Return the places of slots at which the run before will probably not be over.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> slots = [Stretch(first=slot, last=slot) for slot in (noon, noon + timedelta(minutes=5))]
    >>> colliding(slots, timedelta(minutes=7)), colliding(slots, None)
    ({1}, set())
    """
    if usual is None:
        return set()
    neighbours = enumerate(pairwise(stretches), start=1)
    return {place for place, (before, after) in neighbours if not before.is_many and before.last + usual > after.first}


@dataclass(frozen=True, kw_only=True)
class Load:
    """How many runs start in each quarter of an hour, at least: `path` draws it, the rest says where the most do."""

    path: str
    most: int
    at: datetime
    height: int = _LOAD_HEIGHT


def load(lanes: Iterable[Lane], *, window: Window) -> Load | None:
    """Return how the starts of the lanes' runs are spread, or None if there are none."""
    counts: Counter[int] = Counter()
    for stretch in (stretch for each in lanes for stretch in each.stretches):
        first, last = ((max(at, window.now) - window.begin) // _CELL for at in (stretch.first, stretch.last))
        counts.update(range(first, last + 1))
    if not counts:
        return None
    cell, most = min(counts.items(), key=lambda item: (-item[1], item[0]))
    bars = ((10 * place, max(2, round((_LOAD_HEIGHT - 2) * count / most))) for place, count in sorted(counts.items()))
    path = "".join(f"M{x + 1} {_LOAD_HEIGHT}v-{height}h8v{height}z" for x, height in bars)
    return Load(path=path, most=most, at=window.begin + cell * _CELL)


def _slots(task: Task, *, until: datetime, most: int) -> Iterator[datetime]:
    left = min(most, max(0, task.iterations - task.runs_created)) if task.iterations else most
    slot, timetable = task.next_run, None if task.is_one_shot else task.timetable()
    while slot is not None and slot < until and left > 0:
        yield slot
        left -= 1
        slot = None if timetable is None else policy.first_slot(timetable, after=slot)


def _mark(stretch: Stretch, *, window: Window, zone: ZoneInfo, usual: timedelta | None, collides: bool) -> Mark:
    x, text = window.x(stretch.first), _clock(stretch.first, zone)
    if stretch.is_many:
        text = _("many runs from %(first)s to %(last)s") % {"first": text, "last": _clock(stretch.last, zone)}
        width = max(window.x(stretch.last) - x, 4)
        return Mark(kind="many", path=f"M{x:.1f} 9h{width:.1f}v10h-{width:.1f}z", body="", clock="", text=text)
    note = clocks.note_on(stretch.first, zone)
    kind, path = ("overlap", f"M{x:.1f} 5v18") if collides else ("slot", f"M{x:.1f} 8v12")
    said = [text, _("the run before will probably not be over") if collides else "", note]
    width = 0 if usual is None else _WIDTH * (usual / (_DRAWN_HOURS * _HOUR))
    return Mark(
        kind=kind,
        path=path,
        body=f"M{x:.1f} 11h{width:.1f}v6h-{width:.1f}z" if width >= 4 else "",
        clock=f"M{x - 6:.1f} 0h12l-6 6z" if note else "",
        text=": ".join(filter(None, said)),
    )


def _notes(task: Task, *, window: Window, zone: ZoneInfo, collisions: int, usual: timedelta | None) -> tuple[str, ...]:
    notes = []
    if collisions:
        text = ngettext(
            "Runs take %(time)s, so %(count)d slot will find the run before still running. Overlap: %(policy)s.",
            "Runs take %(time)s, so %(count)d slots will find the run before still running. Overlap: %(policy)s.",
            collisions,
        )
        policy_name = Overlap(task.overlap).label if task.overlap in Overlap.values else task.overlap
        notes.append(text % {"time": shown.duration(usual), "count": collisions, "policy": policy_name})
    if change := clocks.change_between(window.now, window.end, zone):
        notes.append(f"{zone.key}: {change.describe()}")
    return tuple(notes)


def _clock(instant: datetime, zone: ZoneInfo) -> str:
    local = instant.astimezone(zone)
    return f"{local:%H:%M:%S %Z}" if local.second else f"{local:%H:%M %Z}"


def _summary(stretches: Sequence[Stretch], zone: ZoneInfo) -> str:
    if any(stretch.is_many for stretch in stretches):
        return _("more than %(count)d runs") % {"count": MOST_SINGLE}
    count = ngettext("%(count)d run", "%(count)d runs", len(stretches)) % {"count": len(stretches)}
    return _("%(count)s, the first at %(time)s") % {"count": count, "time": _clock(stretches[0].first, zone)}
