"""A file that a job writes, read again and again from where the last read ended.

It may be anything: 100 MB in a minute, binary, one line without an end, written anew, deleted. What is read at once is
bounded, and so is what is shown, at once and in all.

Bytes are counted, and each read begins one byte early: that byte has to be the end of the last line. If it is not
there, the file has become shorter, and if it is another one, the file was written anew. So one request tells what is
new and whether it belongs to what was shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from firecrest_core.errors import FileTooLarge, RemotePathNotFound
from firecrest_core.jobs.logs import last_lines

MOST_LINES = 100
"""Lines that are shown of what was written between two reads: the last ones."""

MOST_SHOWN = 1024 * 1024
"""Characters that are shown of a file in all."""

# Bytes. If more was written than the server sends at once, only so much of its end is read. Servers may be set to send
# as little as 64 KiB.
_WINDOW = 16 * 1024
# What the server writes for a byte that is no text. It stands for one byte, or for a few.
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"


class Files(Protocol):
    """Reads files of a system."""

    async def size(self, path: str) -> int:
        """Return the size of a file in bytes."""

    async def read_from(self, path: str, offset: int) -> str:
        """Return a file from a byte to its end."""


@dataclass(slots=True)
class Written:
    """What a job has written since the last read.

    :param before: a remark on what comes before the lines, such as lines that are left out
    :param lines: the lines, printable and without secrets
    :param after: a remark on what comes after them
    """

    before: str = ""
    lines: list[str] = field(default_factory=list)
    after: str = ""


class OutputFile:
    """A file that is followed.

    :param path: absolute path on the system
    :param offset: bytes that were read before
    :ivar is_full: so much was shown that no more is
    """

    # Bytes of a line without an end that are shown before it has one.
    _longest_line = _WINDOW

    def __init__(self, path: str, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self.is_full = False
        self._seen = offset
        self._shown = 0
        self._in_line = False
        self._is_binary = False
        self._grows_fast = False

    def has_news(self, size: int | None) -> bool:
        """Tell whether the file has changed, to judge by its size.

        :param size: bytes; ``None`` if there is no such file
        """
        return not self.is_full and (size or 0) != self._seen

    async def read(self, files: Files, *, size: int | None = None, last: bool = False) -> Written:
        """Read what is new.

        :param files: the files of its system
        :param size: its size in bytes, if that is known
        :param last: the job has ended, so a line without an end never gets one
        :raises FirecRESTError: it cannot be read now
        """
        if self.is_full:
            return Written()
        try:
            if size is None and self._grows_fast:
                size = await files.size(self.path)
            if size is None:
                try:
                    return self._taken(await files.read_from(self.path, self._early(self.offset)), self.offset, last)
                except FileTooLarge:
                    size = await files.size(self.path)
            start = max(self.offset, size - _WINDOW)
            self._grows_fast = start > self.offset
            if size < self.offset:
                return self._begins_anew()
            return self._taken(await files.read_from(self.path, self._early(start)), start, last)
        except RemotePathNotFound:  # not written yet, or deleted
            return self._begins_anew() if self.offset else Written()

    def _early(self, start: int) -> int:
        return start - 1 if start and not self._in_line else start

    def _begins_anew(self) -> Written:
        self.offset, self._seen, self._in_line = 0, 0, False
        return Written(before=f"{self.path} was removed or written anew; what follows is from its beginning.")

    def _taken(self, text: str, start: int, last: bool) -> Written:
        """Return what is to be shown of a text, and note that it was read.

        :param text: what the server has read, from one byte before ``start``
        :param start: bytes before it
        """
        left_out = start - self.offset
        self._seen = self._early(start) + _bytes(text)
        if start and not self._in_line:
            if not text and not left_out:
                return self._begins_anew()
            if text[:1] == "\n":
                text = text[1:]
            elif left_out or self._is_binary:
                cut, end, text = text.partition("\n")
                start += _bytes(cut + end) - 1
                if not end:
                    self.offset, self._in_line = start, True
                    return Written(before=_gap(left_out, "bytes", self.path))
            else:
                return self._begins_anew()
        body, end, rest = text.rpartition("\n")
        is_cut = last or _bytes(text) >= self._longest_line
        body = text if is_cut else body + end
        self._in_line = is_cut and bool(rest)
        self._is_binary = self._is_binary or _NO_TEXT in body
        self.offset = start + _bytes(body)
        return self.limited(body, left_out)

    def limited(self, body: str, left_out: int) -> Written:
        """Return what is shown of new lines.

        :param body: the lines
        :param left_out: bytes before them that were not read
        """
        written = Written()
        if not body:
            return written
        lines = body.removesuffix("\n").count("\n") + 1
        if left_out:
            written.before = _gap(left_out, "bytes", self.path)
        elif lines > MOST_LINES:
            written.before = _gap(lines - MOST_LINES, "lines", self.path)
        written.lines = last_lines(body.removesuffix("\n"), MOST_LINES).split("\n")
        self._shown += sum(len(line) + 1 for line in written.lines)
        if self._shown >= MOST_SHOWN:
            self.is_full = True
            written.after = f"No more of {self.path} is shown here: the log has {MOST_SHOWN:,} characters of it."
        return written


def _gap(count: int, unit: str, path: str) -> str:
    return f"… {count:,} {unit} of {path} are left out: they came too fast …"


def _bytes(text: str) -> int:
    """Return how many bytes a text had; too few where a character stands for several bytes that are no text."""
    return len(text.encode()) - 2 * text.count(_NO_TEXT)
