"""Waiting for hours without a process: the flow run is suspended until its job has ended.

The state that it is suspended in says what it waits for, as a :class:`~prefect_firecrest.pause_key.PauseKey`, which the
reconciler reads. A run that begins anew after that adopts the job, however it has ended, and takes its end for the
answer.

Prefect suspends a flow run of a deployment, and none that runs within another. So the flow run that is suspended is the
one that has a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

from firecrest_core.errors import ConfigurationError, JobFailed, WaitTimedOut
from firecrest_core.jobs.key import digest_of, fingerprint
from prefect_firecrest.clients import client_of
from prefect_firecrest.identity import read_lineage
from prefect_firecrest.pause_key import PauseKey, pauses_for
from prefect_firecrest.prefect_internals import current_flow_run, pause_keys, suspend

if TYPE_CHECKING:
    from prefect_firecrest.job_runs import FirecRESTJobRun
    from prefect_firecrest.jobs import FirecRESTJob

# A job that lost its node, or was preempted, is watched for a minute before its end counts.
_LONGEST_WAIT = 120.0
_MOST_GENERATIONS = 3


@dataclass(frozen=True)
class Suspension:
    """How a flow run that can be suspended waits for a job.

    :param pauses: the pauses that the flow run has had for this job
    """

    flow_run_id: UUID
    digest: str
    pauses: list[PauseKey]

    @classmethod
    async def of(cls, job: FirecRESTJob) -> Suspension:
        """Prepare to wait for what ``job`` submits in this flow run.

        :raises ConfigurationError: it cannot be suspended, or nobody could find out the job's end; with what to do
        """
        connection = job.credentials.connection()
        async with client_of(connection, job.credentials.saved_as) as client:
            system = client.system(job.system)
            digest = digest_of(connection, system.name, await job.spec_on(system))
        current = current_flow_run()
        if current is None:
            raise ConfigurationError("wait='suspend' suspends a flow run, and this is none.")
        flow_run = (await read_lineage(current))[-1]
        if flow_run.deployment_id is None:
            raise ConfigurationError(
                f"wait='suspend': flow run {flow_run.name!r} has no deployment, and Prefect suspends only those that "
                "it can start again. Serve or deploy the flow (flow.serve, flow.deploy) and run the deployment, or "
                "leave wait='process'."
            )
        if not job.exactly_once:
            raise ConfigurationError("wait='suspend' finds the job again by its claim; leave exactly_once on.")
        if job.credentials.saved_as is None:
            raise ConfigurationError(
                "wait='suspend': another process asks for the job's state, and these credentials are known here "
                "alone. Save them as a block (FirecRESTCredentials.save) and load it."
            )
        return cls(flow_run.id, digest, pauses_for(pause_keys(flow_run), digest))

    async def until_ended(self, run: FirecRESTJobRun) -> FirecRESTJobRun:
        """Return the run of a job that has ended, maybe another one in the place of one that lost its node.

        :raises Pause: it has not ended, and the flow run was suspended
        """
        while True:
            before = sum(pause.job_id == run.job_id for pause in self.pauses)
            try:
                await run.await_for_completion(_LONGEST_WAIT if before else 0.0)
            except WaitTimedOut:
                await self._suspend(run, before)
            except JobFailed as error:
                key = run.job.key
                if error.retryable and key is not None and key.generation < _MOST_GENERATIONS:
                    run = await run.aresume()
                    continue
            return run

    async def _suspend(self, run: FirecRESTJobRun, number: int) -> NoReturn:
        assert run.job.key is not None
        key = PauseKey(self.digest, fingerprint(run.job.key.identity), run.job_id, number)
        run.logger.info("%s goes on without this process; the flow run is resumed when it has ended.", run)
        await suspend(self.flow_run_id, str(key))
