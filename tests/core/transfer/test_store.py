"""The staging store: parts side by side, broken connections, and URLs that nobody sees."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from firecrest_core import errors
from firecrest_core.api.exchange import time_limit
from firecrest_core.transfer import limits
from firecrest_core.transfer.limits import Part
from firecrest_core.transfer.store import ATTEMPTS, Store

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
PARTS = limits.cut(len(CONTENT), 16 * 1024)


async def send(staging: Store, fake_store, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    await staging.send(tmp_path / "f", PARTS, [fake_store.url(part.number) for part in PARTS], fake_store.url())


async def fetch(staging: Store, fake_store, size: int = len(CONTENT)) -> tuple[bytes, list[Part]]:
    got, whole = bytearray(size), []

    async def write(at: int, data: bytes) -> None:
        got[at : at + len(data)] = data

    async def note(part: Part) -> None:
        whole.append(part)

    await staging.fetch(fake_store.url(), PARTS, size, write, note)
    return bytes(got), whole


async def test_parts_are_sent_a_few_at_once_and_joined_in_order(staging, fake_store, tmp_path) -> None:
    await send(staging, fake_store, tmp_path)
    assert b"".join(fake_store.parts[number] for number in sorted(fake_store.parts)) == CONTENT
    assert 1 < fake_store.most_at_once <= limits.PARTS_AT_ONCE
    joined = fake_store.completed.decode()
    assert [joined.index(f"etag{part.number}") for part in PARTS] == sorted(
        joined.index(f"etag{part.number}") for part in PARTS
    )


async def test_our_token_goes_to_firecrest_alone(staging, fake_store, tmp_path) -> None:
    await send(staging, fake_store, tmp_path)
    assert not any("authorization" in headers for headers in fake_store.headers)
    assert not any("transfer-encoding" in headers for headers in fake_store.headers)  # S3 refuses it


@pytest.mark.parametrize(
    "fault", ["cut", "500", "503", "429", "400 RequestTimeout", "403 SlowDown", "409 OperationAborted"]
)
async def test_a_part_that_fails_is_sent_again_alone(staging, fake_store, tmp_path, fault: str) -> None:
    fake_store.faults["PUT"] = [fault]
    await send(staging, fake_store, tmp_path)
    assert b"".join(fake_store.parts[number] for number in sorted(fake_store.parts)) == CONTENT
    assert len([method for method, _ in fake_store.requests if method == "PUT"]) == len(PARTS) + 1


async def test_a_store_that_stays_broken(staging, fake_store, tmp_path) -> None:
    fake_store.faults["PUT"] = ["500"] * 1000
    with pytest.raises(errors.ServerFault, match=r"HTTP 500 \(SlowDown\)"):
        await send(staging, fake_store, tmp_path)
    assert len(fake_store.requests) <= ATTEMPTS * len(PARTS)


async def test_a_refusal_is_not_repeated(staging, fake_store, tmp_path) -> None:
    fake_store.faults["PUT"] = ["403 AccessDenied", "403 RequestTimeTooSkewed", "400 EntityTooSmall"] * 30
    with pytest.raises(errors.TransferFailed, match=r"HTTP 40[03] \((AccessDenied|RequestTimeTooSk|EntityTooSmall)"):
        await send(staging, fake_store, tmp_path)
    assert len(fake_store.requests) <= len(PARTS)


@pytest.mark.parametrize(
    "body",
    [
        "<Error><Code>InternalError</Code></Error>",
        '<?xml version="1.0"?>  \n<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>SlowDown</Code></Error>',
        '<s3:Error xmlns:s3="urn:s3"><s3:Code>ServiceUnavailable</s3:Code></s3:Error>',
        "<html>Welcome</html>",
    ],
)
async def test_an_error_within_a_200(staging, fake_store, tmp_path, body: str) -> None:
    fake_store.faults["POST"] = [body]
    await send(staging, fake_store, tmp_path)
    assert [method for method, _ in fake_store.requests].count("POST") == 2


async def test_a_refusal_within_a_200(staging, fake_store, tmp_path) -> None:
    fake_store.faults["POST"] = ['<Error xmlns="urn:s3"><Code>InvalidPart</Code></Error>'] * 10
    with pytest.raises(errors.TransferFailed, match="did not join the parts.*InvalidPart"):
        await send(staging, fake_store, tmp_path)
    assert [method for method, _ in fake_store.requests].count("POST") == 1


async def test_an_address_that_is_none(staging, fake_store, tmp_path) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    for nowhere in ("", "/bucket?X-Amz-Signature=s3cret", "http://store:s3cret/"):
        urls = [SecretStr(nowhere)] * len(PARTS)
        with pytest.raises(errors.FirecRESTError) as raised:
            await staging.send(tmp_path / "f", PARTS, urls, fake_store.url())
        assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("kind", ["PUT", "POST", "GET"])
async def test_an_answer_that_trickles(staging, fake_store, tmp_path, monkeypatch, kind: str) -> None:
    # Each byte comes well within the timeout of 5 s.
    monkeypatch.setattr(staging, "_limit", 0.2)
    monkeypatch.setattr("firecrest_core.transfer.store.COMPLETION_LIMIT", 0.2)
    monkeypatch.setattr("firecrest_core.transfer.store.ATTEMPTS", 2)
    fake_store.content = CONTENT
    fake_store.faults[kind] = ["trickle"] * 100
    with pytest.raises(errors.RequestTimedOut, match="did not come to an end"):
        await (fetch(staging, fake_store) if kind == "GET" else send(staging, fake_store, tmp_path))
    async with asyncio.timeout(60):
        while not fake_store.left:  # the connection was closed
            await asyncio.sleep(0.01)


async def test_a_part_that_trickled_once(staging, fake_store, monkeypatch) -> None:
    monkeypatch.setattr(staging, "_limit", 1.0)
    fake_store.content = CONTENT
    fake_store.faults["GET"] = ["trickle"]
    got, _ = await fetch(staging, fake_store)
    assert got == CONTENT


async def test_a_slow_line_moves_on(staging, fake_store, tmp_path, monkeypatch) -> None:
    """The limit is for each chunk, so all chunks together may take longer."""
    monkeypatch.setattr("firecrest_core.transfer.store.CHUNK", 1024)
    extended = 0

    @asynccontextmanager
    async def counted(seconds: float) -> AsyncIterator[Callable[[], None]]:
        def count() -> None:
            nonlocal extended
            extended += 1
            extend()

        async with time_limit(seconds) as extend:
            yield count

    monkeypatch.setattr("firecrest_core.transfer.store.time_limit", counted)
    fake_store.content = CONTENT
    await fetch(staging, fake_store)
    assert extended == len(CONTENT) // 1024
    await send(staging, fake_store, tmp_path)
    assert extended == 2 * len(CONTENT) // 1024


async def test_an_answer_without_end_fills_no_memory(staging, fake_store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("firecrest_core.transfer.store.LARGEST_SMALL_ANSWER", 1000)
    fake_store.faults["POST"] = ["<Error>" + "x" * 2000] * 100
    with pytest.raises(errors.AnswerTooLarge, match="more than 1,000 bytes"):
        await send(staging, fake_store, tmp_path)


async def test_a_completion_whose_answer_was_lost(staging, fake_store, tmp_path) -> None:
    fake_store.faults["POST"] = ["lost", "404 NoSuchUpload"]
    await send(staging, fake_store, tmp_path)


async def test_a_completion_of_what_is_not_there(staging, fake_store, tmp_path) -> None:
    fake_store.faults["POST"] = ["404 NoSuchUpload"]
    with pytest.raises(errors.TransferFailed, match="404"):
        await send(staging, fake_store, tmp_path)


async def test_a_file_that_becomes_shorter(staging, fake_store, tmp_path) -> None:
    (tmp_path / "f").write_bytes(CONTENT[:-1])
    urls = [fake_store.url(part.number) for part in PARTS]
    with pytest.raises(errors.TransferFailed, match="shorter"):
        await staging.send(tmp_path / "f", PARTS, urls, fake_store.url())


async def test_parts_are_fetched(staging, fake_store) -> None:
    fake_store.content = CONTENT
    got, whole = await fetch(staging, fake_store)
    assert got == CONTENT
    assert sorted(part.number for part in whole) == [part.number for part in PARTS]
    assert fake_store.most_at_once <= limits.PARTS_AT_ONCE
    assert all(headers["accept-encoding"] == "identity" for headers in fake_store.headers)


async def test_a_part_that_breaks_off_is_continued(staging, fake_store, monkeypatch) -> None:
    # Chunks as small as this arrive, all but the last, before the break.
    monkeypatch.setattr("firecrest_core.transfer.store.CHUNK", 1024)
    fake_store.content = CONTENT
    fake_store.faults["GET"] = ["cut"]
    got, _ = await fetch(staging, fake_store)
    assert got == CONTENT
    starts = [int(asked.removeprefix("bytes=").split("-")[0]) for _, asked in fake_store.requests]
    assert len(starts) == len(PARTS) + 1
    extra = [start for start in starts if start not in {part.start for part in PARTS}]
    assert len(extra) == 1
    assert extra[0] % 1024 == 0


async def test_an_object_of_another_size(staging, fake_store) -> None:
    fake_store.content = CONTENT[:-1]
    with pytest.raises(errors.TransferFailed, match="102,399 bytes of a file that had 102,400"):
        await fetch(staging, fake_store)


async def test_a_store_without_ranges(staging, fake_store) -> None:
    fake_store.answer = lambda headers: ("200 OK", {}, CONTENT)
    with pytest.raises(errors.TransferFailed, match="range requests"):
        await fetch(staging, fake_store)


async def test_another_range_than_asked_for(staging, fake_store) -> None:
    fake_store.answer = lambda headers: ("206 P", {"Content-Range": f"bytes 7-9/{len(CONTENT)}"}, b"abc")
    with pytest.raises(errors.TransferFailed, match="another range"):
        await fetch(staging, fake_store)


async def test_more_than_asked_for(staging, fake_store) -> None:
    def answer(headers: dict[str, str]) -> tuple[str, dict[str, str], bytes]:
        start = int(headers["range"].removeprefix("bytes=").split("-")[0])
        return "206 P", {"Content-Range": f"bytes {start}-9/{len(CONTENT)}"}, CONTENT

    fake_store.answer = answer
    with pytest.raises(errors.TransferFailed, match="more than"):
        await fetch(staging, fake_store)


async def test_nobody_there(staging, fake_store) -> None:
    fake_store.port = 1
    with pytest.raises(errors.ServerUnreachable, match=r"no connection to 127\.0\.0\.1"):
        await fetch(staging, fake_store)


@pytest.mark.parametrize("fault", ["cut", "403", "500", "error", "lost"])
@pytest.mark.parametrize("kind", ["PUT", "POST", "GET"])
async def test_no_presigned_url_in_logs_or_messages(
    staging, fake_store, tmp_path, caplog, fault: str, kind: str
) -> None:
    caplog.set_level(logging.DEBUG)
    fake_store.content = CONTENT
    fake_store.faults[kind] = [fault] * 100
    for action in (send(staging, fake_store, tmp_path), fetch(staging, fake_store)):
        try:
            await action
        except errors.FirecRESTError as error:
            chain = [error, error.__cause__]
            assert not any("s3cret" in str(one) + repr(one) for one in chain)
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    assert "s3cret" not in caplog.text
    assert "/bucket/key" not in caplog.text
