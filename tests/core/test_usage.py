"""What a job has used: how it is read from what a meter wrote, and said in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_core import JobResult, JobState
from firecrest_core.usage import JobUsage, parse_usage

GIB = 1024**3
MEASURED = {"version": 1, "uptime": 1100.0, "born_ticks": 10_000, "cpus": 128}


def parsed(**numbers: Any) -> JobUsage:
    usage = parse_usage(json.dumps(MEASURED | numbers).encode())
    assert usage is not None
    return usage


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (
            {"cpu_us": 39_680_000_000, "memory_peak": 212 * GIB, "memory_limit": 480 * GIB},
            "used 31 % of 128 cores, 212 of 480 GiB",
        ),
        ({"cpu_ns": 0}, "used 0 % of 128 cores"),
        ({"children_ticks": 6_400_000}, "used at least 50 % of 128 cores"),
        ({"children_ticks": 1234, "cpus": None}, "used at least 12.3 s of CPU time"),
        ({"cpu_us": 128e12, "cpus": 1}, "used 100 % of 1 core"),
        ({"memory_peak": GIB, "memory_per_node_mib": 2048}, "used 1 of 2 GiB"),
        ({"memory_peak": GIB, "memory_limit": 2**63 - 4096}, "used 1 GiB"),
        ({"memory_peak": GIB, "memory_per_node_mib": 0, "memory_per_cpu_mib": 16}, "used 1 of 2 GiB"),
        ({}, "used an unknown amount: the node does not tell"),
        ({"cpu_us": 0, "nodes": 4}, "used 0 % of 128 cores (batch node, one of 4)"),
        ({"energy_j": 5, "energy_j_before": 9}, "used an unknown amount: the node does not tell"),
        ({"energy_j": 3.6e6, "energy_j_before": 0}, "used 1 kWh of the whole node"),
    ],
)
def test_what_was_used_in_words(numbers: dict[str, Any], words: str) -> None:
    assert parsed(**numbers).summary() == words


def test_the_words_say_when_it_was_measured() -> None:
    usage = parsed(cpu_us=0)
    assert usage.elapsed == 1000
    assert usage.summary(1003) == usage.summary()
    assert usage.summary(1300).endswith("; measured after 1000 of 1300 s")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b"\xff",
        b"[" * 3000,
        b'{"version":2}',
        b'{"version":1}',
        b'{"version":1,"uptime":1}',
    ],
)
def test_anything_else_is_no_usage(content: bytes) -> None:
    assert parse_usage(content) is None


@pytest.mark.parametrize("value", [-1, "1", True, None, [], {}, 1e300, 10**400, float("nan"), float("inf")])
def test_a_number_that_cannot_be_right_is_unknown(value: Any) -> None:
    usage = parsed(cpu_us=value, memory_peak=value, memory_limit=value, gpus=value, gpu_time=value, nodes=value)
    assert usage == JobUsage(elapsed=1000.0, cpus=128)


@given(
    st.dictionaries(
        st.sampled_from([*MEASURED, "cpu_us", "gpus", "gpu_time", "gpu_busy_percent"]), st.integers() | st.floats()
    )
)
def test_any_numbers_have_words_and_survive_json(numbers: dict[str, Any]) -> None:
    usage = parse_usage(json.dumps(MEASURED | numbers | {"version": 1}).encode())
    if usage is not None:
        assert usage.summary(60).startswith("used ")
        assert JobUsage.from_dict(json.loads(json.dumps(usage.to_dict(), allow_nan=False))) == usage


def test_a_result_keeps_it() -> None:
    result = JobResult(job_id="57", system="rig", state=JobState.COMPLETED, usage=parsed(cpu_us=1))
    assert JobResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    older = {"job_id": "57", "system": "rig", "state": "COMPLETED"}
    assert JobResult.from_dict(older).usage is None
