"""A small fixed part of the kill matrix, and a check that the command finds violations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import postgresql
from harness.examples import ROOT
from harness.slurm import missing_packages
from tests.chaos.plan import (
    ANSWER_FAULTS,
    FAULTS,
    ODD_ANSWERS,
    SCHEDULER_EVENTS,
    SERVER_EVENTS,
    TRIGGERER_EVENTS,
    USER_ACTIONS,
    WORKER_EVENTS,
    plan,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

#: With this seed, these cases cover every kind of component, fault, odd answer and user's action.
CASES = (0, 1, 5, 8, 10, 11, 13, 16, 18, 23, 29, 61, 99, 134, 222, 274)
#: Those in which Slurm itself has a part: kills and actions while it has the job, and answers about a job that it has.
SLURM_CASES = (0, 8, 10, 13, 16, 18, 61, 99)
SEED = 0

RunChaos = Callable[..., dict[str, Any]]


@pytest.fixture
def run_chaos(require: Callable[[bool, str], None]) -> RunChaos:
    """Run the command and return its report."""
    require(postgresql.is_installed(), postgresql.REQUIREMENT)

    def run_chaos(*options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.chaos", *options]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert output.returncode in (0, 1), output.stderr
        print(output.stdout)
        report: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
        return report

    return run_chaos


def test_the_cases_cover_everything() -> None:
    happened = {event.kind for case in plan(max(CASES) + 1, SEED) if case.number in CASES for event in case.events}
    for kinds in (WORKER_EVENTS, TRIGGERER_EVENTS, SCHEDULER_EVENTS, SERVER_EVENTS):
        assert happened & set(kinds)
    assert {*ANSWER_FAULTS, *FAULTS, *ODD_ANSWERS, *USER_ACTIONS} <= happened


@pytest.mark.parametrize(
    ("scheduler", "cases"), [("process", CASES), pytest.param("slurm", SLURM_CASES, marks=pytest.mark.slurm)]
)
def test_no_job_is_doubled_orphaned_or_lost(
    run_chaos: RunChaos, require: Callable[[bool, str], None], scheduler: str, cases: tuple[int, ...]
) -> None:
    require(scheduler == "process" or not missing_packages(), f"a real Slurm: {' '.join(missing_packages())}")
    numbers = map(str, cases)
    report = run_chaos(
        "--cases", str(max(cases) + 1), "--seed", str(SEED), "--only", *numbers, "--scheduler", scheduler
    )
    violations = {name: report[name] for name in ("not_checked", "doubled", "orphaned", "lost", "left")}
    assert report["cases"] == len(cases)
    assert not any(violations.values()), violations


def test_a_submission_without_a_claim_is_found(run_chaos: RunChaos, tmp_path: Path) -> None:
    """The command finds the doubled and orphaned jobs that the events cause without a claim."""
    report = run_chaos("--sabotage", "--home", str(tmp_path / "home"))  # kept, since violations are found
    assert report["doubled"]
    assert report["orphaned"]
