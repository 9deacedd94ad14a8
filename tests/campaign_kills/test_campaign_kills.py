"""A small fixed part of the random kills, and a check that the command finds violations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.examples import ROOT
from tests.campaign_kills.plan import ENDS, Kind, Moment, plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: With the seed, the first cases cover all kinds of tasks, ends and kills.
CASES = 12
SEED = 1


def run_command(*options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.campaign_kills", *options]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(output.stdout)
    assert output.returncode in (0, 1), output.stderr
    report: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return report


def test_the_cases_cover_everything() -> None:
    cases = plan(CASES, SEED)
    ends = {(case.kind, job.end) for case in cases for jobs in case.ends for job in jobs}
    assert {kind for kind, _ in ends} == set(Kind)
    assert {end for _, end in ends} == {end for ends in ENDS.values() for end in ends}
    assert {kill.moment for case in cases for kill in case.kills} == set(Moment)
    assert {kill.pauses for case in cases for kill in case.kills} == {False, True}
    assert {case.reads_claims for case in cases} == {False, True}
    assert any(case.cancel_kills for case in cases)


def test_the_first_cases_are_the_same_for_any_number() -> None:
    assert plan(CASES, SEED) == plan(200, SEED)[:CASES]
    assert plan(CASES, SEED) != plan(CASES, SEED + 1)


def test_nothing_is_doubled_orphaned_lost_or_repeated() -> None:
    report = run_command("--cases", str(CASES), "--seed", str(SEED))
    violations = {name: report[name] for name in ("not_checked", "doubled", "orphaned", "lost", "repeated")}
    assert report["cases"] == CASES
    assert not any(violations.values()), violations
    assert report["kills"] >= CASES


def test_processes_that_ignore_what_others_have_done_are_found(tmp_path: Path) -> None:
    report = run_command("--sabotage", "--home", str(tmp_path / "home"))  # kept, since violations are found
    assert report["doubled"]
    assert report["orphaned"]
    assert report["repeated"]
