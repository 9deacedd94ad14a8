"""What a fault rule knows of a request before its body is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from starlette.datastructures import Headers
from starlette.types import Scope


@dataclass(frozen=True)
class RequestHead:
    """The head of a request.

    :param method: the method.
    :param path: the path, without query.
    :param query: the query, still encoded.
    :param token: the access token; None if the request has none.
    :param size: bytes of the body, as `Content-Length` says; 0 if it says nothing.
    """

    method: str
    path: str
    query: str = ""
    token: str | None = None
    size: int = 0

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Read the head of a request."""
        headers = Headers(scope=scope)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        length = headers.get("content-length", "")
        return cls(
            scope["method"],
            scope["path"],
            scope.get("query_string", b"").decode("latin-1"),
            token if scheme.lower() == "bearer" else None,
            int(length) if length.isdigit() else 0,
        )
