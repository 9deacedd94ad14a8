"""Memory is bounded by the parts that travel at once, not by the file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrest_core.transfer import download, limits, upload
from firecrest_local import LocalFirecREST, Settings

MIB = 1024 * 1024
SIZE = 64 * MIB


@pytest.fixture(scope="module")
def f7t(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """One with the sizes of a real site."""
    with LocalFirecREST(Settings(root=tmp_path_factory.mktemp("cluster"), accounting_lag=0.0)) as server:
        yield server


async def test_of_64_mb(system, there, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server shares this process, so what it holds counts, too."""
    monkeypatch.setattr(limits, "USUAL_PART", 16 * MIB)
    source = tmp_path / "f"
    with source.open("wb") as file:
        file.truncate(SIZE)
    tracemalloc.start()
    try:
        await upload(system, source, f"{there}/f")
        sent = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        await download(system, f"{there}/f", tmp_path / "g")
        fetched = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "g").stat().st_size == SIZE
    print(f"peak: {sent / MIB:.1f} MiB sending, {fetched / MIB:.1f} MiB fetching")
    assert sent < 24 * MIB
    assert fetched < 24 * MIB
