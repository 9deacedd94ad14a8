"""The page *HPC Jobs* in Airflow's UI, served by its API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WebApp:
    """The web app, made at its first request: the start of the API server does not wait for it."""

    def __init__(self) -> None:
        self._made: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as an ASGI app does."""
        if self._made is None:
            self._made = asyncio.ensure_future(asyncio.to_thread(_make))
        app = await asyncio.shield(self._made)
        await app(scope, receive, send)


def _make() -> Any:
    from airflow_provider_firecrest.web.app import create_app

    return create_app()
