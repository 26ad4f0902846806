"""What a schedule means under the versions that are installed: a sample of its slots, to keep and to compare later.

`manage.py sisy_schedules` calls this before and after an upgrade of croniter, of the time zones or of sisy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sisy.cron import Schedule

_FIRST: Final = 12  # slots in a sample that follow one another
_WEEKS: Final = 60  # weeks of which it has the first slot: a change of clocks that comes at another date is among them


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Where two samples of one schedule part.

    Args:
        gone: slots that only the older one has.
        new: slots that only the newer one has.
    """

    gone: tuple[datetime, ...]
    new: tuple[datetime, ...]


def sample(schedule: Schedule, *, after: datetime) -> list[datetime]:
    """Return slots that tell one meaning from another: the next ones, and the first of each week for over a year.

    Args:
        schedule: what to ask.
        after: aware; only slots after it count.

    >>> from datetime import UTC
    >>> slots = sample(Schedule("0 9 * * *"), after=datetime(2026, 1, 1, tzinfo=UTC))
    >>> len(slots), f"{slots[-1]:%Y-%m-%d}"
    (70, '2027-02-18')
    """
    slots = set(schedule.upcoming(after, _FIRST))
    for week in range(_WEEKS):
        probe = after + week * timedelta(weeks=1)
        slot = schedule.next_after(probe)
        if slot is None:
            break
        slots.add(slot)
    return sorted(slots)


def difference(older: Sequence[datetime], newer: Sequence[datetime]) -> Difference | None:
    """Compare two samples of one schedule after one instant; None when it means the same.

    >>> difference([], []) is None
    True
    """
    gone, new = sorted(set(older) - set(newer)), sorted(set(newer) - set(older))
    return Difference(gone=tuple(gone), new=tuple(new)) if gone or new else None
