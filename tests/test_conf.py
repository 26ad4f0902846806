from dataclasses import FrozenInstanceError, fields
from datetime import timedelta

import pytest
from channels.layers import BaseChannelLayer
from django.test import override_settings

from sisy import conf
from sisy.conf import Settings, find_problems, parse
from sisy.errors import InvalidSetting
from sisy.messages import QUEUE_NAME, run_channels

DEFAULTS = {
    "DEFAULT_SCHEDULE": "* * * * *",
    "HEARTBEAT_INTERVAL": timedelta(seconds=60),
    "POLL_INTERVAL": timedelta(seconds=5),
    "CONCURRENCY": 8,
    "LEASE": timedelta(seconds=60),
    "DRAIN_TIMEOUT": timedelta(seconds=25),
    "MAX_CRASHES": 3,
    "DEPLOY_GRACE": timedelta(minutes=5),
    "ALLOWED_CALLABLES": None,
    "MISFIRE_CAP": 1000,
    "USERDATA_MAX_BYTES": 65536,
    "KEEP_RUNS_DAYS": timedelta(days=14),
    "KEEP_RUNS_PER_TASK": 1000,
    "CHANNEL_LAYER": "default",
    "HEARTBEAT_CHANNEL": "sisy.heartbeat",
    "RUN_CHANNEL": "sisy.run",
}
DURATIONS = ["HEARTBEAT_INTERVAL", "POLL_INTERVAL", "LEASE", "DRAIN_TIMEOUT"]


def value_of(key, value):
    return getattr(parse({key: value}), key.lower())


def problem_of(key, value):
    (problem,) = find_problems({key: value})
    assert problem.field == key
    return str(problem)


def test_each_setting_is_optional_and_has_its_default():
    assert parse({}) == Settings()
    assert {field.name.upper(): getattr(Settings(), field.name) for field in fields(Settings)} == DEFAULTS


@pytest.mark.parametrize("key", DURATIONS)
def test_a_duration_is_given_in_seconds_or_as_a_timedelta(key):
    assert value_of(key, 2) == value_of(key, 2.0) == value_of(key, timedelta(seconds=2)) == timedelta(seconds=2)
    assert value_of(key, 90.25) == timedelta(seconds=90, milliseconds=250)


@pytest.mark.parametrize(
    ("key", "least"), [("HEARTBEAT_INTERVAL", 0.1), ("POLL_INTERVAL", 0.05), ("LEASE", 0.5), ("DRAIN_TIMEOUT", 0)]
)
def test_a_duration_has_a_least_value(key, least):
    assert value_of(key, least) == timedelta(seconds=least)
    for value in (least - 0.01, timedelta(seconds=least - 0.01)):
        rule = f"it must be a number of seconds or a timedelta, at least {least:g} seconds"
        assert problem_of(key, value) == f'SISY["{key}"] is {value!r}, but {rule}.'


@pytest.mark.parametrize("key", DURATIONS)
@pytest.mark.parametrize("value", ["60", None, True, [60], float("nan"), float("inf"), 1e9, 10**400, timedelta.max, 2j])
def test_what_is_no_duration_is_refused(key, value):
    assert "but it must be a number of seconds or a timedelta" in problem_of(key, value)


@pytest.mark.parametrize(
    ("key", "least"), [("CONCURRENCY", 1), ("MAX_CRASHES", 0), ("MISFIRE_CAP", 1), ("USERDATA_MAX_BYTES", 2)]
)
def test_a_whole_number_has_a_least_value(key, least):
    assert value_of(key, least) == least
    assert value_of(key, 10**6) == 10**6
    for value in (least - 1, 1.5, 3.0, "3", True, None):
        assert problem_of(key, value) == f'SISY["{key}"] is {value!r}, but it must be a whole number, at least {least}.'


def test_runs_are_kept_for_a_number_of_days_or_for_good():
    assert value_of("KEEP_RUNS_DAYS", 30) == value_of("KEEP_RUNS_DAYS", timedelta(days=30)) == timedelta(days=30)
    assert value_of("KEEP_RUNS_DAYS", 0.5) == timedelta(hours=12)
    assert value_of("KEEP_RUNS_DAYS", None) is None
    for value in (0, -1, "14", True, 36500, float("nan"), timedelta(0), timedelta.max):
        assert "it must be a number of days above 0, or None to keep everything" in problem_of("KEEP_RUNS_DAYS", value)


def test_a_number_of_runs_is_kept_for_each_task_or_all():
    assert value_of("KEEP_RUNS_PER_TASK", 1) == 1
    assert value_of("KEEP_RUNS_PER_TASK", None) is None
    for value in (0, -1, 1.0, "1000", False):
        assert "it must be a whole number, at least 1, or None." in problem_of("KEEP_RUNS_PER_TASK", value)


def test_the_default_schedule_is_a_text_or_a_timedelta():
    assert value_of("DEFAULT_SCHEDULE", "@daily") == "@daily"
    assert value_of("DEFAULT_SCHEDULE", timedelta(minutes=5)) == timedelta(minutes=5)
    for value in ("", "  ", None, 300, b"@daily"):
        assert 'it must be a cron expression such as "*/5 * * * *", or a timedelta' in problem_of(
            "DEFAULT_SCHEDULE", value
        )


def test_allowed_callables_is_a_sequence_of_globs():
    assert value_of("ALLOWED_CALLABLES", ["shop.*", "mail.send"]) == ("shop.*", "mail.send")
    assert value_of("ALLOWED_CALLABLES", ("shop.*",)) == ("shop.*",)
    assert value_of("ALLOWED_CALLABLES", []) == ()
    assert value_of("ALLOWED_CALLABLES", None) is None
    for value in ("shop.*", b"shop.*", {"shop.*"}, [""], [None], ["shop.*", 7], True):
        assert 'it must be a list of globs on dotted paths such as ["shop.tasks.*"], or None' in problem_of(
            "ALLOWED_CALLABLES", value
        )


def test_the_channel_layer_is_an_alias():
    assert value_of("CHANNEL_LAYER", "tasks") == "tasks"
    for value in ("", None, 7, ["default"]):
        assert "it must be an alias of CHANNEL_LAYERS" in problem_of("CHANNEL_LAYER", value)


@pytest.mark.parametrize("key", ["HEARTBEAT_CHANNEL", "RUN_CHANNEL"])
def test_a_channel_has_a_name_that_channels_accepts(key):
    assert value_of(key, "Shop.tasks-1_a") == "Shop.tasks-1_a"
    for value in ("", None, 7, "a b", "café", "a!b", "a/b", "a" * 100, "sisy.run\n"):
        assert "it must be a channel name: 1 to" in problem_of(key, value)


def test_the_longest_run_channel_with_the_longest_queue_is_a_name_that_channels_accepts():
    longest = max(n for n in range(1, 200) if not find_problems({"RUN_CHANNEL": "r" * n}))
    longest_queue = max(n for n in range(1, 200) if QUEUE_NAME.fullmatch("q" * n))
    (channel,) = run_channels("r" * longest, frozenset({"q" * longest_queue}))
    assert BaseChannelLayer().require_valid_channel_name(channel)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("LEESE", 'Did you mean "LEASE"?'),
        ("lease", 'Did you mean "LEASE"?'),
        ("ALLOWED_CALLABLE", 'Did you mean "ALLOWED_CALLABLES"?'),
        ("HEARTBEAT_INTERVALL", 'Did you mean "HEARTBEAT_INTERVAL"?'),
        ("BROKER_URL", f"The settings are {', '.join(DEFAULTS)}."),
        ("", f"The settings are {', '.join(DEFAULTS)}."),
        (7, f"The settings are {', '.join(DEFAULTS)}."),
    ],
)
def test_a_key_that_is_no_setting_is_refused_with_the_nearest_one(key, hint):
    (problem,) = find_problems({key: 1})
    assert str(problem) == f'SISY["{key}"] is not a setting of sisy. {hint}'
    assert problem.field == str(key)


@pytest.mark.parametrize("raw", [[], (), "", "LEASE", 0, 60, [("LEASE", 60)], {"LEASE"}])
def test_what_is_no_dict_is_refused(raw):
    (problem,) = find_problems(raw)
    assert str(problem) == f"SISY must be a dict, not {raw!r}. Write SISY = {{}} to use all defaults."
    assert problem.field is None


def test_every_problem_is_found_and_the_first_is_raised():
    raw = {"LEESE": 1, "MAX_CRASHES": -1, "LEASE": "long", "CONCURRENCY": 4}
    assert [problem.field for problem in find_problems(raw)] == ["LEESE", "LEASE", "MAX_CRASHES"]
    with pytest.raises(InvalidSetting, match="LEESE"):
        parse(raw)


def test_no_problem_is_found_in_what_is_right():
    assert find_problems({}) == find_problems({"LEASE": 2, "HEARTBEAT_INTERVAL": 1}) == []


def test_the_settings_can_not_be_changed():
    with pytest.raises(FrozenInstanceError):
        parse({}).concurrency = 9


def test_overridden_settings_hold_while_they_are_overridden():
    before = conf.current()
    with override_settings(SISY={"CONCURRENCY": 2}):
        assert conf.current().concurrency == 2
        with override_settings(SISY={"CONCURRENCY": 3}):
            assert conf.current().concurrency == 3
        assert conf.current().concurrency == 2
    assert conf.current() == before


def test_settings_without_sisy_have_all_defaults(settings):
    settings.SISY = None
    assert conf.current() == Settings()
    del settings.SISY
    assert conf.current() == Settings()


def test_wrong_settings_are_refused_each_time_they_are_read(settings):
    settings.SISY = {"LEESE": 2}
    for _ in range(2):
        with pytest.raises(InvalidSetting, match="LEESE"):
            conf.current()
    settings.SISY = {"LEASE": 2}
    assert conf.current().lease == timedelta(seconds=2)


def test_the_same_dict_is_read_once(settings):
    settings.SISY = {"LEASE": 2}
    assert conf.current() is conf.current()
