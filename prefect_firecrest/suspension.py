"""Waiting for hours without a process: the flow run is suspended until its job has ended.

What it waits for is said by the state that it is suspended in, as the key of that pause, which
:mod:`prefect_firecrest.reconcile` reads. Prefect keeps the keys of a flow run until it is retried. So a run that begins
anew can tell that it was suspended for this very call: then it adopts the job, however that has ended, and takes its
end for the answer.

Prefect suspends a flow run of a deployment, and none that runs within another: so what is suspended is the one that has
a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Self
from uuid import UUID

from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.flow_runs import asuspend_flow_run
from prefect.states import Suspended

from firecrest_core.errors import ConfigurationError, JobFailed, WaitTimedOut
from prefect_firecrest import calls

if TYPE_CHECKING:
    from prefect_firecrest.calls import Call
    from prefect_firecrest.job_runs import FirecRESTJobRun
    from prefect_firecrest.jobs import FirecRESTJob

# A job that lost its node, or was preempted, is watched for a minute before that is believed.
_PATIENCE = 120.0
_MOST_GENERATIONS = 3


@dataclass(frozen=True)
class PauseKey:
    """What a suspended flow run waits for, as text.

    :param digest: the call that submitted the job
    :param fingerprint: the identity of the job's claim, as the job's name has it
    :param number: how often the flow run was suspended for this job before: Prefect takes each key once
    """

    digest: str
    fingerprint: str
    job_id: str
    number: int

    def __str__(self) -> str:
        return f"firecrest-{self.digest[:12]}-{self.fingerprint}-{self.job_id}-{self.number}"

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """Return ``None`` for a pause of somebody else's."""
        match (text or "").split("-"):
            case ["firecrest", digest, fingerprint, job_id, number] if number.isdecimal():
                return cls(digest, fingerprint, job_id, int(number))
        return None


@dataclass(frozen=True)
class Suspension:
    """A call that is waited for by a flow run which can be suspended.

    :param keys: the pauses that the flow run has had for this call
    """

    flow_run_id: UUID
    digest: str
    keys: list[PauseKey]

    @classmethod
    async def of(cls, job: FirecRESTJob) -> Suspension:
        """Prepare to wait for what ``job`` submits in this flow run.

        :raises ConfigurationError: it cannot be suspended, or nobody could tell the job's end; with what to do
        """
        connection = job.credentials.connection()
        digest = calls.digest_of(connection, connection.system_or_default(job.system), job.spec())
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise ConfigurationError("wait='suspend' suspends a flow run, and this is none.")
        flow_run = (await calls.lineage_of(context.flow_run))[-1]
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
        return cls(flow_run.id, digest, _of(flow_run.empirical_policy.pause_keys or (), digest))

    async def until_ended(self, run: FirecRESTJobRun) -> FirecRESTJobRun:
        """Return the run of a job that has ended, maybe another one in the place of one that lost its node.

        :raises Pause: it has not ended, and the flow run was suspended
        """
        while True:
            before = sum(key.job_id == run.job_id for key in self.keys)
            try:
                await run.await_for_completion(_PATIENCE if before else 0.0)
            except WaitTimedOut:
                await self._suspend(run, before)
            except JobFailed as error:
                key = run.job.key
                if error.retryable and key is not None and key.generation < _MOST_GENERATIONS:
                    run = await run.aresume()
                    continue
            return run

    async def _suspend(self, run: FirecRESTJobRun, number: int) -> NoReturn:
        from firecrest_core import claim

        assert run.job.key is not None
        key = str(PauseKey(self.digest, claim.fingerprint(run.job.key.identity), run.job_id, number))
        run.logger.info("%s goes on without this process; the flow run is resumed when it has ended.", run)
        await asuspend_flow_run(flow_run_id=self.flow_run_id, key=key)
        raise Pause(state=Suspended(pause_key=key))


def has_waited(call: Call) -> bool:
    """Whether the flow run of a call was suspended until a job of such a call had ended."""
    return bool(_of(call.pauses, call.digest))


def _of(pauses: Iterable[str], digest: str) -> list[PauseKey]:
    keys = map(PauseKey.read, pauses)
    return [key for key in keys if key is not None and key.digest == digest[:12]]
