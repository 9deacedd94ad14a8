"""The site's transfer jobs count for the user's limit on submitted jobs, too."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import errors
from firecrest_core.api.filesystem import FilesystemEndpoints
from firecrest_core.transfer import download, upload

STAGED = 64 * 1024 + 1


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The transfers that were refused once because there was no room."""
    operations: list[str] = []
    start = FilesystemEndpoints._start

    async def once(self: FilesystemEndpoints, operation: str, body: dict[str, Any]) -> Any:
        if operation not in operations:
            operations.append(operation)
            raise errors.SubmissionLimitReached(f"{operation}: no room.", "AssocMaxSubmitJobLimit")
        return await start(self, operation, body)

    monkeypatch.setattr(FilesystemEndpoints, "_start", once)
    return operations


async def test_transfers_wait_for_room(system, there, tmp_path: Path, refused, caplog) -> None:
    source = tmp_path / "data.bin"
    source.write_bytes(b"x" * STAGED)
    with caplog.at_level(logging.WARNING):
        await upload(system, source, f"{there}/")
        await download(system, f"{there}/data.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()
    assert refused == ["upload", "download"]
    assert "Transfer job (upload) waits for room on" in caplog.text
