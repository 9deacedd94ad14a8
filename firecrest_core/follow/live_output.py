"""The output of one job while it runs, and what of it was not shown when it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from firecrest_core.api.client import System
from firecrest_core.errors import FirecRESTError
from firecrest_core.follow.follower import FollowedJob, OutputFollower, SystemFiles
from firecrest_core.follow.output_file import OutputFile, Written
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus
from firecrest_core.result import JobResult, element_path
from firecrest_core.spec.output_paths import completed_path
from firecrest_core.states import Phase

log = logging.getLogger(__name__)

OnLines = Callable[[str, list[str]], object]
OnRemark = Callable[[str], object]

# Seconds for the last read.
_REST_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class ShownOutput:
    """How much of an output file was shown.

    :param stream: ``out``, ``err``, or ``out`` for both if they go to one file
    :param path: of the file
    :param offset: bytes that were shown, or left out on purpose
    """

    stream: str
    path: str
    offset: int


class LiveOutput:
    """Shows what a job prints while it runs; an asynchronous context manager around the wait for it.

    It sends no request itself and raises nothing: the :class:`~firecrest_core.follow.follower.OutputFollower` that all
    jobs share reads the files, and what cannot be read is not shown.

    :param system: where the job is
    :param job: the job
    :param on_lines: gets ``out`` or ``err``, and new lines of that stream
    :param on_remark: gets a line on what is not shown, and why
    :param element: the index of the element of an array that is followed; without it, no array is followed
    :param poll_interval: seconds between two reads at the most, as far as the budget of requests allows
    """

    def __init__(
        self,
        system: System,
        job: Job,
        on_lines: OnLines,
        on_remark: OnRemark,
        *,
        element: int | None = None,
        poll_interval: float = 10.0,
    ) -> None:
        self._job = job
        self._element = element
        self._on_lines, self._on_remark = on_lines, on_remark
        self._poll_interval = poll_interval
        self._system = system
        self._follower: OutputFollower | None = None
        self._streams: dict[OutputFile, str] = {}
        self._followed: FollowedJob | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def shown(self) -> list[ShownOutput]:
        """The files that were read, but for those of which so much was shown that no more is."""
        files = [(file, stream) for file, stream in self._streams.items() if file.offset and not file.is_full]
        return [ShownOutput(stream, file.path, file.offset) for file, stream in files]

    def on_status(self, status: JobStatus) -> None:
        """Follow the job while it runs.

        :param status: where it is
        """
        try:
            self._follow(status)
        except Exception as error:  # the wait for the job must not end because of its output
            log.debug("The output of %s on %s is not followed: %s", self._job, self._job.system, error)

    def _follow(self, status: JobStatus) -> None:
        if status.state.phase is not Phase.RUNNING:
            self.pause()
        elif self._followed is None:
            self._streams = self._streams or self._files(status)
            if self._streams:
                self._followed = FollowedJob(self._job.system, list(self._streams), self._show, self._poll_interval)
                self._follower = OutputFollower.shared(self._system.connection, type(self._system.client))
                self._follower.add(self._followed)

    def pause(self) -> None:
        """Follow the job no longer, until it is seen to run again."""
        followed, self._followed = self._followed, None
        if self._follower is not None and followed is not None:
            stopping = asyncio.create_task(self._follower.remove(followed))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)

    async def stop(self) -> None:
        """Follow the job no longer."""
        if self._follower is not None and self._followed is not None:
            await self._follower.remove(self._followed)

    async def show_rest(self, result: JobResult) -> None:
        """Show what was not shown yet of an ended job, be it all of it. What cannot be read is not shown.

        :param result: how it ended
        """
        await self.stop()
        self._streams = self._streams or self._files(result)
        for file, stream in self._streams.items():
            await _show_rest(self._system, stream, file, self._on_lines, self._on_remark)

    def _files(self, seen: JobStatus | JobResult) -> dict[OutputFile, str]:
        is_array = self._job.array_indices is not None or bool(seen.groups)
        if is_array and self._element is None:
            return {}
        streams: dict[str, str] = {}
        for stream, path in (("out", self._job.stdout), ("err", self._job.stderr)):
            if is_array:
                path = element_path(path, self._element or 0)
            path = completed_path(path, self._job.job_id, seen.nodes, is_array=is_array)
            if path is not None and "%" not in path:
                streams.setdefault(path, stream)
        return {OutputFile(path): stream for path, stream in streams.items()}

    def _show(self, file: OutputFile, written: Written) -> None:
        _show(self._streams[file], written, self._on_lines, self._on_remark)


async def show_rest(system: System, shown: Iterable[ShownOutput], on_lines: OnLines, on_remark: OnRemark) -> None:
    """Show what an ended job has printed since its output was read last. What cannot be read is not shown.

    :param system: where the job ran
    :param shown: what was shown of it
    :param on_lines: as for :class:`LiveOutput`
    :param on_remark: as for :class:`LiveOutput`
    """
    for one in shown:
        await _show_rest(system, one.stream, OutputFile(one.path, one.offset), on_lines, on_remark)


async def _show_rest(system: System, stream: str, file: OutputFile, on_lines: OnLines, on_remark: OnRemark) -> None:
    try:
        async with asyncio.timeout(_REST_TIMEOUT):
            written = await file.read(SystemFiles(system), last=True)
    except (FirecRESTError, TimeoutError) as error:
        log.debug("The end of %s cannot be read: %s", file.path, error)
    else:
        _show(stream, written, on_lines, on_remark)


def _show(stream: str, written: Written, on_lines: OnLines, on_remark: OnRemark) -> None:
    if written.before:
        on_remark(written.before)
    if written.lines:
        on_lines(stream, written.lines)
    if written.after:
        on_remark(written.after)


def shown_output(data: Any) -> list[ShownOutput]:
    """Read what was shown from JSON, as lists of stream, path and offset.

    :param data: for example ``[["out", "/wd/slurm-57.out", 1200]]``
    """
    return [ShownOutput(str(stream), str(path), int(offset)) for stream, path, offset in data]
