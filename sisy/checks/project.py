"""Checks of settings.SISY, and of the settings of Django that sisy depends on. Nothing is asked of a database."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, register

from sisy import conf
from sisy.checks.catalogue import TAG, found
from sisy.cron import Schedule
from sisy.errors import InvalidSchedule, InvalidSetting

_SHORTEST_LEASE: Final = timedelta(seconds=1)  # renewed three times as often: garbage collection and fsyncs take that


@register(TAG)
def check_settings(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check the keys of settings.SISY, each value by itself, and some together."""
    raw = getattr(django_settings, "SISY", None)
    problems = conf.find_problems({} if raw is None else raw)
    if problems:
        return [_from_problem(problem, raw) for problem in problems]
    settings = conf.current()
    return [*_default_schedule(settings), *_lease(settings), *_channels(settings)]


@register(TAG)
def check_time(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check that Django stores aware instants, and that the project's time zone can be computed with."""
    if not django_settings.USE_TZ:
        text = "USE_TZ is off, so Django would store naive local times, and sisy can't tell which instants they are."
        return [found("sisy.E007", text, hint="Write USE_TZ = True in the settings; Django's docs say how to migrate.")]
    try:
        Schedule("@daily", timezone=django_settings.TIME_ZONE)
    except InvalidSchedule as error:
        hint = 'Write an IANA name such as TIME_ZONE = "Europe/Paris"; for a newer one, upgrade the package tzdata.'
        return [found("sisy.E008", f"TIME_ZONE can't be used by sisy: {error}", hint=hint)]
    return []


@register(TAG, deploy=True)
def check_allow_list(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check that a row can't name any function there is."""
    settings = sound_settings()
    if settings is None or settings.allowed_callables is not None:
        return []
    text = 'SISY["ALLOWED_CALLABLES"] is not set: whoever can write a row of sisy\'s tables chooses the code that runs.'
    hint = 'List what may run, such as ["shop.tasks.*"]; [] allows only what is marked with @sisy.task.'
    return [found("sisy.W017", text, hint=hint)]


def sound_settings() -> conf.Settings | None:
    """Return the settings; None while something is wrong with them, which `check_settings` reports."""
    try:
        return conf.current()
    except InvalidSetting:
        return None


def _from_problem(problem: InvalidSetting, raw: object) -> CheckMessage:
    if not isinstance(raw, Mapping):
        return found("sisy.E001", str(problem), hint="Write SISY = {...}; each key is optional.")
    defaults = {name.upper(): value for name, value in vars(conf.Settings()).items()}
    if problem.field not in defaults:
        return found("sisy.E002", str(problem), hint="Correct the key's name, or remove it.")
    default = defaults[problem.field]
    shown = f"{default.total_seconds():g} seconds" if isinstance(default, timedelta) else repr(default)
    return found("sisy.E003", str(problem), hint=f"Correct the value, or remove the key: its default is {shown}.")


def _default_schedule(settings: conf.Settings) -> Iterator[CheckMessage]:
    try:
        Schedule(settings.default_schedule)
    except InvalidSchedule as error:
        hint = "Correct it: each task for which no schedule is given would be refused."
        yield found("sisy.E004", f'SISY["DEFAULT_SCHEDULE"] can\'t be used: {error}', hint=hint)


def _lease(settings: conf.Settings) -> Iterator[CheckMessage]:
    lease, poll = settings.lease, settings.poll_interval
    if lease < _SHORTEST_LEASE:
        text = f'SISY["LEASE"] is {_seconds(lease)}, and a worker renews it three times as often.'
        hint = "A pause of the worker or the database that long makes its runs start again elsewhere. Raise it to 60."
        yield found("sisy.W007", text, hint=hint)
    elif lease < 3 * poll:
        text = f'SISY["LEASE"] is {_seconds(lease)}, less than three times SISY["POLL_INTERVAL"], {_seconds(poll)}.'
        hint = (
            "Without nudges, workers look for what a dead one left only once a POLL_INTERVAL: so short a lease hardly "
            "speeds that up, and it is lost sooner when a worker is slow. Raise LEASE, or lower POLL_INTERVAL."
        )
        yield found("sisy.W008", text, hint=hint)


def _channels(settings: conf.Settings) -> Iterator[CheckMessage]:
    ticks, nudges = settings.heartbeat_channel, settings.run_channel
    if ticks == nudges or ticks.startswith(f"{nudges}."):
        text = f'SISY["HEARTBEAT_CHANNEL"] is {ticks!r}, and SISY["RUN_CHANNEL"] is {nudges!r}: they overlap.'
        hint = "Nudges that arrive there wake nobody, since only ticks are looked for. Give them names of their own."
        yield found("sisy.W009", text, hint=hint)


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
