"""What a database raises while it can't be used, though nothing is wrong with what it was asked.

The loops of worker/ wait and try again when they meet one of these; anything else is an error of ours.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connections

T = TypeVar("T")

OUTAGES: Final = (OperationalError, InterfaceError, InternalError)
"""Gone, restarting, full, locked, without connections; and InternalError: PostgreSQL that takes no writes."""


def twice(call: Callable[[], T]) -> T:
    """Call a function; once more, on new connections, if this thread's may have been cut since they were last used.

    Args:
        call: what may be done twice.

    Raises:
        OperationalError, InterfaceError, InternalError: the database can't be used.
    """
    try:
        return call()
    except OUTAGES:
        connections.close_all()
        return call()
