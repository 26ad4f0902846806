"""The test project behind a web server: static files, a policy stricter than Django's, a page for a visitor's job."""

from tests.project.settings import *  # noqa: F403
from tests.project.settings import MIDDLEWARE, REDIS_URL  # noqa: F401

MIDDLEWARE = ["tests.browser.policy.StrictPolicy", *MIDDLEWARE]
ROOT_URLCONF = "tests.browser.urls"
DEBUG = False
