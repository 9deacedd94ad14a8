"""Opens files of the cluster without waiting for another process."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, Literal


def open_regular(path: str, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Open a file. A pipe is refused, because the other end may never come.

    :param path: the file.
    :param mode: `rb` or `wb`, as for `open`.
    :raises OSError: the file can't be opened, or is neither a regular file nor a device.
    """
    file: BinaryIO = open(path, mode, opener=_without_waiting)  # noqa: SIM115 (a client's path; the caller closes)
    if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK, 0o666)
