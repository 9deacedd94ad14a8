"""The points of a sweep as one job array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from firecrest_core.result import JobResult
from prefect_firecrest.jobs import FirecRESTJob
from prefect_firecrest.sweep import arun_jobs, run_jobs


def run_array(job: FirecRESTJob, over: Sequence[Mapping[str, Any]], **options: Any) -> list[JobResult]:
    """Run a job for each point of a sweep, all of them as one job array, in a run of the flow ``run_jobs``.

    Hundreds of points are one submission, and one question for all jobs is enough to wait for them. More than 1000 are
    as few arrays as possible, all at the same time.

    :param job: what each element runs, without ``array`` and ``script_path``
    :param over: for each element the values of its point by name, such as ``[{"SEED": 1}, {"SEED": 2}]``. The element
        finds each value in the variable of its name: a text as it is, anything else as JSON
    :param options: those of ``run_jobs``: ``inputs``, ``outputs``, ``local_files``, ``remote_files``,
        ``local_directory``, ``wait``
    :returns: how each array ended, with its ``elements``; one result for up to 1000 points
    :raises InvalidJobSpec: the points, or the job, cannot be right
    :raises ExceptionGroup: elements failed; raised when all others are done
    """
    results: list[JobResult] = run_jobs(list(_arrays(job, over)), **options)
    return results


async def arun_array(job: FirecRESTJob, over: Sequence[Mapping[str, Any]], **options: Any) -> list[JobResult]:
    """Do what ``run_array`` does, in a coroutine."""
    results: list[JobResult] = await arun_jobs(list(_arrays(job, over)), **options)
    return results


def _arrays(job: FirecRESTJob, over: Sequence[Mapping[str, Any]]) -> Iterator[FirecRESTJob]:
    from firecrest_core.chain import Chain
    from firecrest_core.errors import InvalidJobSpec
    from firecrest_core.spec.points import in_arrays, over_points

    parts = in_arrays(over)
    if job.chain is not None:
        Chain.parse(job.chain).check_elements()
        if len(parts) > 1:  # element 0 of each would go on from the checkpoints of the others
            raise InvalidJobSpec("chain", "these points are several arrays, whose indices are the same; give fewer")
    for part in parts:
        spec = over_points(job.spec(), part)
        yield job.model_copy(update={"array": spec.array, "setup": list(spec.setup)})
