"""A way to a server that can be cut, held up, slowed down, and cut just after a commit has been sent.

with Proxy("127.0.0.1", 5432) as proxy:
    proxy.cut()
    proxy.mend()
"""

import contextlib
import re
import socket
import threading
import time
from typing import Self


class Proxy:
    """Passes bytes on between clients and a server, until it is told to do harm.

    Args:
        host: the server's.
        port: the server's.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._ends: list[socket.socket] = []
        self._open = threading.Event()
        self._open.set()
        self._delay = 0.0
        self._cut_commit_of: re.Pattern[bytes] | None = None
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = int(self._server.getsockname()[1])
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self.cut()

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        _close(self._server)
        self.drop()

    def drop(self) -> None:
        """Break the connections that there are."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            _close(end)

    def mend(self) -> None:
        """Accept connections again."""
        if self._server.fileno() < 0:
            self._server = socket.create_server(("127.0.0.1", self.port), backlog=100)
            self._listen()

    def hang(self) -> None:
        """Accept connections and pass nothing on, in either direction."""
        self._open.clear()

    def go_on(self) -> None:
        """Pass on what has been held up, and all that follows."""
        self._open.set()

    def slow(self, seconds: float) -> None:
        """Hold up each piece for so long; 0 ends that."""
        self._delay = seconds

    def cut_after_commit(self, *, containing: str) -> None:
        """Break, once, the connection of the next transaction with this text: after its commit, before the answer.

        Args:
            containing: a regular expression for SQL in small letters.
        """
        self._cut_commit_of = re.compile(containing.encode())

    @property
    def has_cut(self) -> bool:
        """Whether `cut_after_commit` has done its work."""
        return self._cut_commit_of is None

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=[self._server], daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near = server.accept()[0]
            except OSError:
                return
            if server.fileno() < 0:
                near.close()
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                _close(near)
                continue
            with self._lock:
                self._ends += [near, far]
            way = _Way(near, far)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=[way, source, sink], daemon=True).start()

    def _copy(self, way: "_Way", source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._delay:
                    time.sleep(self._delay)
                self._open.wait()
                if source is way.near:
                    self._watch(way, data)
                elif way.is_cut_at_answer:
                    break
                sink.sendall(data)
        for end in (way.near, way.far):
            _close(end)

    def _watch(self, way: "_Way", data: bytes) -> None:
        """Follow what a client says, up to the commit of the transaction that is wanted."""
        if self._cut_commit_of is None:
            return
        way.said = (way.said + data.lower())[-200_000:]
        if b"commit" in data.lower() or _COMMITS_ITSELF.search(way.said):
            with self._lock:
                if self._cut_commit_of is not None and self._cut_commit_of.search(way.said):
                    way.is_cut_at_answer, self._cut_commit_of = True, None
            way.said = b""


_COMMITS_ITSELF = re.compile(rb"with chosen .* where [^;]*\\0", re.DOTALL)
"""A claim on PostgreSQL: one message, which ends with a zero."""


class _Way:
    """One connection through the proxy."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.said = b""
        self.is_cut_at_answer = False


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
