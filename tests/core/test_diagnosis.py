"""What a failed job's message says of signals, memory and output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_core import errors
from firecrest_core.diagnosis import signal_of
from firecrest_core.result import JobResult
from firecrest_core.states import JobState

MEMORY = "Ask for more memory"


def message(state: JobState = JobState.FAILED, *, stderr: str = "", stdout: str = "", **fields: int) -> str:
    result = JobResult(job_id="57", system="rig", state=state, **fields)  # type: ignore[arg-type]
    return str(errors.JobFailed.kind(state)(result, stderr, stdout))


@pytest.mark.parametrize(
    ("exit_code", "shown", "advice"),
    [
        (137, "exit code 137 (signal 9)", MEMORY),
        (9, "exit code 9 (or 137, signal 9)", MEMORY),  # sacct 22.05 subtracts 128
        (143, "exit code 143 (signal 15)", "Signal 15 (TERM)"),
        (15, "exit code 15 (or 143, signal 15)", "Signal 15 (TERM)"),
        (139, "exit code 139 (signal 11)", ""),
        (1, "exit code 1.", ""),
        (128, "exit code 128.", ""),
        (255, "exit code 255.", ""),
    ],
)
def test_the_shells_exit_code_tells_of_a_signal(exit_code: int, shown: str, advice: str) -> None:
    text = message(exit_code=exit_code, signal=0)
    assert shown in text
    assert advice in text
    assert advice or "Signal" not in text


def test_a_signal_of_the_script_itself() -> None:
    assert MEMORY in message(exit_code=0, signal=9)
    assert "could not launch" in message(exit_code=0, signal=53)
    assert "could not launch" in message(JobState.CANCELLED, exit_code=0, signal=53)
    assert MEMORY not in message(JobState.CANCELLED, exit_code=0, signal=9)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.TIMEOUT, JobState.NODE_FAIL])
@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd: error: Detected 1 oom_kill event in StepId=57.batch. Some of the step tasks have been OOM Killed.",
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=57.batch cgroup.",
        "[1.5] python invoked oom-killer: gfp_mask=0x100cca",
    ],
)
@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_the_kernels_word_in_the_output_hints_at_memory(state: JobState, line: str, stream: str) -> None:
    assert MEMORY in message(state, **{stream: f"working\n{line}\n"})  # type: ignore[arg-type]


def test_the_setting_of_the_killer_is_no_hint() -> None:
    assert MEMORY not in message(stderr="memory.oom_kill_disable 0\nzoom-kill\n")


@given(st.none() | st.integers(-400, 400))
def test_only_what_a_shell_may_mean_is_a_signal(exit_code: int | None) -> None:
    signal = signal_of(exit_code)
    assert signal is None or (1 <= signal <= 64 and exit_code in (signal, 128 + signal))
