"""Keeps web pages out that reach the server under a name of their own (DNS rebinding)."""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from firecrest_local.errors import error_body
from firecrest_local.listener import HOST

_HOSTS = (HOST, "localhost")


class HostCheck:
    """Refuses requests to any other host than this machine.

    :param app: the application that answers the others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "").partition(":")[0].lower()
            if host not in _HOSTS:
                message = f"This server is reached at {' or '.join(_HOSTS)} alone, not at {host!r}."
                await JSONResponse(error_body(message, None), 421)(scope, receive, send)
                return
        await self._app(scope, receive, send)
