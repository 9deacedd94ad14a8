"""What a job leaves in the XCom, in JSON types and below 10 kB for an array of any size; what else may be put there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firecrest_core.result import JobResult


HOOK_RESULTS = (
    "firecrest_core.api.models.FileInfo",
    "firecrest_core.api.models.SystemInfo",
    "firecrest_core.jobs.job.Job",
    "firecrest_core.jobs.status.JobStatus",
    "firecrest_core.result.JobResult",
    "firecrest_core.spec.jobspec.JobSpec",
    "firecrest_core.transfer.pending.Transferred",
)
"""What the hook's methods take and return. A task may return it, and the next one gets it as it was."""


def job_mapping(result: JobResult) -> dict[str, Any]:
    """Return how a job ended in JSON types.

    ``jobId`` is what CSCS's tutorial operators call ``job_id``. Times are texts of ISO 8601, in UTC. Of an array,
    ``stdout`` and ``stderr`` are patterns that its elements' files match, such as ``slurm-57_*.out``.

    :param result: the job's
    """
    from firecrest_core.result import index_as_glob

    return {
        "jobId": result.job_id,
        "job_id": result.job_id,
        "system": result.system,
        "name": result.name,
        "state": result.state.value,
        "reason": result.reason,
        "exit_code": result.exit_code,
        "submit_time": _time(result.submitted_at),
        "start_time": _time(result.started_at),
        "end_time": _time(result.ended_at),
        "elapsed": result.elapsed,
        "partition": result.partition,
        "nodes": result.nodes,
        "node_count": result.node_count,
        "node_hours": None if result.node_hours is None else round(result.node_hours, 4),
        "usage": None if result.usage is None else result.usage.to_dict(),
        "element_counts": {state.value: count for state, count in result.element_counts.items()},
        "failed_indices": str(result.failed_indices),
        "course": None if result.course is None else result.course.to_dict(),
        "working_directory": result.working_dir,
        "stdout": index_as_glob(result.stdout),
        "stderr": index_as_glob(result.stderr),
    }


def _time(unix: float | None) -> str | None:
    if unix is None:
        return None
    try:
        return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):  # a number of the scheduler that is no time
        return None
