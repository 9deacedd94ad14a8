"""The metrics of one job while it runs, and what of them was not read when it has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable

from firecrest_core.api.client import System
from firecrest_core.follow.live_files import LiveFiles
from firecrest_core.follow.output_file import OutputFile, Written
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus

log = logging.getLogger(__name__)

OnMetricLines = Callable[[list[str]], object]


class MetricsFile(OutputFile):
    """A file of which each whole line counts, and nothing is shown."""

    _longest_line = 1024 * 1024

    def limited(self, body: str, left_out: int) -> Written:
        """As in :class:`~firecrest_core.follow.output_file.OutputFile`: all lines."""
        if left_out:
            log.debug("%s bytes of %s were not read: they came too fast", left_out, self.path)
        return Written(lines=body.removesuffix("\n").split("\n") if body else [])


class LiveMetrics(LiveFiles):
    """Reads the metrics of a job while it runs; see :class:`~firecrest_core.follow.live_files.LiveFiles`.

    :param system: where the job is
    :param job: the job
    :param path: absolute path of its metrics file
    :param on_lines: gets new lines of the file
    :param poll_interval: seconds between two reads at the most, as far as the budget of requests allows
    """

    def __init__(
        self, system: System, job: Job, path: str, on_lines: OnMetricLines, *, poll_interval: float = 10.0
    ) -> None:
        super().__init__(system, job, poll_interval=poll_interval)
        self.file = MetricsFile(path)
        self._on_lines = on_lines

    def files(self, status: JobStatus) -> list[OutputFile]:
        """As in :class:`~firecrest_core.follow.live_files.LiveFiles`."""
        return [self.file]

    def show(self, file: OutputFile, written: Written) -> None:
        """As in :class:`~firecrest_core.follow.live_files.LiveFiles`."""
        self._on_lines(written.lines)
