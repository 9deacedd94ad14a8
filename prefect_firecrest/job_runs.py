"""One job of the scheduler, from its submission to its end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from prefect.blocks.abstract import JobRun
from pydantic import SecretStr

from firecrest_core.errors import ConfigurationError, RemotePathNotFound
from prefect_firecrest.background import arun, run, shared_client
from prefect_firecrest.credentials import FirecRESTCredentials

if TYPE_CHECKING:
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.connection import Connection
    from firecrest_core.job import Job
    from firecrest_core.jobspec import JobSpec
    from firecrest_core.progress import Progress
    from firecrest_core.result import JobResult


class FirecRESTJobRun(JobRun["JobResult"]):
    """A job that was submitted. :meth:`FirecRESTJob.trigger <prefect_firecrest.FirecRESTJob.trigger>` makes it.

    Each method has an asynchronous twin with the prefix ``a``. All raise the errors of :mod:`firecrest_core.errors`.

    It can be pickled, as Prefect does with results that are kept; the client's secret is not in it. It is read from the
    credentials' block again, so a run that is used in another process needs credentials that were saved.

    :param job: the job itself
    :param spec: what was asked for, to run it once more
    :param poll_interval: seconds between two questions for its state at the most
    """

    def __init__(
        self, credentials: FirecRESTCredentials, job: Job, spec: JobSpec, *, poll_interval: float = 10.0
    ) -> None:
        self._credentials: FirecRESTCredentials | str = credentials
        self.job = job
        self.spec = spec
        self.poll_interval = poll_interval
        self._result: JobResult | None = None

    @property
    def job_id(self) -> str:
        """The scheduler's id."""
        return self.job.job_id

    @property
    def system(self) -> str:
        return self.job.system

    def __str__(self) -> str:
        return str(self.job)

    def __repr__(self) -> str:
        return f"FirecRESTJobRun({self.job} on {self.system})"

    # --- waiting ----------------------------------------------------------------------------------------

    def wait_for_completion(self, timeout: float | None = None) -> None:  # type: ignore[override]
        """Wait for the job's end, with its story in the log. Outages are waited out.

        However many jobs a process waits for, it asks each system once an interval.

        :param timeout: seconds to wait; the job is left alone after that
        :raises JobFailed: it ended otherwise than COMPLETED; with state, exit code and its last lines of output
        :raises WaitTimedOut: after ``timeout``
        """
        run(self._wait(timeout))

    async def await_for_completion(self, timeout: float | None = None) -> None:
        """Do what :meth:`wait_for_completion` does, in a coroutine."""
        await arun(self._wait(timeout))

    def fetch_result(self) -> JobResult:  # type: ignore[override]
        """Return how the job ended, whatever it is.

        :raises WaitTimedOut: it has not ended
        """
        return run(self._fetch())

    async def afetch_result(self) -> JobResult:
        """Do what :meth:`fetch_result` does, in a coroutine."""
        return await arun(self._fetch())

    async def _wait(self, timeout: float | None) -> None:
        from firecrest_core import lifecycle

        result = await self._end(timeout)
        if result.succeeded:
            return
        async with self._client() as client:
            stdout, stderr = await lifecycle.output_tail(client, result)
        lifecycle.check(result, stderr, stdout)

    async def _fetch(self) -> JobResult:
        return self._result or await self._end(timeout=0)

    async def _end(self, timeout: float | None) -> JobResult:
        from firecrest_core import lifecycle
        from firecrest_core.watcher import JobWatcher
        from prefect_firecrest import guard
        from prefect_firecrest.display import Display

        guard.alive(self.job)
        log, until = self.logger, None if timeout is None else time.monotonic() + timeout
        watcher = JobWatcher.shared(await self._connection(), self.system)
        async with Display(self.job, self._client, log.info, self.poll_interval) as display:
            result = await watcher.wait(
                self.job,
                poll_interval=self.poll_interval,
                timeout=timeout,
                story=log.info,
                on_progress=display.seen,
            )
            if self.job.key is not None:  # with a claim, the payload may have run in another job
                async with self._client() as client:
                    result = await lifecycle.settle(
                        client,
                        self.job,
                        result,
                        poll_interval=self.poll_interval,
                        timeout=None if until is None else max(0.0, until - time.monotonic()),
                        story=log.info,
                    )
            await display.ended(result)
        guard.ended(self.job)
        self._result = result
        return result

    # --- while it runs ----------------------------------------------------------------------------------

    def status(self) -> Progress:
        """Ask where the job is: state, reason, nodes, elapsed seconds and, of an array, its elements.

        :raises JobNotFound: the scheduler does not know it (yet)
        """
        return run(self._status())

    async def astatus(self) -> Progress:
        """Do what :meth:`status` does, in a coroutine."""
        return await arun(self._status())

    async def _status(self) -> Progress:
        from firecrest_core import lifecycle

        async with self._client() as client:
            return await lifecycle.status(client, self.job)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the job's standard output, without what looks like a secret; of an array, of its
        first element.

        :raises RemotePathNotFound: there is no output (yet)
        """
        return run(self._log_tail(lines))

    async def alog_tail(self, lines: int = 20) -> str:
        """Do what :meth:`log_tail` does, in a coroutine."""
        return await arun(self._log_tail(lines))

    async def _log_tail(self, lines: int) -> str:
        from firecrest_core.excerpt import BYTES, excerpt

        if self.job.stdout is None:
            raise RemotePathNotFound(f"{self.job} on {self.system}: the scheduler does not say where its output goes.")
        first = self.job.array_indices[0] if self.job.array_indices else "%a"
        async with self._client() as client:
            text = await client.tail_text(self.system, self.job.stdout.replace("%a", str(first)), num_bytes=BYTES)
        return excerpt(text, lines, cut=len(text.encode()) >= BYTES)

    def cancel(self) -> None:
        """Cancel the job, and whatever else was or will be submitted for the same call.

        Cancelling what has ended succeeds.
        """
        run(self._cancel())

    async def acancel(self) -> None:
        """Do what :meth:`cancel` does, in a coroutine."""
        await arun(self._cancel())

    async def _cancel(self) -> None:
        from firecrest_core import lifecycle

        job = self.job
        async with self._client() as client:
            if job.key is None:
                await lifecycle.cancel(client, job.system, job.job_id)
            else:
                await lifecycle.cancel_epoch(client, job.system, job.working_directory, job.key.identity, job.key.epoch)

    # --- once more --------------------------------------------------------------------------------------

    def resume(self) -> FirecRESTJobRun:
        """Return a run to go on with: this job while it is alive or if it ended well, else a new one in its place.

        :raises JobWithdrawn: it was cancelled
        """
        return run(self._resume())

    async def aresume(self) -> FirecRESTJobRun:
        """Do what :meth:`resume` does, in a coroutine."""
        return await arun(self._resume())

    async def _resume(self) -> FirecRESTJobRun:
        from firecrest_core import lifecycle
        from firecrest_core.states import JobState
        from prefect_firecrest import display

        key = self.job.key
        async with self._client() as client:
            if key is not None:
                job = await lifecycle.resume(client, self.system, self.spec, key)
            else:
                seen = await lifecycle.status(client, self.job)
                if not seen.settled or seen.state is JobState.COMPLETED:
                    return self
                job = await lifecycle.submit(client, self.system, self.spec)
        if job.job_id != self.job_id:
            display.submitted(job)
            self.logger.info("%s was submitted in the place of job %s.", job, self.job_id)
        again = copy(self)
        again.job, again._result = job, None
        return again

    # --- the credentials ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[FirecRESTClient]:
        async with shared_client(await self._connection()) as client:
            yield client

    async def _connection(self) -> Connection:
        if isinstance(self._credentials, str):
            self._credentials = await FirecRESTCredentials.aload(self._credentials)
        if not self._credentials.client_secret.get_secret_value():
            raise ConfigurationError(
                f"{self.job} on {self.system} was handed over without the client's secret, which is never stored with "
                "a result. Save the credentials as a block (FirecRESTCredentials.save), and it is read from there."
            )
        return self._credentials.connection()

    def __copy__(self) -> Self:
        again = type(self).__new__(type(self))
        again.__dict__.update(self.__dict__)
        return again

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()  # within a process the secret stays; the parts do not change

    def __getstate__(self) -> dict[str, Any]:
        kept = self._credentials
        if isinstance(kept, FirecRESTCredentials):
            saved_as = kept.saved_as
            kept = saved_as or kept.model_copy(update={"client_secret": SecretStr("")})
        return {**self.__dict__, "_credentials": kept}
