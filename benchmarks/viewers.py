"""Browsers with an open overview, as many as wanted: each hears hints and fetches what they say, paced as live.js does.

The contender sisy_watched starts it beside a web server. Each fetch leaves a line of 8 bytes in the file that
BENCHMARK_FETCHES names: its milliseconds.
"""

import argparse
import contextlib
import http.client
import json
import os
import threading
import time
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

VARIABLE: Final = "BENCHMARK_FETCHES"
_PATIENCE: Final = 60.0
_PAUSE: Final = 0.5  # seconds between two fetches at least, as live.js
_GLANCE: Final = 0.25  # seconds
_LIVE_POLL: Final = 30.0  # seconds without a look at everything, as live.js


class Viewer:
    """One browser.

    Args:
        options: of the command.
        descriptor: of the file with a line for each fetch.
    """

    def __init__(self, options: argparse.Namespace, descriptor: int) -> None:
        self._options = options
        self._descriptor = descriptor
        self._wanted = threading.Event()
        self._wanted_at = 0.0
        self._pause = self._rest = _PAUSE
        self._looked_at = time.monotonic()

    def listen(self) -> None:
        """Hear hints, for ever."""
        url = self._options.origin.replace("http", "ws", 1) + self._options.socket
        headers = {"Cookie": self._options.cookie}
        deadline = time.monotonic() + _PATIENCE
        while True:
            with (
                contextlib.suppress(OSError, WebSocketException),
                connect(url, origin=self._options.origin, additional_headers=headers) as socket,
            ):
                for frame in socket:
                    self._hear(json.loads(frame))
            if time.monotonic() > deadline:
                raise SystemExit("the web server can't be reached")
            time.sleep(0.2)

    def fetch(self) -> None:
        """Fetch what hints say is news, for ever."""
        address = urlsplit(self._options.origin).netloc
        connection = http.client.HTTPConnection(address, timeout=_PATIENCE)
        took, fetched_at = 0.0, 0.0
        while True:
            if not self._wanted.wait(max(0.0, self._looked_at + _LIVE_POLL - time.monotonic())):
                self._want(everything=True)
            while (left := fetched_at + max(self._rest, 4 * took) - time.monotonic()) > 0:
                time.sleep(min(left, _GLANCE))  # a hint ends a long rest
            self._wanted.clear()
            since, began = self._wanted_at, time.monotonic()
            connection.request(
                "GET", self._options.fragments, headers={"Cookie": self._options.cookie, "Sisy-Live": "1"}
            )
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"{self._options.fragments}: {answer.status}")
            fetched_at = time.monotonic()
            took = fetched_at - began
            os.write(self._descriptor, f"{min(took * 1000, 9_999_999):7.0f}\n".encode())
            if began - float(answer.headers.get("Sisy-Age", 0)) < since:  # read before the hint came
                self._rest = self._pause if self._wanted_at == since else _PAUSE
                self._wanted.set()

    def _hear(self, frame: dict[str, Any]) -> None:
        self._pause = frame.get("pause", self._pause)
        self._want(everything="live" in frame or "*" in frame.get("changed", ()))

    def _want(self, *, everything: bool) -> None:
        self._wanted_at, self._rest = time.monotonic(), _PAUSE
        if everything:
            self._looked_at = self._wanted_at
        self._wanted.set()


def main() -> None:
    """Have so many overviews open until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewers")
    parser.add_argument("count", type=int)
    for name in ("origin", "fragments", "socket", "cookie"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    viewers = [Viewer(options, descriptor) for _ in range(options.count)]
    for work in [work for viewer in viewers for work in (viewer.listen, viewer.fetch)]:
        threading.Thread(target=_or_end_all, args=[work], daemon=True).start()
    threading.Event().wait()


def _or_end_all(work: Any) -> None:
    """Call one; whatever ends it ends all of them, with its text."""
    try:
        work()
    except BaseException as error:
        print(f"a viewer ended: {error!r}", flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
