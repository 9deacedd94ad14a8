"""The reconciler, run round by round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from airflow_provider_firecrest.cancellation.reconciler import Reconciler
from airflow_provider_firecrest.cancellation.record_sources import RecordSource, WholeTable
from airflow_provider_firecrest.cancellation.scan import ScannedRecord


def reconcile(*acts: Callable[[], Any], source: RecordSource | None = None) -> None:
    """Reconcile once, and once more after each act."""
    one = Reconciler(source or WholeTable())

    async def run() -> None:
        for act in (lambda: None, *acts):
            act()
            await one.reconcile_once()
            await one.drain()

    asyncio.run(run())


def scan() -> list[ScannedRecord]:
    """Read all records."""
    return WholeTable().read()
