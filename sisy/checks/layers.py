"""Checks of the channel layer. It is made from its settings, and no connection is opened.

Nothing here is an error but a layer that can't be made: without any messages sisy goes on by polling the database.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from channels.layers import BaseChannelLayer, channel_layers
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, register
from django.utils.module_loading import import_string

from sisy import conf
from sisy.checks.catalogue import TAG, found
from sisy.checks.project import sound_settings
from sisy.layer import PUBSUB_LAYER, is_a, is_local

# By name: importing redis-py to compare classes would cost each process more than sisy's other imports together.
_REDIS: Final = "channels_redis.core.RedisChannelLayer"
_SHORTEST_EXPIRY: Final = 5  # seconds; a sender whose clock is that far ahead deletes what others have sent


@dataclass(frozen=True, kw_only=True)
class _Configured:
    """A channel layer, with what its settings say of Redis.

    Args:
        alias: its name in CHANNEL_LAYERS.
        layer: the layer itself.
        hosts: for the layers of channels-redis: the options for each host.
        pools: for the layers of channels-redis: a pool of connections for each host, none of them open.
        encrypted: whether the messages themselves are encrypted.
    """

    alias: str
    layer: Any
    hosts: list[dict[str, Any]] = field(default_factory=list)
    pools: list[Any] = field(default_factory=list)
    encrypted: bool = False


@register(TAG)
def check_layer(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check that the channel layer is there, can be made, and takes and keeps sisy's messages."""
    settings = sound_settings()
    if settings is None:
        return []
    layers, alias = getattr(django_settings, "CHANNEL_LAYERS", {}), settings.channel_layer
    if not layers:
        return list(_no_layer())
    if alias not in layers:
        text = f'SISY["CHANNEL_LAYER"] is {alias!r}, which CHANNEL_LAYERS does not have.'
        return [found("sisy.E005", text, hint=f"Add it there, or name one of {', '.join(map(repr, layers))}.")]
    try:
        configured = _configured(alias)
    except Exception as error:  # each layer has settings and errors of its own
        text = f"The channel layer {alias!r} can't be made: {type(error).__name__}: {error}"
        return [found("sisy.E006", text, hint=f"Correct BACKEND and CONFIG of CHANNEL_LAYERS[{alias!r}].")]
    looks = (_in_memory(configured), _capacity(configured, settings), _expiry(configured), _socket_timeout(configured))
    return [message for look in (*looks, _pubsub(configured)) for message in look]


@register(TAG, deploy=True)
def check_encryption(app_configs: object, **kwargs: object) -> list[CheckMessage]:
    """Check that messages leave this host only encrypted."""
    settings = sound_settings()
    if settings is None or settings.channel_layer not in (getattr(django_settings, "CHANNEL_LAYERS", None) or {}):
        return []
    try:
        configured = _configured(settings.channel_layer)
    except Exception:  # check_layer reports it
        return []
    hosts = [] if configured.encrypted else sorted(_reached_in_the_clear(configured))
    if not hosts:
        return []
    text = f"The channel layer {configured.alias!r} talks to Redis on {', '.join(hosts)} without encryption."
    hint = (
        "Whoever can listen reads the messages of all consumers. Use rediss:// addresses (TLS), or set "
        'CONFIG["symmetric_encryption_keys"]; silence this for a network that is private or encrypted itself.'
    )
    return [found("sisy.W018", text, hint=hint)]


def _configured(alias: str) -> _Configured:
    layer = channel_layers.make_backend(alias)  # a new one: the one in use may belong to an event loop
    if not (is_a(layer, _REDIS) or is_a(layer, PUBSUB_LAYER)):
        return _Configured(alias=alias, layer=layer)
    config = django_settings.CHANNEL_LAYERS[alias].get("CONFIG", {})
    hosts = import_string("channels_redis.utils.decode_hosts")(config.get("hosts"))
    make_pool = import_string("channels_redis.utils.create_pool")
    return _Configured(
        alias=alias,
        layer=layer,
        hosts=hosts,
        pools=[make_pool(host) for host in hosts],
        encrypted=bool(config.get("symmetric_encryption_keys")),
    )


def _no_layer() -> Iterator[CheckMessage]:
    if not django_settings.DEBUG:
        hint = (
            "Nothing is lost: they look once a POLL_INTERVAL. For at once, configure channels_redis in CHANNEL_LAYERS; "
            "with `manage.py sisy` as the only process of sisy, silence this."
        )
        yield found("sisy.W001", "CHANNEL_LAYERS is empty, so workers in other processes hear no nudges.", hint=hint)


def _in_memory(configured: _Configured) -> Iterator[CheckMessage]:
    if is_local(configured.layer) and not django_settings.DEBUG:
        text = f"The channel layer {configured.alias!r} is in memory, so workers in other processes hear no nudges."
        hint = (
            "Nothing is lost: they look once a POLL_INTERVAL. For at once, use channels_redis.core.RedisChannelLayer; "
            "with `manage.py sisy` as the only process of sisy, silence this."
        )
        yield found("sisy.W002", text, hint=hint)


def _capacity(configured: _Configured, settings: conf.Settings) -> Iterator[CheckMessage]:
    layer = configured.layer
    if not isinstance(layer, BaseChannelLayer):
        return
    for channel in (settings.heartbeat_channel, settings.run_channel):
        try:
            capacity = layer.get_capacity(channel)
        except Exception as error:  # that of the in-memory layer unpacks the keys of a dict
            text = f"The channel layer {configured.alias!r} can't read its channel_capacity: {error}"
            hint = "Each send fails. Channels' in-memory layer takes no channel_capacity dict: remove it from CONFIG."
            yield found("sisy.W004", text, hint=hint)
            return
        if capacity < 1:
            text = f"The channel layer {configured.alias!r} has a capacity of {capacity} for the channel {channel!r}."
            hint = "A full channel means to sisy that a message is there already, so none arrives. Allow at least 1."
            yield found("sisy.W005", text, hint=hint)
            return


def _expiry(configured: _Configured) -> Iterator[CheckMessage]:
    expiry = configured.layer.expiry if isinstance(configured.layer, BaseChannelLayer) else None
    if expiry is not None and expiry < _SHORTEST_EXPIRY:
        text = f"The channel layer {configured.alias!r} has an expiry of {expiry} s."
        hint = (
            "The sender's clock judges it, so that another host's, a little ahead, deletes what is still to be read; "
            f"below 1 s nothing arrives at all. Use {_SHORTEST_EXPIRY} or more; the default is 60."
        )
        yield found("sisy.W006", text, hint=hint)


def _socket_timeout(configured: _Configured) -> Iterator[CheckMessage]:
    """Find connections that give up while channels-redis waits: redis-py 8 has 5 s by default, and the wait lasts 5 s.

    Only of the core layer: to wait for what is published, redis-py leaves the timeout out.
    """
    if not is_a(configured.layer, _REDIS):
        return
    longest_wait = configured.layer.brpop_timeout
    timeouts = {pool.make_connection().socket_timeout for pool in configured.pools}
    too_short = [timeout for timeout in timeouts if timeout is not None and timeout <= longest_wait]
    if too_short:
        text = (
            f"The channel layer {configured.alias!r} waits {longest_wait:g} s for a message, on connections to Redis "
            f"whose socket_timeout is {min(too_short):g} s (redis-py 8 and later have 5 s unless told otherwise)."
        )
        hint = (
            "Each wait that stays empty ends with redis.exceptions.TimeoutError: idle WebSockets close, plain "
            "runworker exits, and a message that comes at that moment is lost. Give each host a longer one: "
            '"hosts": [{"address": "redis://...", "socket_timeout": 15}].'
        )
        yield found("sisy.W003", text, hint=hint)


def _pubsub(configured: _Configured) -> Iterator[CheckMessage]:
    if is_a(configured.layer, PUBSUB_LAYER):
        text = f"The channel layer {configured.alias!r} hands each message to every process that listens."
        hint = (
            "Harmless to sisy: all workers look, and one of them claims. To other consumers on named channels it is "
            f"not; {_REDIS} hands each message to one."
        )
        yield found("sisy.I001", text, hint=hint)


def _reached_in_the_clear(configured: _Configured) -> Iterator[str]:
    for options, pool in zip(configured.hosts, configured.pools, strict=True):
        is_tls = any(kind.__name__ == "SSLConnection" for kind in pool.connection_class.__mro__)
        if is_tls or "path" in pool.connection_kwargs:  # a socket in the file system
            continue
        sentinels = options.get("sentinels", ())
        names = [name for name, _ in sentinels] or [pool.connection_kwargs.get("host", "localhost")]
        yield from {name for name in names if not _is_loopback(name)}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
