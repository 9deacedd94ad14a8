"""What ties a task's tries, runs and jobs together.

A task is identified by its DAG, run, task id and map index, and by a random text in Airflow's task state store. The
random text is needed because the ids of scheduled runs are equal in two deployments that share a user and a directory.

The store also holds the task's *epoch*. A new epoch begins when ``ti.max_tries`` has changed. It stays the same over
automatic retries and changes whenever a person clears the task. (It can fall, too: when ``retries`` have been lowered
in the DAG.) A new epoch also begins when the reconciler has noted that the task was cleared, see
:mod:`airflow_provider_firecrest.cancellation.reconciler`.

Whoever may edit a task instance may also edit what the store holds. The random text and the epoch lead to nothing but
the task's own jobs, so they are taken as they are: a secret that was changed between two tries must not begin a second
job. The place of the job is signed (:mod:`firecrest_core.jobs.signature`), and without a right signature it counts only
if the task asks for that very place.

A task's own function may submit many jobs through hooks. There the *call* is identified, too: by what it asks for, and
by its number among the calls of the same try that ask for exactly the same. So it does not matter in which order the
calls are made, and whether a retry makes fewer of them. The place is part of what is asked for.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stub leaves it out
from airflow.sdk.exceptions import AirflowFailException
from pydantic import Field

from airflow_provider_firecrest import stored_json

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.key import ClaimKey
    from firecrest_core.spec.jobspec import JobSpec

STORE_KEY = "firecrest"
"""Where the task state store holds what identifies the job of an operator."""

CALLS_STORE_KEY = "firecrest_calls"
"""Where it holds what identifies the jobs that the task's own function submits through hooks."""


T = TypeVar("T")

# A task is not cleared so often; a larger number was not counted.
_MOST_EPOCHS = 1_000_000

TaskKey = tuple[str, str, str, int]
"""DAG, run, task id and map index of a task."""


def task_key(ti: Any) -> TaskKey:
    """Return what identifies a task.

    :param ti: its task instance
    """
    return ti.dag_id, ti.run_id, ti.task_id, ti.map_index


def default_job_name(ti: Any) -> str:
    """Return the name of a job that its user has given none: ``dag.task``, of a mapped task ``dag.task[index]``.

    :param ti: the task instance that submits it
    """
    from firecrest_core.spec.validation import LONGEST_NAME

    index = f"[{ti.map_index}]" if ti.map_index is not None and ti.map_index >= 0 else ""
    return f"{ti.dag_id}.{ti.task_id}"[: LONGEST_NAME - len(index)] + index


def own_job_name(spec: JobSpec) -> str | None:
    """Return the name that the user has given a job; which scheduler will read its script is not known here.

    :param spec: the job
    """
    return spec.own_name("slurm") or spec.own_name("pbs")


def named(spec: JobSpec, ti: Any) -> JobSpec:
    """Return a job with a name. A script on the cluster has not been read yet, and may name itself.

    :param spec: the job
    :param ti: the task instance that submits it
    """
    if spec.script_path is not None or own_job_name(spec):
        return spec
    return replace(spec, name=default_job_name(ti))


_Nonce = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
_Epoch = Annotated[int, Field(ge=0, lt=_MOST_EPOCHS)]


def _read(kind: type[T], context: Context, key: str) -> T | None:
    stored: Any = context["task_state_store"].get(key)
    if stored is None or stored == {}:  # the claim remover leaves it empty
        return None
    try:
        return stored_json.read(kind, json.dumps(stored))
    except ValueError as error:
        raise AirflowFailException(
            f"What Airflow's task state store holds of this task under {key!r} was not written by this "
            f"provider ({error}), so nothing is submitted. If the task has a job, cancel it; then delete that "
            "entry, and clear the task."
        ) from None


@dataclass(frozen=True)
class _StoredIdentity:
    """What the store holds.

    :param signature: of the place, for this task
    """

    nonce: _Nonce
    epoch: _Epoch
    max_tries: int | None
    system: Annotated[str, Field(min_length=1)]
    working_dir: Annotated[str, Field(pattern="^/")]
    signature: str = ""

    def write(self, context: Context, connection: Connection) -> None:
        from firecrest_core.jobs.signature import sign

        signed = replace(self, signature=sign(connection, *self._content(context)))
        context["task_state_store"].set(STORE_KEY, asdict(signed), retention=NEVER_EXPIRE)

    def check_place(self, context: Context, connection: Connection, system: str, working_dir: str) -> None:
        """Refuse a place that neither a try of this task has stored nor the task asks for."""
        from firecrest_core.jobs.signature import is_signed

        if (self.system, self.working_dir) == (system, working_dir):
            return
        if not is_signed(connection, self.signature, *self._content(context)):
            raise AirflowFailException(
                f"Airflow's task state store says that this run began on {self.system!r}, in {self.working_dir!r}, "
                f"and the task asks for {system!r}, in {working_dir!r}. The entry {STORE_KEY!r} is not signed with the "
                "present secret of the connection, so nothing is submitted: somebody has edited it, or the secret was "
                "changed. Let the task ask for the place where it began, or cancel the job there and clear the task."
            )

    def _content(self, context: Context) -> tuple[object, ...]:
        return STORE_KEY, task_key(context["ti"]), self.system, self.working_dir


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
    def load(cls, context: Context, connection: Connection, system: str, spec: JobSpec) -> TaskIdentity:
        """Read the task's identity, and store it before anything is submitted if a new epoch begins.

        :param context: the task's
        :param connection: what the job is submitted with
        :param system: where the job is to run
        :param spec: the job
        :raises AirflowFailException: what is stored is not this provider's, or names a place that cannot be believed
        """
        from firecrest_core.jobs.key import ClaimKey, claim_identity

        stored, max_tries = _read(_StoredIdentity, context, STORE_KEY), context["ti"].max_tries
        first_attempt = stored is None or stored.max_tries != max_tries
        if stored is None or first_attempt:
            # If the worker dies from here on, the next try finds this and looks before it submits.
            nonce, epoch = (stored.nonce, stored.epoch + 1) if stored else (secrets.token_hex(8), 0)
            stored = _StoredIdentity(nonce, epoch, max_tries, system, spec.working_dir)
            stored.write(context, connection)
        else:
            stored.check_place(context, connection, system, spec.working_dir)
        dag_id, run_id, task_id, map_index = task_key(context["ti"])
        identity = claim_identity(dag_id, task_id, run_id, map_index, nonce=stored.nonce)
        key = ClaimKey(identity, stored.epoch)
        return cls(key, stored.system, replace(spec, working_dir=stored.working_dir), first_attempt)

    def placeholder_job(self) -> Job:
        """Return the job as far as it is known before it is submitted: enough to cancel its claim."""
        from firecrest_core.jobs.job import Job

        return Job(system=self.system, job_id="", working_dir=self.spec.working_dir, key=self.key)


@dataclass(frozen=True)
class _StoredCalls:
    nonce: _Nonce
    epoch: _Epoch
    max_tries: int | None


@dataclass(frozen=True)
class CallIdentities:
    """What the tries of a task have in common whose own function submits jobs, from one clear to the next.

    :param first_attempt: no earlier try can have submitted anything, also not in an earlier epoch
    """

    _task: TaskKey
    _nonce: str
    _epoch: int
    first_attempt: bool

    @classmethod
    def load(cls, context: Context) -> CallIdentities:
        """Read what is stored, and store it before anything is submitted if a new epoch begins.

        :param context: the task's
        :raises AirflowFailException: what is stored is not this provider's
        """
        stored, max_tries = _read(_StoredCalls, context, CALLS_STORE_KEY), context["ti"].max_tries
        first_attempt = stored is None
        if stored is None or stored.max_tries != max_tries:
            nonce, epoch = (stored.nonce, stored.epoch + 1) if stored else (secrets.token_hex(8), 0)
            stored = _StoredCalls(nonce, epoch, max_tries)
            context["task_state_store"].set(CALLS_STORE_KEY, asdict(stored), retention=NEVER_EXPIRE)
        return cls(task_key(context["ti"]), stored.nonce, stored.epoch, first_attempt)

    def key(self, digest: str, number: int) -> ClaimKey:
        """Return what the claim of a call's job is for.

        :param digest: stands for what the call asks for
        :param number: which of the calls of this try with that digest it is, from 0
        """
        from firecrest_core.jobs.key import ClaimKey, claim_identity

        dag_id, run_id, task_id, map_index = self._task
        identity = claim_identity(dag_id, task_id, run_id, map_index, number, digest, nonce=self._nonce)
        return ClaimKey(identity, self._epoch)
