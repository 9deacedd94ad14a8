"""The output of one job while it runs, and what of it was not shown when it has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from firecrest_core.api.client import System
from firecrest_core.errors import FirecRESTError
from firecrest_core.follow.follower import SystemFiles
from firecrest_core.follow.live_files import LiveFiles
from firecrest_core.follow.output_file import OutputFile, Written
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus
from firecrest_core.result import JobResult, element_path
from firecrest_core.spec.output_paths import completed_path

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


class LiveOutput(LiveFiles):
    """Shows what a job prints while it runs; see :class:`~firecrest_core.follow.live_files.LiveFiles`.

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
        super().__init__(system, job, poll_interval=poll_interval)
        self._element = element
        self._on_lines, self._on_remark = on_lines, on_remark
        self._streams: dict[OutputFile, str] = {}

    @property
    def shown(self) -> list[ShownOutput]:
        """The files that were read, but for those of which so much was shown that no more is."""
        files = [(file, stream) for file, stream in self._streams.items() if file.offset and not file.is_full]
        return [ShownOutput(stream, file.path, file.offset) for file, stream in files]

    def files(self, status: JobStatus) -> list[OutputFile]:
        """As in :class:`~firecrest_core.follow.live_files.LiveFiles`."""
        self._streams = self._streams or self._find(status)
        return list(self._streams)

    async def show_rest(self, result: JobResult) -> None:
        """Show what was not shown yet of an ended job, be it all of it. What cannot be read is not shown.

        :param result: how it ended
        """
        await self.stop()
        self._streams = self._streams or self._find(result)
        for file, stream in self._streams.items():
            await _show_rest(self._system, stream, file, self._on_lines, self._on_remark)

    def _find(self, seen: JobStatus | JobResult) -> dict[OutputFile, str]:
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

    def show(self, file: OutputFile, written: Written) -> None:
        """As in :class:`~firecrest_core.follow.live_files.LiveFiles`."""
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
