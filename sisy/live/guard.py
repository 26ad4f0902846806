"""Who may open a socket: pages of this very site, as their origin tells, and the users that sockets.py lets in."""

from typing import Any, Final
from urllib.parse import urlsplit

from channels.auth import AuthMiddlewareStack
from channels.security.websocket import AllowedHostsOriginValidator, WebsocketDenier
from django.conf import settings
from django.utils.http import is_same_domain

_PORTS: Final = {"http": 80, "https": 443}


def guarded(application: Any) -> Any:
    """Return an application for sockets that only pages of this site can open, with the session's user in its scope.

    ALLOWED_HOSTS decides first; since that may be "*", the origin must be the host that was asked, too, or one of
    CSRF_TRUSTED_ORIGINS: who may post may listen.
    """
    return AllowedHostsOriginValidator(_SameOrigin(AuthMiddlewareStack(application)))


class _SameOrigin:
    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if is_own_origin(scope):
            return await self.application(scope, receive, send)
        denier: Any = WebsocketDenier()
        return await denier(scope, receive, send)


def is_own_origin(scope: dict[str, Any]) -> bool:
    """Tell whether the page that opens a socket comes from the host that it opens it to.

    >>> is_own_origin({"headers": [(b"origin", b"https://example.com"), (b"host", b"example.com:443")]})
    True
    >>> is_own_origin({"headers": [(b"origin", b"https://evil.example"), (b"host", b"example.com")]})
    False
    """
    headers = {name.lower(): value.decode("latin1") for name, value in scope.get("headers", [])}
    origin = headers.get(b"origin", "")
    try:
        page = urlsplit(origin)
        port = page.port or _PORTS.get(page.scheme)
        host = urlsplit(f"//{_host(headers)}")
        is_same = page.hostname == host.hostname and port == (host.port or _PORTS.get(page.scheme))
    except ValueError:  # a port that is none
        return False
    return bool(port and page.hostname) and (is_same or _is_trusted(origin))


def _host(headers: dict[bytes, str]) -> str:
    if settings.USE_X_FORWARDED_HOST and b"x-forwarded-host" in headers:
        return headers[b"x-forwarded-host"]
    return headers.get(b"host", "")


def _is_trusted(origin: str) -> bool:
    """Tell whether CSRF_TRUSTED_ORIGINS has an origin, as Django's own check reads that setting."""
    page = urlsplit(origin)
    for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS):
        is_pattern = trusted.netloc.startswith("*")
        if page.scheme == trusted.scheme and (
            is_same_domain(page.netloc, trusted.netloc.lstrip("*")) if is_pattern else page.netloc == trusted.netloc
        ):
            return True
    return False
