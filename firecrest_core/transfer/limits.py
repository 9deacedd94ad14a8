"""What a system can carry, from ``GET /status/systems``, and how a large file is cut into parts."""

from __future__ import annotations

from dataclasses import dataclass

from firecrest_core.api.models import SystemInfo
from firecrest_core.errors import FileTooLarge

MIB = 1024 * 1024

# S3's own rules for a multipart upload: the smallest part but for the last, and how many there may be.
SMALLEST_PART = 5 * MIB
MOST_PARTS = 10_000

# Large enough to fill a line, small enough that a broken one costs little.
USUAL_PART = 64 * MIB
PARTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of a file: ``size`` bytes from ``start``; parts count from 1, as S3's do."""

    number: int
    start: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.size


def direct_upload_limit(system: SystemInfo) -> int:
    """Return how many bytes ``ops/upload`` takes."""
    return system.max_ops_file_size


def direct_download_limit(system: SystemInfo) -> int:
    """Return how many bytes ``ops/download`` gives.

    The server reads the file as base64 through a buffer of ``max_ops_file_size`` bytes and refuses an output
    that fills it: three quarters of the limit, less a byte's worth of padding (3,932,157 bytes of 5 MiB).
    """
    return 3 * ((system.max_ops_file_size - 1) // 4)


def require_staging(system: SystemInfo, what: str, size: int, limit: int) -> None:
    """Make sure that the system has a staging store for what is too large to go directly.

    :param what: the file in words, for the message
    :param size: its bytes
    :param limit: the bytes that go directly
    :raises FileTooLarge: with the size, the limit, and what to do
    """
    if system.transfer_method == "s3":
        return
    passed = f"{what} has {size:,} bytes, and {system.name} takes {limit:,} directly"
    if system.transfer_method is None:
        raise FileTooLarge(
            f"{passed}; it has no staging store for larger files. Cut or compress the file, or ask the site for "
            "S3 staging."
        )
    # The streamer (client 0.0.21) appends 98 bytes to every file; wormhole hands codes from person to person.
    raise FileTooLarge(
        f"{passed}; its way for larger files is {system.transfer_method!r}, which is not supported because files "
        "do not arrive unchanged or unattended. Cut or compress the file, or ask the site for S3 staging."
    )


def part_size(size: int, largest: int | None = None) -> int:
    """Return how large the parts of ``size`` bytes should be to travel side by side.

    :param largest: bytes that one part may have at the most (``maxPartSize``); wins over S3's smallest
    """
    step = min(max(-(-size // PARTS_AT_ONCE), SMALLEST_PART), USUAL_PART)
    step = max(step, -(-size // MOST_PARTS))
    return min(step, largest) if largest else step


def cut(size: int, step: int) -> list[Part]:
    """Cut ``size`` bytes into parts of ``step`` bytes; the last may be smaller."""
    return [Part(number, start, min(step, size - start)) for number, start in enumerate(range(0, size, step), start=1)]
