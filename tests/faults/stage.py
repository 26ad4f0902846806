"""What the fault tests have in common: quick settings, waiting for a beginning, and how a test comes to its end."""

from typing import Any

import pytest
from django.conf import settings
from django.db.models import Max, QuerySet
from django.utils import timezone

from sisy.models import Run, RunStatus, Task
from tests.flow.processes import PATIENCE, wait_for
from tests.project.shop import ledger

QUICK = {"POLL_INTERVAL": 0.3, "LEASE": 2, "HEARTBEAT_INTERVAL": 1}
"""Settings with which what a fault has stopped goes on within seconds."""

LONG = 90.0
"""Seconds after which a fault test gives up; several times what any of them takes on a busy machine."""

EACH_SECOND = "* * * * * *"
NEVER = "0 0 1 1 *"

DATABASES = {
    "django.db.backends.sqlite3": "sqlite",
    "django.db.backends.postgresql": "postgresql",
    "django.db.backends.mysql": "mariadb",
}


class Settled:
    """Brings a test to its end; says what may be different from usual when the invariants are checked."""

    def __init__(self) -> None:
        self.lost_lines = False
        self.max_crashes: int | None = None

    def __call__(self, *, timeout: float = LONG) -> None:
        """Let no further slot come, and wait until every run is over."""
        QuerySet(Task).exclude(schedule="@once").update(enabled=False)  # as pause() does, of any number
        wait_for(lambda: not Run.objects.active().exists(), timeout, "the end of all runs")


def only_on(*databases: str) -> Any:
    """Mark tests of faults that only some databases have."""
    reason = (
        f"a fault of {' and '.join(databases)} only: SISY_TEST_DATABASE={databases[0]} python -m pytest tests/faults"
    )
    return pytest.mark.skipif(database() not in databases, reason=reason)


def database() -> str:
    """Return which database the tests run on: sqlite, postgresql or mariadb."""
    return DATABASES[settings.DATABASES["default"]["ENGINE"]]


def wait_for_begin(count: int = 1, timeout: float = PATIENCE, **fields: Any) -> list[dict[str, Any]]:
    """Wait until so many functions have been called, by the ledger; return those lines."""

    def begins() -> list[dict[str, Any]] | None:
        found = ledger.lines(kind="begin", **fields)
        return found if len(found) >= count else None

    return wait_for(begins, timeout, f"{count} begins of {fields or 'anything'}") or []


def wait_for_a_slot_of_now(timeout: float = LONG) -> None:
    """Wait until the tasks labelled "scheduled" have run for a slot later than those that there are now."""
    runs = Run.objects.filter(label="scheduled", slot__isnull=False)
    last = runs.aggregate(slot=Max("slot"))["slot"] or timezone.now()
    later = runs.filter(slot__gt=last, status=RunStatus.SUCCESSFUL)
    wait_for(later.exists, timeout, "a run of a later slot")


def run_of(label: str) -> Run:
    """Return the only run with this label, as it is now."""
    return Run.objects.get(label=label)


def wait_for_end_of(label: str, timeout: float = LONG) -> Run:
    """Wait until the only run with this label is over; return it."""
    wait_for(lambda: run_of(label).is_over, timeout, f"the end of {label}")
    return run_of(label)
