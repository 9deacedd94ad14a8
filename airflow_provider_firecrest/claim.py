"""Which submission a task makes: what ties its tries, runs and jobs together.

A task is DAG, run, task and map index, and a random text that is kept in Airflow's task state store: the ids of
scheduled runs are equal in two deployments that share a user and a directory. ``ti.max_tries`` stays over automatic
retries and grows whenever a person clears the task, so it tells one run that somebody asked for from the next.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.claim import Key
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.job import Job
    from firecrest_core.jobspec import JobSpec

_RECORD = "firecrest"


@dataclass(frozen=True)
class Submission:
    """What a try of a task has to do for its job.

    :param key: what its claim is for
    :param began: the epoch that the record names, ``None`` for a task without one
    """

    key: Key
    nonce: str
    began: int | None
    store: Any

    @classmethod
    def of(cls, context: Context) -> Submission:
        """Read the task's record, or make one before anything is submitted."""
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        from firecrest_core import claim

        ti, store = context["ti"], context["task_state_store"]
        epoch = ti.max_tries
        record: Any = store.get(_RECORD)
        nonce = record["nonce"] if record else secrets.token_hex(8)
        if not record:
            # A worker that dies from here on leaves a record: the next try looks before it submits.
            store.set(_RECORD, {"nonce": nonce, "epoch": epoch}, retention=NEVER_EXPIRE)
        identity = claim.identity(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, nonce=nonce)
        return cls(claim.Key(identity, epoch), nonce, record["epoch"] if record else None, store)

    def unborn(self, system: str, spec: JobSpec) -> Job:
        """Return the job as far as it is known before it is submitted: enough to cancel its claim."""
        from firecrest_core.job import Job

        return Job(system=system, job_id="", working_directory=spec.working_dir, key=self.key)

    async def submit(self, client: FirecRESTClient, system: str, spec: JobSpec) -> Job:
        """Submit the job, or find the one that an earlier try submitted; end what an earlier run left alive.

        :raises FirecRESTError: as :func:`firecrest_core.lifecycle.start` does
        """
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        from firecrest_core import lifecycle

        if self.began is None:
            return await lifecycle.start(client, system, spec, self.key, fresh=True)
        if self.began == self.key.epoch:
            return await lifecycle.resume(client, system, spec, self.key)
        job = await lifecycle.begin_epoch(client, system, spec, self.key)
        # Only now: a worker that dies before has not ended the earlier run's jobs, and the next try must do so.
        self.store.set(_RECORD, {"nonce": self.nonce, "epoch": self.key.epoch}, retention=NEVER_EXPIRE)
        return job


async def end(client: FirecRESTClient, job: Job) -> None:
    """Cancel a job, and with a claim all that were or will be submitted for the same run of the task."""
    from firecrest_core import lifecycle

    if job.key is None:
        await lifecycle.cancel(client, job.system, job.job_id)
    else:
        await lifecycle.cancel_epoch(client, job.system, job.working_directory, job.key.identity, job.key.epoch)
