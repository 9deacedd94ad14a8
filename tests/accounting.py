"""What tests do until the scheduler's accounting, which lags, has caught up."""

from __future__ import annotations

import asyncio
from pathlib import Path

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection


async def accounted(connection: Connection, workdir: Path) -> None:
    """Wait until the list of jobs shows the end of every job in a working directory."""
    async with asyncio.timeout(60), FirecRESTClient(connection) as client:
        while True:
            rows = [row for row in await client.system().get_jobs() if row.working_dir == str(workdir)]
            if rows and all(row.state.ended for row in rows):
                return
            await asyncio.sleep(0.05)
