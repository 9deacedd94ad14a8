"""What Prefect shows of jobs that were cancelled for their flow run."""

from __future__ import annotations

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.claims import protocol
from firecrest_core.jobs.key import ClaimKey, claim_identity
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from prefect_firecrest.cancellation import ends
from prefect_firecrest.cancellation.records import JobRecord


async def test_a_job_that_began_after_it_was_cancelled_ran_nothing(connection, workdir) -> None:
    """The scheduler says COMPLETED of it, as of any job that leaves at its claim."""
    keys = [ClaimKey(claim_identity("ends", name)) for name in ("cancelled", "ran")]
    async with FirecRESTClient(connection) as client:
        system = client.system()
        await protocol.cancel(system, str(workdir), keys[0].identity, 0)
        jobs = []
        for key in keys:
            spec = JobSpec(working_dir=str(workdir), command="true", name="short-lived")
            jobs.append(await lifecycle.submit(system, spec, key, first_attempt=True))
        for job in jobs:
            await lifecycle.wait(system, job, poll_interval=0.2)
        records = [JobRecord.of(job, None) for job in jobs]
        found = await ends._find_on(system, records)
    states = [[one.state for one in found[record]] for record in records]
    assert states == [[JobState.CANCELLED], [JobState.COMPLETED]]
