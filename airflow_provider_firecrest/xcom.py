"""What a job leaves in the XCom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firecrest_core.result import JobResult


def job_mapping(result: JobResult) -> dict[str, Any]:
    """Return how a job ended in JSON types.

    ``jobId`` is what CSCS's tutorial operators call ``job_id``.

    :param result: the job's
    """
    return {
        "jobId": result.job_id,
        "job_id": result.job_id,
        "system": result.system,
        "name": result.name,
        "state": result.state.value,
        "exit_code": result.exit_code,
        "elapsed": result.elapsed,
        "nodes": result.nodes,
        "working_directory": result.working_dir,
        "stdout": result.stdout,
        "stderr": result.stderr,
    }
