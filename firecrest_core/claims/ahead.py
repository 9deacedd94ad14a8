"""Jobs that are submitted ahead: the next one waits in the queue while the one before it still runs.

The scheduler starts it when the one before has ended, but nobody knows by then whether another job follows, and what
that one gets. So it waits at a gate before it claims (see :mod:`firecrest_core.claims.gate`).
:func:`firecrest_core.claims.protocol.submit` opens the gate when the generation begins, if the end of the job before
has changed nothing of what the next one asks for. Otherwise it closes the gate, cancels what waits, and submits a job
without a gate. Whoever comes after a crash finds the jobs by their names, and the decision in the directory.
"""

from __future__ import annotations

import logging
import math
from asyncio import sleep
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.claim import CACHED, CANCELLED
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.claims.gate import decide
from firecrest_core.claims.submission import Adjust, Submission, unchanged
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec

log = logging.getLogger(__name__)


async def submit_ahead(system: System, spec: JobSpec, key: ClaimKey, *, adjust: Adjust = unchanged) -> str | None:
    """Submit the job of the next generation while that of a key runs, so that it is in the queue early.

    One that is in the queue already is found. This costs a listing of files, a list of jobs and a POST, which is sent
    once: if its answer is lost, the job is looked for.

    :param system: where to submit it
    :param spec: the job, as for :func:`~firecrest_core.claims.protocol.submit`
    :param key: of the job that runs
    :param adjust: as for :func:`~firecrest_core.claims.protocol.submit`
    :returns: the id of the job that waits; ``None`` if it cannot be seen, or is not needed, because this generation
        is over
    :raises FirecRESTError: the scheduler has not taken it, for example because of a limit
    """
    submission = await Submission.prepare(system, spec, key.identity, adjust=adjust)
    following, is_sent = key.next_generation(), False
    for pause in (*delays(CACHED), None):
        found = await retry_transient(submission.claims.read)
        holder = found.holder(key)
        is_over = found.cause(key) is not None or found.latest(key.epoch) > key.generation
        if holder == CANCELLED or is_over or found.has_newer_epoch(key.epoch) or found.gate(following) is not None:
            return None
        if holder is not None:
            _, ahead = await submission.claims.live_of(following)
            if ahead:
                return ahead[0]
            if not is_sent:
                is_sent = True
                try:
                    return await submission.post_ahead(key, holder, found)
                except errors.SubmissionUnknown as error:
                    log.debug("%s may be in the queue: %s", following, error)
        if pause is not None:
            await sleep(pause)
    return None


async def cancel_ahead(system: System, working_dir: str, key: ClaimKey) -> list[str]:
    """Cancel the jobs that were submitted ahead of the end of a key's job, so that they run nothing.

    One that is not in the list of jobs yet leaves at its gate. This costs a list of jobs if there is nothing to cancel.

    :param system: where they are
    :param working_dir: absolute path of their working directory
    :param key: of the job that has ended, and that none of them follows
    :returns: the ids of those that were cancelled
    """
    claims, following = ClaimDirectory(system, working_dir, key.identity), key.next_generation()
    _, ahead = await retry_transient(partial(claims.live_of, following))
    if not ahead:
        return []
    found = await retry_transient(claims.read, math.inf)
    if await decide(claims, following, opens=False):  # another process has gone on
        return []
    await claims.delete(ahead)
    await claims.remove_secrets(found, lambda *of: of == (following.epoch, following.generation))
    return ahead
