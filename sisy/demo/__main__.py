"""python -m sisy.demo: the whole demo in one process, on a temporary database. Start here to see sisy work.

Sets up the project in an empty directory and hands over to server.py; tidies up at the end.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import django
from django.core.management import call_command
from django.db import connection

from sisy.demo import ports
from sisy.demo.manage import SETTINGS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code.

    Args:
        arguments: the command line without the program's name, or None for this process's own.
    """
    options = _parser().parse_args(arguments)
    # Until the worker takes the signals over, SIGTERM does what Ctrl-C does: unwind, and delete the database.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(port=options.port, seconds=options.seconds)
    except ports.PortError as error:
        print(f"sisy.demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sisy.demo",
        description="Run sisy's demo project: web server, heartbeat and worker in one process, nothing to set up.",
    )
    parser.add_argument(
        "--port",
        type=_port,
        help=f"Port on {ports.HOST}; default: {ports.USUAL}, or the next one that is free. 0 is any free one.",
    )
    parser.add_argument("--seconds", type=_seconds, help="Stop after this many seconds; default: run until Ctrl-C.")
    return parser


def _run(*, port: int | None, seconds: float | None) -> int:
    with ports.listen(port) as listener, tempfile.TemporaryDirectory(prefix="sisy-demo-") as directory:
        taken_over = listener.getsockname()[1]
        if port is None and taken_over != ports.USUAL:
            print(f"Port {ports.USUAL} is taken, so this demo uses {taken_over} (--port chooses another).", flush=True)
        _enter_project(Path(directory))
        server = import_module("sisy.demo.server")  # now that the project is there: it needs the models
        call_command("setup", verbosity=0)
        connection.close()  # this thread asks nothing more: the rest happens in those of sisy and of daphne
        return int(server.serve(listener, seconds=seconds))


def _enter_project(directory: Path) -> None:
    """Make the demo this process's Django project, whatever project the environment is set up for."""
    for name in [name for name in os.environ if name.startswith("DEMO_")] + ["REDIS_URL"]:
        os.environ.pop(name, None)
    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
    os.environ["DEMO_DATABASE"] = str(directory / "demo.sqlite3")
    django.setup()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
