"""Tar archives, made and unpacked inside the confinement."""

# Clients' paths are text here: tar's messages show them as they were written.
# ruff: noqa: PTH112, PTH118

from __future__ import annotations

import lzma
import os
import re
import tarfile
import zlib
from typing import Literal, get_args

from firecrest_local.errors import RemoteError
from firecrest_local.files.confinement import Confinement
from firecrest_local.files.opening import open_regular

Compression = Literal["none", "bzip2", "gzip", "xz"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)


def tar_error(path: str, problem: str) -> RemoteError:
    """Return the error with which tar refuses one path."""
    return RemoteError(2, f"tar: {path}: {problem}\ntar: Exiting with failure status due to previous errors")


def compress(
    source: str,
    target: str,
    confinement: Confinement,
    *,
    compression: Compression = "gzip",
    pattern: str | None = None,
    dereference: bool = False,
) -> None:
    """Pack a file or a directory.

    :param source: what to pack.
    :param target: the archive.
    :param confinement: a link that leads out of it is refused if it would be followed.
    :param compression: how to compress.
    :param pattern: a regular expression. Only files whose path `./…` matches it are packed, from the directory that
        holds `source`.
    :param dereference: pack the targets of links.
    :raises RemoteError: with tar's message.
    """
    directory, name = os.path.split(source)

    def checked(member: tarfile.TarInfo) -> tarfile.TarInfo:
        path = os.path.join(directory, member.name)
        if dereference and not confinement.holds(path):
            raise tar_error(member.name, "Cannot open: Permission denied")
        return member

    try:
        archive = _create(target, compression, dereference)
    except OSError as error:
        raise RemoteError(2, f"tar: {target}: Cannot open: {error.strerror}") from None
    with archive:
        try:
            if pattern is None:
                archive.add(source, name, filter=checked)
                return
            for path, _, files in os.walk(directory):
                for file in sorted(files):
                    relative = os.path.join(".", os.path.relpath(os.path.join(path, file), directory))
                    if re.fullmatch(pattern, relative):
                        archive.add(os.path.join(path, file), relative, filter=checked)
        except OSError as error:
            raise tar_error(name, f"Cannot stat: {error.strerror}") from None


def _create(target: str, compression: Compression, dereference: bool) -> tarfile.TarFile:
    if compression == "gzip":
        return tarfile.open(target, "w:gz", dereference=dereference)
    if compression == "bzip2":
        return tarfile.open(target, "w:bz2", dereference=dereference)
    if compression == "xz":
        return tarfile.open(target, "w:xz", dereference=dereference)
    return tarfile.open(target, "w", dereference=dereference)


def extract(source: str, target: str) -> None:
    """Unpack an archive into a directory. Nothing is ever written outside of that directory.

    :raises RemoteError: with tar's message.
    """
    if not os.path.isdir(target):
        raise RemoteError(
            2,
            f"tar: {target}: Cannot open: No such file or directory\ntar: Error is not recoverable: exiting now",
        )
    try:
        with open_regular(source, "rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
            archive.extractall(target, filter="tar")
    except tarfile.FilterError as error:
        raise RemoteError(2, f"tar: {error}") from None
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError):
        raise RemoteError(
            2,
            "tar: This does not look like a tar archive\ntar: Exiting with failure status due to previous errors",
        ) from None
    except OSError as error:
        raise RemoteError(
            2,
            f"tar (child): {source}: Cannot open: {error.strerror}\ntar (child): Error is not recoverable: exiting now",
        ) from None
