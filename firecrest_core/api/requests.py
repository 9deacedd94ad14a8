"""How every request is made: worded by pyfirecrest or by us, sent by one session, its answer read as JSON."""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable
from functools import cached_property
from typing import TypeVar
from urllib.parse import urlsplit

from firecrest.FirecrestException import FirecrestException
from firecrest.v2 import AsyncFirecrest

from firecrest_core.api.http import Authorization, HTTPSession, not_json, unexpected_status
from firecrest_core.api.models import SystemInfo, parse
from firecrest_core.connection import Connection
from firecrest_core.errors import ServerFault

T = TypeVar("T")


class Requests:
    """Requests to one FirecREST as one user. Nothing is opened before the first of them.

    :param authorization: signs each request
    :param attempts: how often a request is sent at the most
    """

    def __init__(self, connection: Connection, authorization: Authorization, attempts: int) -> None:
        self.connection = connection
        self.host = urlsplit(connection.url).netloc
        self._authorization = authorization
        self._attempts = attempts

    @cached_property
    def session(self) -> HTTPSession:
        """What sends the requests; takes paths below the API's root."""
        return HTTPSession(self.connection, self._authorization, self._attempts)

    @cached_property
    def pyfirecrest(self) -> AsyncFirecrest:
        """What words most of the requests."""
        # It makes a session of its own, which is never used; this context would trust nobody.
        pyfirecrest = AsyncFirecrest(self.connection.url, _Unsigned(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        pyfirecrest.disable_client_logging = True  # it would log the path of each DELETE at INFO
        pyfirecrest.timeout = self.session.timeout
        # The one private member of pyfirecrest that we set: it has no public way to be handed a session.
        pyfirecrest._session = self.session
        return pyfirecrest

    async def answer(self, request: Awaitable[T], what: str) -> T:
        """Return the answer to a request of :attr:`pyfirecrest`.

        :param what: the request in words, for messages
        :raises RequestRejected: what answers is not FirecREST version 2
        :raises FirecRESTError: as :meth:`~firecrest_core.api.http.HTTPSession.request` does
        """
        try:
            return await request
        except FirecrestException as error:
            raise unexpected_status(what, self.host, error.responses[-1].status_code) from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise not_json(what, self.host) from None
        except (KeyError, TypeError) as error:  # JSON, but not the answer to this request
            raise ServerFault(f"{what}: the answer has not the form of FirecREST version 2 ({error}).") from None

    async def list_systems(self) -> list[SystemInfo]:
        """Return the systems behind this FirecREST, with their health and limits."""
        what = "GET /status/systems"
        return parse(list[SystemInfo], await self.answer(self.pyfirecrest.systems(), what), what)

    async def aclose(self) -> None:
        """Close the session, if there is one."""
        if "session" in vars(self):
            await self.session.aclose()


class _Unsigned:
    """Authorization in the form that pyfirecrest takes. The session signs the requests by itself."""

    def auth_headers(self) -> dict[str, str]:
        return {}
