"""One follower for what all running jobs of a user print, within a budget of requests.

A server has better things to do than to read files for logs. So all jobs whose output one event loop follows on a
server share two requests a second, in turn:

- A job is due when its interval has passed: a tenth of the time since its following began, at least a second, at most
  its ``poll_interval``. Of those that are due, the one that was read longest ago is next. If the jobs are so many that
  the budget does not do, all of them are read less often.
- A read costs a request for each file. Where three or more jobs write to one directory, one list of it tells which of
  their files have grown, and only those are read.
- A server that does not answer is left alone, for longer each time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import posixpath
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from firecrest_core import errors
from firecrest_core.api.backoff import OUTAGES, Backoff
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.connection import Connection
from firecrest_core.follow.output_file import OutputFile, Written
from firecrest_core.loop_worker import LoopWorker

log = logging.getLogger(__name__)

OnWritten = Callable[[OutputFile, Written], None]

BUDGET = 2.0
"""Requests a second, for each server and user in an event loop."""

_SHORTEST = 1.0
# Jobs in one directory for which it is listed, and its entries up to which a list is cheap.
_FOR_A_LIST = 3
_LONGEST_LIST = 2000
# Bytes of an answer. More is not read: the end of the file is, in a second request.
_LARGEST_ANSWER = 1024 * 1024
# Seconds. One file system that hangs must not hold up the others.
_TIMEOUT = 20.0
_CLOSE_TIMEOUT = 5.0
_NEVER = math.inf


def now() -> float:
    """Return the event loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


class FollowedJob:
    """The files of a job that is followed.

    :param system: the name of the system where they are
    :param files: the files
    :param on_written: gets what is new of a file; called in the context of whoever made this
    :param poll_interval: seconds between two reads at the most, as far as the budget allows
    """

    def __init__(
        self, system: str, files: Sequence[OutputFile], on_written: OnWritten, poll_interval: float = 10.0
    ) -> None:
        self.system = system
        self.files = files
        self.began = self.due_at = now()
        self.read_at = -math.inf
        self.sizes: dict[str, int | None] = {}
        directories = {posixpath.dirname(file.path) for file in files}
        self.directory = (system, directories.pop()) if len(directories) == 1 else None
        self._on_written = on_written
        self._poll_interval = poll_interval
        # Airflow's triggerer uses the context to assign a log line to its trigger.
        self._context = copy_context()

    def put_off(self) -> None:
        """Set when the job is due again."""
        self.sizes, self.read_at = {}, now()
        self.due_at = now() + min(self._poll_interval, max(_SHORTEST, (now() - self.began) / 10))

    def show(self, file: OutputFile, written: Written) -> None:
        """Pass on what is new of a file."""
        self._context.run(self._on_written, file, written)


class OutputFollower(LoopWorker):
    """Follows the output of all jobs of one user on one server, in one event loop.

    It runs while there are such jobs. Its client is its own.

    :param connection: the deployment and the user
    :param client_type: the class of the client
    """

    def __init__(self, connection: Connection, client_type: type[FirecRESTClient] = FirecRESTClient) -> None:
        super().__init__(connection, client_type)
        self._jobs: set[FollowedJob] = set()
        self._in_directory: Counter[Any] = Counter()
        self._unlisted: set[Any] = set()
        self._outages: dict[str, Backoff] = {}
        self._newcomer = asyncio.Event()
        self._next_request = 0.0

    @classmethod
    def shared(cls, connection: Connection, client_type: type[FirecRESTClient] = FirecRESTClient) -> OutputFollower:
        """Return the running event loop's follower for this server and user.

        :param connection: the deployment and the user; the default system does not matter
        :param client_type: the class of the client
        """
        return cls(replace(connection, system=None), client_type)._shared()

    def add(self, job: FollowedJob) -> None:
        """Follow a job from now on.

        :param job: the job
        """
        self._jobs.add(job)
        self._in_directory[job.directory] += 1
        self._newcomer.set()
        self._start()

    async def remove(self, job: FollowedJob) -> None:
        """Follow a job no longer. It is not waited for what is being read of it.

        :param job: the job; one that is not followed is no error
        """
        if job not in self._jobs:
            return
        self._jobs.remove(job)
        self._in_directory[job.directory] -= 1
        if not self._in_directory[job.directory]:
            del self._in_directory[job.directory]
            self._unlisted.discard(job.directory)
        if not self._jobs:
            await self._end(_CLOSE_TIMEOUT)

    # --- the turns --------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._take_turns()
        except Exception as error:  # nobody waits for this; the next job begins it anew
            log.debug("No output is followed: %s", error)

    async def _take_turns(self) -> None:
        # One attempt for each request: whatever fails has its next turn.
        async with self._client_type(self._connection, attempts=1) as client:
            client.trust_url()
            while self._jobs:
                due = [job for job in self._jobs if job.due_at <= now()]
                if not due:
                    await self._pause(min(job.due_at for job in self._jobs))
                    continue
                job = min(due, key=lambda one: one.read_at)
                system = client.system(job.system)
                try:
                    async with asyncio.timeout(_TIMEOUT):
                        await self._turn(system, job)
                except (*OUTAGES, TimeoutError) as error:
                    self._leave_alone(job.system, error)
                except Exception as error:  # reading a log must harm nothing
                    log.debug("The output of a job on %s cannot be read: %s", job.system, error)
                    job.put_off()
                else:
                    self._outages.pop(job.system, None)

    async def _pause(self, until: float) -> None:
        self._newcomer.clear()
        try:
            async with asyncio.timeout_at(None if until == _NEVER else until):
                await self._newcomer.wait()
        except TimeoutError:
            return

    def _leave_alone(self, system: str, error: Exception) -> None:
        log.debug("No output can be read on %s: %s", system, error)
        known = error if isinstance(error, errors.FirecRESTError) else errors.RequestTimedOut(str(error))
        pause = self._outages.setdefault(system, Backoff(now())).pause(known)
        for job in self._jobs:
            if job.system == system:
                job.due_at = max(job.due_at, now() + pause)

    async def _turn(self, system: System, job: FollowedJob) -> None:
        directory = job.directory
        if not job.sizes and self._in_directory[directory] >= _FOR_A_LIST and directory not in self._unlisted:
            await self._list(system, directory)
            return
        files = SystemFiles(system, self._pace)
        for file in job.files:
            if not job.sizes or file.has_news(job.sizes.get(file.path)):
                written = await file.read(files, size=job.sizes.get(file.path))
                if job in self._jobs:
                    job.show(file, written)
        job.put_off()
        if all(file.is_full for file in job.files):
            job.due_at = _NEVER

    async def _list(self, system: System, directory: Any) -> None:
        """Ask for the sizes of all files in a directory, and put off the jobs whose files are as they were."""
        await self._pace()
        try:
            entries = await system.list_files(directory[1], hidden=True, dereference=True)
        except errors.RemotePathNotFound:
            entries = []
        except OUTAGES:
            raise
        except errors.FirecRESTError as error:
            log.debug("%s is not listed any more: %s", directory[1], error)
            self._unlisted.add(directory)
            return
        if len(entries) > _LONGEST_LIST:
            self._unlisted.add(directory)
        sizes = {entry.name: entry.size for entry in entries}
        for job in self._jobs:
            if job.directory == directory and job.due_at != _NEVER:
                found = {file.path: sizes.get(posixpath.basename(file.path)) for file in job.files}
                if any(file.has_news(found[file.path]) for file in job.files):
                    job.sizes, job.due_at = found, min(job.due_at, now())
                else:
                    job.put_off()

    async def _pace(self) -> None:
        """Wait until the budget allows the next request."""
        await asyncio.sleep(self._next_request - now())
        self._next_request = now() + 1 / BUDGET


class SystemFiles:
    """The files of a system, as an :class:`~firecrest_core.follow.output_file.OutputFile` reads them.

    :param system: where they are
    :param pace: awaited before each request
    """

    def __init__(self, system: System, pace: Callable[[], Awaitable[None]] | None = None) -> None:
        self._system, self._pace = system, pace

    async def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        if self._pace is not None:
            await self._pace()
        return (await self._system.stat(path)).size

    async def read_from(self, path: str, offset: int) -> str:
        """Return a file from a byte to its end, if that is not much."""
        if self._pace is not None:
            await self._pace()
        return await self._system.read_from(path, offset, most=_LARGEST_ANSWER)
