"""The limits of one HTTP exchange: no answer may hang, and none may fill the memory.

httpx's timeouts apply to each piece, so a peer that sends a byte now and then never passes them. And httpx decodes each
answer whole, where one megabyte of gzip may become a gigabyte. So each exchange has these limits, too:

=============================  ======================================  ================================================
exchange                       time                                    size of the answer
=============================  ======================================  ================================================
a request to FirecREST         10 timeouts                             :data:`LARGEST_ANSWER`
a direct up- or download       10 timeouts, and a second for each      that of a request; for a download the system's
                               16 KiB of the content                   own limit (``max_ops_file_size``)
a token                        2 timeouts                              :data:`LARGEST_SMALL_ANSWER`
a part in the staging store    10 timeouts for each MiB of it          the part
the other answers of a store   10 timeouts; half an hour to join the   :data:`LARGEST_SMALL_ANSWER`
                               parts of an upload
=============================  ======================================  ================================================

A timeout is that of the connection. An exchange that passes its limit is given up, and its connection is closed.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import httpx

# How often the connection's timeout a whole exchange may take. A server under load sends its answer in a few pieces,
# and each may come just in time.
TIMEOUTS = 10
# A token is a few kilobytes, and all requests wait for it.
TOKEN_TIMEOUTS = 2
# Bytes a second at which direct content must travel; a slow but honest line is faster.
SLOWEST = 16 * 1024

# Bytes. The list of a thousand jobs has 0.45 MB, and a parsed answer takes about ten times its size in memory.
LARGEST_ANSWER = 32 * 1024 * 1024
# Bytes. Tokens and what a store says of a request have a few kilobytes.
LARGEST_SMALL_ANSWER = 1024 * 1024

# The key of a request's limits in its extensions, which httpx passes on.
LIMITS = "firecrest_limits"


class ExchangeTimedOut(httpx.ReadTimeout):
    """The answer did not come to an end within the limit of the whole exchange."""


class BodyTooLarge(httpx.HTTPError):
    """The answer is larger than its limit. The rest was not read."""


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """The limits of one exchange.

    :param seconds: for the whole exchange
    :param answer_size: bytes of the answer's body, decoded
    """

    seconds: float
    answer_size: int = LARGEST_ANSWER

    @classmethod
    def for_content(cls, timeout: float, sent: int = 0, received: int | None = None) -> Self:
        """Return the limits of a request whose content has a known size.

        :param timeout: the connection's timeout in seconds
        :param sent: bytes of the request's body
        :param received: bytes of the answer at most, if they are content; otherwise the usual limit applies
        """
        seconds = TIMEOUTS * timeout + (sent + (received or 0)) / SLOWEST
        return cls(seconds, LARGEST_ANSWER if received is None else received)

    @classmethod
    def for_token(cls, timeout: float) -> Self:
        """Return the limits of a token request.

        :param timeout: the connection's timeout in seconds
        """
        return cls(TOKEN_TIMEOUTS * timeout, LARGEST_SMALL_ANSWER)


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Limit the time of an exchange.

    :param seconds: since the beginning, or since the last call of the function that this provides
    :raises ExchangeTimedOut: they have passed
    """
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(seconds)

    def extend() -> None:
        if not limit.expired():
            limit.reschedule(loop.time() + seconds)

    try:
        async with limit:
            yield extend
    except TimeoutError:
        if not limit.expired():  # a file system may raise a TimeoutError, too
            raise
        raise ExchangeTimedOut("the answer did not come to an end") from None


async def read_whole(response: httpx.Response, most: int) -> httpx.Response:
    """Read and decode an answer that was requested as a stream, and close it.

    :param response: the answer
    :param most: how many bytes it may have, decoded
    :returns: the answer with its content
    :raises BodyTooLarge: it has more; no more than that was decoded
    :raises httpx.HTTPError: it broke off, or it cannot be decoded
    """
    try:
        if response.is_stream_consumed:  # a hook has read it, or it never was on a network
            return response
        decode = _decoder(response)
        content = bytearray()
        async for data in response.aiter_raw():
            content += decode(data, most + 1 - len(content))
            if len(content) > most:
                raise BodyTooLarge(f"the answer has more than {most:,} bytes")
    finally:
        await response.aclose()
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    return httpx.Response(
        response.status_code,
        headers=headers,
        content=bytes(content),
        request=response.request,
        extensions=response.extensions,
    )


def _decoder(response: httpx.Response) -> Callable[[bytes, int], bytes]:
    """Return the function that decodes a piece of an answer to a number of bytes at most."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return lambda data, most: data[:most]
    if encoding not in ("gzip", "x-gzip"):
        raise httpx.DecodingError(f"the answer is encoded as {encoding!r}, which was not asked for")
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def decompress(data: bytes, most: int) -> bytes:
        try:
            return decompressor.decompress(data, most)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from None

    return decompress
