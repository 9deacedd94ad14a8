"""A mapped sweep that is larger than the site's limit on submitted jobs, on a real Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect import flow

from firecrest_core import JobState
from harness.firecrest import FirecRESTServer
from harness.slurm import Slurm
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, submit_job, wait_for_job

SIZE, LIMIT = 20, 3


@pytest.mark.slurm
def test_a_mapped_sweep_waits_for_room(slurm: Slurm, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FirecRESTServer(tmp_path / "cluster", slurm=slurm) as server, slurm.max_submit_jobs(LIMIT):
        server.wait()
        workdir = Path(server.variables["FIRECREST_WORKDIR"])
        credentials = FirecRESTCredentials(
            url=server.variables["FIRECREST_URL"],
            token_url=server.variables["AUTH_TOKEN_URL"],
            client_id=server.variables["FIRECREST_CLIENT_ID"],
            client_secret=server.variables["FIRECREST_CLIENT_SECRET"],
            system=server.variables["FIRECREST_SYSTEM"],
        )

        @flow
        def sweep() -> list[JobState]:
            jobs = [
                FirecRESTJob(
                    credentials=credentials,
                    working_dir=str(workdir),
                    name=f"point{number}",
                    command=f"echo {number} >> points; sleep 1",
                    poll_interval=1,
                )
                for number in range(SIZE)
            ]
            return [result.state for result in wait_for_job.map(submit_job.map(jobs)).result()]

        assert sweep() == [JobState.COMPLETED] * SIZE
        assert sorted(map(int, (workdir / "points").read_text().split())) == list(range(SIZE))
    waits = [message for message in caplog.messages if "waits for room on local" in message]
    assert 0 < len(waits) <= SIZE - LIMIT
    assert all("AssocMaxSubmitJobLimit is reached" in message for message in waits)
