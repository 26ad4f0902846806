"""The page of what runs in the next 24 hours: one page of tasks, the next one first, each with its lane.

TaskAdmin has the address. Three queries, whatever the number of tasks; lanes.py computes.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db.models import Q
from django.http import QueryDict
from django.utils.timezone import get_current_timezone_name

from sisy.admin.history import newest_runs, typical
from sisy.admin.lanes import Lane, Load, Window, lane, load
from sisy.admin.plan import schedule_in_words
from sisy.models import Task

PER_PAGE: Final = 40
_MOST_PAGES: Final = 250
_RUNS_LOOKED_AT: Final = 20


@dataclass(frozen=True, kw_only=True)
class Upcoming:
    """What the page shows.

    Args:
        window: the span.
        lanes: one a task.
        load: how the starts are spread, or None if there are none.
        search: the words that were searched for.
        queue: the queue that is shown; an empty text for all.
        page: the number of the page, from 1.
        previous: the query of the page before, or None.
        next: the query of the page after, or None.
    """

    window: Window
    lanes: tuple[Lane, ...]
    load: Load | None
    search: str
    queue: str
    page: int
    previous: str | None
    next: str | None

    @property
    def load_at(self) -> str:
        """When the most runs start."""
        return f"{self.load.at.astimezone(self.window.zone):%H:%M}" if self.load else ""


def upcoming(query: QueryDict, *, now: datetime) -> Upcoming:
    """Return what runs in the 24 hours from an instant on.

    Args:
        query: of the request; `q` is searched for in labels and callables, `queue` is a queue, `p` a page.
        now: the instant.
    """
    window = Window(now=now, zone=ZoneInfo(get_current_timezone_name()))
    page = _page(query)
    first = (page - 1) * PER_PAGE
    tasks = list(_tasks(query, until=window.end)[first : first + PER_PAGE + 1])
    runs = newest_runs([task.pk for task in tasks], count=_RUNS_LOOKED_AT)
    drawn = []
    for task in tasks[:PER_PAGE]:
        usual = typical(runs[task.pk])
        words, _error = schedule_in_words(task)
        drawn.append(lane(task, words=words, window=window, usual=usual.p50 if usual else None))
    return Upcoming(
        window=window,
        lanes=tuple(drawn),
        load=load(drawn, window=window),
        search=query.get("q", "").strip(),
        queue=query.get("queue", ""),
        page=page,
        previous=_turned(query, page - 1) if page > 1 else None,
        next=_turned(query, page + 1) if len(tasks) > PER_PAGE and page < _MOST_PAGES else None,
    )


def _tasks(query: QueryDict, *, until: datetime) -> Any:
    tasks = Task.objects.enabled().filter(next_run__lt=until).order_by("next_run", "pk").defer("_extra_data")
    if search := query.get("q", "").strip():
        tasks = tasks.filter(Q(label__icontains=search) | Q(callable__icontains=search))
    return tasks.filter(queue=query["queue"]) if query.get("queue") else tasks


def _page(query: QueryDict) -> int:
    text = query.get("p", "1")
    return min(max(int(text), 1), _MOST_PAGES) if text.isascii() and text.isdecimal() and len(text) < 6 else 1


def _turned(query: QueryDict, page: int) -> str:
    turned = query.copy()
    turned["p"] = str(page)
    return turned.urlencode()
