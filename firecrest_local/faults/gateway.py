"""Answers of a gateway in front of FirecREST, which say nothing about the request."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from starlette.responses import PlainTextResponse, Response

from firecrest_local.faults.replacement import Replacement, html_page
from firecrest_local.faults.request import RequestHead

LOGIN_URL = "https://login.hpc.example/realms/hpc/login"


class GatewayPage(Replacement):
    """A gateway answers instead of FirecREST.

    :param page: `not_found` is 404 and plain text, `maintenance` is 200 and HTML, `bad_gateway` is 502 and HTML,
        `unavailable` is 503 and HTML, `login` is 302 to a login page.
    """

    fault: Literal["gateway_page"]
    page: Literal["not_found", "maintenance", "bad_gateway", "unavailable", "login"]

    @property
    def label(self) -> str:
        """The name under which the fault is counted."""
        return f"gateway_page_{self.page}"

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the page."""
        match self.page:
            case "not_found":
                return PlainTextResponse("404 page not found\n", 404)
            case "maintenance":
                return html_page("Scheduled maintenance", 200)
            case "bad_gateway":
                return html_page("502 Bad Gateway", 502)
            case "unavailable":
                return html_page("503 Service Temporarily Unavailable", 503)
            case "login":
                return html_page("302 Found", 302, {"Location": LOGIN_URL})


class TooLarge(Replacement):
    """A gateway refuses requests with a large body: 413 with its own page.

    :param limit: the largest body that passes, in bytes. A body whose size is not announced passes.
    """

    fault: Literal["too_large"]
    done: Literal[False] = False
    limit: int = Field(1024 * 1024, ge=0)

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only a request with a larger body matches."""
        return request.size > self.limit and super().matches(request)

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the page."""
        return html_page("413 Request Entity Too Large", 413)
