"""settings.SISY as a frozen, typed value, read at use.

Callers ask `current()` each time they need a setting; the answer is kept until settings.SISY is another object, so
`override_settings` works. Unknown keys and bad values raise InvalidSetting here and become system checks in checks.py.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.conf import settings as django_settings

from sisy.errors import InvalidSetting

_CHANNEL_NAME: Final = re.compile(r"[a-zA-Z0-9_.\-]{1,34}")  # with the longest queue behind it: 99 characters


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of settings.SISY, each with its default.

    Durations may be given as seconds (int or float) or as a timedelta; here they are timedeltas.
    """

    default_schedule: str | timedelta = "* * * * *"
    """Schedule of a task for which none is given."""
    heartbeat_interval: timedelta = timedelta(seconds=60)
    """Time between two ticks of sisy_heartbeat; the boundaries are whole multiples of it since 1970, UTC."""
    poll_interval: timedelta = timedelta(seconds=5)
    """How long a worker waits for a nudge before it looks by itself."""
    concurrency: int = 8
    """Runs that one worker process executes at the same time."""
    lease: timedelta = timedelta(seconds=60)
    """How long a claim is valid unless its worker renews it, which it does three times as often."""
    drain_timeout: timedelta = timedelta(seconds=25)
    """How long a worker that was asked to stop waits for what is running."""
    max_crashes: int = 3
    """How often a run whose worker died is handed out again."""
    deploy_grace: timedelta = timedelta(minutes=5)
    """How long workers that lack a run's code hand it back to others, before it fails."""
    allowed_callables: tuple[str, ...] | None = None
    """Globs on dotted paths; when set, nothing else may be stored or run, but for what @sisy.task registers."""
    misfire_cap: int = 1000
    """The most missed slots that misfire="all" makes up for at once."""
    userdata_max_bytes: int = 65536
    """Largest userdata and largest result, in bytes of JSON."""
    keep_runs_days: timedelta | None = timedelta(days=14)
    """Age at which ended runs are deleted (given as a number of days); None keeps them."""
    keep_runs_per_task: int | None = 1000
    """Ended runs that are kept for one task; None keeps all."""
    channel_layer: str = "default"
    """Alias in CHANNEL_LAYERS."""
    heartbeat_channel: str = "sisy.heartbeat"
    """Channel on which ticks travel."""
    run_channel: str = "sisy.run"
    """Channel on which nudges travel; a queue's own is RUN_CHANNEL.QUEUE."""


def current() -> Settings:
    """Return the settings as they are now.

    Raises:
        InvalidSetting: settings.SISY is not a dict, or has an unknown key or a bad value.

    >>> current().max_crashes
    3
    """
    global _cached
    raw = getattr(django_settings, "SISY", None)
    if raw is not _cached[0]:
        _cached = (raw, parse({} if raw is None else raw))
    return _cached[1]


def parse(raw: object) -> Settings:
    """Turn a dict such as settings.SISY into Settings.

    Raises:
        InvalidSetting: the first problem found.

    >>> parse({"LEASE": 2}).lease
    datetime.timedelta(seconds=2)
    """
    problems = find_problems(raw)
    if problems or not isinstance(raw, Mapping):
        raise problems[0]
    return Settings(**{key.lower(): _READERS[key](value) for key, value in raw.items()})


def find_problems(raw: object) -> list[InvalidSetting]:
    """Return one error for each wrong key and value in a dict such as settings.SISY.

    >>> [str(problem) for problem in find_problems({"LEESE": 2})]
    ['SISY["LEESE"] is not a setting of sisy. Did you mean "LEASE"?']
    """
    if not isinstance(raw, Mapping):
        return [InvalidSetting(f"SISY must be a dict, not {raw!r}. Write SISY = {{}} to use all defaults.")]
    problems = [_unknown(key) for key in raw if key not in _READERS]
    for key in _READERS:
        if key not in raw:
            continue
        try:
            _READERS[key](raw[key])
        except ValueError as error:
            problems.append(InvalidSetting(f'SISY["{key}"] is {raw[key]!r}, but {error}.', field=key))
    return problems


def _unknown(key: object) -> InvalidSetting:
    near = difflib.get_close_matches(str(key).upper(), _READERS, n=1)
    hint = f'Did you mean "{near[0]}"?' if near else f"The settings are {', '.join(_READERS)}."
    return InvalidSetting(f'SISY["{key}"] is not a setting of sisy. {hint}', field=str(key))


def _duration(minimum: float) -> Callable[[object], timedelta]:
    def read(value: object) -> timedelta:
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not minimum <= seconds < 1e9:
            raise ValueError(f"it must be a number of seconds or a timedelta, at least {minimum:g} seconds")
        return timedelta(seconds=seconds)

    return read


def _days_or_none(value: object) -> timedelta | None:
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds() / 86400
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 36500:
        raise ValueError("it must be a number of days above 0, or None to keep everything")
    return timedelta(days=value)


def _whole(minimum: int, *, or_none: bool = False) -> Callable[[object], Any]:
    def read(value: object) -> int | None:
        if value is None and or_none:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"it must be a whole number, at least {minimum}" + (", or None" if or_none else ""))
        return value

    return read


def _schedule(value: object) -> str | timedelta:
    if isinstance(value, timedelta) or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError('it must be a cron expression such as "*/5 * * * *", or a timedelta')


def _globs(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) and v for v in value):
        raise ValueError('it must be a list of globs on dotted paths such as ["shop.tasks.*"], or None')
    return tuple(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("it must be an alias of CHANNEL_LAYERS")
    return value


def _channel(value: object) -> str:
    if not isinstance(value, str) or not _CHANNEL_NAME.fullmatch(value):
        raise ValueError("it must be a channel name: 1 to 34 ASCII letters, digits, hyphens, underscores or periods")
    return value


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "DEFAULT_SCHEDULE": _schedule,
    "HEARTBEAT_INTERVAL": _duration(0.1),
    "POLL_INTERVAL": _duration(0.05),
    "CONCURRENCY": _whole(1),
    "LEASE": _duration(0.5),
    "DRAIN_TIMEOUT": _duration(0),
    "MAX_CRASHES": _whole(0),
    "DEPLOY_GRACE": _duration(0),
    "ALLOWED_CALLABLES": _globs,
    "MISFIRE_CAP": _whole(1),
    "USERDATA_MAX_BYTES": _whole(2),
    "KEEP_RUNS_DAYS": _days_or_none,
    "KEEP_RUNS_PER_TASK": _whole(1, or_none=True),
    "CHANNEL_LAYER": _text,
    "HEARTBEAT_CHANNEL": _channel,
    "RUN_CHANNEL": _channel,
}

_cached: tuple[object, Settings] = (None, Settings())
