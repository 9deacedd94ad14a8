"""A mapped sweep that is larger than the site's limit on submitted jobs, on a real Slurm."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Log
from prefect.context import FlowRunContext

from firecrest_core import JobState
from harness.firecrest import FirecRESTServer
from harness.slurm import Slurm
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, submit_job, wait_for_job
from tests.prefect.real import until

SIZE, LIMIT = 20, 3


@pytest.mark.slurm
def test_a_mapped_sweep_waits_for_room(slurm: Slurm, tmp_path: Path) -> None:
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

        runs: list[UUID] = []

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
            runs.append(FlowRunContext.get().flow_run.id)
            return [result.state for result in wait_for_job.map(submit_job.map(jobs)).result()]

        assert sweep() == [JobState.COMPLETED] * SIZE
        assert sorted(map(int, (workdir / "points").read_text().split())) == list(range(SIZE))
    waits = until(lambda: lines_about_room(runs[0]), "the log of the wait")
    assert all("AssocMaxSubmitJobLimit is reached" in line.message for line in waits)
    assert len({line.task_run_id for line in waits}) == len(waits)  # each task says so once, in its own log


def lines_about_room(flow_run_id: UUID) -> list[Log]:
    with get_client(sync_client=True) as client:
        lines = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))
    return [line for line in lines if "waits for room on local" in line.message]
