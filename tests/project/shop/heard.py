"""What task functions received, kept in memory: tests in the same process look at the very objects.

from tests.project.shop import heard
assert [call.note for call in heard.calls] == ["note"]
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Call:
    """One call of a task function: what it calls itself, and the message exactly as it came."""

    note: str
    message: dict[str, Any]


calls: list[Call] = []


def hear(message: dict[str, Any], note: str) -> None:
    calls.append(Call(note, message))


def notes() -> list[str]:
    return [call.note for call in calls]
