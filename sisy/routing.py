"""What sisy serves besides HTTP: the sockets of live pages, and the channels that it consumes.

The project's ASGI application passes them on; the channels are for plain `runworker` only:

    ProtocolTypeRouter({"http": ..., "websocket": URLRouter(websockets), "channel": ChannelNameRouter(channels)})

sisy_worker and sisy need no routing in the project.
"""

from typing import Any

from channels.routing import ChannelNameRouter
from django.urls import path

from sisy import conf
from sisy.consumers import HeartbeatConsumer, RunConsumer
from sisy.live.guard import guarded
from sisy.live.sockets import JobConsumer, LiveConsumer


class _Channels(dict[str, Any]):
    """Channel name -> application; every queue's channel is known, whatever the queue is called."""

    def __init__(self) -> None:
        settings = conf.current()
        names = (settings.heartbeat_channel, settings.run_channel)
        super().__init__({name: _application_of(name) for name in names})  # so that it can be merged with others

    def __contains__(self, channel: object) -> bool:
        return isinstance(channel, str) and _application_of(channel) is not None

    def __missing__(self, channel: str) -> Any:
        application = _application_of(channel)
        if application is None:
            raise KeyError(channel)
        return application


def _application_of(channel: str) -> Any:
    settings = conf.current()
    if channel == settings.heartbeat_channel:
        return HeartbeatConsumer.as_asgi()
    if channel == settings.run_channel or channel.startswith((f"{settings.run_channel}.", f"{settings.run_channel}-")):
        return RunConsumer.as_asgi()
    return None


channels: dict[str, Any] = _Channels()
"""What to give to ChannelNameRouter."""

application = ChannelNameRouter(channels)
"""The application that sisy_worker uses."""

LIVE_PATH = "ws/sisy/live/"
JOB_PATH = "ws/sisy/job/"
"""Where the pages' script looks for the sockets, below the project's root."""

websockets: list[Any] = [
    path(LIVE_PATH, guarded(LiveConsumer.as_asgi())),
    path(f"{JOB_PATH}<str:token>/", guarded(JobConsumer.as_asgi())),
]
"""What to give to URLRouter, alone or with a project's own; each checks origin and user by itself."""
