"""A fixed part of the kill matrix: no job is doubled, orphaned or lost, and whoever does that is noticed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.slurm import missing_packages

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CASES = 12  # with this seed they hold something of everything
DATABASE = "a PostgreSQL for Airflow: apt-get install postgresql, pip install psycopg2-binary asyncpg"


@pytest.fixture
def chaos(need: Callable[[bool, str], None]) -> Callable[..., dict[str, Any]]:
    drivers = all(importlib.util.find_spec(name) for name in ("psycopg2", "asyncpg"))
    need(drivers and bool(list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))), DATABASE)

    def run(*options: str) -> dict[str, Any]:
        command = [sys.executable, str(BENCHMARKS / "chaos.py"), *options]
        output = subprocess.run(command, capture_output=True, text=True, check=False)
        assert output.returncode in (0, 1), output.stderr
        print(output.stdout)
        report: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
        return report

    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scheduler", ["process", pytest.param("slurm", marks=pytest.mark.slurm)])
def test_no_job_is_doubled_orphaned_or_lost(
    chaos: Callable[..., dict[str, Any]], need: Callable[[bool, str], None], scheduler: str
) -> None:
    need(scheduler == "process" or not missing_packages(), f"a real Slurm: {' '.join(missing_packages())}")
    report = chaos("--cases", str(CASES), "--seed", "2661", "--scheduler", scheduler)
    wrong = {name: report[name] for name in ("not_judged", "doubled", "orphaned", "lost")}
    assert report["cases"] == CASES
    assert not any(wrong.values()), wrong


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_submission_without_a_claim_is_found_out(chaos: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """The check of the check: what doubles jobs and what orphans them, with the protection off."""
    report = chaos("--sabotage", "--home", str(tmp_path / "home"))  # which is kept where something is found
    assert report["doubled"]
    assert report["orphaned"]
