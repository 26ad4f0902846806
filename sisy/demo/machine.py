"""Ask the machine how busy it is, with what Python has; tasks.py calls `read`."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How busy the machine was at one moment.

    Args:
        load: processes that ran or waited to, averaged over a minute; None where the system does not count them.
        memory_percent: memory in use, or None where /proc/meminfo does not say.
        disk_percent: space in use on the disk that holds the given path.
    """

    load: float | None
    memory_percent: float | None
    disk_percent: float


def read(path: Path) -> Reading:
    """Read load, memory and the disk that holds a path."""
    usage = shutil.disk_usage(path)
    return Reading(load=_load(), memory_percent=_memory_percent(), disk_percent=100 * usage.used / usage.total)


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has no such thing, some containers refuse it
        return None


def _memory_percent() -> float | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return 100 * (1 - kilobytes["MemAvailable"] / kilobytes["MemTotal"])
    except (OSError, ValueError, LookupError, ZeroDivisionError):  # not a Linux, or one that counts otherwise
        return None
