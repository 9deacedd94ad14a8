"""An XCom that is kept up to date beside a wait, without ever holding that up."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from typing import Any, Generic, TypeVar

from airflow_provider_firecrest.airflow_internals import push_xcom

log = logging.getLogger(__name__)

# Seconds to wait at the end until Airflow has stored a value.
_FINISH_TIMEOUT = 5.0

T = TypeVar("T")


class NewestXCom(Generic[T]):
    """Stores the newest value in an XCom, one at a time. A value that cannot be stored is left out.

    :param ti: the task instance
    :param key: the XCom's key
    """

    def __init__(self, ti: Any, key: str) -> None:
        self.ti = ti
        self.key = key
        self._next: T | None = None
        self._storing: asyncio.Task[None] | None = None

    @abstractmethod
    async def to_json(self, value: T) -> Any:
        """Return a value in JSON types.

        :param value: what was shown
        """

    async def push(self, value: Any) -> None:
        """Store a value as a trigger does.

        :param value: in JSON types
        """
        await push_xcom(self.ti, self.key, value)

    async def store(self, value: T) -> None:
        """Store a value now.

        :param value: the value
        """
        try:
            await self.push(await self.to_json(value))
        except Exception as error:
            log.debug("The XCom %s is not stored: %s", self.key, error)

    def show(self, value: T) -> None:
        """Store a value soon. One that waits to be stored is left out.

        :param value: the value
        """
        self._next = value
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_all())

    async def finish(self) -> None:
        """Wait until no value is on its way any more, so that none arrives after the worker's last one."""
        self._next = None
        if self._storing is not None:
            # It is never cancelled: Airflow's answer would be taken for that to the next question.
            await asyncio.wait({self._storing}, timeout=_FINISH_TIMEOUT)

    async def _store_all(self) -> None:
        while self._next is not None:
            value, self._next = self._next, None
            await self.store(value)
