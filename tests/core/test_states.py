from __future__ import annotations

import pytest

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
        ("SOMETHING_NEW", JobState.UNKNOWN),
        (None, JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_parse_slurm(text: str | list[str] | None, state: JobState) -> None:
    assert JobState.parse(text) is state


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
