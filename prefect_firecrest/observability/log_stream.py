"""A job's standard output in the run's log, while the job runs.

Reading it costs a request for the file's size, and one for what is new, if anything is. Both are small: of an output
that grows faster than it is read, only the end is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from firecrest_core.errors import FirecRESTError
from firecrest_core.jobs.logs import read_since

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.jobs.job import Job

log = logging.getLogger(__name__)

_LINES = 100
_SHORTEST = 1.0


class LogStream:
    """Copies what a job writes to its standard output.

    :param system: where the job is
    :param on_message: gets the new lines
    """

    def __init__(self, system: System, job: Job, on_message: Callable[[str], object]) -> None:
        self._system, self._job, self._on_message = system, job, on_message
        self._offset = 0  # bytes that were read

    async def run(self, poll_interval: float, *, is_wanted: Callable[[], bool]) -> None:
        """Copy what is new, for ever: at first every second, of a job that has run for a while less often.

        :param poll_interval: seconds between two reads at the most
        :param is_wanted: whether to read now
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(min(poll_interval, max(_SHORTEST, (clock() - began) / 10)))
            if is_wanted():
                await self.copy_new()

    async def copy_new(self, *, last: bool = False) -> None:
        """Copy what is new.

        :param last: the job has ended, so a line that is not complete never will be
        """
        path = self._job.stdout
        if path is None or "%" in path:  # an array's elements each have their own
            return
        try:
            size = (await self._system.stat(path)).size
            if size <= self._offset:
                return
            text, self._offset = await read_since(self._system, path, self._offset, size, _LINES, last=last)
        except FirecRESTError as error:
            # No output yet, or no answer. The job's state decides, and it is asked for elsewhere.
            log.debug("The output of %s cannot be read: %s", self._job, error)
            return
        if text:
            self._on_message(f"{self._job} writes:\n{text}")
