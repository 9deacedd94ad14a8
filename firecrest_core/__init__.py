"""HPC job lifecycles through the FirecREST v2 API, independent of Airflow and Prefect.

The names below are imported on first use: a DAG file that says ``from firecrest_core import JobSpec``
must not pay for an HTTP client while it is parsed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firecrest_core.api.client import FirecRESTClient, System
    from firecrest_core.api.models import FileInfo, JobInfo, SystemInfo
    from firecrest_core.chain import Chain
    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job
    from firecrest_core.result import JobResult
    from firecrest_core.spec.jobspec import JobSpec
    from firecrest_core.states import JobState

__all__ = [
    "Chain",
    "Connection",
    "FileInfo",
    "FirecRESTClient",
    "Job",
    "JobInfo",
    "JobResult",
    "JobSpec",
    "JobState",
    "System",
    "SystemInfo",
]

_HOME = {
    "Chain": "chain",
    "Connection": "connection",
    "FileInfo": "api.models",
    "FirecRESTClient": "api.client",
    "Job": "jobs.job",
    "JobInfo": "api.models",
    "JobResult": "result",
    "JobSpec": "spec.jobspec",
    "JobState": "states",
    "System": "api.client",
    "SystemInfo": "api.models",
}


def __getattr__(name: str) -> Any:
    try:
        module = import_module(f"{__name__}.{_HOME[name]}")
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(module, name)
