"""A real Slurm for all tests here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.slurm import Slurm, missing_packages


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm with one node; where its packages are missing the test is skipped, in CI it fails."""
    if packages := missing_packages():
        reason = f"a real Slurm needs the packages {' '.join(packages)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI they have to be there")
        pytest.skip(reason)
    with Slurm(tmp_path_factory.mktemp("slurm") / "slurm") as slurm:
        yield slurm
