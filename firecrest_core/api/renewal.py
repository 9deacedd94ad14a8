"""A client that reads its credentials again when they are refused."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import ClassVar

from pydantic import SecretStr

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.errors import AuthenticationFailed

log = logging.getLogger(__name__)


class RenewingClient(FirecRESTClient):
    """A client that reads its connection again, where it is stored, when its credentials are refused.

    Jobs wait for weeks, and secrets are rotated meanwhile. The client takes the newest credentials; the URL and all
    other settings stay as they were.

    :cvar stored_as: the name of the stored connection, for messages
    """

    stored_as: ClassVar[str]
    _newest: Connection | None = None

    async def token(self) -> SecretStr:
        """Return the token that authenticates a request.

        :raises AuthenticationFailed: when the identity provider refuses what is stored now as well
        """
        try:
            return await super().token()
        except AuthenticationFailed:
            newest = await self._read_again()
            if newest is None or newest == (self._newest or self.connection):
                raise
        log.info(
            "The client of the %s %s is refused; trying what is stored now.", self.connection.kept_in, self.stored_as
        )
        self._newest = newest
        self.use_credentials(newest)
        return await super().token()

    @abstractmethod
    async def load_connection(self) -> Connection:
        """Return the connection as it is stored now. It may raise any error."""

    async def _read_again(self) -> Connection | None:
        try:
            return await self.load_connection()
        except Exception as error:  # whatever keeps the engine from answering, the user has to read of the refusal
            log.debug("The %s %s cannot be read again: %s", self.connection.kept_in, self.stored_as, error)
            return None
