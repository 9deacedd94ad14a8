"""A download on its way: the bytes so far beside the final name, and a note of which parts are whole."""

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
    """A file that gets its name when it is whole.

    What arrived before a break is found again by the next attempt for the same content and the same name.

    :param final: the name that it will have
    :param content: what the content is, in any words that differ when the content does
    :param parts: how it travels
    """

    def __init__(self, final: Path, content: str, parts: list[Part]) -> None:
        self.final = final
        self.parts = parts
        self.size = parts[-1].stop if parts else 0
        # A hash, since the final name may be as long as a name can be.
        key = sha256(f"{final.name}\n{content}\n{[part.size for part in parts]}".encode()).hexdigest()[:16]
        self.path = final.with_name(f".firecrest-{key}.part")
        self._note = final.with_name(f".firecrest-{key}.json")
        self._whole: set[int] = set()

    def begin(self) -> list[Part]:
        """Make room, or find what an earlier attempt left; return the parts that are missing."""
        with suppress(OSError, ValueError, TypeError):
            if self.path.stat().st_size == self.size:
                self._whole = set(json.loads(self._note.read_text()))
        if not self._whole:
            with self.path.open("wb") as file:
                file.truncate(self.size)
        return [part for part in self.parts if part.number not in self._whole]

    async def write(self, at: int, data: bytes) -> None:
        await asyncio.to_thread(self._write, at, data)

    def _write(self, at: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    async def whole(self, part: Part) -> None:
        """Note that a part is complete and on the disk."""
        await asyncio.to_thread(_sync, self.path)
        self._whole.add(part.number)
        fresh = self._note.with_suffix(".new")
        fresh.write_text(json.dumps(sorted(self._whole)))
        fresh.replace(self._note)

    def finish(self) -> None:
        """Give the file its name."""
        _sync(self.path)
        self.path.replace(self.final)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget what arrived: it is not what it should be."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def write_whole(final: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is complete and on the disk."""
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
    found = sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            found.update(chunk)
    return found.hexdigest()


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())
