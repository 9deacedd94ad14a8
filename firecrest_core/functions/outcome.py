"""What a function's job has left: the value that it returned, or the exception that it raised."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Any

from firecrest_core import transfer
from firecrest_core.api.backoff import delays
from firecrest_core.api.client import System
from firecrest_core.claims.claim import CACHED
from firecrest_core.errors import FileTooLarge, FunctionFailed, JobFailed, RemotePathNotFound
from firecrest_core.functions.result_file import ResultFile
from firecrest_core.functions.result_place import ResultPlace
from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

RAISED = 1
"""The exit code of :mod:`~firecrest_core.functions.runner` when it has left something else than a value."""


async def function_result(
    system: System, result: JobResult, place: ResultPlace, name: str, failure: JobFailed | None = None
) -> Any:
    """Return what a function returned, or raise what it raised. A small result costs one request.

    :param system: where the job ran
    :param result: how it ended
    :param place: where it has left the result
    :param name: the function's name
    :param failure: the error for the end of the job, if it did not end well
    :returns: the value
    :raises Exception: what the function raised; its cause is the :class:`RemoteTraceback`
    :raises FunctionFailed: what it raised cannot be raised here, or it has left nothing
    :raises JobFailed: ``failure``, if the function has raised nothing
    :raises VersionMismatch: the Python, or a package, is another one there
    :raises PickleFailed: the function could not be unpickled there, or the result cannot be unpickled here
    :raises ResultRefused: somebody else has written the file, or the connection's secret has changed
    """
    path = place.result_file(result.job_id)
    content = await _read(system, path, waits=failure is None or result.exit_code == RAISED)
    if content is None:
        if failure is not None:
            raise failure
        raise FunctionFailed(
            f"{name}: job {result.job_id} on {system} ended {result.state}, but has not left {path}. Its process ended "
            "before the function returned (os._exit?), or the compute nodes do not share the working directory."
        )
    left = ResultFile.read(content, place, result.job_id, name, f"{path} on {system}")
    if not left.has_value:
        raise left.error()
    if failure is not None:  # afterwards, such as by the time limit
        raise failure
    return left.value()


async def _read(system: System, path: str, *, waits: bool) -> bytes | None:
    """Return what is in the file; ``None`` if it is not there.

    :param waits: it must be there, though it may not be visible yet
    """
    pauses = delays(CACHED)
    while True:
        try:
            return await _download(system, path)
        except RemotePathNotFound:
            pause = next(pauses, None) if waits else None
            if pause is None:
                return None
            log.info("%s on %s is not there yet; what a compute node writes may show late.", path, system)
            await asyncio.sleep(pause)


async def _download(system: System, path: str) -> bytes:
    try:
        return await system.download_small(path)
    except FileTooLarge:
        with tempfile.TemporaryDirectory(prefix="firecrest-") as directory:
            here = Path(directory, "result")
            await transfer.download(system, path, here, exact=True)
            return await asyncio.to_thread(here.read_bytes)
