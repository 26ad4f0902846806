"""What daphne serves while dashboards are open: the admin and its sockets; also the addresses.

The contender sisy_watched starts it: python -m daphne benchmarks.site:application
"""

from channels.routing import ProtocolTypeRouter, URLRouter
from django.contrib import admin
from django.core.asgi import get_asgi_application
from django.urls import path

http = get_asgi_application()  # sets Django up, which what follows needs

from sisy.routing import websockets  # noqa: E402

urlpatterns = [path("admin/", admin.site.urls)]
application = ProtocolTypeRouter({"http": http, "websocket": URLRouter(websockets)})
