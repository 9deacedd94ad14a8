"""Flows: a job with its files, from one side to the other and back."""

# No `from __future__ import annotations`: Prefect validates a flow's parameters by its annotations, and where a task
# runner has brought the flow into another process, it has the classes but not this module to look their names up in.

import posixpath

from prefect import flow

from firecrest_core.result import JobResult
from prefect_firecrest.jobs import FirecRESTJob
from prefect_firecrest.tasks import (
    adownload_files,
    asubmit_job,
    aupload_files,
    await_for_job,
    download_files,
    submit_job,
    upload_files,
    wait_for_job,
)


@flow(flow_run_name="run {job.job_name}")
def run_job(
    job: FirecRESTJob,
    *,
    local_files: list[str] | None = None,
    remote_files: list[str] | None = None,
    local_directory: str = ".",
) -> JobResult:
    """Stage files in, submit a job, wait for its end, and fetch what it left.

    :param local_files: files and directories to copy to the job's working directory first, which is then made if it
        is missing
    :param remote_files: files and directories to fetch when the job has ended well, relative to its working directory
        or absolute
    :param local_directory: where those go
    :returns: how the job ended
    :raises JobFailed: it ended otherwise than COMPLETED; with state, exit code and its last lines of output
    """
    if local_files:
        upload_files(job.credentials, local_files, job.working_dir, system=job.system, account=job.account)
    result = wait_for_job(submit_job(job))
    if remote_files:
        sources = [posixpath.join(job.working_dir, path) for path in remote_files]
        download_files(job.credentials, sources, local_directory, system=job.system, account=job.account)
    return result


@flow(flow_run_name="run {job.job_name}")
async def arun_job(
    job: FirecRESTJob,
    *,
    local_files: list[str] | None = None,
    remote_files: list[str] | None = None,
    local_directory: str = ".",
) -> JobResult:
    """Do what ``run_job`` does, in a coroutine."""
    if local_files:
        await aupload_files(job.credentials, local_files, job.working_dir, system=job.system, account=job.account)
    result = await await_for_job(await asubmit_job(job))
    if remote_files:
        sources = [posixpath.join(job.working_dir, path) for path in remote_files]
        await adownload_files(job.credentials, sources, local_directory, system=job.system, account=job.account)
    return result
