"""Tasks: submit a job, wait for it, cancel it, and move its files; each has an asynchronous twin.

They carry the tag ``firecrest`` and are retried where that can help. Their results are never taken from Prefect's
cache, since the claim on the system says what has run already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import prefect.runtime.task_run
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from firecrest_core.api.models import FileInfo
from firecrest_core.errors import ConfigurationError
from firecrest_core.result import JobResult
from firecrest_core.transfer import LocalPath, Transferred
from firecrest_core.transfer.localside import StoredPath
from prefect_firecrest import files
from prefect_firecrest.arguments import checked
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.job_runs import FirecRESTJobRun
from prefect_firecrest.jobs import FirecRESTJob
from prefect_firecrest.prefect_internals import tasks_change_process
from prefect_firecrest.retries import is_retryable
from prefect_firecrest.rollback import acancel_submitted, cancel_submitted, remember_submitted
from prefect_firecrest.runtime import runtime

_SHARED: dict[str, Any] = {
    "tags": ["firecrest"],
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(10),
    "retry_condition_fn": is_retryable,
}

# --- jobs -------------------------------------------------------------------------------------------------


def _submit_name() -> str:
    return f"submit {_attribute_of('job', 'job_name')}"


def _attribute_of(parameter: str, name: str) -> str:
    # What is given in its place is refused later.
    return getattr(prefect.runtime.task_run.parameters[parameter], name, parameter)


@task(task_run_name=_submit_name, **_SHARED)
@checked
def submit_job(job: FirecRESTJob, *, inputs: Mapping[str, str] | None = None) -> FirecRESTJobRun:
    """Submit a job and return as soon as the scheduler has taken it.

    A retry of the task, and a flow run that is run again, get the job that is alive or ended well; one that failed is
    submitted once more. Calls of one flow run that ask for exactly the same differ by their number.

    In a transaction that is rolled back by an error, the job is cancelled.

    :param inputs: files and directories to send before the job is submitted, as in ``run_job``. A retry that gets a job
        that exists does not send them
    :raises ConfigurationError: another process may get the job's run, and could not sign in; nothing is submitted
    :raises SubmissionRejected: the scheduler refused it, in its own words
    :raises RemotePathNotFound: the working directory does not exist
    :raises JobWithdrawn: the flow run was cancelled
    """
    _check_that_it_can_be_handed_over(job)
    return remember_submitted(job.trigger(inputs))


submit_job.on_rollback(cancel_submitted)


@task(task_run_name=_submit_name, **_SHARED)
@checked
async def asubmit_job(job: FirecRESTJob, *, inputs: Mapping[str, str] | None = None) -> FirecRESTJobRun:
    """Do what ``submit_job`` does, in a coroutine."""
    _check_that_it_can_be_handed_over(job)
    return remember_submitted(await job.atrigger(inputs))


asubmit_job.on_rollback(acancel_submitted)  # type: ignore[arg-type]  # coroutines are awaited


def _check_that_it_can_be_handed_over(job: FirecRESTJob) -> None:
    if job.credentials.saved_as is None and tasks_change_process():
        raise ConfigurationError(
            "This flow's task runner runs tasks in other processes, and credentials that were never saved stay in "
            "one: nothing was submitted. Save them as a block (FirecRESTCredentials.save) and load it."
        )


@task(task_run_name="wait for {run}", **_SHARED)
@checked
def wait_for_job(run: FirecRESTJobRun, *, timeout: float | None = None, fail_if_stuck: bool = False) -> JobResult:
    """Wait for a job's end; its progress goes to the run's log.

    All tasks of a process that wait share one request an interval. When the job has lost its node or was preempted, the
    retry submits it once more and waits for the new one.

    :param timeout: seconds to wait; the job is left alone after that
    :param fail_if_stuck: fail when the job can never start, instead of only warning; it stays in the queue
    :raises JobFailed: it ended otherwise than COMPLETED; with state, exit code and its last lines of output
    :raises JobStuck: it can never start; only with ``fail_if_stuck``
    :raises WaitTimedOut: after ``timeout``
    """
    if prefect.runtime.task_run.run_count > 1:
        run = run.resume()
    run.wait_for_completion(timeout, fail_if_stuck=fail_if_stuck)
    return run.fetch_result()


@task(task_run_name="wait for {run}", **_SHARED)
@checked
async def await_for_job(
    run: FirecRESTJobRun, *, timeout: float | None = None, fail_if_stuck: bool = False
) -> JobResult:
    """Do what ``wait_for_job`` does, in a coroutine."""
    if prefect.runtime.task_run.run_count > 1:
        run = await run.aresume()
    await run.await_for_completion(timeout, fail_if_stuck=fail_if_stuck)
    return await run.afetch_result()


@task(task_run_name="find job {job_id}", **_SHARED)
@checked
def find_job(
    credentials: FirecRESTCredentials, job_id: str, *, system: str | None = None, poll_interval: float = 10.0
) -> FirecRESTJobRun:
    """Return a job that somebody else submitted: another program, or a person by hand.

    It belongs to whoever submitted it: no end of a flow run cancels it, and no retry submits it again.

    :param job_id: the job's id
    :param system: the system that it is on; that of the credentials if left out
    :param poll_interval: seconds between two queries of its state at the most
    :raises JobNotFound: the scheduler does not know it
    """
    return runtime.run(FirecRESTJobRun.find(credentials, job_id, system, poll_interval))


@task(task_run_name="find job {job_id}", **_SHARED)
@checked
async def afind_job(
    credentials: FirecRESTCredentials, job_id: str, *, system: str | None = None, poll_interval: float = 10.0
) -> FirecRESTJobRun:
    """Do what ``find_job`` does, in a coroutine."""
    return await runtime.arun(FirecRESTJobRun.find(credentials, job_id, system, poll_interval))


@task(task_run_name="cancel {run}", **_SHARED)
@checked
def cancel_job(run: FirecRESTJobRun) -> None:
    """Cancel a job, and whatever else was or will be submitted in its place. One that has ended is no error."""
    run.cancel()


@task(task_run_name="cancel {run}", **_SHARED)
@checked
async def acancel_job(run: FirecRESTJobRun) -> None:
    """Do what ``cancel_job`` does, in a coroutine."""
    await run.acancel()


# --- files ------------------------------------------------------------------------------------------------


def _upload_name() -> str:
    return f"upload {_summarize(prefect.runtime.task_run.parameters['local_files'])}"


def _download_name() -> str:
    return f"download {_summarize(prefect.runtime.task_run.parameters['remote_files'])}"


def _fetch_name() -> str:
    return f"fetch outputs of job {_attribute_of('result', 'job_id')}"


def _summarize(files: Any) -> str:
    # Whole paths are too long for the graph of a flow run.
    files = files if isinstance(files, Sequence) and not isinstance(files, str) else [files]
    first = str(files[0]).rstrip("/").rpartition("/")[2] if files else "nothing"
    return f"{first} and {len(files) - 1} more" if len(files) > 1 else first


@task(task_run_name=_upload_name, **_SHARED)
@checked
def upload_files(
    credentials: FirecRESTCredentials,
    local_files: LocalPath | Sequence[LocalPath],
    remote_directory: str,
    *,
    system: str | None = None,
    account: str | None = None,
) -> list[Transferred]:
    """Copy files and directories to a system, whatever their size, and compare size and SHA-256.

    :param local_files: local paths, or path objects of an object store
    :param remote_directory: path of the directory that takes them under their own names; made if missing
    :param system: the system; that of the credentials if left out
    :param account: the account to charge for transfer jobs, where the site asks for one
    :returns: for each its ``local`` and ``remote`` path, ``size`` (bytes) and ``sha256``
    """
    return runtime.run(files.upload(credentials, local_files, remote_directory, system, account))


@task(task_run_name=_upload_name, **_SHARED)
@checked
async def aupload_files(
    credentials: FirecRESTCredentials,
    local_files: LocalPath | Sequence[LocalPath],
    remote_directory: str,
    *,
    system: str | None = None,
    account: str | None = None,
) -> list[Transferred]:
    """Do what ``upload_files`` does, in a coroutine."""
    return await runtime.arun(files.upload(credentials, local_files, remote_directory, system, account))


@task(task_run_name=_download_name, **_SHARED)
@checked
def download_files(
    credentials: FirecRESTCredentials,
    remote_files: str | Sequence[str],
    local_directory: str | Path | StoredPath,
    *,
    system: str | None = None,
    account: str | None = None,
    max_unpacked_size: int | None = None,
    max_unpacked_files: int | None = None,
) -> list[Transferred]:
    """Copy files and directories from a system. A file appears under its name only when it is whole.

    :param remote_files: paths on the system: absolute, from ``~`` or a variable such as ``$SCRATCH``, or relative to
        the base directory of the credentials, also with wildcards: ``*.out``, ``results/**/*.json``
    :param local_directory: the directory that takes them under their own names: a local path, or a path object of an
        object store; made if missing. What wildcards match keeps the directories that they stand for
    :param system: the system; that of the credentials if left out
    :param account: the account to charge for transfer jobs, where the site asks for one
    :param max_unpacked_size: bytes that a directory may have in all; nine tenths of the free disk if left out
    :param max_unpacked_files: how many files a directory may have in all; a million if left out
    :returns: for each its ``local`` and ``remote`` path, ``size`` (bytes) and ``sha256``
    """
    return runtime.run(
        files.download(
            credentials,
            remote_files,
            local_directory,
            system=system,
            account=account,
            max_unpacked_size=max_unpacked_size,
            max_unpacked_files=max_unpacked_files,
        )
    )


@task(task_run_name=_download_name, **_SHARED)
@checked
async def adownload_files(
    credentials: FirecRESTCredentials,
    remote_files: str | Sequence[str],
    local_directory: str | Path | StoredPath,
    *,
    system: str | None = None,
    account: str | None = None,
    max_unpacked_size: int | None = None,
    max_unpacked_files: int | None = None,
) -> list[Transferred]:
    """Do what ``download_files`` does, in a coroutine."""
    return await runtime.arun(
        files.download(
            credentials,
            remote_files,
            local_directory,
            system=system,
            account=account,
            max_unpacked_size=max_unpacked_size,
            max_unpacked_files=max_unpacked_files,
        )
    )


@task(task_run_name=_fetch_name, **_SHARED)
@checked
def fetch_outputs(
    credentials: FirecRESTCredentials, result: JobResult, outputs: Mapping[str, str], *, account: str | None = None
) -> list[Transferred]:
    """Fetch what a job has left. Of a job that failed, that is what is there.

    :param result: how the job ended
    :param outputs: for each path on the system the path on this side, as in ``run_job``
    :param account: the account to charge for transfer jobs, where the site asks for one
    :returns: for each its ``local`` and ``remote`` path, ``size`` (bytes) and ``sha256``
    """
    return runtime.run(files.fetch_outputs(credentials, result, outputs, account))


@task(task_run_name=_fetch_name, **_SHARED)
@checked
async def afetch_outputs(
    credentials: FirecRESTCredentials, result: JobResult, outputs: Mapping[str, str], *, account: str | None = None
) -> list[Transferred]:
    """Do what ``fetch_outputs`` does, in a coroutine."""
    return await runtime.arun(files.fetch_outputs(credentials, result, outputs, account))


@task(task_run_name="list {path}", **_SHARED)
@checked
def list_files(
    credentials: FirecRESTCredentials, path: str, *, system: str | None = None, hidden: bool = False
) -> list[FileInfo]:
    """List a directory on a system, or a file alone.

    :param path: as for ``download_files``
    :param hidden: names that begin with a dot, too
    :raises RemotePathNotFound: when it does not exist
    """
    return runtime.run(files.list_directory(credentials, path, system, hidden))


@task(task_run_name="list {path}", **_SHARED)
@checked
async def alist_files(
    credentials: FirecRESTCredentials, path: str, *, system: str | None = None, hidden: bool = False
) -> list[FileInfo]:
    """Do what ``list_files`` does, in a coroutine."""
    return await runtime.arun(files.list_directory(credentials, path, system, hidden))


@task(task_run_name="wait for {path}", **_SHARED)
@checked
def wait_for_file(
    credentials: FirecRESTCredentials,
    path: str,
    *,
    system: str | None = None,
    poll_interval: float = 10.0,
    timeout: float | None = None,
) -> None:
    """Wait until a file or directory exists on a system, or one that a pattern such as ``results/**/*.json`` matches.

    The file may still be written to. A program that writes to it slowly should rename it to its final name at the end.

    :param path: as for ``download_files``, also with wildcards
    :param system: the system; that of the credentials if left out
    :param poll_interval: seconds between two questions
    :param timeout: seconds to wait; without it, there is no limit
    :raises WaitTimedOut: nothing has come after ``timeout``
    """
    runtime.run(files.wait_for_file(credentials, path, system, poll_interval=poll_interval, timeout=timeout))


@task(task_run_name="wait for {path}", **_SHARED)
@checked
async def await_for_file(
    credentials: FirecRESTCredentials,
    path: str,
    *,
    system: str | None = None,
    poll_interval: float = 10.0,
    timeout: float | None = None,
) -> None:
    """Do what ``wait_for_file`` does, in a coroutine."""
    await runtime.arun(files.wait_for_file(credentials, path, system, poll_interval=poll_interval, timeout=timeout))


@task(task_run_name="make {path}", **_SHARED)
@checked
def make_directory(credentials: FirecRESTCredentials, path: str, *, system: str | None = None) -> str:
    """Make a directory on a system, and those above it. One that exists is no error.

    :param path: path on the system, as for ``download_files``
    :param system: the system; that of the credentials if left out
    :returns: the absolute path
    """
    return runtime.run(files.make_directory(credentials, path, system))


@task(task_run_name="make {path}", **_SHARED)
@checked
async def amake_directory(credentials: FirecRESTCredentials, path: str, *, system: str | None = None) -> str:
    """Do what ``make_directory`` does, in a coroutine."""
    return await runtime.arun(files.make_directory(credentials, path, system))


def _delete_name() -> str:
    return f"delete {_summarize(prefect.runtime.task_run.parameters['remote_files'])}"


def _may_be_missing(missing_ok: bool) -> bool:
    """Whether nothing at a path is no error: after an answer that was lost, an earlier try may have removed it."""
    return missing_ok or prefect.runtime.task_run.run_count > 1


@task(task_run_name=_delete_name, **_SHARED)
@checked
def delete_files(
    credentials: FirecRESTCredentials,
    remote_files: str | Sequence[str],
    *,
    system: str | None = None,
    missing_ok: bool = False,
) -> None:
    """Remove files and directory trees on a system.

    :param remote_files: paths on the system, as for ``download_files``, but without wildcards
    :param system: the system; that of the credentials if left out
    :param missing_ok: nothing at a path is no error
    :raises RemotePathNotFound: nothing is there
    """
    runtime.run(files.delete(credentials, remote_files, system, missing_ok=_may_be_missing(missing_ok)))


@task(task_run_name=_delete_name, **_SHARED)
@checked
async def adelete_files(
    credentials: FirecRESTCredentials,
    remote_files: str | Sequence[str],
    *,
    system: str | None = None,
    missing_ok: bool = False,
) -> None:
    """Do what ``delete_files`` does, in a coroutine."""
    await runtime.arun(files.delete(credentials, remote_files, system, missing_ok=_may_be_missing(missing_ok)))
