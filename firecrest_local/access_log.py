"""Keeps requests out of the access log: a presigned URL is as good as a password."""

from __future__ import annotations

import asyncio
from typing import Any


class NoAccessLog(asyncio.Protocol):
    """A mixin for uvicorn's protocols that turns their access log off.

    Uvicorn's own switch is not enough: it removes the handlers of a logger that the whole process shares, and
    `logging.config.dictConfig` (Airflow calls it) restores them.
    """

    access_log: bool

    def connection_made(self, transport: Any) -> None:
        """Turn the access log of a new connection off."""
        super().connection_made(transport)
        self.access_log = False
