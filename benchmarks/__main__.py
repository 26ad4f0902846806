"""The command: python -m benchmarks [--only WORK ...] [--contender NAME ...] [--repeats N] [--quick].

Exit code 1 when a contender failed or a job of sisy was lost or doubled; the results are written all the same.
"""

import argparse
import dataclasses
import sys
import time
import traceback
from pathlib import Path

from benchmarks import environments, figures, report, works
from benchmarks.figures import Measurement, Results
from benchmarks.stage import ContenderError, Stage

DOCS = environments.ROOT / "docs" / "explanation"


def main() -> int:
    """Measure, and write the results."""
    options = _options()
    sizes = works.QUICK if options.quick else works.Sizes()
    sizes = dataclasses.replace(sizes, repeats=options.repeats or sizes.repeats)
    described = {"repeats": sizes.repeats, "size": "quick" if options.quick else "full"}
    results = Results(machine=figures.machine(described))
    began = time.monotonic()
    for name in options.contender or environments.names():
        _measure(name, results, options=options, sizes=sizes)
        results.write(options.output / "speed-results.json")
        report.write(results, options.output)  # after each contender: what is there is kept, whatever follows
    print(f"{time.monotonic() - began:.0f} s; results: {options.output}/speed-results.json, .rst and .svg", flush=True)
    broken = [m for m in results.measurements if m.error or (m.contender.startswith("sisy") and m.lost + m.doubled)]
    for measurement in broken:
        print(f"{measurement.contender} {measurement.work} {measurement.case}: lost {measurement.lost}, doubled "
              f"{measurement.doubled} {measurement.error}")  # fmt: skip
    return 1 if broken else 0


def _measure(name: str, results: Results, *, options: argparse.Namespace, sizes: works.Sizes) -> None:
    """Have one contender do the works that it can do; whatever goes wrong, the next one has its turn."""
    stage: Stage | None = None
    try:
        python = environments.python_of(name, directory=options.environments, in_place=options.in_place)
        environment = {"BENCHMARK_POSTGRESQL": options.postgresql, "BENCHMARK_REDIS": options.redis}
        stage = Stage(name, python=python, environment=environment)
        results.contenders[name] = stage.facts
        for work in options.only or works.WORKS:
            if work in stage.facts["works"]:
                _do(work, stage, results, sizes=sizes)
    except Exception as error:  # a contender that can't even start
        results.measurements.append(Measurement(work="", contender=name, title=name, error=_text(error)))
        print(f"{name}: {_text(error)}", flush=True)
    finally:
        if stage is not None:
            stage.close()


def _do(work: str, stage: Stage, results: Results, *, sizes: works.Sizes) -> None:
    began = time.monotonic()
    try:
        for measurement in works.WORKS[work](stage, sizes):
            results.measurements.append(measurement)
            print(report.line(measurement), f"({time.monotonic() - began:.0f} s)", flush=True)
    except Exception as error:  # one work that failed must not cost the others
        failed = Measurement(work=work, contender=stage.name, title=stage.facts["title"], error=_text(error))
        results.measurements.append(failed)
        print(report.line(failed), stage.output(), sep="\n", flush=True)
    finally:
        stage.stop()


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ContenderError) else "".join(traceback.format_exception(error))[-1500:]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure sisy beside its rivals.")
    parser.add_argument("--only", nargs="+", metavar="WORK", choices=works.WORKS, help=f"of {', '.join(works.WORKS)}")
    parser.add_argument("--contender", nargs="+", metavar="NAME", choices=environments.names(),
                        help=f"of {', '.join(environments.names())}")  # fmt: skip
    parser.add_argument("--repeats", type=int, help="of each burst; default 3")
    parser.add_argument("--quick", action="store_true", help="small sizes: only show that it works")
    parser.add_argument("--in-place", action="store_true", help="use this interpreter, make no environments")
    parser.add_argument("--output", type=Path, help="where the results go; default docs/explanation, or with other "
                        "than all works and contenders the current directory")  # fmt: skip
    parser.add_argument("--environments", type=Path, default=environments.ROOT / ".benchmarks")
    parser.add_argument("--postgresql", default="postgresql://postgres@127.0.0.1:5432", metavar="URL")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/9", metavar="URL", help="a database of their own")
    options = parser.parse_args()
    partial = options.quick or options.only or options.contender
    options.output = options.output or (Path.cwd() / "build" / "benchmarks" if partial else DOCS)
    return options


if __name__ == "__main__":
    sys.exit(main())
