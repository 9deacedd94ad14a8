"""The blocks with credentials that records name, for processes that know the records alone.

A block may be gone, or hold a secret that is refused. Then one attempt is made for all flow runs that need it, and the
next one after a pause: many refused logins lock an account.
"""

from __future__ import annotations

import asyncio
import logging

from firecrest_core.connection import Connection
from firecrest_core.errors import FirecRESTError
from firecrest_core.pauses import Pauses
from prefect_firecrest.clients import client_of
from prefect_firecrest.credentials import FirecRESTCredentials

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0


class CredentialsUnusable(Exception):
    """A block is gone, incomplete or refused, now or a while ago; the log has said it."""


class SavedCredentials:
    """The blocks that this process has loaded. ``runtime.state(SavedCredentials)`` is the only one."""

    def __init__(self) -> None:
        self._pauses = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        self._trying: dict[str, asyncio.Task[Connection]] = {}

    async def load(self, name: str) -> Connection:
        """Load a block as it is now.

        :param name: the block's
        :raises ValueError: it is gone
        :raises ConfigurationError: it is incomplete
        """
        credentials: FirecRESTCredentials = await FirecRESTCredentials.aload(name)
        return credentials.connection()

    async def connect(self, name: str) -> Connection:
        """Load a block and log in with it, once for all that ask at the same time.

        :param name: the block's
        :raises CredentialsUnusable: that has failed, now or a while ago
        """
        trying = self._trying.get(name)
        if trying is None:
            if not self._pauses.is_due(name):
                raise CredentialsUnusable(f"the credentials {name!r} have failed a while ago")
            trying = self._trying[name] = asyncio.create_task(self._connect(name))
            trying.add_done_callback(lambda _: self._trying.pop(name, None))
        return await asyncio.shield(trying)

    async def _connect(self, name: str) -> Connection:
        try:
            connection = await self.load(name)
            async with client_of(connection, name) as client:
                await client.list_systems()
        except (FirecRESTError, ValueError) as error:
            self.failed(name, error)
            raise CredentialsUnusable(str(error)) from None
        if self._pauses.succeeded(name):
            log.info("The credentials %r can be used again.", name)
        return connection

    def failed(self, name: str, error: Exception) -> None:
        """Leave a block alone for a while.

        :param name: the block's
        :param error: what went wrong
        """
        level = logging.ERROR if self._pauses.failed(name) else logging.DEBUG
        log.log(
            level,
            "The credentials %r cannot be used, so jobs of flow runs that were ended go on: %s This is tried again, "
            "ever more seldom.",
            name,
            error,
        )
