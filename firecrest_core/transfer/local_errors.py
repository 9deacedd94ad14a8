"""Errors of the local file system, as errors of this package."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from firecrest_core.errors import FirecRESTError, LocalFileNotFound, LocalFileRefused, TransferFailed

_PERMISSIONS = "Check its permissions, and those of the directories above it."
_OTHER_KIND = "Something of another kind is in the way: remove it, or choose another path."

# What to do about errors that stay until the user corrects something.
_REFUSALS = {
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "Choose a directory that can be written to.",
    errno.EEXIST: _OTHER_KIND,
    errno.EISDIR: _OTHER_KIND,
    errno.ELOOP: _OTHER_KIND,
    errno.ENOTDIR: _OTHER_KIND,
    errno.ENOTEMPTY: _OTHER_KIND,
    errno.ENAMETOOLONG: "Choose a shorter name.",
}

# Object stores raise some of these without a number.
_NUMBERS: dict[type[OSError], int] = {
    FileExistsError: errno.EEXIST,
    FileNotFoundError: errno.ENOENT,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
}


@contextmanager
def local_errors(path: object, doing: str) -> Iterator[None]:
    """Raise errors of this package for those of the local file system.

    :param path: the file or directory, for the message
    :param doing: what is done to it, for the message: ``read``, ``written``
    :raises LocalFileNotFound: it does not exist
    :raises LocalFileRefused: it is not permitted, of the wrong kind, or its name is not possible
    :raises TransferFailed: the disk is full, or the file system fails otherwise
    """
    try:
        yield
    except OSError as error:
        raise _as_ours(error, f"{path} cannot be {doing}") from None


def _as_ours(error: OSError, problem: str) -> FirecRESTError:
    number = error.errno or _NUMBERS.get(type(error), 0)
    message = f"{problem}: {error.strerror or error}."
    if number == errno.ENOENT:
        return LocalFileNotFound(f"{message} Check the path.")
    if number in _REFUSALS:
        return LocalFileRefused(f"{message} {_REFUSALS[number]}")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return TransferFailed(f"{message} Make room, and try again.")
    return TransferFailed(f"{message} Try again; if it fails again, check the file system.")
