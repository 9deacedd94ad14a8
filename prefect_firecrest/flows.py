"""Flows: a job with its files, staged in and fetched back."""

# No `from __future__ import annotations`: Prefect validates a flow's parameters by its annotations, and where a task
# runner has brought the flow into another process, it has the classes but not this module to look their names up in.

from dataclasses import replace
from typing import Literal

from prefect import flow

from firecrest_core.errors import JobFailed
from firecrest_core.result import JobResult
from firecrest_core.transfer import Transferred
from prefect_firecrest.files import check_files
from prefect_firecrest.hooks import cancel_jobs
from prefect_firecrest.jobs import FirecRESTJob
from prefect_firecrest.runtime import runtime
from prefect_firecrest.suspension import Suspension
from prefect_firecrest.tasks import (
    adownload_files,
    afetch_outputs,
    asubmit_job,
    aupload_files,
    await_for_job,
    download_files,
    fetch_outputs,
    submit_job,
    upload_files,
    wait_for_job,
)


@flow(flow_run_name="run {job.job_name}", on_cancellation=[cancel_jobs])
def run_job(
    job: FirecRESTJob,
    *,
    inputs: dict[str, str] | None = None,
    outputs: dict[str, str] | None = None,
    local_files: list[str] | None = None,
    remote_files: list[str] | None = None,
    local_directory: str = ".",
    wait: Literal["process", "suspend"] = "process",
) -> JobResult:
    """Stage files in, submit a job, wait for its end, and fetch what it left.

    :param inputs: files and directories to send before the job is submitted: for each path on this side the path on the
        system. A flow run that is run again and finds its job does not send them again
    :param outputs: files and directories to fetch when the job has ended: for each path on the system, also with
        wildcards, the path on this side; ``{job_id}`` stands for the job's id. Of a job that failed, those that are
        there. In both, paths on the system are as in ``remote_files``. A target that ends in ``/`` or is a directory
        takes a file under its own name; a directory becomes the target itself, and is merged into one that is there
    :param local_files: files and directories to copy to the job's working directory first, which is then made if it
        is missing
    :param remote_files: files and directories to fetch when the job has ended well, relative to its working directory,
        or absolute, or from ``~`` or a variable, also with wildcards (``*.out``, ``results/**/*.json``); ``{job_id}``
        stands for the job's id
    :param local_directory: where those go
    :param wait: ``process`` waits in this process. ``suspend`` suspends the flow run and ends its process; when the job
        has ended, the flow run is resumed and begins anew. That takes a deployment, credentials that were saved, and
        ``python -m prefect_firecrest.reconcile`` somewhere.
    :returns: how the job ended; its ``fetched`` are the paths of what was fetched
    :raises InvalidFileName: two files have one name and one directory to go to; then no job is submitted
    :raises ConfigurationError: ``suspend``, and something of that is missing
    :raises JobFailed: it ended otherwise than COMPLETED; with state, exit code and its last lines of output
    """
    sources = check_files(
        job.working_dir, job.alternatives, inputs, outputs, local_files, remote_files, local_directory
    )
    suspension = runtime.run(Suspension.of([job])) if wait == "suspend" else None
    is_staged = runtime.run(suspension.has_waited_for([job])) if suspension else False
    if local_files and not is_staged:  # the job may have changed what was staged in for it
        upload_files(job.credentials, local_files, job.working_dir, system=job.system, account=job.account)
    job_run = submit_job(job, inputs=inputs)
    try:
        if suspension:
            [job_run] = runtime.run(suspension.until_ended([job_run]))
            result = wait_for_job.with_options(retries=0)(job_run)
        else:
            result = wait_for_job(job_run)
    except JobFailed as error:
        if outputs:
            fetch_outputs(job.credentials, error.result, outputs, account=job.account)
        raise
    if outputs:
        result = _with(result, fetch_outputs(job.credentials, result, outputs, account=job.account))
    if sources:
        sources = [path.replace("{job_id}", result.job_id) for path in sources]
        files = download_files(job.credentials, sources, local_directory, system=job.system, account=job.account)
        result = _with(result, files)
    return result


@flow(flow_run_name="run {job.job_name}", on_cancellation=[cancel_jobs])
async def arun_job(
    job: FirecRESTJob,
    *,
    inputs: dict[str, str] | None = None,
    outputs: dict[str, str] | None = None,
    local_files: list[str] | None = None,
    remote_files: list[str] | None = None,
    local_directory: str = ".",
    wait: Literal["process", "suspend"] = "process",
) -> JobResult:
    """Do what ``run_job`` does, in a coroutine."""
    sources = check_files(
        job.working_dir, job.alternatives, inputs, outputs, local_files, remote_files, local_directory
    )
    suspension = await runtime.arun(Suspension.of([job])) if wait == "suspend" else None
    is_staged = await runtime.arun(suspension.has_waited_for([job])) if suspension else False
    if local_files and not is_staged:
        await aupload_files(job.credentials, local_files, job.working_dir, system=job.system, account=job.account)
    job_run = await asubmit_job(job, inputs=inputs)
    try:
        if suspension:
            [job_run] = await runtime.arun(suspension.until_ended([job_run]))
            result = await await_for_job.with_options(retries=0)(job_run)
        else:
            result = await await_for_job(job_run)
    except JobFailed as error:
        if outputs:
            await afetch_outputs(job.credentials, error.result, outputs, account=job.account)
        raise
    if outputs:
        result = _with(result, await afetch_outputs(job.credentials, result, outputs, account=job.account))
    if sources:
        sources = [path.replace("{job_id}", result.job_id) for path in sources]
        files = await adownload_files(job.credentials, sources, local_directory, system=job.system, account=job.account)
        result = _with(result, files)
    return result


def _with(result: JobResult, files: list[Transferred]) -> JobResult:
    return replace(result, fetched=(*result.fetched, *(file.local for file in files)))
