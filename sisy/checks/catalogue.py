"""The ids of sisy's system checks, each with its meaning; the table in the docs is made from it.

The other modules of checks/ build their messages here, so that no id is missing. An id keeps its meaning for good. What
works and may be meant is a warning: an error would stop `migrate` and every other command.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from django.core import checks
from django.core.checks import CheckMessage

TAG: Final = "sisy"

MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sisy.E001": "SISY is not a dict.",
        "sisy.E002": "SISY has a key that sisy does not know.",
        "sisy.E003": "A value in SISY can't be used.",
        "sisy.E004": 'SISY["DEFAULT_SCHEDULE"] is not a schedule, or never fires.',
        "sisy.E005": 'SISY["CHANNEL_LAYER"] names a channel layer that CHANNEL_LAYERS does not have.',
        "sisy.E006": "The channel layer can't be made from its settings.",
        "sisy.E007": "USE_TZ is off, and sisy stores aware instants.",
        "sisy.E008": "TIME_ZONE is not a time zone that sisy can compute with.",
        "sisy.E009": "The database stores local times, in which an hour of each autumn occurs twice.",
        "sisy.E010": "The database routers put sisy's tables into several databases.",
        "sisy.W001": "There is no channel layer and DEBUG is off: other processes hear no nudges, they poll.",
        "sisy.W002": "The channel layer is in memory and DEBUG is off: other processes hear no nudges, they poll.",
        "sisy.W003": "Connections to Redis give up before the channel layer has finished waiting for a message.",
        "sisy.W004": "The channel layer can't read its own channel_capacity, so that each send fails.",
        "sisy.W005": "The channel layer has no capacity for sisy's messages, so that none arrives.",
        "sisy.W006": "Messages on the channel layer expire almost at once.",
        "sisy.W007": "Leases are so short that a moment's pause makes a run start again elsewhere.",
        "sisy.W008": "Leases are short compared with the time between two looks at the database.",
        "sisy.W009": "Ticks travel on a channel that carries nudges too.",
        "sisy.W010": "SQLite opens transactions that may fail at their first write.",
        "sisy.W011": "SQLite gives up early when another process writes.",
        "sisy.W012": "SQLite is not in WAL mode, so that readers and writers block each other.",
        "sisy.W013": "The clocks of this host and of the database differ.",
        "sisy.W014": "A task's callable does not exist, is not allowed or can't be called.",
        "sisy.W015": "A task's schedule or time zone can't be read.",
        "sisy.W016": "Tasks were set aside because of an error.",
        "sisy.W017": 'SISY["ALLOWED_CALLABLES"] is not set: whoever can write a row chooses the code that runs.',
        "sisy.W018": "Messages travel to Redis on another host without encryption.",
        "sisy.I001": "The channel layer hands each message to every process that listens.",
    }
)
"""What each id says, in one line."""

_KINDS: Final = {"E": checks.Error, "W": checks.Warning, "I": checks.Info}


def found(check_id: str, text: str, *, hint: str) -> CheckMessage:
    """Build the message of a check that found something.

    Args:
        check_id: an id of MEANINGS; its letter decides between error, warning and information.
        text: what is wrong, with the value.
        hint: what to do about it.

    Raises:
        KeyError: MEANINGS does not have the id.

    >>> found("sisy.W006", "Messages expire after 0 s.", hint="Raise expiry.").is_serious()
    False
    """
    if check_id not in MEANINGS:
        raise KeyError(check_id)
    return _KINDS[check_id[len("sisy.")]](text, hint=hint, id=check_id)
