"""Web server, heartbeat and worker of the demo in one process, on one event loop; `python -m sisy.demo` calls `serve`.

Daphne brings the loop (Twisted's, on asyncio). sisy's worker runs in it and owns the signals: it drains while the pages
can still be looked at, then the server stops.
"""

import asyncio
import logging
import socket
import sys

import daphne.server
from daphne.endpoints import build_endpoint_description_strings
from django.conf import settings

import sisy
from sisy import conf, layer
from sisy.demo.asgi import application as web
from sisy.demo.console import Console
from sisy.demo.management.commands.setup import LOGIN
from sisy.demo.ports import HOST
from sisy.routing import application as channels
from sisy.worker.engine import Engine, use_engine
from sisy.worker.heartbeat import Heartbeat, Presence
from sisy.worker.listener import SisyWorker


def serve(listener: socket.socket, *, seconds: float | None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the exit code, that of sisy_worker.

    Args:
        listener: the listening socket for the web server, which takes it over.
        seconds: how long to serve, or None for until a signal comes.
    """
    logging.getLogger("sisy.run").setLevel(logging.CRITICAL)  # the console says it in fewer words
    worker, engine = _worker()
    console = Console(sys.stdout, on_closed=engine.stop)
    console.connect()
    _greet(console, port=listener.getsockname()[1], seconds=seconds)
    server = daphne.server.Server(
        web,
        endpoints=build_endpoint_description_strings(file_descriptor=listener.detach()),  # daphne closes it
        signal_handlers=False,
    )
    with asyncio.Runner(loop_factory=lambda: daphne.server.twisted_loop) as runner:  # it tidies the loop up at the end
        loop = runner.get_loop()
        work = loop.create_task(worker.arun())  # type: ignore[no-untyped-call]
        work.add_done_callback(lambda _: server.stop())
        if seconds is not None:
            loop.call_later(seconds, engine.stop)
        server.run()
    work.result()  # raises what the worker died of
    console.say(f"\nStopped after {console.runs} runs.")
    return worker.exit_code


def _worker() -> tuple[SisyWorker, Engine]:
    """Make what `manage.py sisy` makes."""
    configured, engine = conf.current(), Engine()
    use_engine(engine)
    worker = SisyWorker(
        application=channels,
        channels=[configured.heartbeat_channel, *engine.channels],
        channel_layer=layer.use_in_memory_layer(),
        engine=engine,
        heartbeat=Heartbeat(
            interval=configured.heartbeat_interval, presence=Presence(interval=configured.heartbeat_interval)
        ),
    )
    return worker, engine


def _greet(console: Console, *, port: int, seconds: float | None) -> None:
    address = f"http://{HOST}:{port}/"
    console.say(f"sisy {sisy.__version__}: the demo, in {settings.DEMO_DATABASE.parent} until it stops")
    console.say()
    console.say(f"  open {console.bold(address)}")
    console.say(f"  admin: {address}admin/ (login {LOGIN}, password {LOGIN})")
    console.say("  Ctrl-C stops it" if seconds is None else f"  stops after {seconds:g} s, or with Ctrl-C")
    console.say()
