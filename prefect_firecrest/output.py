"""A job's standard output in the run's log, while the job runs.

A look costs a request for the file's size, and one for what is new, if anything is. Both are small: of an output that
grows faster than it is looked at, only the end is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from firecrest_core.errors import FirecRESTError

if TYPE_CHECKING:
    from firecrest_core.client import FirecRESTClient
    from firecrest_core.job import Job

log = logging.getLogger(__name__)

_LINES = 100
_SHORTEST = 1.0


class Output:
    """What a job writes to its standard output.

    :param client: gives a client for a moment
    :param tell: gets the new lines
    """

    def __init__(
        self,
        job: Job,
        client: Callable[[], AbstractAsyncContextManager[FirecRESTClient]],
        tell: Callable[[str], object],
    ) -> None:
        self._job, self._client, self._tell = job, client, tell
        self._told = 0  # bytes

    async def follow(self, poll_interval: float, *, wanted: Callable[[], bool]) -> None:
        """Tell what is new, for ever: at first every second, of a job that has run for a while less often.

        :param poll_interval: seconds between two looks at the most
        :param wanted: whether to look now
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(min(poll_interval, max(_SHORTEST, (clock() - began) / 10)))
            if wanted():
                await self.look()

    async def look(self, *, last: bool = False) -> None:
        """Tell what is new.

        :param last: the job has ended, so a line that is not complete never will be
        """
        path = self._job.stdout
        if path is None or "%" in path:  # an array's elements each have their own
            return
        try:
            async with self._client() as client:
                size = await client.file_size(self._job.system, path)
                if size > self._told:
                    await self._tell_until(client, path, size, last)
        except FirecRESTError as error:
            # No output yet, or no answer: what counts is the job's state, and that is asked for elsewhere.
            log.debug("The output of %s cannot be read: %s", self._job, error)

    async def _tell_until(self, client: FirecRESTClient, path: str, size: int, last: bool) -> None:
        from firecrest_core.excerpt import BYTES, excerpt

        left_out = max(0, size - BYTES - self._told)
        start = self._told + left_out
        answer = await client.tail(self._job.system, path, num_bytes=start + 1, exclude_beginning=True)
        new = str(answer["content"]).encode()[: size - start]
        if not last and len(new) < BYTES:
            new = new[: new.rfind(b"\n") + 1]
        if not new:
            return
        self._told = start + len(new)
        text = excerpt(new.decode(errors="replace"), _LINES, cut=left_out > 0).rstrip("\n")
        if left_out or new.count(b"\n") > _LINES:
            text = f"…\n{text}"
        self._tell(f"{self._job} writes:\n{text}")
