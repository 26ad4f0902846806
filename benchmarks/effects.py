"""The trace that a job leaves: its number and the time of its start, 16 bytes at the end of a file.

The same for every contender, and outside of what is measured. An append of a few bytes is atomic on local file systems,
takes two microseconds, and is there even if the process is killed the moment after.
"""

import os
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

VARIABLE: Final = "BENCHMARK_EFFECTS"
"""Environment variable with the file's path."""

SLOW: Final = 1_000_000_000
"""Jobs with a number from here on take a second."""

_RECORD: Final = struct.Struct("<qd")
_descriptors: dict[str, int] = {}


class Effect(NamedTuple):
    """One start of one job."""

    number: int
    at: float


def work(number: int) -> None:
    """Do what a job does: leave a trace; the slow ones take their time."""
    path = os.environ[VARIABLE]
    descriptor = _descriptors.get(path)
    if descriptor is None:
        descriptor = _descriptors[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, _RECORD.pack(number, time.time()))
    if number >= SLOW:
        time.sleep(1)


def count(path: Path) -> int:
    """Return how many effects there are."""
    return path.stat().st_size // _RECORD.size if path.exists() else 0


def read(path: Path) -> list[Effect]:
    """Return all effects, in the order of their time."""
    if not path.exists():
        return []
    return sorted((Effect(*values) for values in _RECORD.iter_unpack(path.read_bytes())), key=lambda effect: effect.at)


def lost_and_doubled(effects: list[Effect], expected: "set[int] | range") -> tuple[int, int]:
    """Return how many of the expected jobs did not start, and how many starts were one too many."""
    starts = Counter(effect.number for effect in effects)
    lost = sum(1 for number in expected if number not in starts)
    return lost, sum(
        times - (number in expected) for number, times in starts.items() if times != 1 or number not in expected
    )
