"""The test project as the flow tests start it; SISY_TEST_LAYER_OPTIONS is JSON with options for its channel layer.

Without daphne, whose import takes as long as everything else together, and most processes here serve no HTTP.
"""

import json
import os

from tests.project.settings import *  # noqa: F403
from tests.project.settings import CHANNEL_LAYERS, INSTALLED_APPS, REDIS_URL

INSTALLED_APPS = [app for app in INSTALLED_APPS if app != "daphne"]
if os.environ.get("SISY_TEST_LAYER") == "redis":
    # redis-py 8 gives up a silent connection after 5 s, just when Channels ends its own wait: see sisy.W003.
    CHANNEL_LAYERS["default"]["CONFIG"]["hosts"] = [
        {"address": url, "socket_timeout": 15} for url in REDIS_URL.split(",")
    ]
    CHANNEL_LAYERS["default"]["CONFIG"].update(json.loads(os.environ.get("SISY_TEST_LAYER_OPTIONS", "{}")))
