"""What schedules mean, written down: the table tests/golden_cron.txt, and how it is made anew.

    python -m tests.golden_cron     writes the table; read its diff before you commit it

tests/test_golden_cron.py compares it with what the installed croniter makes of the same expressions, so that an
upgrade which changes a meaning names the expression and the instants. All slots lie in the past, where the rules of
time zones will hardly change any more.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sisy.cron import Schedule
from sisy.errors import InvalidSchedule

FILE = Path(__file__).with_suffix(".txt")
SLOTS = 4  # of each expression after each instant
END = datetime(2026, 1, 1, tzinfo=UTC)

EXPRESSIONS = (
    # wildcards, steps, ranges, lists, names
    "* * * * *", "*/5 * * * *", "*/7 * * * *", "3-59/15 * * * *", "0,20,40 * * * *", "59/15 * * * *", "*/90 * * * *",
    "0 * * * *", "0 */2 * * *", "0 */5 * * *", "15 1-23/3 * * *", "30 2 * * *", "30 1 * * *", "0 0 * * *",
    "59 23 * * *", "*/20 9-17 * * mon-fri", "0 22-2 * * *", "5 4,16 * * sun", "0 9 * * 1-5", "0 9 * * 0", "0 9 * * 7",
    "0 9 * * 0-7", "0 9 * * sat-mon", "0 9 * * fri-tue/2", "0 12 * JAN,jul *", "0 12 1 apr-jan/3 *", "0 12 * 2-3 wed",
    "0 0 1 1 *", "0 0 1 */3 *", "0 0 */10 * *", "0 0 */2 * *", "0 6 28-31 * *", "0 0 29 2 *", "0 0 31 * *",
    "0 0 30 1-3 *",
    # a day of the month beside a day of the week
    "0 0 2 * mon", "0 0 13 * fri", "0 0 */10 * mon", "0 0 1-7 * tue", "0 0 15 6 sun",
    # L, W, #, ?
    "0 9 L * *", "0 9 l 2 *", "0 9 29-L 2 *", "0 9 15W * *", "0 9 w1 * ?", "0 9 31W * *", "0 9 * * 5#2", "0 9 * * 1#5",
    "0 9 * * mon-tue#1", "0 9 * * L5", "0 9 * * L0", "0 9 * * 5#3,L5", "0 9 ? * mon", "0 9 1 * ?",
    # seconds
    "* * * * * */20", "0 12 * * * 5", "*/15 2 * * * 30", "30 2 * * * 15", "* * * * * 0-10/5", "0 0 * * * 59",
    # H
    "H * * * *", "H H * * *", "H(0-29)/10 * * * *", "H 2 * * *", "H H H * *", "0 0 * * H", "H/20 * * * * H",
    # aliases and periods
    "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually", "@every 90s", "@every 1h30m",
    "@every 2d",
    # refused, and so they must stay
    "0 24 * * *", "60 * * * *", "5-5 * * * *", "R * * * *", "0 0 30 2 *", "0 0 0 * *", "0 9 * * 8", "* * * *",
    "* * * * * * 2026", "0 0 LW * *", "@reboot", "0 9 * * 5#6", "1,,2 * * * *", "*/0 * * * *",
)  # fmt: skip

PLACES = (
    ("UTC", "2023-12-31T23:58:30", "2024-02-28T12:00:00"),
    ("America/New_York", "2024-03-10T05:30:00", "2023-11-05T04:45:00"),  # the clock was changed an hour or two later
    ("Europe/Paris", "2024-03-30T22:00:00", "2024-10-26T23:10:00"),
    ("Australia/Lord_Howe", "2024-04-06T13:20:00", "2023-09-30T14:40:00"),  # by half an hour
    ("America/Santiago", "2023-09-03T02:00:00", "2024-04-07T01:00:00"),  # at midnight
    ("Pacific/Apia", "2011-12-29T20:00:00", "2011-12-31T08:00:00"),  # a day was left out
    ("Asia/Kathmandu", "2016-02-29T18:00:00", "2022-06-15T03:14:15"),
)


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield expression, zone and instant of each row: each expression in three zones, at two instants."""
    for number, expression in enumerate(EXPRESSIONS):
        for zone, *instants in (PLACES[(number + step) % len(PLACES)] for step in (0, 1, 3)):
            for instant in instants:
                yield expression, zone, instant


def meaning(expression: str, zone: str, instant: str) -> str:
    """Return the next slots in UTC as the table has them, or that the expression is refused."""
    after = datetime.fromisoformat(instant).replace(tzinfo=UTC)
    try:
        schedule = Schedule(expression, timezone=zone, hash_id="golden")
    except InvalidSchedule:
        return "refused"
    slots = islice(schedule.between(after, END), SLOTS)
    return " ".join(slot.replace(tzinfo=None).isoformat() for slot in slots) or "none"


def lines() -> Iterator[str]:
    """Yield the lines of the table as the installed versions mean them."""
    for row in rows():
        yield " | ".join((*row, meaning(*row)))


if __name__ == "__main__":
    FILE.write_text("".join(f"{line}\n" for line in lines()), encoding="utf-8")
    sys.stdout.write(f"{FILE} has {sum(1 for _ in rows())} rows.\n")
