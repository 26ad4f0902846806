"""What is measured: each work the same for every contender, each job counted by its effect.

A work takes a stage and gives measurements; __main__.py calls them in the order of WORKS.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks import effects, side
from benchmarks.effects import SLOW, Effect
from benchmarks.figures import Measurement, percentile
from benchmarks.stage import Stage

_PATIENCE: Final = 20.0  # seconds without any effect: whatever is missing then is lost
_AHEAD: Final = 3.0  # seconds in which a burst is stored before it is due, and all is quiet again


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the works are.

    Args:
        repeats: of bursts and the like.
        share: of each contender's own size of a burst.
        enqueue: jobs to enqueue one by one.
        bulk: jobs to enqueue in bulk.
        storm: schedules due at one boundary; the larger ones for sisy only.
        storm_seconds: how long after the boundary to count.
        accuracy_seconds: how long to look at schedules that are due each second.
        latency: jobs to enqueue one after another while all is idle.
        idle: schedules that are not due.
        idle_seconds: how long to look at them.
        history: runs in history for growth.
        tasks: schedules for growth.
        memory: runs after which to look at a worker's memory.
        mixed: fast jobs beside the slow ones.
    pages: times that the overview is asked for; its history is the largest of `history`.
    viewers: browsers that have the overview open during a burst.
    pairs: bursts with them, and as many without: the difference is smaller than that between two bursts.
        waits_for_minute: whether boundaries are full minutes, as in real life.
    """

    repeats: int = 3
    share: float = 1.0
    enqueue: int = 2_000
    bulk: int = 20_000
    storm: tuple[int, ...] = (10_000, 100_000)
    storm_seconds: float = 59.5
    accuracy_seconds: float = 20.0
    latency: int = 200
    idle: int = 100_000
    idle_seconds: float = 20.0
    history: tuple[int, ...] = (0, 100_000, 1_000_000)
    tasks: tuple[int, ...] = (100, 10_000, 100_000)
    memory: int = 500_000
    mixed: int = 10_000
    pages: int = 20
    viewers: int = 50
    pairs: int = 20
    waits_for_minute: bool = True


QUICK: Final = Sizes(
    repeats=1, share=0.02, enqueue=20, bulk=100, storm=(50,), storm_seconds=15, accuracy_seconds=3, latency=5, idle=100,
    idle_seconds=2, history=(0, 200), tasks=(10,), memory=200, mixed=100, pages=2, viewers=3, pairs=1,
    waits_for_minute=False,
)  # fmt: skip
"""Sizes that only show whether the benchmarks still work."""


def burst(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Time how fast jobs that wait are done by two worker processes that have just been started."""
    count = max(40, int(stage.facts["burst"] * sizes.share))
    measurement = _measurement(stage, "burst", case=f"{count:,} jobs")
    for _ in range(sizes.repeats):
        stage.fresh()
        _burst(stage, measurement, list(range(count)))
    yield measurement


def enqueue(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Time how fast jobs are enqueued, one by one and in bulk, while nothing runs."""
    measurement = _measurement(stage, "enqueue")
    for _ in range(sizes.repeats):
        stage.fresh()
        seconds = stage.call("fill", numbers=list(range(sizes.enqueue)), bulk=False)
        measurement.add(one_by_one=sizes.enqueue / seconds)
        if stage.facts["has_bulk"]:
            seconds = stage.call("fill", numbers=list(range(sizes.bulk)), bulk=True)
            measurement.add(bulk=sizes.bulk / seconds)
    yield measurement


def storm(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Time how long it takes until every one of many tasks that are due at the same boundary has started."""
    for count in sizes.storm if stage.name.startswith("sisy") else sizes.storm[:1]:
        measurement = _measurement(stage, "storm", case=f"{count:,} schedules")
        boundary = _stand_ready(stage, sizes, count)
        if boundary is None:
            measurement.error = "it had not started in time for the boundary"
            yield measurement
            continue
        early = len(stage.effects())
        found = stage.wait(early + count, patience=sizes.storm_seconds, until=boundary + sizes.storm_seconds)
        started = [effect for effect in found if effect.at >= boundary - 0.05]
        measurement.lost, measurement.doubled = effects.lost_and_doubled(started, range(count))
        if started:
            lateness = [effect.at - boundary for effect in started]
            measurement.add(started=len({effect.number for effect in started}), first=lateness[0],
                            median=percentile(lateness, 0.5), last=lateness[-1])  # fmt: skip
        measurement.note = "" if not measurement.lost else f"counted for {sizes.storm_seconds:g} s"
        yield measurement


def _stand_ready(stage: Stage, sizes: Sizes, count: int) -> float | None:
    """Make schedules that are due at one boundary, start everything, and wait until just before it.

    Returns:
        the boundary, or None when starting took longer than until then, several times.
    """
    on_seconds = not sizes.waits_for_minute and stage.facts["has_seconds"]
    ahead = 3 + count / 2_500
    for _ in range(3):
        boundary = _next_boundary(5 if on_seconds else 60, ahead=ahead)
        stage.fresh(side.Plan(kind="boundary", count=count, boundary=boundary, seconds=on_seconds))
        stage.start_workers(interval=5 if on_seconds else 60)
        stage.start_schedulers(interval=5 if on_seconds else 60)
        # Schedules that come every minute may have fired once for an earlier minute, while everything started.
        time.sleep(max(0.0, boundary - time.time() - 0.5))
        if time.time() < boundary:
            return boundary
        ahead *= 4
    return None


def accuracy(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Measure how late 60 schedules start that are due at each full second."""
    count = 60
    measurement = _measurement(stage, "accuracy", case=f"{count} schedules")
    stage.fresh(side.Plan(kind="second", count=count))
    stage.start_workers(interval=1)
    stage.start_schedulers(interval=1)
    stage.wait(count, patience=_PATIENCE)
    time.sleep(2)
    first, last = int(time.time()) + 1, int(time.time()) + 1 + sizes.accuracy_seconds
    time.sleep(last - time.time() + 0.9)
    starts = [effect for effect in stage.effects() if first <= effect.at < last]
    lateness = [(effect.at % 1) * 1000 for effect in starts]
    each = {(effect.number, int(effect.at)) for effect in starts}
    measurement.lost = count * int(sizes.accuracy_seconds) - len(each)
    measurement.doubled = len(starts) - len(each)
    if lateness:
        measurement.add(p50=percentile(lateness, 0.5), p99=percentile(lateness, 0.99), max=max(lateness))
    yield measurement


def latency(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Measure the time from before an enqueue to the job's first line, while everything is idle."""
    measurement = _measurement(stage, "latency")
    stage.fresh()
    if stage.name != "apscheduler":  # it hears of its own process's jobs only, and brings its scheduler along
        stage.start_workers()
        stage.wait_until_idle(patience=20)
        stage.call("fill", numbers=list(range(sizes.latency, sizes.latency + 20)), bulk=False)
        stage.wait(20, patience=3)
    stage.forget_effects()
    began = stage.call("latency", count=sizes.latency, pause=0.05)
    found = stage.wait(sizes.latency, patience=3)
    measurement.lost, measurement.doubled = effects.lost_and_doubled(found, range(sizes.latency))
    delays = [(effect.at - began[effect.number]) * 1000 for effect in found]
    if delays:
        measurement.add(p50=percentile(delays, 0.5), p95=percentile(delays, 0.95), p99=percentile(delays, 0.99),
                        max=max(delays))  # fmt: skip
    yield measurement


def idle(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Measure what it costs to have many schedules that are not due."""
    for interval in (60, 1) if stage.name.startswith("sisy") else (60,):
        case = f"{sizes.idle:,} schedules" + (f", a tick every {interval} s" if stage.name.startswith("sisy") else "")
        measurement = _measurement(stage, "idle", case=case)
        stage.fresh(side.Plan(kind="never", count=sizes.idle))
        stage.start_workers(processes=1, interval=interval)
        stage.start_schedulers(interval=interval)
        stage.wait_until_idle()
        time.sleep(3)  # what is done a moment after the start
        before, transactions = stage.meters(), stage.call("transactions")
        began = time.monotonic()
        time.sleep(sizes.idle_seconds)
        seconds, after = time.monotonic() - began, stage.meters()
        measurement.add(cpu_percent=(after.cpu - before.cpu) / seconds * 100, memory=after.memory)
        if transactions is not None:
            measurement.add(transactions_per_minute=(stage.call("transactions") - transactions) / seconds * 60)
        yield measurement


def growth(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Measure bursts beside a long history, and ticks beside many tasks."""
    count = max(40, int(stage.facts["burst"] * sizes.share))
    for runs in sizes.history:
        measurement = _measurement(stage, "growth", case=f"burst, {runs:,} runs in history")
        stage.fresh()
        if runs:
            stage.call("add_history", count=runs)
        for repeat in range(sizes.repeats):
            stage.forget_effects()
            _burst(stage, measurement, list(range(repeat * count, (repeat + 1) * count)))
            stage.stop()
        yield measurement
    for tasks in sizes.tasks:
        measurement = _measurement(stage, "growth", case=f"tick, {tasks:,} tasks")
        stage.fresh(side.Plan(kind="never", count=tasks))
        for seconds in stage.call("time_tick", repeats=50):
            measurement.add(tick_ms=seconds * 1000)
        yield measurement


def memory(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Measure a worker's memory at rest, and after many runs."""
    measurement = _measurement(stage, "memory", case=f"{sizes.memory:,} runs")
    stage.fresh()
    stage.start_workers(processes=1)
    stage.wait_until_idle(patience=20)
    at_rest = stage.meters().memory
    warm, done = 0.0, 0
    for batch in (sizes.memory // 10, sizes.memory - sizes.memory // 10):
        stage.call("fill", numbers=list(range(done, done + batch)), bulk=True)
        done += batch
        stage.wait(done, patience=_PATIENCE)
        warm = warm or stage.meters().memory
    found = stage.effects()
    measurement.lost, measurement.doubled = effects.lost_and_doubled(found, range(done))
    measurement.add(at_rest=at_rest, after_a_tenth=warm, after_all=stage.meters().memory)
    yield measurement


def mixed(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Measure what is left of the fast jobs' throughput when as many slow ones as there are slots come in between."""
    measurement = _measurement(stage, "mixed", case=f"{sizes.mixed:,} fast jobs and 8 of a second")
    fast = list(range(int(sizes.mixed * min(1.0, stage.facts["burst"] / 10_000))))
    places = random.Random(8)
    for _ in range(sizes.repeats):
        rates = []
        for slow in ([], [SLOW + n for n in range(8)]):
            numbers: list[int] = list(fast)
            for number in slow:
                numbers.insert(places.randrange(len(numbers)), number)
            stage.fresh()
            stage.call("fill", numbers=numbers, bulk=stage.facts["has_bulk"])
            stage.start_workers(processes=1, slots=8)
            found = stage.wait(len(numbers), patience=_PATIENCE)
            _count_faults(measurement, found, set(numbers))
            rates.append(_rate([effect for effect in found if effect.number < SLOW]))
        if rates[0]:
            measurement.add(alone=rates[0], beside_slow=rates[1], share=rates[1] / rates[0] * 100)
    yield measurement


def dashboard(stage: Stage, sizes: Sizes) -> Iterator[Measurement]:
    """Measure what the overview costs beside a long history, and what is left of a burst while many have it open."""
    history = sizes.history[-1]
    measurement = _measurement(stage, "dashboard", case=f"1,000 tasks, {history:,} runs")
    stage.fresh(side.Plan(kind="never", count=min(1_000, sizes.idle)))
    stage.call("add_history", count=history)
    for name, values in stage.call("overview", repeats=sizes.pages).items():
        measurement.add(**{name: values[0]})
    yield measurement
    yield _watched_bursts(stage, sizes)


def _watched_bursts(stage: Stage, sizes: Sizes) -> Measurement:
    """Measure bursts beside open dashboards and without them, one about the other, by the same processes."""
    count = max(40, int(stage.facts["burst"] * sizes.share))
    measurement = _measurement(stage, "dashboard", case=f"{count:,} jobs, {sizes.viewers} dashboards")
    stage.fresh()
    stage.start_workers()
    server, viewers = stage.call("watchers", count=sizes.viewers)
    web = stage.start([server])
    stage.wait_until_idle()
    for repeat in range(sizes.pairs):
        rates = {}
        for is_watched in (False, True) if repeat % 2 else (True, False):
            browsers = stage.open_dashboards(viewers, sizes.viewers) if is_watched else []
            stage.forget_effects()
            due = stage.call("fill_at_once", count=count, seconds=_AHEAD)
            time.sleep(max(0.0, due - time.time()))
            fetches, cpu = stage.fetches(), stage.meters(web).cpu
            found = stage.wait(count, patience=_PATIENCE)
            if is_watched and len(found) > 1:
                seconds = found[-1].at - due
                measurement.add(
                    fetches=(stage.fetches() - fetches) / seconds,
                    web_cpu_percent=(stage.meters(web).cpu - cpu) / seconds * 100,
                )
            _count_faults(measurement, found, set(range(count)))
            rates[is_watched] = _rate(found)
            stage.end(browsers)
        measurement.add(alone=rates[False], beside_dashboards=rates[True], share=rates[True] / rates[False] * 100)
    return measurement


Work = Callable[[Stage, Sizes], Iterator[Measurement]]
WORKS: Final[dict[str, Work]] = {
    "burst": burst,
    "enqueue": enqueue,
    "latency": latency,
    "mixed": mixed,
    "accuracy": accuracy,
    "storm": storm,
    "idle": idle,
    "growth": growth,
    "memory": memory,
    "dashboard": dashboard,
}


def _measurement(stage: Stage, work: str, *, case: str = "") -> Measurement:
    return Measurement(work=work, contender=stage.name, title=stage.facts["title"], case=case)


def _burst(stage: Stage, measurement: Measurement, numbers: list[int]) -> None:
    stage.call("fill", numbers=numbers, bulk=stage.facts["has_bulk"])
    found = _start_and_count(stage, measurement, set(numbers))
    meters = stage.meters()
    if len(found) > 1:
        measurement.add(rate=_rate(found), cpu_ms=meters.cpu / len(found) * 1000, memory=meters.memory)


def _start_and_count(stage: Stage, measurement: Measurement, numbers: set[int]) -> list[Effect]:
    """Start workers for jobs that wait; return the effects once all are done."""
    stage.start_workers()
    found = stage.wait(len(numbers), patience=_PATIENCE)
    _count_faults(measurement, found, numbers)
    return found


def _count_faults(measurement: Measurement, found: list[Effect], expected: set[int]) -> None:
    """Add what is lost and doubled."""
    lost, doubled = effects.lost_and_doubled(found, expected)
    measurement.lost, measurement.doubled = measurement.lost + lost, measurement.doubled + doubled


def _rate(found: list[Effect]) -> float:
    """Return starts per second, from the first to the last."""
    return (len(found) - 1) / (found[-1].at - found[0].at) if len(found) > 1 else 0.0


def _next_boundary(period: float, *, ahead: float) -> float:
    """Return the first multiple of a period that is at least so many seconds ahead."""
    return -(-(time.time() + ahead) // period) * period
