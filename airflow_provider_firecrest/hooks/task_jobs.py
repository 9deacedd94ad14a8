"""The jobs that a task's own function submits through hooks, tied to its tries and to its end as an operator's job is.

Such a job belongs to its task until a try has waited for its end, or until the function has returned. Until then its
record (:mod:`airflow_provider_firecrest.job_records`) lets the triggerer cancel it, and Airflow's ``on_kill`` reaches
it in the worker. A function that returns without having waited leaves its jobs to run on, so their records are deleted.

The task state store is asked in a thread of its own, one question after the other. Airflow refuses a question from an
event loop in which another one is under way, and questions from several threads would take those that the answers need.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.sdk import get_current_context

from airflow_provider_firecrest.airflow_internals import attach
from airflow_provider_firecrest.hooks.job_ending import cancel_each, end_with_task, is_last_try
from airflow_provider_firecrest.hooks.masking import values_to_mask
from airflow_provider_firecrest.hooks.shown_job import ShownJob
from airflow_provider_firecrest.identity import CallIdentities, named
from airflow_provider_firecrest.job_records import (
    JobRecord,
    RecordRefused,
    call_record_key,
    delete_record,
    describe_jobs,
    list_call_records,
    read_earlier,
    store_call_records,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
    from firecrest_core.api.client import System
    from firecrest_core.claims.submission import PreparePlace
    from firecrest_core.jobs.job import Job
    from firecrest_core.spec.alternatives import Alternatives
    from firecrest_core.spec.jobspec import JobSpec

T = TypeVar("T")


@dataclass
class _Call:
    """One call of ``submit_job``.

    :param record_key: where the record of its job is
    :param job: the job, without an id before it was submitted
    :param shown: what one sees of it
    """

    hook: FirecRESTHook
    record_key: str
    job: Job
    shown: ShownJob | None = None

    def is_of(self, job: Job) -> bool:
        return (self.job.system, self.job.job_id) == (job.system, job.job_id)


class TaskJobs:
    """The jobs that one try of a task submits through hooks.

    :param context: the task's
    """

    _creation: ClassVar[threading.Lock] = threading.Lock()
    _latest: ClassVar[TaskJobs | None] = None

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = ThreadPoolExecutor(1, thread_name_prefix="firecrest-store")
        self._lock = threading.Lock()
        self._ready: Future[None] | None = None
        self._identities: CallIdentities | None = None
        self._record_keys: list[str] = []
        self._numbers: Counter[str] = Counter()
        self._owned: dict[str, _Call] = {}
        attach(context["ti"].task, on_kill=self._on_kill, on_success=self._on_success)

    @classmethod
    def current(cls) -> TaskJobs | None:
        """Return the jobs of the task that this process executes; ``None`` outside of a task."""
        try:
            context = get_current_context()
        except RuntimeError:
            return None
        with cls._creation:
            if cls._latest is None or cls._latest._context["ti"] is not context["ti"]:
                cls._latest = cls(context)
            return cls._latest

    @property
    def is_retry(self) -> bool:
        """Whether an earlier try of the task may have submitted."""
        return self._context["ti"].try_number > 1

    async def submit(
        self,
        hook: FirecRESTHook,
        system: System,
        spec: JobSpec,
        *,
        exactly_once: bool,
        alternatives: Alternatives | None = None,
        prepare_place: PreparePlace | None = None,
    ) -> Job:
        """Submit the job of a call, or find the one that an earlier try has submitted for the same call.

        :param hook: whose call it is
        :param system: where to submit it
        :param spec: the job
        :param exactly_once: as for ``FirecRESTSubmitOperator``
        :param alternatives: the shapes in which it is submitted, if it has any; only with ``exactly_once``
        :param prepare_place: as for :func:`firecrest_core.lifecycle.submit`
        """
        from airflow.sdk.log import amask_secret

        from firecrest_core import lifecycle

        spec = named(spec, self._context["ti"])
        await amask_secret(values_to_mask(spec))
        await self._end_earlier_run_first(hook)
        call, first_attempt = await self._ask(lambda: self._begin(hook, system, spec))

        async def record() -> None:
            await self._ask(lambda: self._write(call))

        if exactly_once:
            self._owned[call.record_key] = call  # its claim can be cancelled before the job has an id
            key = call.job.key
            call.job = await lifecycle.submit(
                system,
                spec,
                key,
                first_attempt=first_attempt,
                before_post=record,
                alternatives=alternatives,
                prepare_place=prepare_place,
            )
        else:
            call.job = await lifecycle.submit(system, spec)
            self._owned[call.record_key] = call
        await record()
        name = call.record_key.rpartition(".")[2]
        call.shown = ShownJob(self._context, hook, name, call.job, spec, self._ask)
        await call.shown.begin()
        return call.job

    def shown(self, job: Job) -> ShownJob | None:
        """Return what one sees of a job; ``None`` if it is not the task's.

        :param job: the job
        """
        return next((call.shown for call in self._owned.values() if call.is_of(job)), None)

    async def note_end(self, job: Job) -> None:
        """Record that a job has ended, if it is the task's.

        :param job: the job
        """
        for call in [one for one in self._owned.values() if one.is_of(job)]:
            del self._owned[call.record_key]
            if call.job.key is None:
                await self._ask(lambda key=call.record_key: delete_record(self._context, key))  # type: ignore[misc]
            else:
                await self._ask(lambda call=call: self._write(call, ended=True))  # type: ignore[misc]

    def may_submit_again(self, job: Job) -> bool:
        """Tell whether a later try of the task would find this job, so that cancelling it must not forbid another.

        :param job: the job
        """
        return not is_last_try(self._context) and any(call.is_of(job) for call in self._owned.values())

    async def _end_earlier_run_first(self, hook: FirecRESTHook) -> None:
        """Cancel what an earlier run of the task has left, once; other calls wait for that meanwhile."""
        with self._lock:
            first = self._ready is None
            ready = self._ready = self._ready or Future()
        if not first:
            await asyncio.shield(asyncio.wrap_future(ready))
            return
        try:
            await self._end_earlier_run(hook)
        except BaseException as error:
            self._ready = None  # the next call tries it again
            ready.set_exception(error)
            raise
        ready.set_result(None)

    async def _end_earlier_run(self, hook: FirecRESTHook) -> None:
        from firecrest_core import lifecycle
        from firecrest_core.jobs.job import Job

        record_keys = await self._ask(lambda: list_call_records(self._context))
        for key in list(record_keys):
            try:
                earlier = await self._ask(lambda key=key: read_earlier(self._context, _load(hook), key))  # type: ignore[misc]
            except RecordRefused as error:
                hook.log.warning("%s", error)
                continue
            if earlier is None:
                continue
            hook.log.info("The task was cleared: cancelling %s of its earlier run.", describe_jobs(earlier.jobs))
            own = type(hook)(earlier.firecrest_conn_id)
            for job in earlier.jobs:
                self._owned[key] = _Call(own, key, Job.from_dict(job))
            await cancel_each(own, earlier.jobs, lifecycle.cancel_and_wait)
            del self._owned[key]
            await self._ask(lambda key=key: delete_record(self._context, key))  # type: ignore[misc]
            record_keys.remove(key)
        self._record_keys = record_keys

    async def _ask(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._store, question)

    # --- in the thread of the store -------------------------------------------------------------------

    def _begin(self, hook: FirecRESTHook, system: System, spec: JobSpec) -> tuple[_Call, bool]:
        from firecrest_core.jobs.job import Job
        from firecrest_core.jobs.key import digest_of

        if self._identities is None:
            self._identities = CallIdentities.load(self._context)
        digest = digest_of(system.connection, system.name, spec)
        key = self._identities.key(digest, self._numbers[digest])
        self._numbers[digest] += 1
        record_key = call_record_key(key.identity)
        if record_key not in self._record_keys:
            self._record_keys.append(record_key)
            store_call_records(self._context, self._record_keys)
        job = Job(system=system.name, job_id="", working_dir=spec.working_dir, key=key)
        return _Call(hook, record_key, job), self._identities.first_attempt

    def _write(self, call: _Call, *, ended: bool = False) -> None:
        conn_id, max_tries = call.hook.firecrest_conn_id, self._context["ti"].max_tries
        record = JobRecord(conn_id, max_tries, [call.job.to_dict()], ended)
        record.write(self._context, call.hook.connection(), call.record_key)

    # --- called by Airflow -----------------------------------------------------------------------------

    def _on_kill(self) -> None:
        by_connection: dict[str, list[_Call]] = {}
        for call in self._owned.values():
            by_connection.setdefault(call.hook.firecrest_conn_id, []).append(call)
        for calls in by_connection.values():
            keys = [call.record_key for call in calls]
            jobs = [call.job.to_dict() for call in calls]
            end_with_task(calls[0].hook, self._context, jobs, forget=lambda keys=keys: self._forget(keys))  # type: ignore[misc]

    def _on_success(self) -> None:
        self._forget(list(self._owned))

    def _forget(self, keys: list[str]) -> None:
        for key in keys:
            delete_record(self._context, key)
            del self._owned[key]


def _load(hook: FirecRESTHook) -> Any:
    return lambda conn_id: type(hook)(conn_id).connection()
