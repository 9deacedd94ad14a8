"""Transfers where a gateway, the staging store or a file system give odd answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.transfer import download, upload
from firecrest_local import LocalFirecREST, Plan, Settings

LIMIT = 64 * 1024
PART = 16 * 1024

STORMS: dict[str, tuple[int, list[dict[str, Any]]]] = {
    "too_large": (LIMIT - 1, [{"fault": "too_large", "limit": 20_000, "route": "/filesystem/**"}]),
    "store_error of a part": (3 * LIMIT, [{"fault": "store_error", "method": "PUT", "first": 2}]),
    "store_error inside a 200": (3 * LIMIT, [{"fault": "store_error", "status": 200, "method": "POST", "first": 1}]),
    "store_error of a download": (3 * LIMIT, [{"fault": "store_error", "method": "GET", "first": 2}]),
    "file_error": (100, [{"fault": "file_error", "words": "Stale file handle", "probability": 0.3}]),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalFirecREST]:
    settings = Settings(
        root=tmp_path / "cluster", max_ops_file_size=LIMIT, max_part_size=PART, accounting_lag=0.0, faults=Plan()
    )
    with LocalFirecREST(settings) as running:
        yield running


@pytest.mark.parametrize("storm", STORMS)
async def test_content_goes_there_and_back(storm: str, server: LocalFirecREST, tmp_path: Path) -> None:
    size, rules = STORMS[storm]
    source, back = tmp_path / "data.bin", tmp_path / "back.bin"
    source.write_bytes(os.urandom(size))
    async with FirecRESTClient(Connection.from_environment(server.environ)) as client:
        system = client.system(server.system)
        await client.list_systems()
        server.faults.set({"seed": 1, "rules": rules})
        await upload(system, source, f"{server.home}/data.bin")
        await download(system, f"{server.home}/data.bin", back)
    assert server.faults.counts
    assert back.read_bytes() == source.read_bytes()
