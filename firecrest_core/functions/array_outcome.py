"""What the elements of a function's array have left: their values in order, or one error for those that failed.

All their files are fetched as one archive, so many elements cost as few requests as one. An element that was done in an
earlier job of the task, which another one has followed, has left its file there; all jobs of a task use one directory.
"""

from __future__ import annotations

import asyncio
import logging
import math
import tempfile
from pathlib import Path
from typing import Any

from firecrest_core import transfer
from firecrest_core.api.backoff import delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.claim import CACHED
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.errors import FirecRESTError, FunctionFailed, JobFailed, RemotePathNotFound
from firecrest_core.functions.outcome import RAISED
from firecrest_core.functions.result_file import ResultFile
from firecrest_core.functions.result_place import ResultPlace, label
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.result import JobResult, index_list
from firecrest_core.states import JobState

log = logging.getLogger(__name__)

_ONE = Indices([range(1)])


async def array_result(
    system: System, result: JobResult, job: Job, place: ResultPlace, name: str, failure: JobFailed | None = None
) -> list[Any]:
    """Return what a function returned in each element of an array, in order.

    :param system: where the job ran
    :param result: how it ended
    :param job: the job; an array of one element is a plain job
    :param place: where the elements have left their results
    :param name: the function's name
    :param failure: the error for the end of the job, if it did not end well
    :returns: the values
    :raises FunctionFailed: elements failed; the cause is what the first of them raised, with the traceback there
    :raises JobFailed: ``failure``, if no element has raised anything
    :raises VersionMismatch: the Python, or a package, is another one where the first element that failed ran
    :raises PickleFailed: the function could not be unpickled there, or a result cannot be pickled or unpickled
    :raises ResultRefused: somebody else has written a file, or the connection's secret has changed
    """
    here, before = job.array_indices or _ONE, job.completed_indices or Indices()
    earlier = await _earlier_jobs(system, job) if before else []
    labels = {index: [label(result.job_id, index)] for index in here}
    labels |= {index: [label(job_id, index) for job_id in earlier] for index in before}
    certain = {*_certain(result, here | before, failed=failure is not None)}
    pauses = delays(CACHED)
    while True:
        contents = await _download(system, place.results)
        left = dict[int, ResultFile]()
        for index, names in labels.items():
            files = (
                ResultFile.read(contents[each], place, each, name, f"{place.results}/{each} on {system}")
                for each in names
                if each in contents
            )
            if file := next((file for file in files if file.has_value or index in here), None):
                left[index] = file
        pause = next(pauses, None)
        if certain <= left.keys() or pause is None:
            break
        late = index_list(Indices.of(certain - left.keys()))
        log.info("%s: no result of %s yet; what a compute node writes may show late.", place.results, late)
        await asyncio.sleep(pause)
    killed = result.failed_indices  # perhaps when they had left a value
    failed = [index for index in sorted(labels) if index in killed or index not in left or not left[index].has_value]
    if failed:
        count = f"{name}: {len(failed)} of {len(labels)} elements failed ({index_list(Indices.of(failed))})."
        for index in failed:
            if index in left and not left[index].has_value:
                raise _error_of(left[index], f"{count} Element {index}")
        raise failure or FunctionFailed(
            f"{count} Job {result.job_id} on {system} ended {result.state}, but they have left nothing in "
            f"{place.results}. Their processes ended before the function returned (os._exit?), or the compute nodes do "
            "not share the working directory."
        )
    if failure is not None:  # such as that of an earlier job of the task
        raise failure
    return [left[index].value() for index in sorted(labels)]


async def _earlier_jobs(system: System, job: Job) -> list[str]:
    """Return the ids of the task's jobs before this one, the newest first."""
    assert job.key is not None, "only jobs with a claim follow others"
    directory = ClaimDirectory(system, job.working_dir, job.key.identity)
    holders = (await retry_transient(directory.read, math.inf)).holders
    return [
        holder
        for (epoch, generation), holder in sorted(holders.items(), reverse=True)
        if epoch == job.key.epoch and generation < job.key.generation
    ]


def _certain(result: JobResult, indices: Indices, *, failed: bool) -> Indices:
    """Return the elements that must have left something, as far as the scheduler says how each of them ended."""
    if not result.groups:
        return indices if not failed or result.exit_code == RAISED else Indices()
    groups = (each for each in result.groups if each.state is JobState.COMPLETED or each.exit_code == RAISED)
    return Indices.joined(each.indices for each in groups) & indices


async def _download(system: System, path: str) -> dict[str, bytes]:
    """Return the content of each file in a directory by its name; nothing if there is no directory."""
    with tempfile.TemporaryDirectory(prefix="firecrest-") as directory:
        here = Path(directory, "results")
        try:
            await transfer.download(system, path, here, exact=True)
        except RemotePathNotFound:
            return {}
        return await asyncio.to_thread(lambda: {file.name: file.read_bytes() for file in here.iterdir()})


def _error_of(file: ResultFile, words: str) -> FirecRESTError:
    """Return the error of all elements that failed, of which a file shows the first."""
    error = file.error()
    if file.header.kind != "raised":
        assert isinstance(error, FirecRESTError)
        return type(error)(f"{words}: {error}")
    failed = FunctionFailed(f"{words} raised {file.header.summary}")
    failed.__cause__ = error
    return failed
