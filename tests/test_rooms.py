"""Which package may import which: the contracts of import-linter in pyproject.toml."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ["firecrest_core", "firecrest_local", "airflow_provider_firecrest", "prefect_firecrest"]


def test_the_contracts_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_room_is_typed() -> None:
    assert [room for room in ROOMS if not (ROOT / room / "py.typed").exists()] == []


def test_airflow_is_used_by_its_promises_alone() -> None:
    promised = (
        "airflow.sdk",
        "airflow.triggers.base",
        "airflow.plugins_manager",
        "airflow.listeners",
        "airflow.providers.common.compat.openlineage",
        "airflow.providers.openlineage.extractors",
    )
    package = ROOT / "airflow_provider_firecrest"
    used = {
        (file.relative_to(ROOT).as_posix(), module)
        for file in package.rglob("*.py")
        if file.parent.name != "airflow_internals"
        for module in re.findall(r"^\s*(?:from|import) (airflow\.[\w.]+)", file.read_text(), re.MULTILINE)
    }
    assert sorted(one for one in used if not one[1].startswith(promised)) == []
