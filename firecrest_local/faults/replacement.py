"""Faults that put another answer in the place of the application's."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from starlette.responses import HTMLResponse, Response

from firecrest_local.faults.request import RequestHead
from firecrest_local.faults.rule import Rule


class Replacement(Rule):
    """The client gets another answer than that of its request's work.

    :param done: whether the work is done first, and its own answer discarded.
    """

    #: Whether the answer depends on the request's body.
    reads_body: ClassVar[bool] = False

    done: bool = False

    @abstractmethod
    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the answer.

        :param request: the request.
        :param body: its body; empty unless `reads_body`.
        :param system: the system's name.
        """


@dataclass(frozen=True)
class Answer:
    """An answer of the application.

    :param status: HTTP status.
    :param headers: the headers.
    :param body: the body.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def change_json(self, change: Callable[[Any], Any]) -> Answer:
        """Change the body if it is JSON.

        :param change: takes the value and returns the new one.
        """
        try:
            value = json.loads(self.body)
        except ValueError:
            return self
        return replace(self, body=json.dumps(change(value)).encode())


class Rewriting(Rule):
    """The work is done, and its answer is changed before the client gets it."""

    @abstractmethod
    def rewrite(self, answer: Answer, system: str) -> Answer:
        """Change an answer.

        :param answer: the application's answer.
        :param system: the system's name.
        """


def html_page(title: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Make a page as web servers do."""
    page = f"<html>\n<head><title>{title}</title></head>\n<body><center><h1>{title}</h1></center></body>\n</html>\n"
    return HTMLResponse(page, status, headers)
