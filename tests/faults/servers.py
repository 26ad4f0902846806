"""Servers of a test's own, which it may restart, freeze, fill and empty: Redis and PostgreSQL in a temporary directory.

with RedisServer(directory) as server:
    server.restart()
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import redis

from tests.conftest import server_program
from tests.flow.processes import wait_for


def free_port() -> int:
    """Return a port of this host that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class RedisServer:
    """A Redis server that keeps nothing on disk.

    Args:
        directory: an empty directory.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> "redis.Redis":
        """A connection to it; to be closed by the caller."""
        return redis.Redis.from_url(self.url)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._directory}
        command = ["redis-server", *(str(part) for key, value in options.items() for part in (f"--{key}", value))]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(self._answers, what="a Redis server of the test's own")

    def stop(self) -> None:
        """Stop it as an administrator does: every connection breaks."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def restart(self) -> None:
        """Stop it and start it again; what it held is gone."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it accept connections and never answer."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def call(self, *command: str) -> Any:
        """Send it a command."""
        with self.client as client:
            return client.execute_command(*command)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError):
            return bool(self.call("PING"))
        return False


class PostgresqlServer:
    """A PostgreSQL server that is safe from its own crashes, not from the machine's; user postgres, no password."""

    def __init__(self) -> None:
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="sisy_postgresql_"))
        self._data = self._directory / "data"

    def __enter__(self) -> Self:
        if os.geteuid() == 0:  # the server refuses to run as root, and its user must get to the directory
            shutil.chown(self._directory, "postgres")
            for parent in self._directory.parents[:-1]:
                parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C",
                  "-D", self._data)  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
                "full_page_writes = off\nmax_connections = 60\nshared_buffers = 16MB\n"
            )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", self._directory / "postgresql.log")

    def restart(self) -> None:
        """Restart it as after a crash: no connection is ended in order, and it recovers when it starts."""
        self._run(
            "pg_ctl", "restart", "-m", "immediate", "-w", "-D", self._data, "-l", self._directory / "postgresql.log"
        )

    def stop(self) -> None:
        """Stop it as a crash does."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-w", "-D", self._data)

    def execute(self, sql: str) -> None:
        """Execute a statement as its administrator."""
        self._run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-c", sql)

    def _run(self, program: str, *arguments: Sequence[str] | Path | str) -> None:
        path = server_program(program)
        assert path is not None
        as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_postgres, path, *map(str, arguments)]
        with (self._directory / "pg_ctl.log").open("ab") as log:  # a pipe would stay open in the server
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory)
        assert done.returncode == 0, (self._directory / "pg_ctl.log").read_text()
