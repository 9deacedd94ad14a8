"""Files of one job that are followed while it runs."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from firecrest_core.api.client import System
from firecrest_core.follow.follower import FollowedJob, OutputFollower
from firecrest_core.follow.output_file import OutputFile, Written
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus
from firecrest_core.states import Phase

log = logging.getLogger(__name__)


class LiveFiles(ABC):
    """Follows files of a job while it runs; an asynchronous context manager around the wait for it.

    It sends no request itself and raises nothing: the :class:`~firecrest_core.follow.follower.OutputFollower` that all
    jobs share reads the files, and what cannot be read is not shown.

    :param system: where the job is
    :param job: the job
    :param poll_interval: seconds between two reads at the most, as far as the budget of requests allows
    """

    def __init__(self, system: System, job: Job, *, poll_interval: float = 10.0) -> None:
        self._system = system
        self._job = job
        self._poll_interval = poll_interval
        self._follower: OutputFollower | None = None
        self._followed: FollowedJob | None = None
        self._stopping: set[asyncio.Task[None]] = set()

    @abstractmethod
    def files(self, status: JobStatus) -> list[OutputFile]:
        """Return the files; the same ones each time.

        :param status: where the job is
        """

    @abstractmethod
    def show(self, file: OutputFile, written: Written) -> None:
        """Take what is new of a file.

        :param file: the file
        :param written: what is new
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def on_status(self, status: JobStatus) -> None:
        """Follow the job while it runs.

        :param status: where it is
        """
        try:
            self._follow(status)
        except Exception as error:  # the wait for the job must not end because of its files
            log.debug("The files of %s on %s are not followed: %s", self._job, self._job.system, error)

    def _follow(self, status: JobStatus) -> None:
        if status.state.phase is not Phase.RUNNING:
            self.pause()
        elif self._followed is None and (files := self.files(status)):
            self._followed = FollowedJob(self._job.system, files, self.show, self._poll_interval)
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
