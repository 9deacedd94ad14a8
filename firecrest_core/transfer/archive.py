"""Archives on the system, for directories and for files whose names or kinds a transfer job cannot handle."""

from __future__ import annotations

from functools import partial

from firecrest_core.api.client import System
from firecrest_core.errors import FileTooLarge, InvalidFileName, RequestTimedOut
from firecrest_core.transfer import jobs

# The characters that the templates of the server's compress and extract jobs escape as HTML.
_ESCAPED = frozenset("&<>\"'")


async def compress(system: System, source: str, archive: str, *, follow: bool, account: str | None) -> None:
    """Pack a file or directory on the system: directly within the server's command timeout, else in a job.

    :param system: where it is
    :param source: its path; ``<directory>/.`` packs a directory as ``.``, even if its path is a symbolic link
    :param archive: the path of the archive
    :param follow: pack what symbolic links point to
    :param account: the account to charge for the job
    :raises InvalidFileName: it needs a job, and the job cannot handle a path
    """
    try:
        await system.compress(source, archive, dereference=follow)
    except (RequestTimedOut, FileTooLarge):  # tar lists every file, and a large tree overflows the server's buffer
        await _in_a_job(system, "compress", source, archive, account, {"dereference": follow, "compression": "gzip"})


async def extract(system: System, archive: str, directory: str, *, account: str | None) -> None:
    """Unpack an archive on the system: directly within the server's command timeout, else in a job.

    :param system: where it is
    :param archive: its path
    :param directory: the directory to unpack into
    :param account: the account to charge for the job
    :raises InvalidFileName: it needs a job, and the job cannot handle a path
    """
    try:
        await system.extract(archive, directory)
    except RequestTimedOut:
        await _in_a_job(system, "extract", archive, directory, account, {"compression": "gzip"})


async def _in_a_job(
    system: System,
    operation: str,
    path: str,
    target: str,
    account: str | None,
    options: dict[str, object],
) -> None:
    if _ESCAPED & {*path, *target}:
        raise InvalidFileName(
            f"{path} on {system}: it takes a job to {operation} it, and the site's jobs change the characters & < > "
            'and " in paths. Rename the directory.'
        )
    body = {"path": path, "targetPath": target, "account": account, **options}
    begun = await jobs.start(system, operation, partial(system.start_transfer, operation, body))
    job = jobs.as_job(begun, operation)
    await jobs.ended(system, job)
