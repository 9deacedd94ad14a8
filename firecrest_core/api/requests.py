"""The requests to one FirecREST: built by pyfirecrest or by this package, sent by one session, answered in JSON."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable
from typing import TypeVar
from urllib.parse import urlsplit

from firecrest.FirecrestException import FirecrestException
from firecrest.v2 import AsyncFirecrest

from firecrest_core.api.answers import parse, parse_each
from firecrest_core.api.http import Authorization, HTTPSession
from firecrest_core.api.models import SystemInfo, SystemList
from firecrest_core.connection import Connection
from firecrest_core.errors import ServerFault

T = TypeVar("T")


class Requests:
    """Sends the requests to one FirecREST as one user. The first request opens the session.

    :param connection: the deployment
    :param authorization: authenticates each request
    :param attempts: how often a request is sent at most
    """

    def __init__(self, connection: Connection, authorization: Authorization, attempts: int) -> None:
        self.connection = connection
        self.host = urlsplit(connection.url).netloc
        self._authorization = authorization
        self._attempts = attempts
        # No `cached_property`: in Python 3.11 it holds one lock for all objects while it computes. If SIGTERM comes
        # then, its handler waits for ever, because it makes a session of its own in another thread.
        self._session: HTTPSession | None = None
        self._pyfirecrest: AsyncFirecrest | None = None

    @property
    def session(self) -> HTTPSession:
        """The HTTP session. It takes paths below the API's root."""
        if self._session is None:
            self._session = HTTPSession(self.connection, self._authorization, self._attempts)
        return self._session

    @property
    def pyfirecrest(self) -> AsyncFirecrest:
        """The pyfirecrest client that builds most of the requests. It sends them through :attr:`session`."""
        if self._pyfirecrest is None:
            self._pyfirecrest = self._new_pyfirecrest()
        return self._pyfirecrest

    def _new_pyfirecrest(self) -> AsyncFirecrest:
        # It creates a session of its own, which is never used. This TLS context would trust no server.
        pyfirecrest = AsyncFirecrest(self.connection.url, _Unsigned(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        pyfirecrest.disable_client_logging = True  # it would log the path of each DELETE at INFO
        pyfirecrest.timeout = self.session.timeout
        # The only private member of pyfirecrest that is set here: it has no public way to pass a session.
        pyfirecrest._session = self.session
        return pyfirecrest

    async def answer(self, request: Awaitable[T], what: str) -> T:
        """Return the answer to a request of :attr:`pyfirecrest`.

        :param request: the call of pyfirecrest
        :param what: the request in words, for messages
        :raises FirecRESTError: as :meth:`~firecrest_core.api.http.HTTPSession.request` does
        """
        try:
            answer = await request
        except FirecrestException as error:
            status = error.responses[-1].status_code
            raise self.session.unexpected(what, f"HTTP {status} is not what was due") from None
        except (ValueError, RecursionError):
            raise self.session.unexpected(what, "the answer is not JSON") from None
        except (KeyError, TypeError, AttributeError) as error:  # JSON, but not the answer to this request
            raise ServerFault(f"{what}: the answer has not the form of FirecREST version 2 ({error}).") from None
        self.session.trust_url()
        return answer

    async def list_systems(self) -> list[SystemInfo]:
        """Return the systems behind this FirecREST, with their health and limits; an unreadable one is left out."""
        what = "GET /status/systems"
        # Not through pyfirecrest, which returns the systems without what old servers say beside them.
        answer = self.session.read_json(await self.session.get("/status/systems"), 200, what)
        return parse_each(SystemInfo, parse(SystemList, answer, what).described(), what)

    async def aclose(self) -> None:
        """Close the session, if there is one."""
        if self._session is not None:
            await self._session.aclose()


class _Unsigned:
    """An authorization in pyfirecrest's form, without headers: the session authenticates the requests."""

    def auth_headers(self) -> dict[str, str]:
        return {}
