"""What ties a task's tries, runs and jobs together.

A task is identified by its DAG, run, task id and map index, and by a random text in Airflow's task state store. The
random text is needed because the ids of scheduled runs are equal in two deployments that share a user and a directory.

The store also holds the task's *epoch*. A new epoch begins when ``ti.max_tries`` has changed. It stays the same over
automatic retries and changes whenever a person clears the task. (It can fall, too: when ``retries`` have been lowered
in the DAG.) A new epoch also begins when the reconciler has noted that the task was cleared, see
:mod:`airflow_provider_firecrest.cancellation.reconciler`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stub leaves it out

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.key import ClaimKey
    from firecrest_core.spec.jobspec import JobSpec

STORE_KEY = "firecrest"
"""Where the task state store holds it."""


@dataclass(frozen=True)
class TaskIdentity:
    """What the tries of a task have in common, from one clear to the next.

    :param key: what the job's claim is for
    :param system: where the epoch's first try submits. Later tries keep to it, also if the DAG was edited or a template
        depends on the number of the try
    :param spec: the job, with the working directory of the epoch's first try
    :param first_attempt: this try is the epoch's first
    """

    key: ClaimKey
    system: str
    spec: JobSpec
    first_attempt: bool

    @classmethod
    def load(cls, context: Context, system: str, spec: JobSpec) -> TaskIdentity:
        """Read the task's identity, and store it before anything is submitted if a new epoch begins.

        :param context: the task's
        :param system: where the job is to run
        :param spec: the job
        """
        from firecrest_core.jobs.key import ClaimKey, claim_identity

        ti, store = context["ti"], context["task_state_store"]
        stored: Any = store.get(STORE_KEY)
        first_attempt = not stored or stored["max_tries"] != ti.max_tries
        if first_attempt:
            # If the worker dies from here on, the next try finds this and looks before it submits.
            stored = {
                "nonce": stored["nonce"] if stored else secrets.token_hex(8),
                "epoch": stored["epoch"] + 1 if stored else 0,
                "max_tries": ti.max_tries,
                "system": system,
                "working_dir": spec.working_dir,
            }
            store.set(STORE_KEY, stored, retention=NEVER_EXPIRE)
        identity = claim_identity(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, nonce=stored["nonce"])
        key = ClaimKey(identity, stored["epoch"])
        return cls(key, stored["system"], replace(spec, working_dir=stored["working_dir"]), first_attempt)

    def placeholder_job(self) -> Job:
        """Return the job as far as it is known before it is submitted: enough to cancel its claim."""
        from firecrest_core.jobs.job import Job

        return Job(system=self.system, job_id="", working_dir=self.spec.working_dir, key=self.key)
