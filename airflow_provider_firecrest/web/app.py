"""The web app that Airflow's API server mounts at ``/firecrest``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from airflow_provider_firecrest.web import cancelling, job_page, jobs_table, output, script, systems
from airflow_provider_firecrest.web.clients import Clients
from airflow_provider_firecrest.web.shared_reads import SharedReads
from airflow_provider_firecrest.web.templating import HERE, address, page
from airflow_provider_firecrest.web.viewers import LoginNeeded

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'self'; form-action 'self'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def create_app() -> FastAPI:
    """Return the app. Its routes answer only users of Airflow; its scripts and styles are for everybody."""
    app = FastAPI(title="HPC Jobs", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.clients = Clients()
    app.state.output = SharedReads(output.SECONDS, 64)
    app.state.systems = SharedReads(systems.SECONDS, 64)
    for part in (jobs_table, job_page, script, output, cancelling, systems):
        app.include_router(part.routes)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.get("/", include_in_schema=False)
    def begin(request: Request) -> RedirectResponse:
        return RedirectResponse(address(request, "jobs"))

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        if "/static/" not in request.url.path:
            response.headers["Cache-Control"] = "no-store"
        return response

    @app.exception_handler(LoginNeeded)
    async def log_in(_request: Request, needed: LoginNeeded) -> Response:
        return RedirectResponse(needed.address, 303)

    @app.exception_handler(HTTPException)
    async def explain(request: Request, error: HTTPException) -> Response:
        titles = {401: "Not logged in", 403: "Not allowed", 404: "Not found", 409: "Nothing to cancel"}
        values = {"title": titles.get(error.status_code, "Something went wrong"), "message": error.detail}
        return page(request, "error.html", values, error.status_code)

    return app
