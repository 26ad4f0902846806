"""Settings of the demo, short enough to be read; the environment decides what differs between its ways to run.

DEMO_DATABASE      the SQLite file; default: sisy-demo.sqlite3 in the current directory
REDIS_URL          the channel layer's server; without it, messages stay within their process
DEMO_REDIS_PREFIX  what the keys in Redis begin with; default: sisy-demo
DEMO_SECRET_KEY    default: a new one for each process, so that logins end with it
DEMO_DEBUG         1 for Django's debug pages
DEMO_LOG_LEVEL     of sisy's log lines on stderr; default: INFO
"""

import os
from pathlib import Path
from typing import Any

from django.core.management.utils import get_random_secret_key

DEMO_DATABASE = Path(os.environ.get("DEMO_DATABASE") or "sisy-demo.sqlite3").absolute()
DEMO_HANDOVER = DEMO_DATABASE.with_suffix(".handover.json")
"""The file that one task of the demo writes and another one collects."""

SECRET_KEY = os.environ.get("DEMO_SECRET_KEY") or get_random_secret_key()
DEBUG = os.environ.get("DEMO_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "sisy",
    "sisy.demo",
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
ROOT_URLCONF = "sisy.demo.urls"
ASGI_APPLICATION = "sisy.demo.asgi.application"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Cookies know no ports: names of our own leave the logins of other projects on this machine alone.
SESSION_COOKIE_NAME = "sisy_demo_session"
CSRF_COOKIE_NAME = "sisy_demo_csrf"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DEMO_DATABASE,
        "OPTIONS": {
            # Web, heartbeat and worker write at the same time: readers do not wait, writers queue up from the start.
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "timeout": 20,
        },
    }
}

CHANNEL_LAYERS: dict[str, dict[str, Any]]
if url := os.environ.get("REDIS_URL"):
    prefix = os.environ.get("DEMO_REDIS_PREFIX") or "sisy-demo"
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # The layer waits 5 s for a message at a time, which must not be as long as the connection waits.
            "CONFIG": {"hosts": [{"address": url, "socket_timeout": 15}], "prefix": prefix},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

SISY = {
    "HEARTBEAT_INTERVAL": 1,
    "ALLOWED_CALLABLES": ["sisy.demo.*"],
    "KEEP_RUNS_DAYS": 1,
    "KEEP_RUNS_PER_TASK": 500,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "sisy": {
            "handlers": ["stderr"],
            "level": os.environ.get("DEMO_LOG_LEVEL") or "INFO",
            "propagate": False,
        }
    },
}
