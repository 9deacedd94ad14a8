"""The reconciler, run round by round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from airflow_provider_firecrest.cancellation.reconciler import Reconciler


def reconcile(*acts: Callable[[], Any]) -> None:
    """Reconcile once, and once more after each act."""
    one = Reconciler()

    async def run() -> None:
        for act in (lambda: None, *acts):
            act()
            await one.reconcile_once()
            await one.drain()

    asyncio.run(run())
