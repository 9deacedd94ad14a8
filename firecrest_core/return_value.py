"""The value that a job returns: what it writes into ``return.json``, as pods of Kubernetes do for Airflow."""

from __future__ import annotations

import json
import logging
import posixpath
from typing import Any

from firecrest_core.api.client import System
from firecrest_core.errors import FileTooLarge, RemotePathNotFound, RemotePathRefused
from firecrest_core.result import JobResult

log = logging.getLogger(__name__)

RETURN_FILE = "return.json"
"""The file, in the job's working directory."""
LARGEST_RETURN_FILE = 64 * 1024
"""Bytes. Engines keep the value in their databases."""

# Levels of lists and objects. Engines go through a value recursively.
_DEEPEST = 100
# Bits of the largest integer that every engine's messages and databases take, without its sign.
_BITS = 63


async def read_return_value(system: System, result: JobResult) -> Any:
    """Return what a job that succeeded has left in :data:`RETURN_FILE`. Without such a file, this costs one request.

    What cannot be used is no error, because nobody may have meant it: the log says in one sentence what it is. A file
    that is older than the job's start is of another job. Both times are whole seconds. There is no tolerance for clocks
    that differ, because no value is better than a wrong one.

    :param system: where the job ran
    :param result: how it ended
    :returns: a value of JSON types; ``None`` if there is none
    """
    path = posixpath.join(result.working_dir, RETURN_FILE)
    try:
        found = await system.stat(path)
        if result.started_at is not None and found.mtime < result.started_at:
            log.info("%s on %s is older than job %s, so it is not what this job returns.", path, system, result.job_id)
            return None
        if not found.is_file or found.size > LARGEST_RETURN_FILE:
            raise FileTooLarge(f"it is no file of at most {LARGEST_RETURN_FILE:,} bytes")
        return _parse(await system.download_small(path, most=LARGEST_RETURN_FILE))
    except RemotePathNotFound:
        return None
    except (RemotePathRefused, FileTooLarge, ValueError) as error:
        log.warning("%s on %s is not returned: %s.", path, system, str(error).rstrip("."))
        return None


def _parse(content: bytes) -> Any:
    """Return the value.

    :raises ValueError: it is no JSON, or holds what engines cannot keep
    """
    try:
        value = json.loads(content.decode())
        _check(value, _DEEPEST)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # of the encoding, too
        raise ValueError(f"it is no JSON that can be kept ({error})") from None
    return value


def _check(value: Any, levels: int) -> None:
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise ValueError("an integer has more than 64 bits")
    if not isinstance(value, dict | list):
        return
    if not levels:
        raise RecursionError
    if isinstance(value, dict) and any(name.startswith("__") for name in value):
        # By such names, engines mark values that they make objects of.
        raise ValueError("a name begins with two underscores")
    for each in value.values() if isinstance(value, dict) else value:
        _check(each, levels - 1)
