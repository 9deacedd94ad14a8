"""What Prefect shows of a job that a run waits for: a row in a table, its progress, its output, and events.

Nobody asks the scheduler for it: the answers are those that the wait gets anyway. Only the output is read besides. So
that, and the progress, are shown while a process waits for a few jobs; a sweep of hundreds has its table.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prefect.utilities.context import get_task_and_flow_run_ids
from prefect.utilities.urls import url_for

from firecrest_core.states import JobState, Phase
from prefect_firecrest import artifacts, events
from prefect_firecrest.output import Output

if TYPE_CHECKING:
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.job import Job
    from firecrest_core.progress import Progress
    from firecrest_core.result import JobResult

_FEW = 8
# For the last look at the output: a job's end must not be told any later.
_PATIENCE = 10.0

# All that are waited for. Used in the background's event loop alone.
_waited: set[Display] = set()


def _few() -> bool:
    return len(_waited) <= _FEW


def submitted(job: Job) -> None:
    """Show a job that was submitted, or found by its claim."""
    _, flow_run_id = get_task_and_flow_run_ids()
    if flow_run_id is None:
        return
    row = artifacts.Row(job.job_id, job.name, job.system, JobState.PENDING, link=_link())
    artifacts.JobTable.of(flow_run_id).show(row)
    if job.submitted_at:  # by this call, and not by an earlier one
        events.emit("submitted", job, JobState.PENDING)


class Display:
    """A job as Prefect shows it while a run waits for it; an asynchronous context manager.

    Outside of a flow run, nothing is shown.

    :param client: gives a client for a moment
    :param tell: writes to the run's log
    :param poll_interval: seconds between two looks at the output at the most
    """

    def __init__(
        self,
        job: Job,
        client: Callable[[], AbstractAsyncContextManager[FirecRESTClient]],
        tell: Callable[[str], Any],
        poll_interval: float,
    ) -> None:
        self._job = job
        self._task_run_id, self._flow_run_id = get_task_and_flow_run_ids()
        self._link = _link()
        self._running = False
        self._detail: _Detail | None = None
        if self._flow_run_id is not None:
            artifact = artifacts.Artifact(
                "progress", artifacts.key(job), flow_run_id=self._flow_run_id, task_run_id=self._task_run_id
            )
            self._detail = _Detail(job, artifact, Output(job, client, tell), poll_interval)

    async def __aenter__(self) -> Self:
        _waited.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _waited.discard(self)
        if self._detail:
            self._detail.leave()

    def seen(self, found: Progress) -> None:
        """Show where the job is, before its end."""
        if self._flow_run_id is None:
            return
        artifacts.JobTable.of(self._flow_run_id).show(artifacts.Row.of(self._job, found, self._link))
        if found.state.phase is not Phase.RUNNING:
            return
        if not self._running:
            self._running = True
            events.emit("running", self._job, found.state)
        if self._detail and _few():
            self._detail.seen(found)

    async def ended(self, result: JobResult) -> None:
        """Show how the job ended."""
        if self._flow_run_id is None:
            return
        events.emit("ended", result, result.state)
        table = artifacts.JobTable.of(self._flow_run_id)
        table.show(artifacts.Row.of(result, result, self._link), instead_of=self._job)
        async with asyncio.TaskGroup() as group:
            group.create_task(table.write())
            if self._detail:
                group.create_task(self._detail.ended(result))


class _Detail:
    """What only a few jobs have: a progress artifact, and the output in the log."""

    def __init__(self, job: Job, artifact: artifacts.Artifact, output: Output, poll_interval: float) -> None:
        self._job, self._artifact, self._output = job, artifact, output
        self._poll_interval = poll_interval
        self._following: asyncio.Task[None] | None = None
        self._used = 0.0

    def seen(self, found: Progress) -> None:
        if self._following is None:
            self._following = asyncio.create_task(self._output.follow(self._poll_interval, wanted=_few))
        if used := artifacts.time_used(found):
            self._used = used[0]
            self._artifact.show(self._used, f"{self._job} on {self._job.system}: {used[1]}")

    async def ended(self, result: JobResult) -> None:
        if self._following:
            self._following.cancel()
            await asyncio.wait({self._following})
        if result.job_id == self._job.job_id and _few():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._output.look(last=True)
        if self._used or (result.succeeded and _few()):
            self._artifact.show(100.0 if result.succeeded else self._used, result.story())
            await self._artifact.write()

    def leave(self) -> None:
        if self._following:
            self._following.cancel()


def _link() -> str | None:
    """Return where Prefect's UI shows the current run."""
    task_run_id, flow_run_id = get_task_and_flow_run_ids()
    if task_run_id is not None:
        return url_for("task-run", obj_id=task_run_id)
    return url_for("flow-run", obj_id=flow_run_id) if flow_run_id is not None else None
