"""A site's staging store (S3), used through presigned URLs.

A presigned URL lets anybody read or write, so it must not get into a message, a log or a ``repr``. The access token is
for FirecREST only, so the store has an HTTP client of its own.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from xml.etree import ElementTree

import httpx
from pydantic import SecretStr

from firecrest_core.api.backoff import retry_briefly
from firecrest_core.api.error_mapping import NO_ANSWER, map_failure
from firecrest_core.api.exchange import LARGEST_SMALL_ANSWER, TIMEOUTS, read_whole, time_limit
from firecrest_core.api.proxy import proxy
from firecrest_core.api.tls import tls_context
from firecrest_core.api.tracebacks import without_frames
from firecrest_core.connection import Connection
from firecrest_core.errors import ServerFault, ServerUnreachable, TransferFailed, TransientError
from firecrest_core.transfer.limits import MIB, PARTS_AT_ONCE, Part

T = TypeVar("T")

ATTEMPTS = 6
CHUNK = MIB
# Bytes that are written at once. httpx's timeout applies to each write, and a slow line needs a minute for a MiB.
_WRITE = 64 * 1024

# Seconds. S3 needs minutes to join the parts of a large object. It sends a blank now and then meanwhile.
COMPLETION_TIMEOUT = 600.0
COMPLETION_LIMIT = 1800.0

LONGEST_PAUSE = 20.0

# S3's codes for what passes with time. It sends some of them with status 400, as RequestTimeout, or within a 200.
_TRANSIENT = frozenset(
    {
        "BandwidthLimitExceeded",
        "Busy",
        "InternalError",
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)

# Elements of S3's answers, with or without a prefix and attributes.
_CODE = re.compile(r"<(?:[\w.-]+:)?Code(?:\s[^<>]*)?>\s*([A-Za-z]{1,60})\s*<")
_JOINED = re.compile(r"<(?:[\w.-]+:)?CompleteMultipartUploadResult[\s/>]")
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

_presigned: ContextVar[bool] = ContextVar("firecrest_presigned", default=False)


def _not_presigned(record: logging.LogRecord) -> bool:
    """Drop httpx's log record of a presigned request, because httpx logs the whole URL at INFO."""
    return not _presigned.get()


logging.getLogger("httpx").addFilter(_not_presigned)


class Store:
    """A client for a site's staging store, as an asynchronous context manager.

    :param connection: its TLS settings, its proxy and its timeout are used for the store, too
    """

    def __init__(self, connection: Connection) -> None:
        self._limit = TIMEOUTS * connection.timeout  # for each chunk of a part, and for an answer
        context = tls_context(connection)
        self._http = httpx.AsyncClient(
            verify=context,
            proxy=proxy(connection, context),
            timeout=httpx.Timeout(connection.timeout, pool=None),
            # With a compressed answer, lengths and offsets would not be those of the file.
            headers={"Accept-Encoding": "identity"},
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
                async with self._time_limit("PUT", url) as moved:
                    content = _chunks(file, part, moved)
                    answer = await self._ask("PUT", url, content=content, headers=length)
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
                async with self._time_limit("POST", url, COMPLETION_LIMIT):
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
            if not _JOINED.search(answer.text):
                lost_answer = lost_answer or not _code(answer)
                raise _refusal(answer, "The staging store did not join the parts")

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
                async with (
                    self._time_limit("GET", url) as moved,
                    aclosing(self._range(url, at, part.stop, size)) as content,
                ):
                    async for data in content:
                        await write(at, data)
                        at += len(data)
                        moved()

            await _with_retries(get)
            await whole(part)

        await gather_limited(fetch_part, parts)

    async def _range(self, url: SecretStr, start: int, stop: int, size: int) -> AsyncGenerator[bytes]:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        response = await self._ask("GET", url, stream=True, headers=headers)
        try:
            _check_range(response, start, stop, size)
            async for data in response.aiter_raw(CHUNK):
                start += len(data)
                if start > stop:
                    raise TransferFailed("The staging store sent more than it was asked for.")
                yield data
        except NO_ANSWER as error:
            raise map_failure(error, "GET from the staging store", response.request.url.host) from None
        finally:
            await response.aclose()
        if start < stop:
            raise ServerUnreachable("GET from the staging store: the answer broke off.")

    @asynccontextmanager
    async def _time_limit(
        self, method: str, url: SecretStr, seconds: float | None = None
    ) -> AsyncIterator[Callable[[], None]]:
        """Limit the time of an exchange, or the time since the last call of the function that this provides."""
        try:
            async with time_limit(seconds or self._limit) as moved:
                yield moved
        except NO_ANSWER as error:
            raise map_failure(error, f"{method} at the staging store", _host(url)) from None

    async def _ask(self, method: str, url: SecretStr, *, stream: bool = False, **request: Any) -> httpx.Response:
        what = f"{method} at the staging store"
        token = _presigned.set(True)
        try:
            response = await self._send(method, url, **request)
            if stream and response.is_success:
                return response
            response = await read_whole(response, LARGEST_SMALL_ANSWER)
        except httpx.InvalidURL:
            raise TransferFailed(f"{what}: the server gave no usable address.") from None
        except NO_ANSWER as error:
            raise map_failure(error, what, _host(url)) from None
        finally:
            _presigned.reset(token)
        if response.is_success:
            return response
        raise _refusal(response, f"{what} {_host(url)} was refused")

    @without_frames
    async def _send(self, method: str, url: SecretStr, **request: Any) -> httpx.Response:
        message = self._http.build_request(method, url.get_secret_value(), **request)
        return await self._http.send(message, stream=True)


class _Refused(TransferFailed):
    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _host(url: SecretStr) -> str:
    return httpx.URL(url.get_secret_value()).host


def _refusal(response: httpx.Response, what: str) -> ServerFault | _Refused:
    """Return the error for an answer. It has S3's code, and no other word of the store, as that may be the URL."""
    code, status = _code(response), response.status_code
    problem = f"{what}: HTTP {status}{f' ({code})' if code else ''}."
    passes = code in _TRANSIENT or status >= 500 or status in (408, 429)
    if passes or (response.is_success and not code):  # a success without words is a broken answer
        return ServerFault(problem)
    return _Refused(problem, status)


def _code(response: httpx.Response) -> str:
    found = _CODE.search(response.text)
    return found[1] if found else ""


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


async def _chunks(file: Path, part: Part, moved: Callable[[], None]) -> AsyncIterator[bytes]:
    with file.open("rb") as reader:
        reader.seek(part.start)
        left = part.size
        while left:
            data = await asyncio.to_thread(reader.read, min(CHUNK, left))
            if not data:
                raise TransferFailed(f"{file.name} became shorter while it was sent.")
            left -= len(data)
            for start in range(0, len(data), _WRITE):
                yield data[start : start + _WRITE]
            moved()


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
