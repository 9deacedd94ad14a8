"""A file that a job writes, and what is shown of it."""

from __future__ import annotations

import json

import pytest

from firecrest_core.errors import FileTooLarge, RemotePathNotFound
from firecrest_core.follow.output_file import MOST_LINES, MOST_SHOWN, OutputFile, Written


class Disk:
    """A file as the server reads it: by byte, as text, up to a largest answer."""

    def __init__(self, content: bytes | None = b"", largest: int = 1024 * 1024) -> None:
        self.content = content
        self.largest = largest
        self.asked: list[str] = []
        self.sent = 0

    async def size(self, path: str) -> int:
        self.asked.append("size")
        if self.content is None:
            raise RemotePathNotFound(path)
        return len(self.content)

    async def read_from(self, path: str, offset: int) -> str:
        self.asked.append("read")
        if self.content is None:
            raise RemotePathNotFound(path)
        text = self.content[offset:].decode(errors="replace")
        if len(json.dumps(text)) > self.largest:
            raise FileTooLarge(path)
        self.sent += len(text)
        return text


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def file() -> OutputFile:
    return OutputFile("/wd/out")


async def test_each_line_is_shown_once_and_when_it_is_complete(disk: Disk, file: OutputFile) -> None:
    shown: list[str] = []
    for piece in ("one\ntw", "o", "", "\nthree\n", "é\n", "the end"):
        disk.content += piece.encode()
        shown += (await file.read(disk)).lines
    assert shown == ["one", "two", "three", "é"]
    assert disk.asked == ["read"] * 6
    assert (await file.read(disk, last=True)).lines == ["the end"]


async def test_nothing_new_is_nothing(disk: Disk, file: OutputFile) -> None:
    assert await file.read(disk) == Written()
    disk.content = b"one\n"
    await file.read(disk)
    assert await file.read(disk) == Written()
    assert await OutputFile("/wd/out", 4).read(disk, last=True) == Written()


async def test_a_file_that_is_not_there_yet(disk: Disk, file: OutputFile) -> None:
    disk.content = None
    assert await file.read(disk) == Written()
    disk.content = b"one\n"
    assert (await file.read(disk)).lines == ["one"]


@pytest.mark.parametrize("new", [b"", b"x\n", b"new line\nanother one, longer than all before\n", None])
async def test_a_file_that_was_written_anew_or_deleted(disk: Disk, file: OutputFile, new: bytes | None) -> None:
    disk.content = b"one\ntwo\n"
    await file.read(disk)
    disk.content = new
    assert "written anew" in (await file.read(disk)).before
    disk.content = new or b"back\n"
    assert (await file.read(disk)).lines == (new or b"back\n").decode().splitlines()


async def test_a_size_from_a_list_tells_the_same(disk: Disk, file: OutputFile) -> None:
    disk.content = b"one\ntwo"
    assert file.has_news(7)
    assert (await file.read(disk, size=7)).lines == ["one"]
    assert not file.has_news(7)  # an incomplete line is read once
    assert file.has_news(8)
    assert file.has_news(None)
    disk.content = b"x\n"
    assert "written anew" in (await file.read(disk, size=2)).before
    assert not file.has_news(None)
    assert "size" not in disk.asked


async def test_many_lines_at_once_are_shown_from_the_end(disk: Disk, file: OutputFile) -> None:
    disk.content = b"".join(b"line %d\n" % number for number in range(1000))
    written = await file.read(disk)
    assert written.lines == [f"line {number}" for number in range(900, 1000)]
    assert written.before == "… 900 lines of /wd/out are left out: they came too fast …"
    assert len(written.lines) == MOST_LINES


async def test_a_hundred_megabytes_in_a_minute(disk: Disk, file: OutputFile) -> None:
    """As six polls see them: little is read, and the end of each is shown."""
    line = b"%010d " + b"x" * 88 + b"\n"
    for poll in range(6):
        disk.content += b"".join(line % number for number in range(poll * 160_000, (poll + 1) * 160_000))
        disk.sent = 0
        disk.asked.clear()
        written = await file.read(disk)
        assert written.lines[-1].startswith(f"{(poll + 1) * 160_000 - 1:010d} ")
        assert "bytes of /wd/out are left out" in written.before
        assert disk.sent <= 70_000
        assert len(disk.asked) <= 3
    disk.content += b"slowly\n"
    assert (await file.read(disk)).lines == ["slowly"]


async def test_a_server_that_sends_little_at_once(file: OutputFile) -> None:
    disk = Disk(b"".join(b"%d\n" % number for number in range(100_000)), largest=64 * 1024)
    written = await file.read(disk)
    assert written.lines[-1] == "99999"
    assert "bytes of /wd/out are left out" in written.before


async def test_one_line_without_an_end_does_not_grow_in_memory(disk: Disk, file: OutputFile) -> None:
    disk.content = b"x" * 70_000
    assert len((await file.read(disk)).lines) == 1
    disk.content += b"y\nnext\n"
    assert (await file.read(disk)).lines[-1] == "next"
    disk.content += b"z" * 3_000_000
    assert "left out" in (await file.read(disk)).before
    disk.content += b"end\nlast\n"
    assert (await file.read(disk)).lines[-1] == "last"
    assert (await file.read(disk)) == Written()


@pytest.mark.parametrize(
    "odd", [b"caf\xe9 \xff\xfe\n", bytes(range(256)) + b"\n", b"\xe2\x82\n", "\N{REPLACEMENT CHARACTER}\n".encode()]
)
async def test_what_is_no_text_is_shown_once_and_harms_nothing(disk: Disk, file: OutputFile, odd: bytes) -> None:
    shown: list[str] = []
    for number in range(50):
        disk.content += odd + b"line %d, which is long enough to be told\n" % number
        written = await file.read(disk)
        assert written.before == ""
        shown += [line for line in written.lines if line.startswith("line")]
    assert shown == [f"line {number}, which is long enough to be told" for number in range(50)]


async def test_so_much_is_shown_in_all_and_then_it_is_said_once(disk: Disk, file: OutputFile) -> None:
    remarks = []
    for _ in range(300):
        disk.content += b"x" * 99 + b"\n"
        disk.content += (b"y" * 99 + b"\n") * 90
        if remark := (await file.read(disk)).after:
            remarks.append(remark)
    assert remarks == [f"No more of /wd/out is shown here: the log has {MOST_SHOWN:,} characters of it."]
    assert file.is_full
    asked = len(disk.asked)
    await file.read(disk)
    assert len(disk.asked) == asked
    assert not file.has_news(10**9)


async def test_secrets_are_removed(disk: Disk, file: OutputFile) -> None:
    disk.content = b"token=abcdefgh12345678\n\x1b[31mred\x1b[0m\n 1%\r 50%\r100%\n"
    assert (await file.read(disk)).lines == ["token=***", "red", "100%"]
