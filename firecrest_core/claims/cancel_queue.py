"""Lets those who cancel one job each, at about the same time in one event loop, cancel them together.

Thousands of tasks may end at the same moment. A client for each would be a connection, a token and a megabyte for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import copy
from weakref import WeakKeyDictionary

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.claims.cancel_many import cancel_many
from firecrest_core.connection import Connection
from firecrest_core.errors import FirecRESTError
from firecrest_core.jobs.job import Job

# Seconds in which those come together that end at the same moment.
_GATHERING = 0.25

_Waiting = tuple[Job, asyncio.Future[BaseException | None]]
_Key = tuple[Connection, str, type[FirecRESTClient]]
_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, CancelQueue]] = WeakKeyDictionary()


class CancelQueue:
    """The jobs of one user on one system that are to be cancelled, in one event loop.

    :param connection: where to cancel them, and as whom
    :param system: the system
    :param client_type: the class of the client that all share
    """

    def __init__(self, connection: Connection, system: str, client_type: type[FirecRESTClient]) -> None:
        self._connection = connection
        self._system = system
        self._client_type = client_type
        self._waiting: list[_Waiting] = []
        self._working: asyncio.Task[None] | None = None

    @classmethod
    def shared(cls, connection: Connection, system: str, client_type: type[FirecRESTClient]) -> CancelQueue:
        """Return the running event loop's queue for this system and user.

        :param connection: as for the constructor
        :param system: as for the constructor
        :param client_type: as for the constructor
        """
        queues = _queues.setdefault(asyncio.get_running_loop(), {})
        return queues.setdefault((connection, system, client_type), cls(connection, system, client_type))

    async def cancel(self, job: Job) -> None:
        """Cancel a job together with those that are to be cancelled at about the same time.

        :param job: as for :func:`~firecrest_core.claims.cancel_many.cancel_many`
        :raises FirecRESTError: it cannot be cancelled
        """
        settled: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, settled))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        if problem := await settled:
            # All of a batch may have the same problem, and what is raised collects the traceback of each.
            raise copy(problem) if isinstance(problem, FirecRESTError) else problem

    async def _work(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                async with self._client_type(self._connection) as client:
                    await asyncio.sleep(_GATHERING)
                    while self._waiting:
                        batch, self._waiting = self._waiting, []
                        problems = await cancel_many(client.system(self._system), [job for job, _ in batch])
                        _settle(batch, problems)
        except BaseException as error:
            batch, self._waiting = [*batch, *self._waiting], []
            _settle(batch, dict.fromkeys((job for job, _ in batch), error))
            if not isinstance(error, Exception):
                raise


def _settle(batch: list[_Waiting], problems: Mapping[Job, BaseException]) -> None:
    for job, settled in batch:
        if not settled.done():  # whoever waited may be gone
            settled.set_result(problems.get(job))
