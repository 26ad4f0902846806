"""What travels over the channel layer: messages that say "look", and the names of the channels.

layer.py sends them, consumers.py, worker.py and live/ parse them. They carry no authority: a lost, doubled, late or
forged one costs time only. Tick, Nudge and Cancel have no content; Changed, for screens, says which rows to look at
again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from uuid import UUID

VERSION: Final = 1
MOST_KEYS: Final = 100
"""Keys of each kind that a Changed names; where more changed, it says that everything may have."""
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


@dataclass(frozen=True, kw_only=True)
class Changed:
    """Look again at what you show of these rows.

    Args:
        runs: keys of runs.
        tasks: keys of tasks.
        workers: whether a worker came or went.
        everything: whether there is more than is named.
    """

    type: ClassVar[str] = "sisy.changed"
    runs: frozenset[int] = frozenset()
    tasks: frozenset[int] = frozenset()
    workers: bool = False
    everything: bool = False

    def __or__(self, other: "Changed") -> "Changed":
        """Return what says both, in bounded space.

        >>> Changed(runs=frozenset([1])) | Changed(runs=frozenset([2]), workers=True)
        Changed(runs=frozenset({1, 2}), tasks=frozenset(), workers=True, everything=False)
        """
        if self.everything or other.everything:
            return EVERYTHING
        return changed(self.runs | other.runs, self.tasks | other.tasks, workers=self.workers or other.workers)

    def topics(self) -> list[str]:
        """Return what it names, as the pages' script compares it.

        >>> changed([98], [12]).topics()
        ['run:98', 'task:12']
        """
        if self.everything:
            return ["*"]
        workers = ["worker"] if self.workers else []
        return [*(f"run:{key}" for key in sorted(self.runs)), *(f"task:{key}" for key in sorted(self.tasks)), *workers]

    def to_message(self) -> dict[str, Any]:
        """Return the message for the channel layer."""
        keys = {"runs": sorted(self.runs), "tasks": sorted(self.tasks)}
        return {"type": self.type, "v": VERSION, **keys, "workers": self.workers, "everything": self.everything}

    @classmethod
    def from_message(cls, message: object) -> "Changed | None":
        """Return what a received message says, or None when it is none of ours.

        >>> Changed.from_message(changed([98], [12]).to_message()) == changed([98], [12])
        True
        >>> Changed.from_message({"type": "sisy.changed", "runs": ["1; DROP"]}) is None
        True
        """
        if not isinstance(message, Mapping) or message.get("type") != cls.type:
            return None
        runs, tasks = message.get("runs", []), message.get("tasks", [])
        for keys in (runs, tasks):
            if not isinstance(keys, list | tuple) or len(keys) > MOST_KEYS or not all(type(key) is int for key in keys):
                return None
        if message.get("everything"):
            return EVERYTHING
        return changed(runs, tasks, workers=bool(message.get("workers")))


EVERYTHING: Final = Changed(everything=True)
"""So much changed, or may have, that a page must look at all it shows."""


def changed(runs: Iterable[int] = (), tasks: Iterable[int] = (), *, workers: bool = False) -> Changed:
    """Return a Changed for these keys, or for everything when there are too many of them."""
    run_keys, task_keys = frozenset(runs), frozenset(tasks)
    if len(run_keys) > MOST_KEYS or len(task_keys) > MOST_KEYS:
        return EVERYTHING
    return Changed(runs=run_keys, tasks=task_keys, workers=workers)


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


def live_group(run_channel: str) -> str:
    """Return the group whose members hear what changed.

    Args:
        run_channel: SISY["RUN_CHANNEL"]: two projects that share a layer have different ones.

    >>> live_group("sisy.run")
    'sisy.run.live'
    """
    return f"{run_channel}.live"
