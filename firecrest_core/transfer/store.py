"""A site's staging store (S3), reached by presigned URLs.

Whoever has such a URL can read or write, so it goes into no message, log or ``repr``, and our access token goes
to FirecREST alone: the store gets an HTTP client of its own.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from xml.etree import ElementTree

import httpx
from pydantic import SecretStr

from firecrest_core.api.backoff import retry_briefly
from firecrest_core.api.error_mapping import map_failure
from firecrest_core.api.http import tls_context
from firecrest_core.connection import Connection
from firecrest_core.errors import ServerFault, ServerUnreachable, TransferFailed, TransientError
from firecrest_core.transfer.limits import MIB, PARTS_AT_ONCE, Part

T = TypeVar("T")

ATTEMPTS = 6
CHUNK = MIB

# Joining the parts of a large object takes S3 minutes.
COMPLETION_TIMEOUT = 600.0

LONGEST_PAUSE = 20.0

_CODE = re.compile(r"<Code>\s*([A-Za-z]{1,60})\s*</Code>")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

_presigned: ContextVar[bool] = ContextVar("firecrest_presigned", default=False)


def _not_presigned(record: logging.LogRecord) -> bool:
    """httpx logs the whole URL of every request at INFO."""
    return not _presigned.get()


logging.getLogger("httpx").addFilter(_not_presigned)


class Store:
    """A site's staging store; an asynchronous context manager.

    :param connection: whose TLS settings and timeout also serve here
    """

    def __init__(self, connection: Connection) -> None:
        self._http = httpx.AsyncClient(
            verify=tls_context(connection.verify),
            timeout=httpx.Timeout(connection.timeout, pool=None),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def send(self, file: Path, parts: Sequence[Part], urls: Sequence[SecretStr], complete: SecretStr) -> None:
        """Send a file in parts, a few at once, and join them. A part that fails is sent again alone.

        :raises TransferFailed: the store refused, or the file changed meanwhile
        :raises TransientError: the store could not be reached, several times
        """
        etags: dict[int, str] = {}

        async def one(place: tuple[Part, SecretStr]) -> None:
            part, url = place

            async def put() -> None:
                length = {"Content-Length": str(part.size)}
                answer = await self._ask("PUT", url, content=_chunks(file, part), headers=length)
                etags[part.number] = answer.headers.get("ETag", "")

            await _with_retries(put)

        await gather_limited(one, zip(parts, urls, strict=False))
        await self._complete(complete, etags)

    async def _complete(self, url: SecretStr, etags: dict[int, str]) -> None:
        root = ElementTree.Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
        for number in sorted(etags):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etags[number]
        body = ElementTree.tostring(root)
        lost_answer = False

        async def post() -> None:
            nonlocal lost_answer
            try:
                answer = await self._ask("POST", url, content=body, timeout=COMPLETION_TIMEOUT)
            except TransientError:
                lost_answer = True
                raise
            except _Refused as refused:
                # An upload whose completion was answered into the void is unknown by now.
                if lost_answer and refused.status == 404:
                    return
                raise
            # S3 begins its answer before it has joined the parts, so that an error can stand in a 200.
            if b"<Error>" in answer.content:
                raise ServerFault(f"The staging store did not join the parts{_code(answer.text)}.")

        await _with_retries(post)

    async def fetch(
        self,
        url: SecretStr,
        parts: Iterable[Part],
        size: int,
        write: Callable[[int, bytes], Awaitable[None]],
        whole: Callable[[Part], Awaitable[None]],
    ) -> None:
        """Fetch parts of an object, a few at once. A part that breaks off is continued where it broke.

        :param size: the bytes that the object must have
        :param write: takes an offset in the file and the bytes there
        :param whole: is told of each part that is complete
        :raises TransferFailed: the store refused, or the object has another size
        :raises TransientError: the store could not be reached, several times
        """

        async def one(part: Part) -> None:
            at = part.start

            async def get() -> None:
                nonlocal at
                async for data in self._range(url, at, part.stop, size):
                    await write(at, data)
                    at += len(data)

            await _with_retries(get)
            await whole(part)

        await gather_limited(one, parts)

    async def _range(self, url: SecretStr, start: int, stop: int, size: int) -> AsyncIterator[bytes]:
        # Compressed on the way, lengths and offsets would not be the file's.
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        response = await self._ask("GET", url, stream=True, headers=headers)
        try:
            _check_range(response, start, stop, size)
            async for data in response.aiter_raw(CHUNK):
                start += len(data)
                if start > stop:
                    raise TransferFailed("The staging store sent more than it was asked for.")
                yield data
        except httpx.HTTPError as error:
            raise map_failure(error, "GET from the staging store", response.request.url.host) from None
        finally:
            await response.aclose()
        if start < stop:
            raise ServerUnreachable("GET from the staging store: the answer broke off.")

    async def _ask(self, method: str, url: SecretStr, *, stream: bool = False, **request: Any) -> httpx.Response:
        what = f"{method} at the staging store"
        message = self._http.build_request(method, url.get_secret_value(), **request)
        token = _presigned.set(True)
        try:
            response = await self._http.send(message, stream=stream)
            if response.is_success:
                return response
            await response.aread()
        except httpx.HTTPError as error:
            raise map_failure(error, what, message.url.host) from None
        finally:
            _presigned.reset(token)
        said = f"{what} {message.url.host} was refused: HTTP {response.status_code}{_code(response.text)}."
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise ServerFault(said)
        raise _Refused(said, response.status_code)


class _Refused(TransferFailed):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _check_range(response: httpx.Response, start: int, stop: int, size: int) -> None:
    told = _RANGE.match(response.headers.get("Content-Range", ""))
    if told is None:
        if (
            response.status_code == 200
            and start == 0
            and response.headers.get("Content-Length") == str(size) == str(stop)
        ):
            return
        raise TransferFailed("The staging store does not answer range requests.")
    if int(told[2]) != size:
        # The job that copies to the store trusts what it read: a file that changed meanwhile, or a cut copy.
        raise TransferFailed(f"The staging store has {int(told[2]):,} bytes of a file that had {size:,}.")
    if int(told[1]) != start:
        raise TransferFailed("The staging store answered another range than it was asked for.")


def _code(body: str) -> str:
    """S3's own word for an error. The rest of its answer may repeat the URL."""
    found = _CODE.search(body)
    return f" ({found[1]})" if found else ""


async def _chunks(file: Path, part: Part) -> AsyncIterator[bytes]:
    with file.open("rb") as reader:
        reader.seek(part.start)
        left = part.size
        while left:
            data = await asyncio.to_thread(reader.read, min(CHUNK, left))
            if not data:
                raise TransferFailed(f"{file.name} became shorter while it was sent.")
            left -= len(data)
            yield data


async def _with_retries(request: Callable[[], Awaitable[None]]) -> None:
    await retry_briefly(request, attempts=ATTEMPTS, longest_pause=LONGEST_PAUSE)


async def gather_limited(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    left = iter(items)

    async def hand() -> None:
        for item in left:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(PARTS_AT_ONCE):
                group.create_task(hand())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
