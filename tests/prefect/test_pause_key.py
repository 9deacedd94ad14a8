"""The keys of pauses, which outlive processes."""

from __future__ import annotations

import pytest

from prefect_firecrest.pause_key import AwaitedJob, PauseKey, awaited_jobs, was_awaited

JOBS = (AwaitedJob("0123456789ab", "abcdefghij", "17"), AwaitedJob("ba9876543210", "jihgfedcba", "18"))


def test_a_key_says_which_jobs_are_waited_for() -> None:
    key = PauseKey(2, JOBS)
    assert str(key) == "firecrest:2:0123456789ab.abcdefghij.17,ba9876543210.jihgfedcba.18"
    assert PauseKey.read(str(key)) == key
    assert awaited_jobs([str(key), "another"]) == list(JOBS)
    assert was_awaited([str(key)], "ba9876543210" + 20 * "f")
    assert not was_awaited([str(key)], 32 * "f")


@pytest.mark.parametrize("text", [None, "", "1", "firecrest:0", "firecrest:x:a.b.1", "firecrest:0:a.1", "firecrest:0:"])
def test_the_key_of_somebody_else(text) -> None:
    assert PauseKey.read(text) is None
