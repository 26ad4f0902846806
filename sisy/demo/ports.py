"""Take a port of this machine for the demo's web server, or say clearly why not. `python -m sisy.demo` calls it."""

import errno
import socket
from typing import Final

HOST: Final = "127.0.0.1"
"""The demo's login is known to everybody, so it must not be reached from other machines."""

USUAL: Final = 8000
"""The port that is tried first."""

_TRIES: Final = 20


class PortError(Exception):
    """The port can't be had; the text says what to do."""


def listen(port: int | None) -> socket.socket:
    """Return a listening socket; bound once and handed on, so that nobody can take the port in between.

    Args:
        port: the port; 0 for any free one, None for USUAL or the next free one.

    Raises:
        PortError: somebody else has the port, or the system refuses it.
    """
    if port is not None:
        return _bind(port)
    for candidate in range(USUAL, USUAL + _TRIES):
        try:
            return _bind(candidate)
        except PortError:
            continue
    raise PortError(f"the ports {USUAL} to {USUAL + _TRIES - 1} on {HOST} are all taken. Choose one with --port.")


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a demo before this one left in TIME_WAIT
        listener.bind((HOST, port))
        listener.listen(50)
    except OSError as error:
        listener.close()
        why = "is taken by another program" if error.errno == errno.EADDRINUSE else f"can't be had: {error.strerror}"
        raise PortError(f"port {port} on {HOST} {why}. Choose another with --port, or leave --port out.") from error
    return listener
