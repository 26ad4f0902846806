"""manage.py sisy: heartbeat, consumer and worker in one process, with no other server than the database."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sisy import conf, layer
from sisy.management.commands.sisy_heartbeat import seconds
from sisy.management.commands.sisy_worker import positive
from sisy.routing import application
from sisy.worker import supervisor
from sisy.worker.engine import Engine, use_engine
from sisy.worker.heartbeat import Heartbeat, Presence
from sisy.worker.listener import EXIT_RECYCLE, SisyWorker


class Command(BaseCommand):
    """Works until SIGTERM or SIGINT, then drains; exit codes as for sisy_worker."""

    help = "Run everything in one process: the ticks and the tasks. Needs no Redis and no CHANNEL_LAYERS."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--interval", type=seconds, help="Seconds between ticks; default: SISY['HEARTBEAT_INTERVAL'], 60."
        )
        parser.add_argument("--concurrency", type=positive, help="Runs at a time; default: SISY['CONCURRENCY'], 8.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work."""
        settings = conf.current()
        interval = options["interval"] or settings.heartbeat_interval
        channel_layer = layer.use_in_memory_layer()
        engine = Engine(concurrency=options["concurrency"])
        use_engine(engine)
        worker = SisyWorker(
            application=application,
            channels=[settings.heartbeat_channel, *engine.channels],
            channel_layer=channel_layer,
            engine=engine,
            heartbeat=Heartbeat(interval=interval, presence=Presence(interval=interval)),
        )
        if options["verbosity"]:
            self.stdout.write(
                f"sisy: a tick every {interval.total_seconds():g} s, all queues. Ctrl-C drains and stops it."
            )
        exit_code = worker.work()
        if exit_code == EXIT_RECYCLE:
            supervisor.start_anew()
        if exit_code:
            sys.exit(exit_code)
