"""The hook: an Airflow connection, and what can be done with it from a task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.hooks import connection as stored_connection
from firecrest_core.errors import ConfigurationError, FirecRESTError

if TYPE_CHECKING:
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.connection import Connection
    from firecrest_core.job import Job
    from firecrest_core.jobspec import JobSpec
    from firecrest_core.models import FileInfo, SystemInfo
    from firecrest_core.progress import Progress
    from firecrest_core.result import JobResult
    from firecrest_core.transfer import Transferred

    LocalPath = str | PathLike[str]

T = TypeVar("T")


class FirecRESTHook(BaseHook):
    """Run jobs and move files on HPC systems behind a FirecREST v2.

    Every method exists twice: ``submit`` for a function that waits, ``asubmit`` for a coroutine, and so on.
    Where ``system`` is left out, the connection's default system is meant. What the user has to mend (a path, a
    script, a partition, a credential) raises an exception that ends the task without a retry; all errors are
    also the types of :mod:`firecrest_core.errors`::

        @task
        def energy() -> float:
            hook = FirecRESTHook()
            job = hook.submit(script=SCRIPT, working_dir="/scratch/me/si")
            hook.wait(job)
            hook.download("/scratch/me/si/si.out", "si.out")

    :param firecrest_conn_id: an Airflow connection of the type ``firecrest``
    """

    conn_name_attr = "firecrest_conn_id"
    default_conn_name = "firecrest_default"
    conn_type = "firecrest"
    hook_name = "FirecREST"

    def __init__(self, firecrest_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.firecrest_conn_id = firecrest_conn_id
        self._connection: Connection | None = None

    # --- connection ---------------------------------------------------------------------------------

    def connection(self) -> Connection:
        """Return where FirecREST is and as whom to speak to it.

        :raises ConfigurationError: when the Airflow connection is missing or incomplete
        """
        if self._connection is None:
            from airflow.sdk.log import mask_secret

            try:
                stored = self.get_connection(self.firecrest_conn_id)
            except AirflowNotFoundException:
                raise task_error(self._missing()) from None
            self._connection = self._read(stored, stored.extra_dejson)
            mask_secret(self._connection.client_secret)
        return self._connection

    async def aconnection(self) -> Connection:
        """Do what :meth:`connection` does, inside an event loop."""
        if self._connection is None:
            from airflow.sdk.log import amask_secret

            try:
                stored = await self.aget_connection(self.firecrest_conn_id)
            except AirflowNotFoundException:
                raise task_error(self._missing()) from None
            self._connection = self._read(stored, await stored.aextra_dejson())
            await amask_secret(self._connection.client_secret)
        return self._connection

    def _missing(self) -> ConfigurationError:
        return ConfigurationError(
            f"Airflow finds no connection {self.firecrest_conn_id!r} that it can read: create one of the type "
            "'firecrest', or name another with firecrest_conn_id."
        )

    def _read(self, stored: Any, extra: dict[str, Any]) -> Connection:
        try:
            return stored_connection.read(stored, extra)
        except ConfigurationError as error:
            raise task_error(error) from None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[FirecRESTClient]:
        """Open the core's client, for what this hook has no method for. It belongs to one event loop."""
        from airflow_provider_firecrest.hooks.client import MaskedClient, client_type

        try:
            async with client_type(self.firecrest_conn_id, MaskedClient)(await self.aconnection()) as client:
                yield client
        except FirecRESTError as error:
            raise task_error(error) from None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of this hook's coroutines to its end."""
        from firecrest_core.sync import run

        try:
            # Airflow's own call to its supervisor blocks: better before the event loop than inside it.
            self.connection()
            return run(coroutine)
        except FirecRESTError as error:
            # What lies behind is asyncio's and httpx's stack, which says nothing to the reader of a task's log.
            raise task_error(error) from None
        finally:
            coroutine.close()

    def test_connection(self) -> tuple[bool, str]:
        """Say which systems answer, and as whom."""
        try:
            return True, self.run(self._who())
        except FirecRESTError as error:
            return False, str(error)

    async def _who(self) -> str:
        async with self.client() as client:
            seen = []
            for system in await client.get_systems():
                try:
                    state = f"answers as {(await client.get_userinfo(system.name)).name!r}"
                except FirecRESTError as error:
                    state = f"does not answer: {error}"
                if system.unhealthy:
                    state += f" (unhealthy: {', '.join(one.service_type for one in system.unhealthy)})"
                seen.append(f"{system.name} {state}")
            return f"{client.connection.url}: {'; '.join(seen) or 'no system is configured'}"

    # --- jobs -----------------------------------------------------------------------------------------

    def submit(
        self, job: JobSpec | Mapping[str, Any] | None = None, *, system: str | None = None, **fields: Any
    ) -> Job:
        """Submit a job and return as soon as the scheduler has taken it.

        :param job: a ``JobSpec``, or its fields as a mapping
        :param fields: fields of a ``JobSpec``, instead of ``job`` or to change it: ``script``, ``working_dir``,
            ``nodes``, ``time_limit``, …
        :raises SubmissionRejected: the scheduler refused it, in its own words
        :raises InvalidJobSpec: naming the field that cannot be right
        """
        return self.run(self.asubmit(job, system=system, **fields))

    async def asubmit(
        self, job: JobSpec | Mapping[str, Any] | None = None, *, system: str | None = None, **fields: Any
    ) -> Job:
        from firecrest_core import lifecycle

        async with self.client() as client:
            return await lifecycle.submit(client, client.connection.system_or_default(system), spec_of(job, fields))

    def job(self, job_id: str, *, system: str | None = None) -> Progress:
        """Return where a job is: its state, reason, nodes, elapsed seconds and, of an array, its elements.

        :raises JobNotFound: the scheduler does not know it
        """
        return self.run(self.ajob(job_id, system=system))

    async def ajob(self, job_id: str, *, system: str | None = None) -> Progress:
        from firecrest_core import lifecycle

        async with self.client() as client:
            job = await lifecycle.find(client, client.connection.system_or_default(system), job_id)
            return await lifecycle.status(client, job)

    def wait(
        self,
        job: Job | str,
        *,
        system: str | None = None,
        poll_interval: float = 10.0,
        timeout: float | None = None,
        check: bool = True,
        fail_if_stuck: bool = False,
    ) -> JobResult:
        """Wait for a job's end, with its story in the log. (The coroutine is ``await_``: Python owns ``await``.)

        :param job: what ``submit`` returned, or the id of any job
        :param poll_interval: seconds between two questions at the most
        :param timeout: seconds to wait; the job is left alone after that
        :param check: raise when the job ended otherwise than COMPLETED; ``False`` returns the result whatever it is
        :param fail_if_stuck: give up when the job can never start, instead of only warning; it stays in the queue
        :raises JobFailed: with state, exit code and the last lines of standard error
        :raises WaitTimedOut: after ``timeout``
        :raises JobStuck: if wanted
        """
        return self.run(
            self.await_(
                job,
                system=system,
                poll_interval=poll_interval,
                timeout=timeout,
                check=check,
                fail_if_stuck=fail_if_stuck,
            )
        )

    async def await_(
        self,
        job: Job | str,
        *,
        system: str | None = None,
        poll_interval: float = 10.0,
        timeout: float | None = None,
        check: bool = True,
        fail_if_stuck: bool = False,
    ) -> JobResult:
        from firecrest_core import lifecycle

        async with self.client() as client:
            if isinstance(job, str):
                job = await lifecycle.find(client, client.connection.system_or_default(system), job)
            result = await lifecycle.wait(
                client,
                job,
                poll_interval=poll_interval,
                timeout=timeout,
                story=self.log.info,
                fail_if_stuck=fail_if_stuck,
            )
            if not check or result.succeeded:
                return result
            stdout, stderr = await lifecycle.output_tail(client, result)
            return lifecycle.check(result, stderr, stdout)

    def cancel(self, job: Job | str, *, system: str | None = None) -> None:
        """Cancel a job. Cancelling one that has ended succeeds."""
        self.run(self.acancel(job, system=system))

    async def acancel(self, job: Job | str, *, system: str | None = None) -> None:
        from firecrest_core import lifecycle

        async with self.client() as client:
            if isinstance(job, str):
                await lifecycle.cancel(client, client.connection.system_or_default(system), job)
            else:
                await lifecycle.cancel(client, job.system, job.job_id)

    # --- files ------------------------------------------------------------------------------------------

    def upload(self, source: LocalPath, target: str, *, system: str | None = None) -> Transferred:
        """Copy a file to a system, whatever its size, and compare size and SHA-256 at the end.

        :param source: a local path, or an ``ObjectStoragePath``
        :param target: the file's path on the system, or a directory there
        """
        return self.run(self.aupload(source, target, system=system))

    async def aupload(self, source: LocalPath, target: str, *, system: str | None = None) -> Transferred:
        from firecrest_core import transfer

        async with self.client() as client:
            return await transfer.upload(client, client.connection.system_or_default(system), source, target)

    def download(self, source: str, target: LocalPath, *, system: str | None = None) -> Transferred:
        """Copy a file from a system. It appears under its name only when it is whole.

        :param source: the file's path on the system
        :param target: a local path or an ``ObjectStoragePath``; a file, or a directory that exists
        """
        return self.run(self.adownload(source, target, system=system))

    async def adownload(self, source: str, target: LocalPath, *, system: str | None = None) -> Transferred:
        from firecrest_core import transfer

        async with self.client() as client:
            return await transfer.download(client, client.connection.system_or_default(system), source, target)

    def list_files(self, path: str, *, system: str | None = None, hidden: bool = False) -> list[FileInfo]:
        """List a directory, or a file alone.

        :param hidden: names that begin with a dot, too
        :raises RemotePathNotFound: when it does not exist
        """
        return self.run(self.alist_files(path, system=system, hidden=hidden))

    async def alist_files(self, path: str, *, system: str | None = None, hidden: bool = False) -> list[FileInfo]:
        async with self.client() as client:
            return await client.ls(client.connection.system_or_default(system), path, hidden=hidden)

    # --- systems ------------------------------------------------------------------------------------------

    def systems(self) -> list[SystemInfo]:
        """Return the systems behind this FirecREST, with their health and limits."""
        return self.run(self.asystems())

    async def asystems(self) -> list[SystemInfo]:
        async with self.client() as client:
            return await client.get_systems()


def spec_of(job: JobSpec | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> JobSpec:
    """Return a specification from one, or a mapping of its fields, and fields that count more.

    :raises InvalidJobSpec: naming the field that cannot be right
    """
    from firecrest_core.jobspec import JobSpec

    given = job.to_mapping() if isinstance(job, JobSpec) else dict(job or {})
    return JobSpec.from_mapping(given | {name: value for name, value in fields.items() if value is not None})
