"""Errors in FirecREST's own form."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from starlette.responses import JSONResponse, Response

from firecrest_local.errors import CommandTimeout, error_body
from firecrest_local.faults.replacement import Replacement, html_page
from firecrest_local.faults.request import RequestHead

#: The real server's messages. The system's name is filled in.
_MESSAGES = {
    401: "Access token is invalid.",
    408: "Command execution timeout limit exceeded.",
    424: "Unable to open a new SSH channel.",
    429: "API rate limit exceeded",
    503: "The scheduler service for the requested system ({system}) is unhealthy.",
}
#: The titles of the pages with which a proxy in front of the real server answers.
_PAGES = {502: "502 Bad Gateway", 504: "504 Gateway Time-out"}


class Status(Replacement):
    """The answer is an error.

    :param status: HTTP status. Well-known ones come with the words of the real server or its gateway.
    :param message: other words, in FirecREST's form.
    :param body: the whole body, which need not have FirecREST's form.
    :param retry_after: seconds for the header `Retry-After`; the default of 429 is 1.
    """

    fault: Literal["status"]
    status: int = Field(ge=400, le=599)
    message: str | None = None
    body: str | None = None
    retry_after: int | None = Field(None, ge=0)

    @property
    def label(self) -> str:
        """The name under which the fault is counted."""
        return f"status_{self.status}"

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the error."""
        retry_after = 1 if self.status == 429 and self.retry_after is None else self.retry_after
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if self.body is not None:
            kind = {"<": "text/html", "{": "application/json", "[": "application/json"}.get(self.body[:1], "text/plain")
            return Response(self.body, self.status, headers, media_type=kind)
        if self.message is None and self.status in _PAGES:
            return html_page(_PAGES[self.status], self.status, headers)
        message = self.message or _MESSAGES.get(self.status, "Internal Server Error").format(system=system)
        return JSONResponse(error_body(message, None), self.status, headers)


class Timeout408(Replacement):
    """The work is done, and the answer is 408, as after a command that took too long."""

    fault: Literal["timeout_408"]
    done: Literal[True] = True

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the error."""
        timeout = CommandTimeout()
        return JSONResponse(error_body(timeout.message, None), timeout.status)


class EarlyTokenExpiry(Replacement):
    """The request's access token is refused with 401, now and in every later request."""

    fault: Literal["early_token_expiry"]
    done: Literal[False] = False
    message: str = "Access token expires too soon (less than 30s remaining)."

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only a request with a token matches."""
        return request.token is not None and super().matches(request)

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the error."""
        return JSONResponse(error_body(self.message, None), 401)
