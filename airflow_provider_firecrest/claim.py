"""Which submission a task makes: what ties its tries, runs and jobs together.

A task is DAG, run, task and map index, and a random text that is kept in Airflow's task state store: the ids of
scheduled runs are equal in two deployments that share a user and a directory. Its *epoch* is counted there, too: a
new one begins when ``ti.max_tries`` has changed, which stays over automatic retries and changes whenever a person
clears the task (it can fall, too: when ``retries`` have been lowered in the DAG), or when the record has been told that
the task was cleared (:mod:`airflow_provider_firecrest.sweeper`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.claim import Key
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.job import Job
    from firecrest_core.jobspec import JobSpec

RECORD = "firecrest"


@dataclass(frozen=True)
class Submission:
    """What a try of a task has to do for its job.

    :param key: what its claim is for
    :param system: where the epoch's first try submitted, or this one does; later tries keep to it, wherever an edited
        DAG or a template with the try's number points by now
    :param spec: with the working directory of the epoch's first try
    :param fresh: this try is the epoch's first
    """

    key: Key
    system: str
    spec: JobSpec
    fresh: bool

    @classmethod
    def of(cls, context: Context, system: str, spec: JobSpec) -> Submission:
        """Read the task's record, and write it anew for a new epoch, before anything is submitted."""
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        from firecrest_core import claim

        ti, store = context["ti"], context["task_state_store"]
        stored: Any = store.get(RECORD)
        fresh = not stored or stored["max_tries"] != ti.max_tries
        record = stored
        if fresh:
            # A worker that dies from here on leaves a record: the next try looks before it submits.
            record = {
                "nonce": stored["nonce"] if stored else secrets.token_hex(8),
                "epoch": stored["epoch"] + 1 if stored else 0,
                "max_tries": ti.max_tries,
                "system": system,
                "working_dir": spec.working_dir,
            }
            store.set(RECORD, record, retention=NEVER_EXPIRE)
        identity = claim.identity(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, nonce=record["nonce"])
        key = claim.Key(identity, record["epoch"])
        return cls(key, record["system"], replace(spec, working_dir=record["working_dir"]), fresh)

    def unborn(self) -> Job:
        """Return the job as far as it is known before it is submitted: enough to cancel its claim."""
        from firecrest_core.job import Job

        return Job(system=self.system, job_id="", working_directory=self.spec.working_dir, key=self.key)

    async def submit(self, client: FirecRESTClient) -> Job:
        """Submit the job, or find the one that an earlier try submitted.

        :raises FirecRESTError: as :func:`firecrest_core.lifecycle.start` does
        """
        from firecrest_core import lifecycle

        if self.fresh:
            return await lifecycle.start(client, self.system, self.spec, self.key, fresh=True)
        return await lifecycle.resume(client, self.system, self.spec, self.key)
