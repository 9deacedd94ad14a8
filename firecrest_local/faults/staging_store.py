"""Errors of the staging store, in S3's form."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from starlette.responses import Response

from firecrest_local.faults.replacement import Replacement
from firecrest_local.faults.request import RequestHead


class StoreError(Replacement):
    """The staging store answers with an error in XML.

    :param code: S3's code, e.g. `RequestTimeout` or `SlowDown`.
    :param status: HTTP status; S3 also sends errors with 200 when an upload is completed.
    """

    fault: Literal["store_error"]
    code: str = "RequestTimeout"
    status: int = Field(400, ge=200, le=599)

    @property
    def label(self) -> str:
        """The name under which the fault is counted."""
        return f"store_error_{self.code}"

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only requests to the staging store match."""
        return request.path.startswith("/staging/") and super().matches(request)

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the error."""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Code>{self.code}</Code><Message>The request was not finished.</Message></Error>"
        )
        return Response(text, self.status, media_type="application/xml")
