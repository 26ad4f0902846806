"""The demo's task functions; sisy finds this module by itself. migrations/0002_tasks.py says when each one runs."""

import asyncio
import json
import time
from typing import Any

from django.conf import settings

import sisy
from sisy.demo import machine
from sisy.demo.models import Sample

_STEPS = 40
_SECONDS_A_STEP = 0.6  # an audit is in no hurry, and is to be seen
_GAP_SECONDS = 5


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


@sisy.task(label="Audit the samples")
async def audit_samples(message: dict[str, Any]) -> str:
    """Look for gaps between the samples, step by step; in the admin you see how far it is and what it logs."""
    run, gaps, before = message["task"].current_run, 0, None
    taken = [sample.taken_at async for sample in Sample.objects.order_by("taken_at")[: _STEPS * 100]]
    for step in range(_STEPS):
        await run.aset_progress(step / _STEPS, f"step {step + 1} of {_STEPS}")
        for instant in taken[step * 100 : (step + 1) * 100]:
            if before is not None and (instant - before).total_seconds() > _GAP_SECONDS:
                gaps += 1
                await run.alog(
                    f"nothing was sampled for {(instant - before).total_seconds():.0f} s before {instant:%H:%M:%S}"
                )
            before = instant
        await asyncio.sleep(_SECONDS_A_STEP)
        if step % 8 == 0:
            await run.alog(f"{min(len(taken), (step + 1) * 100)} of {len(taken)} samples looked at")
    return f"{len(taken)} samples, {gaps} gaps"


def _write_whole(text: str) -> None:
    """Write the file so that nobody can read a half of it."""
    unfinished = settings.DEMO_HANDOVER.with_suffix(".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(settings.DEMO_HANDOVER)
