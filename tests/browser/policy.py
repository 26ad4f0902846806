"""A Content-Security-Policy stricter than most: nothing inline, nothing from elsewhere."""

from collections.abc import Callable
from typing import Any

POLICY = "; ".join(
    ["default-src 'none'"]
    + [f"{kind} 'self'" for kind in ("script-src", "style-src", "img-src", "font-src", "connect-src", "form-action")]
    + ["base-uri 'none'", "frame-ancestors 'none'"]
)


class StrictPolicy:
    """Middleware that sends the policy."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        response = self.get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response
