"""One job of the scheduler, from its submission to its end, and those that follow it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from prefect.blocks.abstract import JobRun

from firecrest_core.errors import JobFailed, RemotePathNotFound
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.files import send_inputs
from prefect_firecrest.portable_run import PortableRun
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.campaign import Campaign
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.status import JobStatus
    from firecrest_core.result import JobResult
    from firecrest_core.spec.jobspec import JobSpec


class FirecRESTJobRun(PortableRun, JobRun["JobResult"]):
    """A job of the scheduler. :meth:`FirecRESTJob.trigger <prefect_firecrest.FirecRESTJob.trigger>` submits it.

    One that somebody else submitted is found by :func:`prefect_firecrest.find_job`.

    Each method has an asynchronous twin with the prefix ``a``. All raise the errors of :mod:`firecrest_core.errors`.

    It can be pickled, as Prefect does with results that it keeps; then it needs credentials that were saved.

    :param job: the job itself; where another one follows, that one from then on
    :param spec: what was asked for, to run it once more; ``None`` for a job that somebody else submitted
    :param inputs: what was sent for it, to send it once more
    :param poll_interval: seconds between two queries of its state at the most
    :param metrics: absolute path of the file to which it writes its metrics
    :param escalate: the policy that says which job follows, as ``FirecRESTJob`` has it
    :param chain: the chain that it belongs to, in the same form
    :param alternatives: the shapes in which it was submitted, in the same form
    """

    def __init__(
        self,
        credentials: FirecRESTCredentials,
        job: Job,
        spec: JobSpec | None,
        *,
        inputs: Mapping[str, str] | None = None,
        poll_interval: float = 10.0,
        metrics: str | None = None,
        escalate: dict[str, Any] | None = None,
        chain: dict[str, Any] | None = None,
        alternatives: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(credentials, job, spec)
        self.inputs = inputs
        self.poll_interval = poll_interval
        self.metrics = metrics
        self.escalate = escalate
        self.chain = chain
        self.alternatives = alternatives
        self._result: JobResult | None = None

    @classmethod
    async def find(
        cls, credentials: FirecRESTCredentials, job_id: str, system: str | None, poll_interval: float
    ) -> Self:
        """Return the run of a job that somebody else submitted; see :func:`prefect_firecrest.tasks.find_job`."""
        from firecrest_core import lifecycle
        from prefect_firecrest.clients import client_of

        async with client_of(credentials.connection(), credentials.saved_as) as client:
            job = await lifecycle.find(client.system(system), str(job_id))
        return cls(credentials, job, None, poll_interval=poll_interval)

    @property
    def job_id(self) -> str:
        """The scheduler's id."""
        return self.job.job_id

    @property
    def system(self) -> str:
        """The name of the system that it runs on."""
        return self.job.system

    def __str__(self) -> str:
        return str(self.job)

    def __repr__(self) -> str:
        return f"FirecRESTJobRun({self.job} on {self.system})"

    # --- waiting ----------------------------------------------------------------------------------------

    def wait_for_completion(  # type: ignore[override]
        self, timeout: float | None = None, *, fail_if_stuck: bool = False
    ) -> None:
        """Wait for the job's end; its progress goes to the run's log. Outages are waited out.

        However many jobs a process waits for, it queries each system once an interval.

        :param timeout: seconds to wait; the job is left alone after that
        :param fail_if_stuck: fail when the job can never start, instead of only warning; it stays in the queue
        :raises JobFailed: it ended otherwise than COMPLETED; with state, exit code and its last lines of output
        :raises JobStuck: it can never start; only with ``fail_if_stuck``
        :raises WaitTimedOut: after ``timeout``
        """
        runtime.run(self._wait(timeout, fail_if_stuck))

    async def await_for_completion(self, timeout: float | None = None, *, fail_if_stuck: bool = False) -> None:
        """Do what :meth:`wait_for_completion` does, in a coroutine."""
        await runtime.arun(self._wait(timeout, fail_if_stuck))

    def fetch_result(self) -> JobResult:  # type: ignore[override]
        """Return how the job ended, whatever it is.

        :raises WaitTimedOut: it has not ended
        """
        return runtime.run(self._fetch())

    async def afetch_result(self) -> JobResult:
        """Do what :meth:`fetch_result` does, in a coroutine."""
        return await runtime.arun(self._fetch())

    async def _wait(self, timeout: float | None, fail_if_stuck: bool) -> None:
        from firecrest_core import lifecycle

        async with self._on_system() as system:
            result = await self._wait_for_result(timeout, fail_if_stuck)
            try:
                await lifecycle.raise_for_state(system.client.system(result.system), result)
            except JobFailed as error:
                if self.spec is None:
                    error.retryable = False  # another try would find the same job
                raise

    async def _fetch(self) -> JobResult:
        return self._result or await self._wait_for_result(timeout=0)

    async def _wait_for_result(self, timeout: float | None, fail_if_stuck: bool = False) -> JobResult:
        from firecrest_core.jobs.job import Job
        from prefect_firecrest.cancellation.monitor import JobMonitor
        from prefect_firecrest.observability.display import show_submitted

        monitor, began = runtime.state(JobMonitor), time.monotonic()
        async with self._on_system() as system:
            while True:
                left = None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
                result = await self._wait_for_job(system, left, fail_if_stuck)
                following = await self._follow(system, result)
                if not isinstance(following, Job):
                    break
                self.job = following
                monitor.on_submitted(following)
                await show_submitted(following, system.connection.job_url, self.logger)
        monitor.on_end(self.job)
        self._result = following
        return following

    async def _wait_for_job(self, system: System, timeout: float | None, fail_if_stuck: bool) -> JobResult:
        from firecrest_core import lifecycle
        from prefect_firecrest.cancellation.monitor import JobMonitor
        from prefect_firecrest.observability.display import Display

        began = time.monotonic()
        runtime.state(JobMonitor).on_wait(self.job)
        if self.job.races:
            await self._race(system, timeout, fail_if_stuck)
        system = system.client.system(self.system)
        if timeout is not None:
            timeout = max(0.0, timeout - (time.monotonic() - began))
        log = self.logger
        campaign = self._campaign(system) if (self.chain or {}).get("ahead") else None
        metrics = self.metrics and self.job.own_path(self.metrics)
        async with Display(system, self.job, log, self.poll_interval, metrics) as display:
            ahead = campaign and campaign.submitting_ahead(self.job, display.on_status, log.info)
            async with ahead or nullcontext(display.on_status) as on_status:
                result = await lifecycle.wait(
                    system,
                    self.job,
                    poll_interval=self.poll_interval,
                    timeout=timeout,
                    on_message=log.info,
                    on_warning=self._warn,
                    on_status=on_status,
                    fail_if_stuck=fail_if_stuck,
                )
            await display.show_end(result)
        return result

    async def _race(self, system: System, timeout: float | None, fail_if_stuck: bool) -> None:
        """Wait until one of the alternatives has begun, and show that one in the place of the first."""
        from firecrest_core.race import winner
        from prefect_firecrest.observability.display import show_winner

        first = self.job
        self.job = await winner(
            system,
            first,
            poll_interval=self.poll_interval,
            timeout=timeout,
            on_message=self.logger.info,
            on_warning=self._warn,
            fail_if_stuck=fail_if_stuck,
        )
        await show_winner(self.job, first, system.connection.job_url)

    def _warn(self, line: str) -> None:
        how = "cancel the job, and this task fails" if self.spec is None else "cancel the flow run"
        self.logger.warning("%s To end it, %s.", line, how)

    async def _follow(self, system: System, result: JobResult) -> Job | JobResult:
        """Return the job that follows one that has ended, or the result if none does."""
        campaign = self._campaign(system)
        return result if campaign is None else await campaign.follow(self.job, result, self.logger.info)

    def _campaign(self, system: System) -> Campaign | None:
        """Return what submits the jobs that follow; ``None`` for a job without a claim, which none follows."""
        from firecrest_core.campaign import Campaign

        if self.spec is None or self.job.key is None:
            return None
        system = system.client.system(self.job.origin.system)
        spec = self.whole_spec(system.connection)
        return Campaign.parse(system, spec, self.escalate, self.chain, self.alternatives)

    # --- while it runs ----------------------------------------------------------------------------------

    def status(self) -> JobStatus:
        """Return where the job is now: state, reason, nodes, elapsed seconds and, of an array, its elements.

        :raises JobNotFound: the scheduler does not know it (yet)
        """
        return runtime.run(self._status())

    async def astatus(self) -> JobStatus:
        """Do what :meth:`status` does, in a coroutine."""
        return await runtime.arun(self._status())

    async def _status(self) -> JobStatus:
        from firecrest_core.jobs.status import read_status

        async with self._on_system() as system:
            return await read_status(system, self.job)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the job's standard output, without what looks like a secret.

        Of an array, they are those of its first element.

        :raises RemotePathNotFound: there is no output (yet)
        """
        return runtime.run(self._log_tail(lines))

    async def alog_tail(self, lines: int = 20) -> str:
        """Do what :meth:`log_tail` does, in a coroutine."""
        return await runtime.arun(self._log_tail(lines))

    async def _log_tail(self, lines: int) -> str:
        from firecrest_core.jobs.logs import read_tail
        from firecrest_core.spec.output_paths import completed_path

        nodes = self._result.nodes if self._result else ""
        path = completed_path(self.job.stdout, self.job_id, nodes, is_array=self.job.array_indices is not None)
        if path is None:
            raise RemotePathNotFound(f"{self.job} on {self.system}: the scheduler does not say where its output goes.")
        first = self.job.array_indices.first if self.job.array_indices else "%a"
        async with self._on_system() as system:
            return await read_tail(system, path.replace("%a", str(first)), lines)

    def cancel(self) -> None:
        """Cancel the job, and whatever else was or will be submitted in its place.

        Cancelling what has ended succeeds.
        """
        runtime.run(self._cancel())

    async def acancel(self) -> None:
        """Do what :meth:`cancel` does, in a coroutine."""
        await runtime.arun(self._cancel())

    async def _cancel(self) -> None:
        from firecrest_core import lifecycle
        from prefect_firecrest.cancellation.ends import show_ends
        from prefect_firecrest.cancellation.monitor import JobMonitor
        from prefect_firecrest.cancellation.policy import EndReason
        from prefect_firecrest.cancellation.records import JobRecord
        from prefect_firecrest.observability.display import current_flow_runs

        monitor = runtime.state(JobMonitor)
        async with self._on_system() as system:
            await lifecycle.cancel(system, self.job)
            monitor.on_end(self.job)
            if flow_runs := monitor.flow_runs_of(self.job) or await current_flow_runs():
                credentials = await self.load_credentials()
                jobs = {flow_runs: [JobRecord.of(self.job, credentials.saved_as)]}
                await show_ends(system.connection, credentials.saved_as, jobs, EndReason.ASKED)

    # --- resuming --------------------------------------------------------------------------------------

    def resume(self) -> FirecRESTJobRun:
        """Return a run to go on with: this job while it is alive or if it ended well, else a new one in its place.

        A job that somebody else submitted is never submitted again.

        :raises JobWithdrawn: it was cancelled
        """
        return runtime.run(self._resume())

    async def aresume(self) -> FirecRESTJobRun:
        """Do what :meth:`resume` does, in a coroutine."""
        return await runtime.arun(self._resume())

    async def _resume(self) -> FirecRESTJobRun:
        from firecrest_core import lifecycle
        from firecrest_core.jobs.status import read_status
        from firecrest_core.states import JobState
        from prefect_firecrest.cancellation.monitor import JobMonitor
        from prefect_firecrest.observability.display import show_submitted

        if self.spec is None:
            return self
        monitor = runtime.state(JobMonitor)
        async with self._on_system() as system:
            send = partial(send_inputs, system.client.system(self.job.origin.system), self.spec, self.inputs)
            if self.job.key is None:
                status = await read_status(system, self.job)
                if not (status.all_ended and status.complete) or status.state is JobState.COMPLETED:
                    return self
                await send()
            monitor.on_submit(self.job)
            campaign = self._campaign(system)
            if campaign is None or self.job.key is None:
                job = await lifecycle.submit(system, self.whole_spec(system.connection))
            else:
                job = await campaign.submit(
                    self.job.key,
                    before_post=send,
                    prepare_place=partial(send_inputs, inputs=self.inputs),
                    on_message=self.logger.info,
                )
            monitor.on_submitted(job)
        if (job.system, job.job_id) != (self.system, self.job_id):
            message = f"{job} was submitted in the place of job {self.job_id}."
            await show_submitted(job, system.connection.job_url, self.logger, message)
        resumed = copy(self)
        resumed.job, resumed._result = job, None
        return resumed
