"""A small fixed part of the random kills, and a check that the command finds violations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.examples import ROOT
from tests.campaign_kills.case_run import CaseResult
from tests.campaign_kills.checks import check
from tests.campaign_kills.plan import ENDS, Case, Kind, Moment, plan
from tests.chaos.cluster import JobRow

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


@pytest.mark.parametrize(
    ("log", "kinds"),
    [
        ("1 start 7 -; 2 step 7 1; 3 checkpoint 7 1; 4 start 8 -; 5 step 8 2; 6 finished 8 -; 7 end 8 -", set()),
        ("1 start 7 -; 2 step 7 1; 3 start 8 -; 4 step 8 1; 5 finished 8 -", set()),  # no checkpoint had the step
        ("1 start 7 -; 2 step 7 1; 3 checkpoint 7 1; 4 start 8 -; 5 step 8 1; 6 finished 8 -", {"repeated"}),
        ("1 start 7 -; 2 finished 7 -; 3 start 8 -; 4 end 8 -", {"repeated"}),
        ("1 start 7 -; 2 start 8 -; 3 step 7 1; 4 finished 8 -", {"doubled"}),
        ("1 start 7 -; 2 start 8 -; 3 beside 8 7; 4 finished 8 -", {"doubled"}),
        ("1 start 7 -; 2 step 7 1", {"lost"}),
    ],
)
def test_what_payloads_have_written_is_judged(tmp_path: Path, log: str, kinds: set[str]) -> None:
    result = CaseResult(Case(0, Kind.ESCALATION, 2, ((),), ()), tmp_path, outcome="COMPLETED")
    result.jobs = [JobRow("7", "case0000", "COMPLETED"), JobRow("8", "case0000", "COMPLETED")]
    words = [line.split() for line in log.split("; ")]
    result.log.write_text("".join(f"{at} {event} {job} - 10{job} {detail}\n" for at, event, job, detail in words))
    assert {violation.kind for violation in check(result)} == kinds


def test_what_is_left_or_runs_on_is_orphaned(tmp_path: Path) -> None:
    result = CaseResult(Case(0, Kind.ESCALATION, 2, ((),), ()), tmp_path, outcome="WITHDRAWN", cancelled_at=2.0)
    result.log.write_text("1 start 7 - 107 -\n3 step 7 - 107 1\n")
    for state, orphans in (("CANCELLED by 0", 0), ("COMPLETED", 1)):
        result.jobs = [JobRow("7", "case0000", state)]
        assert [violation.kind for violation in check(result)] == ["orphaned"] * orphans
    result.live = [JobRow("8", "case0000", "PENDING")]
    assert [violation.kind for violation in check(result)] == ["orphaned"] * 2


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
