"""The web application: all endpoints of one site."""

import logging
from collections import Counter
from threading import Lock

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firecrest_local import errors
from firecrest_local.access import token_issuer as tokens
from firecrest_local.api import compute, filesystem, status, transfer
from firecrest_local.faults import control as faultcontrol
from firecrest_local.faults.control import FaultControl
from firecrest_local.faults.middleware import Faulty
from firecrest_local.files import staging
from firecrest_local.site import Site

log = logging.getLogger(__name__)
APP_VERSION = "2.x.x"


class RequestCounter:
    """Counts requests by method and route.

    Attributes:
        counts: how often each (method, route) was asked for; a route is written as in the specification.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def add(self, method: str, route: str) -> None:
        """Count one request."""
        with self._lock:
            self.counts[method, route] += 1


class FrontDoor:
    """What happens to every request: its path is read without regard to case, it is counted, and the answer
    says which version answers.

    Parameters:
        app: what answers.
        counter: what counts.
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


def create_app(site: Site, counter: RequestCounter, faults: FaultControl | None = None) -> ASGIApp:
    """Make the application.

    Parameters:
        site: the cluster that it speaks for.
        counter: counts its requests; one that a fault keeps from being worked on isn't counted.
        faults: what goes wrong; None is a sound application that knows no faults.
    """
    app = FastAPI(title="FirecREST (embedded, for development and tests)", version=APP_VERSION)
    errors.install(app)
    app.include_router(tokens.router(site.issuer))
    for endpoints in (status, compute, filesystem, transfer):
        app.include_router(endpoints.router(site))
    app.include_router(staging.router(site.staging))
    if faults is None:
        return FrontDoor(app, counter)
    app.include_router(faultcontrol.router(faults, site.issuer))
    return Faulty(FrontDoor(app, counter), faults, site.settings.system)
