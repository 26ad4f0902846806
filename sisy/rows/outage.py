"""What a database raises while it can't be used, though nothing is wrong with what it was asked.

The loops of worker/ wait and try again when they meet one of these; anything else is an error of ours.
"""

from typing import Final

from django.db import InterfaceError, InternalError, OperationalError

OUTAGES: Final = (OperationalError, InterfaceError, InternalError)
"""Gone, restarting, full, locked, without connections; and InternalError: PostgreSQL that takes no writes."""
