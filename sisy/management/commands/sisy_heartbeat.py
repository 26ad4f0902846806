"""manage.py sisy_heartbeat: ticks at each boundary. Any number of them may run."""

import argparse
import asyncio
import logging
import signal
import sys
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sisy import conf
from sisy.worker.engine import EXIT_LOOP_DIED
from sisy.worker.heartbeat import Heartbeat, Presence

_log = logging.getLogger("sisy.heartbeat")


class Command(BaseCommand):
    """Sends a tick at each boundary until SIGTERM or SIGINT; exit code 0, or 70 when its loop died."""

    help = "Send a tick over the channel layer each minute, so that due tasks are run. Any number may run at once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--interval", type=seconds, help="Seconds between ticks; default: SISY['HEARTBEAT_INTERVAL'], 60."
        )
        parser.add_argument("--once", action="store_true", help="Send one tick now and exit.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Tick."""
        interval = options["interval"] or conf.current().heartbeat_interval
        if options["verbosity"] and not options["once"]:
            self.stdout.write(f"sisy_heartbeat: a tick every {interval.total_seconds():g} s. Ctrl-C stops it.")
        try:
            asyncio.run(_beat(interval, once=options["once"]))
        except Exception:
            _log.critical("The heartbeat died; this process ends", exc_info=True)
            sys.exit(EXIT_LOOP_DIED)


async def _beat(interval: timedelta, *, once: bool) -> None:
    if once:
        await Heartbeat(interval=interval).once()
        return
    heartbeat = Heartbeat(interval=interval, presence=Presence(interval=interval))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, heartbeat.stop)
    await heartbeat.beat()


def seconds(text: str) -> timedelta:
    """Parse the value of --interval."""
    try:
        return conf.parse({"HEARTBEAT_INTERVAL": float(text)}).heartbeat_interval
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, at least 0.1") from error
