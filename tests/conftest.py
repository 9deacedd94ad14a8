"""A real Slurm for those tests that want one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from demo.slurm import Slurm


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm with one node; where its packages are missing the test is skipped, in CI it fails."""
    # Not every environment has what it stands on.
    from demo.slurm import Slurm, missing_packages

    if packages := missing_packages():
        reason = f"a real Slurm needs the packages {' '.join(packages)}"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI they have to be there")
        pytest.skip(reason)
    with Slurm(tmp_path_factory.mktemp("slurm") / "slurm", cpus=32) as slurm:
        yield slurm
