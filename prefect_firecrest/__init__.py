"""FirecREST for Prefect: blocks, tasks and flows that run HPC jobs and move their files.

Prefect imports this module in every process that loads its collections, so that it knows the blocks here. Tasks and
flows are imported when they are used, and so is the HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.job_runs import FirecRESTJobRun
from prefect_firecrest.jobs import FirecRESTJob
from prefect_firecrest.retries import is_retryable

if TYPE_CHECKING:
    from prefect_firecrest.array import arun_array, run_array
    from prefect_firecrest.decorators import firecrest
    from prefect_firecrest.flows import arun_job, run_job
    from prefect_firecrest.hooks import cancel_jobs
    from prefect_firecrest.observability.assets import local_asset
    from prefect_firecrest.suspension import asuspend_until_ended, suspend_until_ended
    from prefect_firecrest.sweep import arun_jobs, run_jobs
    from prefect_firecrest.tasks import (
        acancel_job,
        adelete_files,
        adownload_files,
        afetch_outputs,
        afind_job,
        alist_files,
        amake_directory,
        asubmit_job,
        aupload_files,
        await_for_file,
        await_for_job,
        cancel_job,
        delete_files,
        download_files,
        fetch_outputs,
        find_job,
        list_files,
        make_directory,
        submit_job,
        upload_files,
        wait_for_file,
        wait_for_job,
    )

__all__ = [
    "FirecRESTCredentials",
    "FirecRESTJob",
    "FirecRESTJobRun",
    "acancel_job",
    "adelete_files",
    "adownload_files",
    "afetch_outputs",
    "afind_job",
    "alist_files",
    "amake_directory",
    "arun_array",
    "arun_job",
    "arun_jobs",
    "asubmit_job",
    "asuspend_until_ended",
    "aupload_files",
    "await_for_file",
    "await_for_job",
    "cancel_job",
    "cancel_jobs",
    "delete_files",
    "download_files",
    "fetch_outputs",
    "find_job",
    "firecrest",
    "is_retryable",
    "list_files",
    "local_asset",
    "make_directory",
    "run_array",
    "run_job",
    "run_jobs",
    "submit_job",
    "suspend_until_ended",
    "upload_files",
    "wait_for_file",
    "wait_for_job",
]


_MODULES = {
    "arun_array": "array",
    "arun_job": "flows",
    "arun_jobs": "sweep",
    "asuspend_until_ended": "suspension",
    "cancel_jobs": "hooks",
    "firecrest": "decorators",
    "local_asset": "observability.assets",
    "run_array": "array",
    "run_job": "flows",
    "run_jobs": "sweep",
    "suspend_until_ended": "suspension",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'tasks')}"), name)
