"""What happens to every request of the API before and after its endpoint."""

import logging
from collections import Counter
from threading import Lock

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
APP_VERSION = "2.x.x"


class RequestCounter:
    """Counts requests by method and route.

    :ivar counts: the number of requests for each (method, route). A route is written as in the specification.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def add(self, method: str, route: str) -> None:
        """Count one request."""
        with self._lock:
            self.counts[method, route] += 1


class RequestMiddleware:
    """Reads the path without regard to case, counts the request, and adds the version to the answer.

    :param app: the application that answers.
    :param counter: counts the requests.
    """

    def __init__(self, app: ASGIApp, counter: RequestCounter) -> None:
        self._app = app
        self._counter = counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        staged = scope["path"].startswith("/staging/")
        if not staged:
            scope["path"] = scope["path"].lower()

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = str(getattr(scope.get("route"), "path", scope["path"]))
                self._counter.add(scope["method"], route)
                if not staged:
                    MutableHeaders(scope=message)["f7t-appversion"] = APP_VERSION
                log.debug("%s %s -> %s", scope["method"], scope["path"], message["status"])
            await send(message)

        await self._app(scope, receive, send_on)
