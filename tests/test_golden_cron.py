"""An upgrade of croniter, of the time zones or of sisy that changes what a schedule means fails here, by its name."""

from collections import defaultdict

import pytest

from tests import golden_cron

TABLE = [line.split(" | ") for line in golden_cron.FILE.read_text(encoding="utf-8").splitlines()]

BY_EXPRESSION: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
for expression, zone, instant, slots in TABLE:
    BY_EXPRESSION[expression].append((zone, instant, slots))

REMEDY = "If that is meant, run `python -m tests.golden_cron` and read the diff of the table."


def test_the_table_has_a_row_for_each_of_its_cases() -> None:
    assert [tuple(row[:3]) for row in TABLE] == list(golden_cron.rows()), REMEDY
    assert len(TABLE) > 500


@pytest.mark.parametrize("expression", BY_EXPRESSION)
def test_a_schedule_means_what_it_meant(expression: str) -> None:
    changed = []
    for zone, instant, slots in BY_EXPRESSION[expression]:
        found = golden_cron.meaning(expression, zone, instant)
        if found != slots:
            changed.append(f"{expression!r} in {zone} from {instant} on: was {slots}; is {found}.")
    assert not changed, "\n".join([*changed, REMEDY])


def test_rows_that_were_written_by_hand_say_the_same() -> None:
    """The table is written by the code that it tests."""
    by_hand = {
        ("30 2 * * *", "America/New_York", "2024-03-10T05:30:00"): "2024-03-10T07:00:00 2024-03-11T06:30:00",
        ("0 0 29 2 *", "UTC", "2024-02-28T12:00:00"): "2024-02-29T00:00:00",
        ("0 9 * * 5#2", "UTC", "2023-12-31T23:58:30"): "2024-01-12T09:00:00 2024-02-09T09:00:00",
        ("0 24 * * *", "UTC", "2024-02-28T12:00:00"): "refused",
    }
    for case, slots in by_hand.items():
        assert golden_cron.meaning(*case).startswith(slots), case
