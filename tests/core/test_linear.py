"""What is searched in the words of servers, schedulers and jobs takes time in proportion to their length.

The same unit is repeated a few times and many times. Both are timed in one run, and only their ratio is compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from firecrest_core.api.job_ids import read_job_id
from firecrest_core.api.models import JobInfo
from firecrest_core.api.remote_words import remote_error, remote_text
from firecrest_core.api.scheduler_words import refusal
from firecrest_core.api.submit_limits import advice as advice_of_limits
from firecrest_core.api.submit_limits import passing_limit
from firecrest_core.claims.bound_submission import _with_name
from firecrest_core.claims.claim import _ENTRY
from firecrest_core.diagnosis import PendingReason, advice
from firecrest_core.errors import FirecRESTError
from firecrest_core.jobs.key import read_job_name
from firecrest_core.jobs.logs import _clean
from firecrest_core.jobs.status import parse_status
from firecrest_core.spec.options import script_options
from firecrest_core.spec.output_paths import completed_path
from firecrest_core.states import JobState
from firecrest_core.transfer.store import _CODE, _JOINED


def status(text: str) -> None:
    row = {"jobId": f"57_{text}", "name": text, "nodes": text, "status": {"state": text, "stateReason": text}}
    found = JobInfo.model_validate(row)
    assert found.of_job == "57"
    parse_status([found], "57")
    read_job_name(text)


def remote(text: str) -> None:
    said = remote_text(f"Remote process failed with exit status:1 and error message:{text}")
    assert said is not None
    remote_error(said, "")


def job_id(text: str) -> None:
    try:
        read_job_id(text)
    except FirecRESTError:
        return


#: What reads texts that a server or a job has written, and texts that each of them might search again and again.
READERS: dict[str, tuple[Callable[[str], Any], list[str]]] = {
    "secrets in a log": (
        _clean,
        [
            "https://a?",
            "https://",
            "a://b:",
            "b:",
            "eyJaaaaaaaa-",
            "eyJaaaaaaaa.",
            "token ",
            "token=",
            "\x1b[",
            "\x1b]",
        ],
    ),
    "refusal": (
        lambda text: refusal(f"std_err:sbatch: error: {text}"),
        ["more ", "more than", "'\"", '"', " /", "specified: ", "no ", "not "],
    ),
    "limit": (
        lambda text: passing_limit(f"std_err:qsub: {text}"),
        ["would exceed ", "limit ", "maximum number of jobs ", "AssocMax", "QOSMaxJobs", "on resource "],
    ),
    "limit's advice": (advice_of_limits, ["QOSMax", "QOSMaxLimit", "Limit", "AssocMax "]),
    "remote words": (
        remote,
        ["/", "a/", "ls: ", "ls", "sh: 1: ", ": ", "\n"],
    ),
    "exit status": (remote_text, ["Remote process failed with exit status:", "a", " and error message:"]),
    "status": (status, ["[", "_", "57_[", "1-", "A_", "CANCELLED by ", "-aaaaaaaaaa-1", ","]),
    "state": (JobState.parse, ["A", "A ", "_+", "CANCELLED BY "]),
    "reason": (PendingReason.parse, ["QOSMax", "Per", "QOSGrpMinutes", "Run", "Minutes"]),
    "advice": (lambda text: advice(JobState.FAILED, 0, 1, text), ["oom", "oom-", "oom kill"]),
    "node list": (
        lambda text: completed_path("/wd/%N", "57", text, is_array=True),
        [",", "[1", "[", "nid[1-2],", "]", "[1]"],
    ),
    "path": (lambda text: completed_path(text, "57", "nid1", is_array=False), ["%", "%1", "1", "%N"]),
    "pattern": (lambda text: _with_name(text, "x"), ["%", "%1", "1"]),
    "job id": (job_id, ["1", "1.", "1_", "1[", ".a"]),
    "claim": (_ENTRY.fullmatch, ["1", "1.", "/", "a/", "1.1/"]),
    "store": (
        lambda text: (_CODE.search(text), _JOINED.search(text)),
        ["<Code", "<Code ", "<a", "<Code>a", "a:"],
    ),
    "script": (
        lambda text: script_options(f"#!/bin/sh\n#SBATCH {text}\n"),
        ["-a ", "--array=", "'", "a", "\\", "#", "-"],
    ),
}
FEW, MANY = 2_000, 64_000  # characters


def least_time(work: Callable[[str], Any], text: str, times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.process_time()
        work(text)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("reader", READERS)
def test_a_longer_text_costs_no_more_than_its_length(reader: str) -> None:
    work, units = READERS[reader]
    for unit in units:
        few = least_time(work, unit * (FEW // len(unit)), 5)
        many = least_time(work, unit * (MANY // len(unit)), 2)
        # Each has 32 times the characters; what is quadratic takes a thousand times as long.
        assert many < 250 * max(few, 2e-5), unit
