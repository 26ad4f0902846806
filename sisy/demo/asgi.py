"""What daphne serves: `daphne sisy.demo.asgi:application`. With `runworker`, sisy's channels too."""

import os

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

from sisy.demo.manage import SETTINGS

os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
# A demo has no web server in front of it, so its static files come from here.
http = ASGIStaticFilesHandler(get_asgi_application())

from sisy.routing import channels, websockets  # noqa: E402 - needs the models, so the apps must be set up first

application = ProtocolTypeRouter(
    {"http": http, "websocket": URLRouter(websockets), "channel": ChannelNameRouter(channels)}
)
