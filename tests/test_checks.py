import asyncio
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from channels.layers import channel_layers, get_channel_layer
from channels_redis.core import RedisChannelLayer
from django.core.checks import run_checks
from django.db import connections
from django.utils import timezone
from redis.exceptions import TimeoutError as RedisTimeout

from sisy.checks import MEANINGS, stored
from sisy.checks.catalogue import found
from sisy.models import Run, Task, task_with_callable
from tests.project.shop import tasks as shop
from tests.project.shop.models import Country

MEMORY = "channels.layers.InMemoryChannelLayer"
REDIS = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
SOUND_HOST = {"address": "redis://127.0.0.1:6379", "socket_timeout": 15}
SENTINELS = {"master_name": "main", "sentinels": [("sentinel.example", 26379)], "socket_timeout": 15}


class PlainLayer:
    """A layer that is made of nothing but what sisy needs."""


def layer(backend=REDIS, **config):
    """Return CHANNEL_LAYERS with one layer."""
    if backend in (REDIS, PUBSUB):
        config = {"hosts": [SOUND_HOST], **config}
    return {"CHANNEL_LAYERS": {"default": {"BACKEND": backend, "CONFIG": config}}}


def sisy(**values):
    return {"SISY": values}


@pytest.fixture(autouse=True)
def sound_project(settings):
    """Begin with a project in which no check finds anything."""
    settings.CHANNEL_LAYERS = layer()["CHANNEL_LAYERS"]
    settings.SISY = {"ALLOWED_CALLABLES": ["tests.project.shop.*"]}


def messages(*, deploy=False):
    """Run the checks that ask no database."""
    return run_checks(tags=["sisy"], include_deployment_checks=deploy)


def messages_about(*databases):
    """Run the checks that ask these databases; others than sisy's are among them."""
    found_messages = run_checks(tags=["database"], databases=list(databases))
    return [message for message in found_messages if message.id.startswith("sisy.")]


def test_a_sound_project_passes_all_checks():
    assert messages(deploy=True) == []


# Without a database: (id, the settings that trigger it, a part of the text, a part of the hint)

FOUND = [
    ("sisy.E001", {"SISY": ["LEASE"]}, "SISY must be a dict, not ['LEASE']", "SISY = {...}"),
    ("sisy.E001", {"SISY": []}, "SISY must be a dict, not []", "optional"),
    ("sisy.E002", sisy(LEESE=60), 'SISY["LEESE"] is not a setting of sisy. Did you mean "LEASE"?', "Correct the key"),
    ("sisy.E002", sisy(lease=60), 'Did you mean "LEASE"?', "remove it"),
    ("sisy.E002", sisy(BROKER_URL="redis://"), "The settings are DEFAULT_SCHEDULE, HEARTBEAT_INTERVAL", "remove it"),
    ("sisy.E003", sisy(LEASE="60"), "SISY[\"LEASE\"] is '60', but it must be", "its default is 60 seconds"),
    ("sisy.E003", sisy(CONCURRENCY=0), "whole number, at least 1", "its default is 8"),
    ("sisy.E003", sisy(ALLOWED_CALLABLES="shop.*"), 'such as ["shop.tasks.*"]', "its default is None"),
    ("sisy.E004", sisy(DEFAULT_SCHEDULE="61 * * * *"), "61 is out of range", "Correct it"),
    ("sisy.E004", sisy(DEFAULT_SCHEDULE="0 0 30 2 *"), "never fires", "Correct it"),
    ("sisy.E004", sisy(DEFAULT_SCHEDULE="@once"), "never fires without an instant", "Correct it"),
    ("sisy.E004", sisy(DEFAULT_SCHEDULE=timedelta(milliseconds=1500)), "whole number of seconds", "Correct it"),
    ("sisy.E005", sisy(CHANNEL_LAYER="tasks"), "'tasks', which CHANNEL_LAYERS does not have", "name one of 'default'"),
    ("sisy.E006", {"CHANNEL_LAYERS": {"default": {}}}, "No BACKEND specified", "Correct BACKEND and CONFIG"),
    ("sisy.E006", layer("channels.layers.MemoryLayer"), "Cannot import BACKEND", "CHANNEL_LAYERS['default']"),
    ("sisy.E006", layer(MEMORY, hosts=[]), "unexpected keyword argument 'hosts'", "Correct BACKEND and CONFIG"),
    ("sisy.E006", layer(hosts="redis://127.0.0.1"), "a list of Redis hosts", "Correct BACKEND and CONFIG"),
    ("sisy.E006", layer(hosts=["127.0.0.1:6379"]), "Redis URL must specify", "Correct BACKEND and CONFIG"),
    ("sisy.E006", layer(PUBSUB, hosts=["127.0.0.1:6379"]), "Redis URL must specify", "Correct BACKEND and CONFIG"),
    ("sisy.E007", {"USE_TZ": False}, "USE_TZ is off", "USE_TZ = True"),
    ("sisy.E008", {"TIME_ZONE": "Europe/Pariss"}, "Did you mean 'Europe/Paris'?", "IANA name"),
    ("sisy.E008", {"TIME_ZONE": "posix/Europe/Paris"}, "is not a known time zone", "tzdata"),
    ("sisy.W001", {"CHANNEL_LAYERS": {}}, "CHANNEL_LAYERS is empty", "channels_redis"),
    ("sisy.W002", layer(MEMORY), "'default' is in memory", "manage.py sisy"),
    ("sisy.W003", layer(hosts=["redis://127.0.0.1"]), "waits 5 s for a message", '"socket_timeout": 15'),
    ("sisy.W003", layer(hosts=None), "socket_timeout is 5 s", "TimeoutError"),
    ("sisy.W003", layer(hosts=[("127.0.0.1", 6379)]), "socket_timeout is 5 s", "TimeoutError"),
    ("sisy.W003", layer(hosts=[{"address": "redis://127.0.0.1"}]), "socket_timeout is 5 s", "TimeoutError"),
    ("sisy.W003", layer(hosts=[{**SOUND_HOST, "socket_timeout": 0.5}]), "socket_timeout is 0.5 s", "TimeoutError"),
    ("sisy.W003", layer(hosts=["redis://127.0.0.1?socket_timeout=3"]), "socket_timeout is 3 s", "TimeoutError"),
    ("sisy.W003", layer(hosts=[SOUND_HOST, "unix:///run/redis.sock"]), "socket_timeout is 5 s", "TimeoutError"),
    ("sisy.W003", layer(hosts=[{**SENTINELS, "socket_timeout": 5}]), "socket_timeout is 5 s", "TimeoutError"),
    ("sisy.W004", {"DEBUG": True, **layer(MEMORY, channel_capacity={"http.*": 9})}, "too many values", "remove it"),
    ("sisy.W005", layer(capacity=0), "a capacity of 0 for the channel 'sisy.heartbeat'", "at least 1"),
    ("sisy.W005", layer(channel_capacity={"*.run": 0}), "a capacity of 0 for the channel 'sisy.run'", "at least 1"),
    ("sisy.W006", layer(expiry=4), "an expiry of 4 s", "the default is 60"),
    ("sisy.W006", layer(expiry=0), "an expiry of 0 s", "below 1 s nothing arrives"),
    ("sisy.W007", sisy(LEASE=0.9, POLL_INTERVAL=0.1), '"LEASE"] is 0.9 s', "Raise it to 60"),
    ("sisy.W008", sisy(LEASE=14), 'less than three times SISY["POLL_INTERVAL"], 5 s', "lower POLL_INTERVAL"),
    ("sisy.W009", sisy(HEARTBEAT_CHANNEL="sisy.run"), "they overlap", "names of their own"),
    ("sisy.W009", sisy(HEARTBEAT_CHANNEL="sisy.run.mail"), "they overlap", "wake nobody"),
    ("sisy.I001", layer(PUBSUB), "to every process that listens", REDIS),
]


@pytest.mark.parametrize(("check_id", "values", "text", "hint"), FOUND)
def test_a_wrong_setting_is_found(settings, check_id, values, text, hint):
    for name, value in values.items():
        setattr(settings, name, value)
    (message,) = messages()
    assert message.id == check_id
    assert text in message.msg
    assert hint in message.hint


SILENT = {
    "no SISY at all": {"SISY": None},
    "an empty SISY": {"SISY": {}},
    "a cron with seconds": sisy(DEFAULT_SCHEDULE="* * * * * */10"),
    "a timedelta schedule": sisy(DEFAULT_SCHEDULE=timedelta(minutes=5)),
    "a hashed schedule": sisy(DEFAULT_SCHEDULE="H 3 * * *"),
    "another layer": {
        **sisy(CHANNEL_LAYER="tasks"),
        "CHANNEL_LAYERS": {"tasks": layer()["CHANNEL_LAYERS"]["default"], "default": {"BACKEND": "wrong"}},
    },
    "no layer with DEBUG": {"CHANNEL_LAYERS": {}, "DEBUG": True},
    "an in-memory layer with DEBUG": {"DEBUG": True, **layer(MEMORY)},
    "no socket timeout": layer(hosts=[{**SOUND_HOST, "socket_timeout": None}]),
    "a socket timeout just above the wait": layer(hosts=[{**SOUND_HOST, "socket_timeout": 5.5}]),
    "a socket timeout in the address": layer(hosts=["redis://127.0.0.1?socket_timeout=15"]),
    "sentinels": layer(hosts=[SENTINELS]),
    "a capacity of one": layer(capacity=1),
    "capacities by channel": layer(channel_capacity={"sisy.*": 1, "http.*": 0}),
    "the shortest expiry": layer(expiry=5),
    "somebody else's layer": layer(f"{__name__}.PlainLayer"),
    "the shortest lease": sisy(LEASE=1, POLL_INTERVAL=0.3),
    "a long drain": sisy(DRAIN_TIMEOUT=600),
    "a heartbeat channel that only begins alike": sisy(HEARTBEAT_CHANNEL="sisy.runs"),
    "no ASGI application": {"ASGI_APPLICATION": None},
    "a zone with odd transitions": {"TIME_ZONE": "Australia/Lord_Howe"},
}


@pytest.mark.parametrize("values", SILENT.values(), ids=SILENT.keys())
def test_what_is_right_is_not_found(settings, values):
    for name, value in values.items():
        setattr(settings, name, value)
    assert messages() == []


def test_each_wrong_key_and_value_has_a_message_of_its_own(settings):
    settings.SISY = {"LEESE": 1, "POL_INTERVAL": 1, "CONCURRENCY": "many", "LEASE": None}
    assert [message.id for message in messages()] == ["sisy.E002", "sisy.E002", "sisy.E003", "sisy.E003"]


@pytest.mark.django_db
def test_wrong_settings_of_sisy_do_not_break_the_checks_that_need_them(settings):
    settings.SISY = {"LEESE": 1}
    settings.CHANNEL_LAYERS = {}
    assert [message.id for message in messages(deploy=True)] == ["sisy.E002"]
    assert messages_about("default") == []


def test_the_layer_in_use_is_left_alone(settings):
    used = get_channel_layer()
    messages()
    assert channel_layers.backends == {"default": used}


@pytest.mark.parametrize(("socket_timeout", "error"), [(0.2, RedisTimeout), (2, TimeoutError), (None, TimeoutError)])
async def test_w003_a_wait_on_an_idle_channel_goes_on_only_if_the_socket_waits_longer(redis_url, socket_timeout, error):
    host = {"address": redis_url, "socket_timeout": socket_timeout}
    channel_layer = RedisChannelLayer(hosts=[host], prefix=uuid.uuid4().hex)
    channel_layer.brpop_timeout = 0.2  # 5 s otherwise, as long as redis-py's default socket_timeout
    with pytest.raises(error):
        await asyncio.wait_for(channel_layer.receive("idle"), 0.8)
    await channel_layer.flush()


# check --deploy

UNENCRYPTED = {"address": "redis://:secret@redis.example:6379", "socket_timeout": 15}
FOUND_AT_DEPLOY = [
    ("sisy.W017", sisy(), 'SISY["ALLOWED_CALLABLES"] is not set', '["shop.tasks.*"]'),
    ("sisy.W018", layer(hosts=[UNENCRYPTED, SOUND_HOST]), "on redis.example without encryption", "rediss://"),
    ("sisy.W018", layer(hosts=[{"host": "10.0.0.7", "port": 6379, "socket_timeout": 15}]), "on 10.0.0.7", "silence"),
    ("sisy.W018", layer(hosts=[SENTINELS]), "on sentinel.example without", "symmetric_encryption_keys"),
]


@pytest.mark.parametrize(("check_id", "values", "text", "hint"), FOUND_AT_DEPLOY)
def test_what_is_unsafe_is_found_by_check_deploy_alone(settings, check_id, values, text, hint):
    for name, value in values.items():
        setattr(settings, name, value)
    assert messages() == []
    (message,) = messages(deploy=True)
    assert message.id == check_id
    assert text in message.msg
    assert "secret" not in message.msg
    assert hint in message.hint


SILENT_AT_DEPLOY = {
    "only what is registered": sisy(ALLOWED_CALLABLES=[]),
    "TLS": layer(hosts=[{**UNENCRYPTED, "address": "rediss://redis.example"}]),
    "TLS to sentinels": layer(hosts=[{**SENTINELS, "ssl": True}]),
    "encrypted messages": layer(hosts=[UNENCRYPTED], symmetric_encryption_keys=["key"]),
    "localhost": layer(hosts=[{**SOUND_HOST, "address": "redis://localhost"}]),
    "IPv6 loopback": layer(hosts=[{**SOUND_HOST, "address": "redis://[::1]:6379"}]),
    "a socket in the file system": layer(hosts=[{**SOUND_HOST, "address": "unix:///run/redis.sock"}]),
}


@pytest.mark.parametrize("values", SILENT_AT_DEPLOY.values(), ids=SILENT_AT_DEPLOY.keys())
def test_what_is_safe_is_not_found_by_check_deploy(settings, values):
    for name, value in values.items():
        setattr(settings, name, value)
    assert messages(deploy=True) == []


@pytest.mark.parametrize("values", [{"CHANNEL_LAYERS": {}}, {"CHANNEL_LAYERS": {"default": {"BACKEND": "wrong"}}}])
def test_check_deploy_has_nothing_to_say_of_a_layer_that_is_not_there(settings, values):
    for name, value in values.items():
        setattr(settings, name, value)
    settings.DEBUG = True
    assert "sisy.W018" not in [message.id for message in messages(deploy=True)]


# How the database is configured; tests without `django_db` can't ask it anything


class OneDatabase:
    """A router that puts everything into the database "checked", but for a model."""

    def __init__(self, elsewhere=None):
        self.elsewhere = elsewhere

    def db_for_write(self, model, **hints):
        return "default" if model is self.elsewhere else "checked"

    db_for_read = db_for_write


@pytest.fixture
def put_into(settings, tmp_path):
    """Give a function that puts sisy's tables into an SQLite database with these settings; it has no tables yet."""

    def put(name=tmp_path / "checked.sqlite3", **values):
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": name, **values}
        connections.databases["checked"] = connections.configure_settings({"default": {}, "checked": database})[
            "checked"
        ]
        settings.DATABASE_ROUTERS = [OneDatabase()]

    yield put
    if "checked" in connections.databases:
        connections["checked"].close()
        del connections["checked"], connections.databases["checked"]


SOUND_OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 20}
FOUND_IN_DATABASES = [
    ("sisy.E009", {"TIME_ZONE": "Europe/Paris", "OPTIONS": SOUND_OPTIONS}, "'Europe/Paris'", "Remove TIME_ZONE"),
    ("sisy.W010", {"OPTIONS": {"timeout": 20}}, "opens DEFERRED transactions", '"transaction_mode"] to "IMMEDIATE"'),
    ("sisy.W010", {"OPTIONS": {**SOUND_OPTIONS, "transaction_mode": None}}, "opens DEFERRED", '"IMMEDIATE"'),
    ("sisy.W011", {"OPTIONS": {"transaction_mode": "IMMEDIATE"}}, "waits at most 5 s", '"timeout"] to 20'),
    ("sisy.W011", {"OPTIONS": {**SOUND_OPTIONS, "timeout": 19.5}}, "waits at most 19.5 s", '"timeout"] to 20'),
]


@pytest.mark.parametrize(("check_id", "values", "text", "hint"), FOUND_IN_DATABASES)
def test_a_wrong_database_setting_is_found(put_into, check_id, values, text, hint):
    put_into(**values)
    (message,) = messages()
    assert message.id == check_id
    assert text in message.msg
    assert hint in message.hint


@pytest.mark.parametrize(
    "values",
    [
        {"OPTIONS": SOUND_OPTIONS},
        {"OPTIONS": {**SOUND_OPTIONS, "transaction_mode": "exclusive"}},
        {"OPTIONS": SOUND_OPTIONS, "TIME_ZONE": "UTC"},
        {"name": ":memory:"},
    ],
)
def test_a_right_database_setting_is_not_found(put_into, values):
    put_into(**values)
    assert messages() == []


def test_the_databases_without_sisys_tables_do_not_matter(put_into, settings):
    put_into(TIME_ZONE="Europe/Paris")
    settings.DATABASE_ROUTERS = []
    assert messages() == []


def test_tables_in_several_databases_are_found(put_into, settings):
    put_into()
    settings.DATABASE_ROUTERS = [OneDatabase(elsewhere=Run)]
    (message,) = messages()
    assert message.id == "sisy.E010"
    assert "into checked, default" in message.msg
    assert "one alias" in message.hint


# What is in the database; only when it is named


@pytest.fixture
def stored_task(db):
    """Give a function that stores a task, and then writes into its row as SQL would."""

    def store(the_callable=shop.note, *, pk_override=None, **columns):
        task = task_with_callable(the_callable, pk_override=pk_override)
        task.save()
        Task._base_manager.filter(pk=task.pk).update(**columns)
        return task

    return store


@pytest.mark.django_db
def test_a_sound_database_passes_all_checks(stored_task):
    Country.objects.create(code="fr", name="France")
    stored_task()
    stored_task("tests.project.shop.models.Country.remind", pk_override="fr")
    stored_task("tests.project.shop.models.Order.archive")
    assert messages_about("default") == []


def test_a_database_that_is_not_named_is_not_asked():
    assert messages_about() == messages_about("other") == []


@pytest.fixture
def ask_checked(put_into, django_db_blocker):
    """Give a function that makes such a database and has the checks ask it; a TestCase would not let them."""

    def ask(**values):
        put_into(**values)
        with django_db_blocker.unblock():
            return messages_about("checked")

    return ask


def test_the_journal_mode_of_sqlite_is_found(ask_checked):
    (message,) = ask_checked(OPTIONS=SOUND_OPTIONS)
    assert message.id == "sisy.W012"
    assert "journal mode 'delete'" in message.msg
    assert "PRAGMA journal_mode=WAL" in message.hint


def test_wal_and_tables_that_are_not_there_yet_are_not_found(ask_checked):
    assert ask_checked(OPTIONS={**SOUND_OPTIONS, "init_command": "PRAGMA journal_mode=WAL"}) == []


def test_a_database_that_does_not_answer_is_left_to_others(ask_checked, tmp_path):
    assert ask_checked(name=tmp_path / "no such folder" / "checked.sqlite3", OPTIONS=SOUND_OPTIONS) == []


@pytest.mark.django_db
@pytest.mark.parametrize(("seconds", "text"), [(-60, "60.0 s ahead of"), (3, "3.0 s behind"), (1, None), (-1, None)])
def test_clocks_that_differ_are_found(monkeypatch, seconds, text):
    host = SimpleNamespace(now=lambda: timezone.now() + timedelta(seconds=seconds))
    monkeypatch.setattr(stored, "timezone", host)
    found_messages = messages_about("default")
    assert [message.id for message in found_messages] == ["sisy.W013"] * (text is not None)
    for message in found_messages:
        assert f"The clock of the database 'default' is {text}" in message.msg
        assert "NTP" in message.hint


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"callable": "tests.project.shop.tasks.note_it"}, "Did you mean"),
        ({"callable": "tests.project.shop.gone.note"}, "has no 'gone'"),
        ({"callable": "os.system"}, 'Add it to SISY["ALLOWED_CALLABLES"]'),
        ({"callable": "tests.project.shop.ledger.append"}, "its parameters are (**fields)"),
        ({"callable": "tests.project.shop.models.Order.remind"}, "an instance method without an instance"),
        ({"callable": "tests.project.shop.models.Order.remind", "instance_pk": "x"}, "can't be the primary key"),
        ({"callable": "tests.project.shop.a path"}, "other characters"),
    ],
)
def test_a_stored_callable_that_cant_run_is_found(stored_task, columns, text):
    stored_task()
    stored_task(**columns)
    (message,) = messages_about("default")
    assert message.id == "sisy.W014"
    assert text in message.msg
    assert "pause or delete" in message.hint


def test_the_callables_of_tasks_that_do_not_run_are_not_found(stored_task):
    stored_task(callable="shop.gone", enabled=False)
    assert messages_about("default") == []


def test_however_many_tasks_there_are_few_rows_are_read(stored_task, django_assert_max_num_queries):
    for _ in range(30):
        stored_task()
    stored_task("tests.project.shop.tasks.anote")
    with django_assert_max_num_queries(10):
        assert messages_about("default") == []


def test_at_most_ten_messages_of_a_kind_are_shown(stored_task):
    for number in range(15):
        stored_task(callable=f"tests.project.shop.tasks.gone_{number:02}")
    assert [message.id for message in messages_about("default")] == ["sisy.W014"] * 10


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"schedule": "61 * * * *"}, "61 is out of range"),
        ({"schedule": "0 0 31 2 *"}, "never fires"),
        ({"timezone": "Europe/Pariss"}, "Did you mean 'Europe/Paris'?"),
    ],
)
def test_a_stored_schedule_that_cant_be_read_is_found_once(stored_task, columns, text):
    first = stored_task(**columns)
    stored_task(**columns)
    stored_task()
    (message,) = messages_about("default")
    assert message.id == "sisy.W015"
    assert f"Task {first.pk} ('tests.project.shop.tasks.note') can't be scheduled" in message.msg
    assert text in message.msg
    assert "set aside" in message.hint


def test_a_one_shots_schedule_is_no_error(stored_task):
    Task.run_once(shop.note, delay_until=timezone.now() + timedelta(days=1))
    assert messages_about("default") == []


def test_tasks_that_were_set_aside_are_listed(stored_task):
    task = stored_task(enabled=False, error="'61 * * * *': 61 is out of range.", label="Nightly\n<b>report</b>")
    stored_task(enabled=False)
    (message,) = messages_about("default")
    assert message.id == "sisy.W016"
    assert f"Task {task.pk} ('Nightly\\n<b>report</b>') was set aside: '61 * * * *'" in message.msg
    assert "resume" in message.hint


# The catalogue


def test_each_check_has_a_test():
    tables = (FOUND, FOUND_AT_DEPLOY, FOUND_IN_DATABASES)
    elsewhere = {"sisy.E010", *(f"sisy.W0{number}" for number in range(12, 17))}
    assert {row[0] for table in tables for row in table} | elsewhere == set(MEANINGS)


def test_each_meaning_is_one_line():
    assert all("\n" not in meaning and meaning.endswith(".") for meaning in MEANINGS.values())


def test_an_id_that_is_not_in_the_catalogue_can_not_be_used():
    with pytest.raises(KeyError, match="W999"):
        found("sisy.W999", "Something is odd.", hint="Mend it.")


def test_the_letter_of_an_id_decides_how_bad_it_is():
    levels = {check_id: found(check_id, "", hint="").level for check_id in MEANINGS}
    assert {check_id[5]: level for check_id, level in levels.items()} == {"E": 40, "W": 30, "I": 20}
