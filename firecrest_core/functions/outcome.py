"""What a function's job has left: the value that it returned, or the exception that it raised."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from firecrest_core import transfer
from firecrest_core.api.backoff import delays
from firecrest_core.api.client import System
from firecrest_core.claims.claim import CACHED
from firecrest_core.errors import (
    FileTooLarge,
    FunctionFailed,
    JobFailed,
    PickleFailed,
    RemotePathNotFound,
    ResultRefused,
    VersionMismatch,
)
from firecrest_core.functions.result_place import ResultPlace
from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

# The program's own exit code when it has left something else than a value.
_RAISED = 1


class RemoteTraceback(Exception):
    """The traceback on the node, as the cause of what is raised here.

    :param text: its lines
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text.rstrip()}"


class _Header(BaseModel):
    """The line before the pickle, as :mod:`firecrest_core.functions.runner` writes it."""

    kind: Literal["returned", "raised", "PickleFailed", "VersionMismatch"]
    text: str = ""
    summary: Annotated[str, Field(max_length=100_000)] = ""


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
    content = await _read(system, path, waits=failure is None or result.exit_code == _RAISED)
    if content is None:
        if failure is not None:
            raise failure
        raise FunctionFailed(
            f"{name}: job {result.job_id} on {system} ended {result.state}, but has not left {path}. Its process ended "
            "before the function returned (os._exit?), or the compute nodes do not share the working directory."
        )
    signature, _, content = content.partition(b"\n")
    if not place.is_signed(signature.decode(errors="replace"), result.job_id, content):
        raise ResultRefused(
            f"{name}: {path} on {system} is not signed with this connection's secret, so it is not unpickled: it was "
            "not written by this task's job, or the connection's secret has changed since the submission. Look who can "
            "write there, and run the task again."
        )
    line, _, body = content.partition(b"\n")
    try:
        header = _Header.model_validate(json.loads(line))
    except (ValueError, ValidationError):
        raise FunctionFailed(
            f"{name}: {path} on {system} has another form; was it written by a newer release?"
        ) from None
    if header.kind == "VersionMismatch":
        raise VersionMismatch(header.text)
    if header.kind == "PickleFailed":
        raise PickleFailed(header.text)
    if header.kind == "raised":
        raise _raised(name, header, body)
    if failure is not None:  # afterwards, such as by the time limit
        raise failure
    try:
        return pickle.loads(body)
    except Exception as error:  # whatever an object's own methods raise
        raise PickleFailed(
            f"{name}: its result cannot be unpickled here: {type(error).__name__}: {error}. Install here what it "
            f"needs, or let the function return plain values. The job has ended well; its result is {path} on {system}."
        ) from None


def _raised(name: str, header: _Header, body: bytes) -> BaseException:
    """Return what the function raised, or an error with its text."""
    error: Any = None
    if body:
        try:
            error = pickle.loads(body)
        except Exception:
            error = None
    if not isinstance(error, Exception) or isinstance(error, StopIteration):  # no coroutine can raise that
        error = FunctionFailed(f"{name} raised {header.summary}")
    error.__cause__ = RemoteTraceback(header.text)
    return error  # type: ignore[no-any-return]


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
