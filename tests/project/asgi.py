"""What daphne and `manage.py runworker` run: HTTP for the web process, sisy's channels for the workers."""

import os

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")
http = get_asgi_application()

from sisy.routing import channels, websockets  # noqa: E402  needs the models, so the apps must be set up first

application = ProtocolTypeRouter(
    {"http": http, "websocket": URLRouter(websockets), "channel": ChannelNameRouter(channels)}
)
