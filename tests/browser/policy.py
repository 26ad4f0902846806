"""A Content-Security-Policy stricter than most: nothing inline, nothing from elsewhere."""

from typing import Any

from django.utils.deprecation import MiddlewareMixin

POLICY = "; ".join(
    ["default-src 'none'"]
    + [f"{kind} 'self'" for kind in ("script-src", "style-src", "img-src", "font-src", "connect-src", "form-action")]
    + ["base-uri 'none'", "frame-ancestors 'none'"]
)


class StrictPolicy(MiddlewareMixin):
    """Middleware that sends the policy.

    It is asynchronous like Django's own. One that is not waits in its thread for the event loop, for ever if the server
    is stopped meanwhile.
    """

    def process_response(self, request: Any, response: Any) -> Any:
        """Add the header."""
        response["Content-Security-Policy"] = POLICY
        return response
