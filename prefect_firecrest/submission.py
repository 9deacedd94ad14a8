"""How the job of one call in a flow run is submitted, and what is written down of it for whoever may cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from firecrest_core.errors import JobWithdrawn
from prefect_firecrest.files import send_inputs
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.campaign import Campaign
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.key import ClaimKey
    from firecrest_core.spec.jobspec import JobSpec
    from prefect_firecrest.cancellation.records import JobRecord
    from prefect_firecrest.identity import TaskIdentity
    from prefect_firecrest.late_script import LateScript


@dataclass(frozen=True)
class Submission:
    """The submission of a job by one call. Used in the runtime's event loop alone.

    :param credentials: the name of their block; ``None`` if they were never saved
    :param identity: of the call
    :param campaign: the job, and which jobs may follow it
    :param inputs: files and directories to send before it
    :param makes_working_dir: make the working directory at the other places of alternatives
    :param script: what sends more of it, if its script is made late
    :param logger: of the run
    """

    credentials: str | None
    identity: TaskIdentity
    campaign: Campaign
    inputs: Mapping[str, str] | None
    makes_working_dir: bool
    script: LateScript | None
    logger: Any

    async def once(self) -> Job:
        """Submit the job, or find the one that an earlier try of the call has submitted.

        :raises JobWithdrawn: the flow run was cancelled
        """
        from firecrest_core.jobs.key import ClaimKey
        from prefect_firecrest.cancellation.monitor import JobMonitor
        from prefect_firecrest.pause_key import was_awaited

        identity, monitor = self.identity, runtime.state(JobMonitor)
        key = ClaimKey(identity.claim_identity)
        # A run that was suspended until the job's end wants to hear how it ended, and not to run it again.
        was_suspended = was_awaited(identity.pauses, identity.digest)
        while True:
            record = self._record(key)

            async def before_post(record: JobRecord = record) -> None:
                await self._send()
                await monitor.write_down(record)

            await monitor.watch(identity.flow_runs, self.campaign.system.connection, record)
            try:
                job = await self.campaign.submit(
                    key,
                    first_attempt=identity.first_attempt,
                    resubmit_failed=not was_suspended,
                    before_post=before_post,
                    prepare_place=self._prepare_place,
                    on_message=self.logger.info,
                )
            except JobWithdrawn:
                # The job was cancelled, and then somebody ran the flow run again: that person wants a new job.
                if identity.first_attempt or not await identity.is_wanted():
                    raise
                key = key.next_epoch()
            except Exception:
                if identity.first_attempt:
                    monitor.on_not_submitted(record)
                raise
            else:
                await monitor.write_down(record)  # of a job that was found, too: its earlier record may be deleted
                monitor.on_submitted(job)
                return job

    async def anew(self) -> Job:
        """Submit the job without a claim, whatever an earlier try has submitted."""
        from firecrest_core import lifecycle
        from prefect_firecrest.cancellation.monitor import JobMonitor

        system, monitor = self.campaign.system, runtime.state(JobMonitor)
        await self._send()
        job = await lifecycle.submit(system, self.campaign.spec)
        record = self._record(job_id=job.job_id)
        await monitor.watch(self.identity.flow_runs, system.connection, record)
        await monitor.write_down(record)
        return job

    async def _send(self) -> None:
        system, spec = self.campaign.system, self.campaign.spec
        await send_inputs(system, spec, self.inputs)
        if self.script is not None:
            await self.script.send(system, spec, self.identity.claim_identity)

    async def _prepare_place(self, place: System, at: JobSpec) -> None:
        from firecrest_core.paths import make_directory

        if self.makes_working_dir:
            await make_directory(place, at.working_dir)
        await send_inputs(place, at, self.inputs)

    def _record(self, key: ClaimKey | None = None, job_id: str | None = None) -> JobRecord:
        from prefect_firecrest.cancellation.records import JobRecord

        spec = self.campaign.spec
        return JobRecord(
            credentials=self.credentials,
            system=self.campaign.system.name,
            working_dir=spec.working_dir,
            identity=key.identity if key else None,
            epoch=key.epoch if key else 0,
            job_id=job_id,
            array=None if spec.array_indices is None else str(spec.array_indices),
            elsewhere=self.campaign.alternatives is not None and self.campaign.alternatives.are_elsewhere,
        )
