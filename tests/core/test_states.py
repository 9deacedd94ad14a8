from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_core.api.models import JobInfo
from firecrest_core.diagnosis import PendingReason
from firecrest_core.states import JobState, Phase


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("PENDING", JobState.PENDING),
        ("CANCELLED by 1001", JobState.CANCELLED),
        ("CANCELLED by 0", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("CONFIGURING", JobState.CONFIGURING),
        ("COMPLETED,COMPLETING", JobState.COMPLETING),
        (["RUNNING", "RESIZING"], JobState.RESIZING),
        (["PENDING", "REQUEUED"], JobState.REQUEUED),
        ("OUT_OF_MEMORY", JobState.OUT_OF_MEMORY),
        ("out_of_memory", JobState.OUT_OF_MEMORY),
        ("OUT_OF_ME+", JobState.OUT_OF_MEMORY),
        ("COMPLETE+", JobState.COMPLETED),
        ("COMPLET+", JobState.UNKNOWN),  # ended or not
        ("RE+", JobState.UNKNOWN),
        ("REQUEUE+", JobState.REQUEUED),
        ("CD", JobState.COMPLETED),
        ("oom", JobState.OUT_OF_MEMORY),
        ("NF", JobState.NODE_FAIL),
        ("TO", JobState.TIMEOUT),
        ("XY", JobState.UNKNOWN),
        ("LAUNCH_FAILED", JobState.LAUNCH_FAILED),
        ("RECONFIG_FAIL", JobState.RECONFIG_FAIL),
        (["PENDING", "LAUNCH_FAILED"], JobState.PENDING),
        (["LAUNCH_FAILED", "FAILED"], JobState.FAILED),
        (["COMPLETED", "UPDATE_DB"], JobState.COMPLETED),
        (["RUNNING", "POWER_UP_NODE", "CONFIGURING"], JobState.CONFIGURING),
        ("SOMETHING_NEW", JobState.UNKNOWN),
        (None, JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_parse_slurm(text: str | list[str] | None, state: JobState) -> None:
    assert JobState.parse(text) is state


FLAGS = [JobState.COMPLETING, JobState.CONFIGURING, JobState.REQUEUED, JobState.SIGNALING, JobState.STAGE_OUT]


@given(
    state=st.sampled_from([state for state in JobState if state is not JobState.UNKNOWN]),
    cut=st.integers(9, 13),
    by=st.sampled_from(["", " by 0", " by 1001"]),
    lower=st.booleans(),
)
def test_every_state_is_read_whole_and_cut(state: JobState, cut: int, by: str, lower: bool) -> None:
    """By default, sacct shows nine letters of a word, and a plus sign."""
    text = f"{state}{by}"
    shown = text if len(text) <= cut else f"{text[:cut]}+"
    found = JobState.parse(shown.lower() if lower else shown)
    assert found is state or (found.phase is state.phase and str(state).startswith(shown.rstrip("+")))


@given(st.lists(st.sampled_from(list(JobState)), min_size=1, max_size=4), st.sampled_from([",", " ", "+", "|"]))
def test_any_combination_is_one_of_its_states(states: list[JobState], between: str) -> None:
    found = JobState.parse(between.join(states))
    assert found in states
    if set(states) & set(FLAGS):
        assert not found.ended
    assert JobState.parse([str(state) for state in states]) is found


@given(st.text(max_size=20))
def test_no_other_word_is_an_end(text: str) -> None:
    """Whatever a site says, only Slurm's and PBS's own words end a wait."""
    ends = [str(state) for state in JobState if state.ended]
    codes = {"BF", "CA", "CD", "DL", "NF", "OOM", "PR", "RV", "TO", "F", "X"}
    words = set(re.findall("[A-Z_]+", text.upper()))
    if JobState.parse(text).ended:
        assert words & {*ends, *codes} or "+" in text


@pytest.mark.parametrize(
    ("letter", "exit_code", "state"),
    [
        ("Q", None, JobState.PENDING),
        ("R", None, JobState.RUNNING),
        ("B", None, JobState.RUNNING),
        ("E", None, JobState.COMPLETING),
        ("F", 0, JobState.COMPLETED),
        ("F", None, JobState.COMPLETED),
        ("F", 1, JobState.FAILED),
        ("F", -29, JobState.TIMEOUT),
        ("F", -27, JobState.OUT_OF_MEMORY),
        ("F", 271, JobState.CANCELLED),
        ("X", 2, JobState.FAILED),
        ("?", None, JobState.UNKNOWN),
    ],
)
def test_parse_pbs(letter: str, exit_code: int | None, state: JobState) -> None:
    assert JobState.parse(letter, exit_code) is state


def test_every_state_has_a_meaning() -> None:
    for state in JobState:
        assert isinstance(state.phase, Phase)
        assert not (state.provisional and not state.ended)


def test_a_configuring_job_has_not_ended() -> None:
    # pyfirecrest looks for the letter F in the state's name, and takes CONFIGURING for an end.
    assert not JobState.CONFIGURING.ended
    assert not JobState.UNKNOWN.ended


@pytest.mark.parametrize(
    "text",
    [
        "DependencyNeverSatisfied",
        "PartitionTimeLimit",
        "PartitionNodeLimit",
        "BadConstraints",
        "QOSMaxNodePerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "QOSMaxCpuPerNode",
        "QOSMinGRES",
        "AssocMaxWallDurationPerJobLimit",
        "AssocMaxCpuMinutesPerJobLimit",
        "InvalidAccount",
        "InvalidQOS",
        "ReservationDeleted",
    ],
)
def test_a_hopeless_reason(text: str) -> None:
    reason = PendingReason.parse(text)
    assert reason is not None
    assert reason.hopeless
    assert reason.advice


@pytest.mark.parametrize(
    "text",
    ["JobHeldUser", "JobHeldAdmin", "AssocGrpCPUMinutesLimit", "QOSGrpBillingMinutes", "launch failed requeued held"],
)
def test_a_reason_that_somebody_can_end(text: str) -> None:
    reason = PendingReason.parse(text)
    assert reason is not None
    assert not reason.hopeless


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "None",
        "Priority",
        "Resources",
        "Dependency",
        "BeginTime",
        "JobArrayTaskLimit",
        "PartitionConfig",
        "QOSGrpCpuLimit",
        "AssocGrpCPURunMinutesLimit",
        "QOSMaxJobsPerUserLimit",
        "AssocMaxJobsLimit",
        "MaxCpuPerAccount",
        "ReqNodeNotAvail, UnavailableNodes:nid[001-003]",
    ],
)
def test_a_reason_that_passes_with_time(text: str | None) -> None:
    assert PendingReason.parse(text) is None


@pytest.mark.parametrize(
    ("job", "steps", "state"),
    [
        ("PENDING", ["RUNNING"], JobState.RUNNING),
        ("FAILED", ["FAILED", "OUT_OF_MEMORY"], JobState.OUT_OF_MEMORY),
        ("COMPLETED", ["COMPLETED", "OUT_OF_MEMORY"], JobState.COMPLETED),  # its script has gone on
        ("RUNNING", ["OUT_OF_MEMORY"], JobState.RUNNING),
        ("TIMEOUT", ["CANCELLED", "OUT_OF_MEMORY"], JobState.TIMEOUT),
        ("FAILED", [], JobState.FAILED),
    ],
)
def test_what_only_the_steps_tell(job: str, steps: list[str], state: JobState) -> None:
    tasks = [{"id": f"57.{number}", "status": {"state": step}} for number, step in enumerate(steps)]
    assert JobInfo.model_validate({"jobId": "57", "status": {"state": job}, "tasks": tasks}).state is state
