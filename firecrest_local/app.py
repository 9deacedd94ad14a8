"""The web application: all endpoints of one site."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from firecrest_local.api import compute, faults, filesystem, staging, status, tokens, transfer
from firecrest_local.api.error_handlers import install_error_handlers
from firecrest_local.api.host_check import HostCheck
from firecrest_local.api.middleware import APP_VERSION, RequestCounter, RequestMiddleware
from firecrest_local.faults.control import FaultControl
from firecrest_local.faults.middleware import FaultMiddleware
from firecrest_local.site import Site

#: The errors of all endpoints, as the real server's specification has them.
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is refused"},
    "5XX": {"description": "A command on the system failed, and the message has its words; or a service is unhealthy"},
}


class _Systems:
    """Passes the requests to the other systems on to their applications.

    :param app: answers everything else.
    :param by_system: the other systems' applications by name.
    """

    def __init__(self, app: ASGIApp, by_system: Mapping[str, ASGIApp]) -> None:
        self._app = app
        self._by_system = by_system

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        name = scope["path"].split("/")[2:3] if scope["type"] == "http" else []
        await self._by_system.get("".join(name), self._app)(scope, receive, send)


def _system_app(site: Site) -> ASGIApp:
    app = FastAPI(docs_url=None, redoc_url=None, responses=ERRORS)
    install_error_handlers(app)
    for endpoints in (status, compute, filesystem, transfer):
        app.include_router(endpoints.router(site))
    return app


def create_app(site: Site, counter: RequestCounter, fault_control: FaultControl | None = None) -> ASGIApp:
    """Make the application.

    :param site: the cluster that it serves, with the others behind the same API.
    :param counter: counts the requests. A request that a fault keeps from its endpoint is not counted.
    :param fault_control: injects faults; None makes an application without faults.
    """
    app = FastAPI(
        title="FirecREST (embedded, for development and tests)",
        version=APP_VERSION,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
    )
    install_error_handlers(app)
    app.include_router(tokens.router(site.issuer, site.settings.token_auth))
    for endpoints in (status, compute, filesystem, transfer):
        app.include_router(endpoints.router(site))
    app.include_router(staging.router(site.staging))
    by_system = {one.settings.system: _system_app(one) for one in site.others}
    if fault_control is not None:
        app.include_router(faults.router(fault_control, site.issuer))
    answering = RequestMiddleware(HostCheck(_Systems(app, by_system)), counter)
    return answering if fault_control is None else FaultMiddleware(answering, fault_control, site.settings.system)
