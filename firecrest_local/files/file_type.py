"""A guess at what a file holds, in the words of file(1)."""

# Clients' paths and links' targets are text here.
# ruff: noqa: PTH115, PTH123

from __future__ import annotations

import os
import stat

from firecrest_local.files.shown_name import shown_name

_MAGIC = (
    (b"\x1f\x8b", "gzip compressed data"),
    (b"BZh", "bzip2 compressed data"),
    (b"\xfd7zXZ\x00", "XZ compressed data"),
    (b"PK\x03\x04", "Zip archive data"),
    (b"\x7fELF", "ELF executable"),
    (b"\x89PNG", "PNG image data"),
    (b"%PDF", "PDF document"),
    (b"#!", "script, ASCII text executable"),
)


def file_type(path: str) -> str:
    """Return the type of a file. Like file(1), it never fails: the text names what could not be opened."""
    try:
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            return f"symbolic link to {shown_name(os.readlink(path))}"
        if stat.S_ISDIR(info.st_mode):
            return "directory"
        if not stat.S_ISREG(info.st_mode):
            return "special"
        if info.st_size == 0:
            return "empty"
        with open(path, "rb") as file:
            start = file.read(65536)
    except OSError as error:
        return f"cannot open `{path}' ({error.strerror})"
    for magic, description in _MAGIC:
        if start.startswith(magic):
            return description
    if start[257:262] == b"ustar":
        return "POSIX tar archive"
    for encoding, description in (("ascii", "ASCII text"), ("utf-8", "UTF-8 Unicode text")):
        try:
            text = start.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return description
    return "data"
