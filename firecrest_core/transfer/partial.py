"""An unfinished download: a file beside the final name, and a note of the parts that are complete."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from firecrest_core.transfer.limits import MIB, Part


class PartialFile:
    """A file that gets its name when it is complete.

    After an interruption, the next attempt for the same content and the same name continues it.

    :param final: the path that the file will have
    :param content: a text that identifies the content: it must change with the content
    :param parts: the parts in which it is downloaded
    """

    def __init__(self, final: Path, content: str, parts: list[Part]) -> None:
        self.final = final
        self.parts = parts
        self.size = parts[-1].stop if parts else 0
        # A hash, because the final name may already have the greatest possible length.
        key = sha256(f"{final.name}\n{content}\n{[part.size for part in parts]}".encode()).hexdigest()[:16]
        self.path = final.with_name(f".firecrest-{key}.part")
        self._note = final.with_name(f".firecrest-{key}.json")
        self._whole: set[int] = set()

    def begin(self) -> list[Part]:
        """Create the file, or find what an earlier attempt has left.

        :returns: the parts that have to be fetched
        """
        with suppress(OSError, ValueError, TypeError):
            if self.path.stat().st_size == self.size:
                self._whole = set(json.loads(self._note.read_text()))
        if not self._whole:
            with self.path.open("wb") as file:
                file.truncate(self.size)
        return [part for part in self.parts if part.number not in self._whole]

    async def write(self, at: int, data: bytes) -> None:
        """Write bytes at an offset in the file."""
        await asyncio.to_thread(self._write, at, data)

    def _write(self, at: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    async def whole(self, part: Part) -> None:
        """Note that a part is complete, after it is on the disk."""
        await asyncio.to_thread(_sync, self.path)
        self._whole.add(part.number)
        new_note = self._note.with_suffix(".new")
        new_note.write_text(json.dumps(sorted(self._whole)))
        new_note.replace(self._note)

    def finish(self) -> None:
        """Give the file its final name."""
        _sync(self.path)
        self.path.replace(self.final)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file and the note, because the content is wrong."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def write_whole(final: Path, content: bytes) -> None:
    """Write a file. It gets its name only when it is complete and on the disk.

    :param final: the path of the file
    :param content: its content
    """
    part = PartialFile(final, uuid4().hex, [])
    try:
        with part.path.open("wb") as file:
            file.write(content)
        part.finish()
    except BaseException:
        part.discard()
        raise


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a local file in hexadecimal."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())
