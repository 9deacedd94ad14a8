"""Connections whose requests are in no access log: presigned URLs are as good as passwords."""

from __future__ import annotations

import asyncio
from typing import Any


class Quiet(asyncio.Protocol):
    """For one of uvicorn's protocols: it says nothing of its requests.

    Uvicorn's own switch takes the handlers from a logger of the whole process, and `logging.config.dictConfig`
    (Airflow calls it) gives them back.
    """

    access_log: bool

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        super().connection_made(transport)
        self.access_log = False
