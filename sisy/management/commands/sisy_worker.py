"""manage.py sisy_worker: claims and executes runs, and does the work of ticks. Any number of them may run."""

import argparse
import sys
from typing import Any

from channels.management.commands import runworker

from sisy import conf, layer
from sisy.messages import QUEUE_NAME
from sisy.routing import application
from sisy.worker import supervisor
from sisy.worker.engine import Engine, use_engine
from sisy.worker.listener import EXIT_RECYCLE, SisyWorker


class Command(runworker.Command):
    """Works until SIGTERM or SIGINT, then drains.

    Exit codes: 0 drained; 1 the database can't be used; 2 wrong options; 70 a loop of sisy died; 75 runs were left
    behind that did not end in time.
    """

    help = (
        "Run tasks: listen for ticks and nudges, claim runs, execute them. SIGTERM drains, a second one does not wait."
    )
    worker_class = SisyWorker

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options; those of runworker do not apply."""
        parser.add_argument("--concurrency", type=positive, help="Runs at a time; default: SISY['CONCURRENCY'], 8.")
        parser.add_argument("--processes", type=positive, default=1, help="Worker processes under this one; default 1.")
        parser.add_argument("--queues", type=_queues, help="Serve only these queues, with commas in between.")
        parser.add_argument("--burst", action="store_true", help="Exit when no run is ready any more.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work."""
        if options["processes"] > 1:
            sys.exit(supervisor.supervise(_child_arguments(options), processes=options["processes"]))
        settings = conf.current()
        queues: frozenset[str] | None = options["queues"]
        engine = Engine(
            queues=None if queues is None else sorted(queues),
            concurrency=options["concurrency"],
            burst=options["burst"],
        )
        use_engine(engine)
        self._greet(options, queues=queues)
        worker = self.worker_class(
            application=application,
            channels=[settings.heartbeat_channel, *engine.channels],
            channel_layer=layer.configured(),
            engine=engine,
        )
        exit_code = worker.work()
        if exit_code == EXIT_RECYCLE:
            supervisor.start_anew()
        if exit_code:
            sys.exit(exit_code)

    def _greet(self, options: dict[str, Any], *, queues: frozenset[str] | None) -> None:
        if options["verbosity"]:
            served = "all queues" if queues is None else f"the queues {', '.join(sorted(queues))}"
            self.stdout.write(f"sisy_worker: serving {served}. Ctrl-C drains and stops it.")
        if layer.is_local(layer.configured()) and options["verbosity"]:
            self.stdout.write(
                "No channel layer reaches other processes (CHANNEL_LAYERS has none, or the in-memory one), so this "
                f"worker polls the database every {conf.current().poll_interval.total_seconds():g} s and due tasks "
                "wait for sisy_heartbeat. For one process that does it all: manage.py sisy."
            )


def _child_arguments(options: dict[str, Any]) -> list[str]:
    arguments = ["sisy_worker", f"--verbosity={options['verbosity']}"]
    arguments += [
        f"--{name}={options[name]}" for name in ("settings", "pythonpath", "concurrency") if options.get(name)
    ]
    if options["queues"] is not None:
        arguments.append(f"--queues={','.join(sorted(options['queues']))}")
    return arguments + (["--burst"] if options["burst"] else [])


def positive(text: str) -> int:
    """Parse the value of --concurrency and --processes."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, at least 1")
    return int(text)


def _queues(text: str) -> frozenset[str]:
    queues = frozenset(part.strip() for part in text.split(",") if part.strip())
    wrong = [queue for queue in queues if not QUEUE_NAME.fullmatch(queue)]
    if wrong or not queues:
        raise argparse.ArgumentTypeError(
            f"{wrong[0] if wrong else text!r} is not a queue: write names of letters, digits, hyphens and underscores"
        )
    return queues
