"""What every error has to bear, whatever it is made of."""

from __future__ import annotations

import pickle

import pytest

from firecrest_core import errors
from firecrest_core.result import JobResult
from firecrest_core.states import JobState

RESULT = JobResult(job_id="57", system="rig", state=JobState.OUT_OF_MEMORY, reason="None")


@pytest.mark.parametrize(
    "error",
    [
        errors.ServerUnreachable("no", not_processed=True, retry_after=3.0),
        errors.InvalidJobSpec("nodes", "too few"),
        errors.JobStuck("no", "Licenses"),
        errors.JobOutOfMemory(RESULT, "killed"),
        errors.JobWithdrawn(RESULT),
    ],
)
def test_an_error_survives_pickling(error: errors.FirecRESTError) -> None:
    """Engines pass errors from one process to the next, and keep them."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
