"""Flows for many jobs: staged in, submitted, waited for and fetched at the same time."""

# No `from __future__ import annotations`: Prefect validates a flow's parameters by its annotations, and where a task
# runner has brought the flow into another process, it has the classes but not this module to look their names up in.

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import prefect.runtime.flow_run
from prefect import flow

from firecrest_core.errors import InvalidFileName, JobFailed
from firecrest_core.result import JobResult
from firecrest_core.transfer import Transferred
from prefect_firecrest.files import check_files
from prefect_firecrest.hooks import cancel_jobs
from prefect_firecrest.job_runs import FirecRESTJobRun
from prefect_firecrest.jobs import FirecRESTJob
from prefect_firecrest.runtime import runtime
from prefect_firecrest.suspension import Suspension
from prefect_firecrest.tasks import adownload_files, afetch_outputs, asubmit_job, aupload_files, await_for_job

T = TypeVar("T")

_MOST_NAMED = 5


def _flow_run_name() -> str:
    return f"run {len(prefect.runtime.flow_run.parameters['jobs'])} jobs"


@flow(flow_run_name=_flow_run_name, on_cancellation=[cancel_jobs])
def run_jobs(
    jobs: list[FirecRESTJob],
    *,
    inputs: dict[str, str] | None = None,
    outputs: dict[str, str] | None = None,
    local_files: list[str] | None = None,
    remote_files: list[str] | None = None,
    local_directory: str = "{name}",
    wait: Literal["process", "suspend"] = "process",
) -> list[JobResult]:
    """Run many jobs at the same time, each as ``run_job`` does.

    A job that fails keeps none of the others from being waited for and fetched.

    :param jobs: the jobs, such as the points of a sweep
    :param inputs: files and directories to send before each job is submitted, as in ``run_job``
    :param outputs: files and directories to fetch of each job when it has ended, as in ``run_job``; in the paths on
        this side, ``{name}`` stands for the job's name, ``{number}`` for its place in ``jobs``, which counts from 0
    :param local_files: files and directories to copy to the working directory of each job first, which is then made if
        it is missing. Jobs that share a working directory share the copy
    :param remote_files: files and directories to fetch of each job that has ended well, as in ``run_job``
    :param local_directory: where those go, with ``{name}`` and ``{number}`` as in ``outputs``
    :param wait: as in ``run_job``; with ``suspend``, the flow run is suspended until all jobs have ended
    :returns: how the jobs ended, in the order of ``jobs``; the ``fetched`` of each are the paths of what was fetched
    :raises InvalidFileName: files of two jobs, or two of one, have the same place to go to; then no job is submitted
    :raises ConfigurationError: ``suspend``, and something that it takes is missing
    :raises ExceptionGroup: jobs failed, or could not be submitted or fetched; raised when all others are done
    """
    points = _points(jobs, inputs, outputs, local_files, remote_files, local_directory)
    return runtime.run(_run(points, local_files or [], wait))


@flow(flow_run_name=_flow_run_name, on_cancellation=[cancel_jobs])
async def arun_jobs(
    jobs: list[FirecRESTJob],
    *,
    inputs: dict[str, str] | None = None,
    outputs: dict[str, str] | None = None,
    local_files: list[str] | None = None,
    remote_files: list[str] | None = None,
    local_directory: str = "{name}",
    wait: Literal["process", "suspend"] = "process",
) -> list[JobResult]:
    """Do what ``run_jobs`` does, in a coroutine."""
    points = _points(jobs, inputs, outputs, local_files, remote_files, local_directory)
    return await runtime.arun(_run(points, local_files or [], wait))


@dataclass(frozen=True)
class _Point:
    """One job of a sweep, and its files.

    :param inputs: for each path on this side the path on the system
    :param outputs: for each path on the system the path on this side
    :param sources: paths on the system of what is fetched if the job ends well
    :param target: the directory on this side that takes them
    """

    job: FirecRESTJob
    inputs: dict[str, str]
    outputs: dict[str, str]
    sources: list[str]
    target: str

    @property
    def place(self) -> tuple[Any, ...]:
        """Where its files are staged in."""
        credentials = self.job.credentials
        return credentials.url, credentials.client_id, self.job.system or credentials.system, self.job.working_dir

    async def stage_in(self, local_files: list[str]) -> None:
        job = self.job
        await aupload_files(job.credentials, local_files, job.working_dir, system=job.system, account=job.account)

    async def submit(self) -> FirecRESTJobRun:
        return await asubmit_job(self.job, inputs=self.inputs)

    async def finish(self, run: FirecRESTJobRun, retries: int | None) -> JobResult:
        wait_for_job = await_for_job if retries is None else await_for_job.with_options(retries=retries)
        try:
            result = await wait_for_job(run)
        except JobFailed as error:
            await self._fetch_outputs(error.result)
            raise
        files = await self._fetch_outputs(result)
        if self.sources:
            job, sources = self.job, [path.replace("{job_id}", result.job_id) for path in self.sources]
            files += await adownload_files(
                job.credentials, sources, self.target, system=job.system, account=job.account
            )
        return replace(result, fetched=tuple(file.local for file in files))

    async def _fetch_outputs(self, result: JobResult) -> list[Transferred]:
        if not self.outputs:
            return []
        return [*await afetch_outputs(self.job.credentials, result, self.outputs, account=self.job.account)]


def _points(
    jobs: Sequence[FirecRESTJob],
    inputs: dict[str, str] | None,
    outputs: dict[str, str] | None,
    local_files: list[str] | None,
    remote_files: list[str] | None,
    local_directory: str,
) -> list[_Point]:
    """Return the points of a sweep, after a check that no file replaces another.

    :raises InvalidFileName: one would
    """
    from firecrest_core import job_files

    inputs = inputs or {}
    job_files.check_files(inputs.items(), (outputs or {}).items())
    points = []
    for number, job in enumerate(jobs):

        def own(path: str, name: str = job.job_name, number: str = str(number)) -> str:
            return path.replace("{name}", name).replace("{number}", number)

        fetched = {path: own(target) for path, target in (outputs or {}).items()}
        target = own(local_directory)
        sources = check_files(job.working_dir, job.alternatives, inputs, fetched, local_files, remote_files, target)
        points.append(_Point(job, inputs, fetched, sources, target))
    if remote_files:
        _check_that_places_differ("local_directory", ([point.target] for point in points))
    _check_that_places_differ("outputs", (set(job_files.shared_places(point.outputs.items())) for point in points))
    return points


def _check_that_places_differ(argument: str, places: Iterable[Iterable[str]]) -> None:
    """Refuse one place for the files of two jobs.

    :param argument: what names the places
    :param places: those of each job
    """
    [(place, count)] = Counter(one for of_job in places for one in of_job).most_common(1) or [("", 0)]
    if count > 1:
        raise InvalidFileName(
            f"{argument}: the files of {count} jobs would go to {place}. Put {{number}} into it, or {{name}} and give "
            "each job a name of its own."
        )


async def _run(points: list[_Point], local_files: list[str], wait: Literal["process", "suspend"]) -> list[JobResult]:
    suspension = await Suspension.of([point.job for point in points]) if wait == "suspend" else None
    is_staged = await suspension.has_waited_for([point.job for point in points]) if suspension else False
    staging: dict[Any, asyncio.Task[None]] = {}
    if local_files and not is_staged:
        for point in points:
            if point.place not in staging:
                staging[point.place] = asyncio.create_task(point.stage_in(local_files))

    async def submit(point: _Point) -> FirecRESTJobRun:
        if point.place in staging:
            await staging[point.place]
        return await point.submit()

    async def run(point: _Point) -> JobResult:
        return await point.finish(await submit(point), None)

    if suspension is None:
        return _results(points, await _gather(map(run, points)))

    async def finish(point: _Point, run: FirecRESTJobRun | BaseException) -> JobResult:
        if isinstance(run, BaseException):
            raise run
        return await point.finish(run, 0)

    runs = await _gather(map(submit, points))
    ended = iter(await suspension.until_ended([one for one in runs if isinstance(one, FirecRESTJobRun)]))
    runs = [next(ended) if isinstance(one, FirecRESTJobRun) else one for one in runs]
    return _results(points, await _gather(map(finish, points, runs)))


async def _gather(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    return await asyncio.gather(*coroutines, return_exceptions=True)


def _results(points: list[_Point], outcomes: list[JobResult | BaseException]) -> list[JobResult]:
    """Return the results of all jobs, or raise the errors of those that have none."""
    failed = [
        (point, outcome) for point, outcome in zip(points, outcomes, strict=True) if isinstance(outcome, BaseException)
    ]
    if failed:
        named = ", ".join(point.job.job_name for point, _ in failed[:_MOST_NAMED])
        more = f" and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
        raise BaseExceptionGroup(
            f"{len(failed)} of {len(points)} jobs failed: {named}{more}", [error for _, error in failed]
        )
    return [outcome for outcome in outcomes if isinstance(outcome, JobResult)]
