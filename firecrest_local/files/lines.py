"""Where lines begin and end in a file of any size. Only one block of it is in memory at a time."""

from __future__ import annotations

import os
from typing import BinaryIO

_BLOCK = 64 * 1024


def end_of_first_lines(file: BinaryIO, count: int) -> int:
    """Return the position after the first `count` lines, or the file's end if it has fewer."""
    position = file.seek(0)
    while count > 0 and (block := file.read(_BLOCK)):
        found = block.count(b"\n")
        if found >= count:
            end = 0
            for _ in range(count):
                end = block.index(b"\n", end) + 1
            return position + end
        count -= found
        position += len(block)
    return position


def start_of_last_lines(file: BinaryIO, count: int) -> int:
    """Return where the last `count` lines begin, or 0 if the file has fewer."""
    end = file.seek(0, os.SEEK_END)
    if count <= 0:
        return end
    # A newline that is the last byte ends the last line. Every other one ends a line before it.
    position = max(end - 1, 0)
    while position > 0:
        start = max(position - _BLOCK, 0)
        file.seek(start)
        block = file.read(position - start)
        found = block.count(b"\n")
        if found >= count:
            newline = len(block)
            for _ in range(count):
                newline = block.rindex(b"\n", 0, newline)
            return start + newline + 1
        count -= found
        position = start
    return 0
