"""The demo's task functions; sisy finds this module by itself. migrations/0002_tasks.py says when each one runs."""

import asyncio
import json
import time
from typing import Any

from django.conf import settings

import sisy
from sisy.demo import machine
from sisy.demo.models import Sample


@sisy.task(label="Sample the machine")
def sample_machine(message: dict[str, Any]) -> str:
    """Keep how busy the machine is."""
    reading = machine.read(settings.DEMO_DATABASE.parent)
    sample = Sample.objects.create(
        load=reading.load, memory_percent=reading.memory_percent, disk_percent=reading.disk_percent
    )
    return str(sample)


@sisy.task(label="Time the database")
def time_database(message: dict[str, Any]) -> str:
    """Measure how long a query takes; userdata keeps what each run has measured."""
    began = time.perf_counter()
    samples = Sample.objects.count()
    milliseconds = round(1000 * (time.perf_counter() - began), 2)
    measured = message["task"].userdata.setdefault("milliseconds", [])
    measured.append(milliseconds)
    return f"{samples} samples counted in {milliseconds} ms, {min(measured)} ms at best so far"


@sisy.task(label="Write the handover file")
async def write_handover(message: dict[str, Any]) -> str:
    """Leave the latest samples in a file, for whoever collects it. Async: it waits without keeping a thread."""
    samples = [
        {"taken_at": sample.taken_at.isoformat(), "load": sample.load} async for sample in Sample.objects.all()[:10]
    ]
    await asyncio.to_thread(_write_whole, json.dumps(samples))
    return f"{len(samples)} samples written"


@sisy.task(label="Collect the handover file")
def collect_handover(message: dict[str, Any]) -> str:
    """Read the file and delete it. Where it is not there yet this raises, and sisy tries again a little later."""
    samples = json.loads(settings.DEMO_HANDOVER.read_text(encoding="utf-8"))
    settings.DEMO_HANDOVER.unlink()
    return f"{len(samples)} samples collected"


def _write_whole(text: str) -> None:
    """Write the file so that nobody can read a half of it."""
    unfinished = settings.DEMO_HANDOVER.with_suffix(".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(settings.DEMO_HANDOVER)
