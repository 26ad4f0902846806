"""What daphne serves in the browser tests."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.browser.settings")
http = ASGIStaticFilesHandler(get_asgi_application())

from sisy.routing import websockets  # noqa: E402  needs the models, so the apps must be set up first

application = ProtocolTypeRouter({"http": http, "websocket": URLRouter(websockets)})
