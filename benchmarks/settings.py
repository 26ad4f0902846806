"""Django settings of those contenders that are Django apps; BENCHMARK_CONTENDER says which one.

What is common is what a production project has; DEBUG is off, and nothing is logged below WARNING.
"""

import os
from pathlib import Path
from typing import Any

from benchmarks import stores
from benchmarks.side import plan

NAME = os.environ["BENCHMARK_CONTENDER"]

APPS = {
    "sisy": ["channels", "sisy"],
    "sisy_sqlite": ["channels", "sisy"],
    "sisy_watched": [
        "channels",
        "sisy",
        *(f"django.contrib.{app}" for app in ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")),
    ],
    "celery": ["django_celery_beat"],
    "django_ox": ["django_ox"],
}

SECRET_KEY = "only for benchmarks"  # noqa: S105 - nothing is signed with it
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = APPS[NAME]
DATABASES: dict[str, dict[str, Any]] = {"default": stores.django_database(NAME)}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}

if NAME == "sisy_sqlite":  # what docs/howto/databases.rst recommends
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ["BENCHMARK_DIRECTORY"]) / "sisy.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "timeout": 20,
        },
    }
if NAME in ("sisy", "sisy_watched"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [stores.REDIS], "prefix": f"sisy-benchmarks{stores.RUN}"},
        }
    }
    # Published messages know neither prefixes nor database numbers: channels that nobody else here listens to.
    channel = f"sisy-benchmarks{stores.RUN}"
    SISY = {"HEARTBEAT_CHANNEL": f"{channel}.heartbeat", "RUN_CHANNEL": f"{channel}.run"}
if NAME == "sisy_watched":  # what `django-admin startproject` writes
    ROOT_URLCONF = "benchmarks.site"
    ALLOWED_HOSTS = ["127.0.0.1"]
    STATIC_URL = "static/"
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
if NAME == "django_ox":
    DATABASES["default"]["CONN_MAX_AGE"] = 60  # what its documentation advises
    TASKS = {
        "default": {
            "BACKEND": "django_ox.backend.OxBackend",
            "QUEUES": [],
            "OPTIONS": {
                "SCHEDULES": {
                    f"task {number}": {
                        "task": "benchmarks.contenders.django_ox.job",
                        "cron": "* * * * *" if plan().kind == "boundary" else "0 0 29 2 *",
                        "args": [number],
                    }
                    for number in range(plan().count)
                }
            },
        }
    }
