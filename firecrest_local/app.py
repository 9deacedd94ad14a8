"""The web application: all endpoints of one site."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from firecrest_local.api import compute, faults, filesystem, staging, status, tokens, transfer
from firecrest_local.api.error_handlers import install_error_handlers
from firecrest_local.api.middleware import APP_VERSION, RequestCounter, RequestMiddleware
from firecrest_local.faults.control import FaultControl
from firecrest_local.faults.middleware import FaultMiddleware
from firecrest_local.site import Site


def create_app(site: Site, counter: RequestCounter, fault_control: FaultControl | None = None) -> ASGIApp:
    """Make the application.

    :param site: the cluster that it serves.
    :param counter: counts the requests. A request that a fault keeps from its endpoint is not counted.
    :param fault_control: injects faults; None makes an application without faults.
    """
    app = FastAPI(title="FirecREST (embedded, for development and tests)", version=APP_VERSION)
    install_error_handlers(app)
    app.include_router(tokens.router(site.issuer))
    for endpoints in (status, compute, filesystem, transfer):
        app.include_router(endpoints.router(site))
    app.include_router(staging.router(site.staging))
    if fault_control is None:
        return RequestMiddleware(app, counter)
    app.include_router(faults.router(fault_control, site.issuer))
    return FaultMiddleware(RequestMiddleware(app, counter), fault_control, site.settings.system)
