"""A site's staging store (S3), used through presigned URLs.

A presigned URL lets anybody read or write, so it must not get into a message, a log or a ``repr``. The access token is
for FirecREST only, so the store has an HTTP client of its own.
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

# Seconds. S3 needs minutes to join the parts of a large object.
COMPLETION_TIMEOUT = 600.0

LONGEST_PAUSE = 20.0

_CODE = re.compile(r"<Code>\s*([A-Za-z]{1,60})\s*</Code>")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

_presigned: ContextVar[bool] = ContextVar("firecrest_presigned", default=False)


def _not_presigned(record: logging.LogRecord) -> bool:
    """Drop httpx's log record of a presigned request, because httpx logs the whole URL at INFO."""
    return not _presigned.get()


logging.getLogger("httpx").addFilter(_not_presigned)


class Store:
    """A client for a site's staging store, as an asynchronous context manager.

    :param connection: its TLS settings and timeout are used for the store, too
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
        """Send a file in parts, a few at once, and join them. A part that fails is repeated without the others.

        :param file: the file
        :param parts: its parts
        :param urls: the presigned URLs of the parts, in the same order
        :param complete: the presigned URL that joins the parts
        :raises TransferFailed: the store refused a request, or the file became shorter while it was sent
        :raises TransientError: the store could not be reached, even after several attempts
        """
        etags: dict[int, str] = {}

        async def send_part(part_and_url: tuple[Part, SecretStr]) -> None:
            part, url = part_and_url

            async def put() -> None:
                length = {"Content-Length": str(part.size)}
                answer = await self._ask("PUT", url, content=_chunks(file, part), headers=length)
                etags[part.number] = answer.headers.get("ETag", "")

            await _with_retries(put)

        await gather_limited(send_part, zip(parts, urls, strict=False))
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
                # An earlier attempt, whose answer was lost, has completed the upload. The store does not know it now.
                if lost_answer and refused.status == 404:
                    return
                raise
            # S3 begins its answer before it has joined the parts, so an answer with status 200 may contain an error.
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

        :param url: the presigned URL of the object
        :param parts: the parts to fetch
        :param size: the size that the object must have, in bytes
        :param write: gets an offset in the file and the bytes for it
        :param whole: gets each part that is complete
        :raises TransferFailed: the store refused a request, or the object has another size
        :raises TransientError: the store could not be reached, even after several attempts
        """

        async def fetch_part(part: Part) -> None:
            at = part.start

            async def get() -> None:
                nonlocal at
                async for data in self._range(url, at, part.stop, size):
                    await write(at, data)
                    at += len(data)

            await _with_retries(get)
            await whole(part)

        await gather_limited(fetch_part, parts)

    async def _range(self, url: SecretStr, start: int, stop: int, size: int) -> AsyncIterator[bytes]:
        # With a compressed answer, lengths and offsets would not be those of the file.
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
        problem = f"{what} {message.url.host} was refused: HTTP {response.status_code}{_code(response.text)}."
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise ServerFault(problem)
        raise _Refused(problem, response.status_code)


class _Refused(TransferFailed):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _check_range(response: httpx.Response, start: int, stop: int, size: int) -> None:
    content_range = _RANGE.match(response.headers.get("Content-Range", ""))
    if content_range is None:
        if (
            response.status_code == 200
            and start == 0
            and response.headers.get("Content-Length") == str(size) == str(stop)
        ):
            return
        raise TransferFailed("The staging store does not answer range requests.")
    if int(content_range[2]) != size:
        # The job that copies to the store does not check the size. The file may have changed, or the copy may be cut.
        raise TransferFailed(f"The staging store has {int(content_range[2]):,} bytes of a file that had {size:,}.")
    if int(content_range[1]) != start:
        raise TransferFailed("The staging store answered another range than it was asked for.")


def _code(body: str) -> str:
    """Return S3's error code in parentheses, and nothing else of its answer, which may contain the URL."""
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
    """Call ``work`` for each item, at most :data:`PARTS_AT_ONCE` at once. The first error cancels the others.

    :param work: the asynchronous function
    :param items: its arguments
    """
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(PARTS_AT_ONCE):
                group.create_task(worker())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
