"""Waiting for a file that somebody else makes: a job, an instrument, a person."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from firecrest_core import paths
from firecrest_core.api.backoff import LONGEST_RETRY_AFTER, OUTAGES, Backoff
from firecrest_core.api.client import System
from firecrest_core.errors import RemotePathNotFound, TransientError, WaitTimedOut
from firecrest_core.result import duration
from firecrest_core.transfer import is_pattern, match

log = logging.getLogger(__name__)


async def exists(system: System, path: str) -> bool:
    """Tell whether something is at a path now.

    :param system: the system
    :param path: absolute path, also with wildcards
    """
    if is_pattern(path):
        return bool(await match(system, path))
    try:
        await system.list_files(path)
    except RemotePathNotFound:
        return False
    return True


async def wait_for_file(
    system: System,
    path: str,
    *,
    poll_interval: float = 10.0,
    timeout: float | None = None,
    reached: bool = False,
    on_warning: Callable[[str], None] = log.warning,
) -> None:
    """Wait until a file or directory exists, or one that a pattern matches. Outages are waited out.

    :param system: where to look, as the user
    :param path: path there as users write it, also with wildcards
    :param poll_interval: seconds between two questions
    :param timeout: seconds after which to stop waiting, though not before the first answer
    :param reached: the server has been reached as this user, so that a refusal is an outage, too
    :param on_warning: gets a line for an outage, at first and then at growing intervals
    :raises WaitTimedOut: nothing is there after ``timeout``
    :raises RemotePathRefused: nothing can ever be there
    """
    clock = asyncio.get_running_loop().time
    until = math.inf if timeout is None else clock() + timeout
    outage: Backoff | None = None
    expanded: str | None = None
    while True:
        pause = poll_interval
        try:
            expanded = expanded or await paths.expand(system, path)
            if await exists(system, expanded):
                return
            reached, outage = True, None
        except OUTAGES as error:
            if not reached and not isinstance(error, TransientError):
                raise
            outage = outage or Backoff(clock())
            if outage.should_report(clock()):
                on_warning(f"Still waiting for {path}. {error}")
            pause = max(poll_interval, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER))
        left = until - clock()
        if left <= 0:
            # Only a wait with a limit gets here.
            what = "could not be looked for at last" if outage else "does not exist"
            raise WaitTimedOut(f"{path} on {system.name} {what} after {duration(timeout)} (timeout).")
        await asyncio.sleep(min(pause, left))
