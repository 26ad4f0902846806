"""What travels over the channel layer: messages without content, and the names of the channels.

layer.py sends them, consumers.py and worker.py parse them. A message says "look"; it carries no ids and no authority,
so that a lost, doubled, late or forged one costs time only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from uuid import UUID

VERSION: Final = 1
QUEUE_NAME: Final = re.compile(r"[a-zA-Z0-9_\-]{1,64}")
"""What a queue may be called: it becomes a part of a channel's name."""


@dataclass(frozen=True)
class Tick:
    """Look for due tasks."""

    type: ClassVar[str] = "sisy.tick"

    def to_message(self) -> dict[str, Any]:
        """Return the message for the channel layer.

        >>> Tick().to_message()
        {'type': 'sisy.tick', 'v': 1}
        """
        return {"type": self.type, "v": VERSION}


@dataclass(frozen=True)
class Nudge:
    """Look for runs to claim."""

    type: ClassVar[str] = "sisy.nudge"

    def to_message(self) -> dict[str, Any]:
        """Return the message for the channel layer.

        >>> Nudge().to_message()
        {'type': 'sisy.nudge', 'v': 1}
        """
        return {"type": self.type, "v": VERSION}


@dataclass(frozen=True)
class Cancel:
    """Look which of your runs somebody wants to be cancelled."""

    type: ClassVar[str] = "sisy.cancel"

    def to_message(self) -> dict[str, Any]:
        """Return the message for the channel layer.

        >>> Cancel().to_message()
        {'type': 'sisy.cancel', 'v': 1}
        """
        return {"type": self.type, "v": VERSION}


@dataclass(frozen=True)
class Poll:
    """What takes a nudge's place when a worker looked by itself; never sent."""

    type: ClassVar[str] = "sisy.poll"

    def to_message(self) -> dict[str, Any]:
        """Return the message for the task function.

        >>> Poll().to_message()
        {'type': 'sisy.poll', 'v': 1}
        """
        return {"type": self.type, "v": VERSION}


Message = Tick | Nudge | Cancel


def from_message(message: object) -> Message | None:
    """Return what a received message says, or None when it is none of ours.

    >>> from_message({"type": "sisy.tick", "v": 1})
    Tick()
    >>> from_message({"type": "dispatch"}) is None
    True
    """
    if not isinstance(message, Mapping):
        return None
    match message.get("type"):
        case Tick.type:
            return Tick()
        case Nudge.type:
            return Nudge()
        case Cancel.type:
            return Cancel()
    return None


def run_channels(run_channel: str, queues: frozenset[str] | None) -> list[str]:
    """Return the channels that a worker of these queues listens to.

    Args:
        run_channel: SISY["RUN_CHANNEL"].
        queues: the worker's queues, or None when it serves all of them.

    >>> run_channels("sisy.run", None)
    ['sisy.run']
    >>> run_channels("sisy.run", frozenset({"mail"}))
    ['sisy.run.mail']
    """
    if queues is None:
        return [run_channel]
    return [f"{run_channel}.{queue}" for queue in sorted(queues)]


def worker_channel(run_channel: str, worker: UUID) -> str:
    """Return the channel to which one worker process alone listens; no queue's channel has such a name.

    Args:
        run_channel: SISY["RUN_CHANNEL"].
        worker: the id of the worker.

    >>> worker_channel("sisy.run", UUID(int=11))
    'sisy.run-0000000000000000000000000000000b'
    """
    return f"{run_channel}-{worker.hex}"
