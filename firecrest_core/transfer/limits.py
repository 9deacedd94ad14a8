"""A system's size limits for transfers, from ``GET /status/systems``, and the parts of a large file."""

from __future__ import annotations

from dataclasses import dataclass

from firecrest_core.api.filesystem import OLD_SERVER
from firecrest_core.api.models import OLD_STORAGE, SystemInfo
from firecrest_core.errors import FileTooLarge

MIB = 1024 * 1024

# S3's rules for a multipart upload: the smallest size of a part except the last, and the largest number of parts.
SMALLEST_PART = 5 * MIB
MOST_PARTS = 10_000

# Large enough to use the whole bandwidth, and small enough that repeating a failed part costs little.
USUAL_PART = 64 * MIB
PARTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file: ``size`` bytes from the byte ``start``. Numbers begin at 1, as S3's do."""

    number: int
    start: int
    size: int

    @property
    def stop(self) -> int:
        """The byte behind the last one."""
        return self.start + self.size


def direct_upload_limit(system: SystemInfo) -> int:
    """Return the largest size in bytes for ``ops/upload``."""
    return system.max_ops_file_size


def direct_download_limit(system: SystemInfo) -> int:
    """Return the largest size in bytes for ``ops/download``.

    The server reads the file as base64 through a buffer of ``max_ops_file_size`` bytes, and refuses an output that
    fills the buffer. That leaves three quarters of the limit, less the padding (3,932,157 bytes for 5 MiB).
    """
    return 3 * ((system.max_ops_file_size - 1) // 4)


def require_staging(system: SystemInfo, what: str, size: int, limit: int) -> None:
    """Check that the system has a staging store for a file that does not go directly.

    :param system: the system
    :param what: the file in words, for the message
    :param size: its size in bytes
    :param limit: the direct limit in bytes; if the file is smaller, it was refused all the same
    :raises FileTooLarge: it has none; the message has the size, the limit, and what to do
    """
    if system.transfer_method == "s3":
        return
    problem = f"{what} has {size:,} bytes, and {system.name} takes {limit:,} directly"
    if size <= limit:
        problem += ", but a gateway or the server refused it as too large"
    if system.transfer_method == OLD_STORAGE:
        raise FileTooLarge(f"{problem}; {OLD_SERVER} Cut or compress the file, or ask the site to upgrade.")
    if system.transfer_method is None:
        raise FileTooLarge(
            f"{problem}; it has no staging store for larger files. Cut or compress the file, or ask the site for "
            "S3 staging."
        )
    # The streamer (client 0.0.21) appends 98 bytes to every file. With wormhole, a person has to pass on a code.
    raise FileTooLarge(
        f"{problem}; its way for larger files is {system.transfer_method!r}, which is not supported because files "
        "do not arrive unchanged or unattended. Cut or compress the file, or ask the site for S3 staging."
    )


def part_size(size: int, largest: int | None = None) -> int:
    """Return the size in bytes for the parts of a file, so that they can be transferred in parallel.

    :param size: the file's size in bytes
    :param largest: the largest size of a part in bytes (``maxPartSize``); it overrides S3's smallest size
    """
    step = min(max(-(-size // PARTS_AT_ONCE), SMALLEST_PART), USUAL_PART)
    step = max(step, -(-size // MOST_PARTS))
    return min(step, largest) if largest else step


def cut(size: int, step: int) -> list[Part]:
    """Cut a file of ``size`` bytes into parts of ``step`` bytes. The last part may be smaller."""
    return [Part(number, start, min(step, size - start)) for number, start in enumerate(range(0, size, step), start=1)]
