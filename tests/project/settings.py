"""Settings of the tests and of every process that a test starts, chosen by environment variables only.

    SISY_TEST_DATABASE         sqlite (default), postgresql or mariadb: what the alias "default" is
    SISY_TEST_POSTGRESQL_HOST  and _PORT, _USER, _PASSWORD, _NAME; the same with SISY_TEST_MARIADB_
    SISY_TEST_LAYER            memory (default), redis or none: the channel layer
    SISY_TEST_REDIS_URL        redis://127.0.0.1:6379/15 unless given; several with commas in between are sharded

and, set by the flow tests for the processes they start, so that both sides see the same data:

    SISY_TEST_DATABASE_NAME    the database (for SQLite the file) of "default"; SISY_TEST_OTHER_NAME that of "other"
    SISY_TEST_REDIS_PREFIX     in front of every key in Redis
    SISY_TEST_SETTINGS         JSON, becomes the SISY dict
    SISY_TEST_LOG_LEVEL        write sisy's and Channels' log lines to stderr from this level on
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

# Two test runs at the same time, on one machine and its servers, must not share a database.
OWN = f"sisy_{os.getpid()}"


def sqlite(alias: str, name: str | None) -> dict[str, Any]:
    """A database file: one in memory could not be shared with the threads and processes of the flow tests."""
    directory = Path(tempfile.gettempdir())
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name or directory / f"sisy_{alias}.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "timeout": 20,
        },
        "TEST": {"NAME": directory / f"test_{OWN}_{alias}.sqlite3"},
    }


def server(kind: str, name: str | None, **defaults: Any) -> dict[str, Any]:
    """A database on a server, its address from SISY_TEST_<kind>_... or the defaults."""
    prefix = f"SISY_TEST_{kind.upper()}_"
    address = {key: os.environ.get(prefix + key, defaults[key]) for key in ("HOST", "PORT", "USER", "PASSWORD", "NAME")}
    if name:
        address["NAME"] = name
    return {"ENGINE": defaults["ENGINE"], **address, "TEST": {"NAME": f"test_{OWN}", **defaults.get("TEST", {})}}


def postgresql(name: str | None) -> dict[str, Any]:
    return server(
        "postgresql",
        name,
        ENGINE="django.db.backends.postgresql",
        HOST="127.0.0.1",
        PORT="5432",
        USER="postgres",
        PASSWORD="",
        NAME="sisy",
    )


def mariadb(name: str | None) -> dict[str, Any]:
    return server(
        "mariadb",
        name,
        ENGINE="django.db.backends.mysql",
        HOST="127.0.0.1",
        PORT="3306",
        USER="root",
        PASSWORD="",
        NAME="sisy",
        TEST={"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_unicode_ci"},
    )


def default_database() -> dict[str, Any]:
    kind = os.environ.get("SISY_TEST_DATABASE") or "sqlite"
    name = os.environ.get("SISY_TEST_DATABASE_NAME")
    if kind == "sqlite":
        return sqlite("default", name)
    if kind == "postgresql":
        return postgresql(name)
    if kind == "mariadb":
        return mariadb(name)
    raise ImproperlyConfigured(f"SISY_TEST_DATABASE={kind!r}: choose sqlite, postgresql or mariadb")


def channel_layers() -> dict[str, Any]:
    kind = os.environ.get("SISY_TEST_LAYER") or "memory"
    if kind == "none":
        return {}
    if kind == "memory":
        return {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    if kind == "redis":
        # redis-py 8 would end an idle wait after 5 s, which is what channels_redis waits.
        hosts = [{"address": url, "socket_timeout": 15} for url in REDIS_URL.split(",")]
        config = {"hosts": hosts, "prefix": os.environ.get("SISY_TEST_REDIS_PREFIX", OWN)}
        return {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}
    raise ImproperlyConfigured(f"SISY_TEST_LAYER={kind!r}: choose memory, redis or none")


def logging_to_stderr(level: str) -> dict[str, Any]:
    logger = {"handlers": ["stderr"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {"sisy": logger, "django.channels": logger},
    }


SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "sisy",
    "tests.project.shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "tests.project.urls"
ASGI_APPLICATION = "tests.project.asgi.application"
STATIC_URL = "static/"
# The default hasher is slow on purpose, at every login of every admin test.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

REDIS_URL = os.environ.get("SISY_TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
DATABASES = {"default": default_database(), "other": sqlite("other", os.environ.get("SISY_TEST_OTHER_NAME"))}
CHANNEL_LAYERS = channel_layers()
SISY = json.loads(os.environ.get("SISY_TEST_SETTINGS", "{}"))
if level := os.environ.get("SISY_TEST_LOG_LEVEL"):
    LOGGING = logging_to_stderr(level)
