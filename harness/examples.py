"""The repository's examples and the data that they need."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLE_DAGS = ROOT / "example_dags"
EXAMPLE_FLOWS = ROOT / "example_flows"


def copy_structure(folder: Path) -> None:
    """Copy the example structure and its potential into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Si.tersoff", "silicon.cif"):
        shutil.copyfile(EXAMPLE_DAGS / "data" / name, folder / name)
