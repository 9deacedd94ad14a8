"""Waiting for hours without a process: the flow run is suspended until its jobs have ended.

The state that it is suspended in says what it waits for, as a :class:`~prefect_firecrest.pause_key.PauseKey`, which the
reconciler reads. A run that begins anew after that adopts the jobs, however they have ended, and takes their end for
the answer.

Prefect suspends a flow run of a deployment, and none that runs within another. So the flow run that is suspended is the
one that has a process of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from firecrest_core.errors import ConfigurationError, FirecRESTError, JobFailed, WaitTimedOut
from firecrest_core.jobs.key import digest_of, fingerprint
from prefect_firecrest.clients import client_of
from prefect_firecrest.identity import read_lineage
from prefect_firecrest.pause_key import AwaitedJob, PauseKey, awaited_jobs, was_awaited
from prefect_firecrest.prefect_internals import current_flow_run, pause_keys, suspend
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from prefect_firecrest.credentials import FirecRESTCredentials
    from prefect_firecrest.job_runs import FirecRESTJobRun
    from prefect_firecrest.jobs import FirecRESTJob

# A job that lost its node, or was preempted, is watched for a minute before its end counts.
_LONGEST_WAIT = 120.0
_MOST_GENERATIONS = 3


def suspend_until_ended(runs: Sequence[FirecRESTJobRun]) -> list[FirecRESTJobRun]:
    """Suspend the flow run and end its process, until all of these jobs have ended.

    When they have, the flow run is resumed and begins anew: ``submit_job`` finds the same jobs, and this call returns.
    ``wait_for_job`` then says at once how each of them ended. Call it in a flow, after the submissions.

    That takes a deployment, credentials that were saved, and ``python -m prefect_firecrest.reconcile`` somewhere.

    :param runs: what ``submit_job`` has returned
    :returns: the same in the same order, or for a job that lost its node the one that was submitted in its place
    :raises ConfigurationError: something of that is missing
    """
    return runtime.run(_suspend_until_ended(runs))


async def asuspend_until_ended(runs: Sequence[FirecRESTJobRun]) -> list[FirecRESTJobRun]:
    """Do what :func:`suspend_until_ended` does, in a coroutine."""
    return await runtime.arun(_suspend_until_ended(runs))


async def _suspend_until_ended(runs: Sequence[FirecRESTJobRun]) -> list[FirecRESTJobRun]:
    _refuse_races(run.job.races for run in runs)
    asked = [(await run.load_credentials(), run.job.key is not None) for run in runs]
    return await (await Suspension.begin(asked)).until_ended(runs)


def _refuse_races(races: Iterable[bool]) -> None:
    if any(races):
        raise ConfigurationError(
            "wait='suspend' leaves nobody to cancel the other alternatives when one begins; leave wait='process'."
        )


@dataclass(frozen=True)
class Suspension:
    """How a flow run that can be suspended waits for jobs.

    :param pauses: the keys of the pauses that the flow run has had
    """

    flow_run_id: UUID
    pauses: frozenset[str]

    @classmethod
    async def of(cls, jobs: Iterable[FirecRESTJob]) -> Suspension:
        """Prepare to wait for what ``jobs`` submit in this flow run.

        :raises ConfigurationError: it cannot be suspended, or nobody could find out the jobs' end; with what to do
        """
        jobs = list(jobs)
        _refuse_races(job.alternatives is not None for job in jobs)
        return await cls.begin([(job.credentials, job.exactly_once) for job in jobs])

    @classmethod
    async def begin(cls, jobs: Iterable[tuple[FirecRESTCredentials, bool]]) -> Suspension:
        """Prepare to wait for jobs.

        :param jobs: of each the credentials, and whether it has a claim
        :raises ConfigurationError: as :meth:`of`
        """
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
        for credentials, has_claim in jobs:
            if not has_claim:
                raise ConfigurationError(
                    "wait='suspend' finds the jobs again by their claims, so it takes jobs of this flow run that were "
                    "submitted with exactly_once, which is the default."
                )
            if credentials.saved_as is None:
                raise ConfigurationError(
                    "wait='suspend': another process asks for the jobs' states, and these credentials are known here "
                    "alone. Save them as a block (FirecRESTCredentials.save) and load it."
                )
        return cls(flow_run.id, pause_keys(flow_run))

    async def has_waited_for(self, jobs: Iterable[FirecRESTJob]) -> bool:
        """Tell whether the flow run was suspended for one of these jobs before, so that all were submitted."""
        if not self.pauses:
            return False
        for job in jobs:
            connection = job.credentials.connection()
            async with client_of(connection, job.credentials.saved_as) as client:
                system = client.system(job.system)
                if was_awaited(self.pauses, digest_of(connection, system.name, await job.spec_on(system))):
                    return True
        return False

    async def until_ended(self, runs: Sequence[FirecRESTJobRun]) -> list[FirecRESTJobRun]:
        """Return the runs of jobs that have ended, maybe others in the place of those that lost their node.

        :raises Pause: not all have ended, and the flow run was suspended
        """
        found = await asyncio.gather(*(self._wait_a_little(run) for run in runs))
        if going_on := [run for run, has_ended in found if not has_ended]:
            await self._suspend(going_on)
        return [run for run, _ in found]

    async def _wait_a_little(self, run: FirecRESTJobRun) -> tuple[FirecRESTJobRun, bool]:
        """Return the run of a job, maybe another one in its place, and whether it has ended."""
        before = {job.job_id for job in awaited_jobs(self.pauses)}
        while True:
            try:
                await run.await_for_completion(_LONGEST_WAIT if run.job_id in before else 0.0)
            except WaitTimedOut:
                return run, False
            except JobFailed as error:
                key = run.job.key
                if error.retryable and key is not None and key.generation < _MOST_GENERATIONS:
                    run = await run.aresume()
                    continue
            except FirecRESTError:
                pass  # who waits for this job next gets the same error, and the other jobs are waited for all the same
            return run, True

    async def _suspend(self, runs: Sequence[FirecRESTJobRun]) -> None:
        jobs = []
        for run in runs:
            assert run.job.key is not None, "such runs are refused before"
            connection = (await run.load_credentials()).connection()
            digest = digest_of(connection, run.system, run.whole_spec(connection))
            jobs.append(AwaitedJob(digest, fingerprint(run.job.key.identity), run.job_id))
        who, have, go = (f"{runs[0]}", "it has", "goes") if len(runs) == 1 else (f"{len(runs)} jobs", "they have", "go")
        runs[0].logger.info("%s %s on without this process; the flow run is resumed when %s ended.", who, go, have)
        number = sum(PauseKey.read(key) is not None for key in self.pauses)
        await suspend(self.flow_run_id, str(PauseKey(number, tuple(jobs))))
