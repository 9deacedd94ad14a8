"""The limit of jobs that may wait or run at once."""

from __future__ import annotations

from typing import Any

REFUSAL = (
    "Job submission rejected: accounting/QOS policy limit exceeded. sbatch: error: AssocMaxSubmitJobLimit\n"
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)


def test_one_job_too_many_is_refused_until_another_has_ended(serve: Any, connect: Any) -> None:
    server = serve(max_submit_jobs=2, cores=1)
    api = connect(server)
    running, waiting = (api.submit("#!/bin/sh\nsleep 60\n", server.home) for _ in range(2))
    refused = api.try_submit("#!/bin/sh\n", server.home)
    assert refused.status_code == 403
    assert refused.json() == {
        "errorType": "error",
        "message": REFUSAL,
        "causedBy": None,
        "data": None,
        "user": server.user,
    }
    assert len(api.list()) == 2
    assert api.cancel(waiting).status_code == 204
    third = api.submit("#!/bin/sh\n", server.home)
    api.cancel(running)
    assert api.wait_end(third)["status"]["state"] == "COMPLETED"


def test_each_element_of_an_array_counts(serve: Any, connect: Any) -> None:
    server = serve(max_submit_jobs=3)
    api = connect(server)
    assert api.try_submit("#!/bin/sh\n#SBATCH --array=0-3\n", server.home).status_code == 403
    array = api.submit("#!/bin/sh\n#SBATCH --array=0-2\nsleep 60\n", server.home)
    assert api.try_submit("#!/bin/sh\n", server.home).status_code == 403
    api.cancel(array)
    api.submit("#!/bin/sh\n", server.home)
