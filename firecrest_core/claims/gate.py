"""The gate: what a job waits at that was submitted before anybody knows whether it is needed.

It is a symbolic link in the directory of the job's claim, and it is made once, as the claim is::

    .firecrest/<identity>/<epoch>.<generation>/gate -> open
    .firecrest/<identity>/<epoch>.<generation>/gate -> closed

Whoever waits for the task's jobs decides, and opens or closes it with :func:`decide`. A job that finds it open goes on
to the claim. One that finds it closed ends without running anything, also if it was not in the list of jobs when that
was decided. If nobody decides for a while, the job closes the gate itself and ends, so that it does not hold its nodes
for an engine that is down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from firecrest_core.api.backoff import retry_transient
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.escalation import TIME_LIMIT
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec import quantities
from firecrest_core.spec.jobspec import JobSpec

OPEN, CLOSED = "open", "closed"

LONGEST_WAIT = 600
"""Seconds for which a job waits at its gate at most."""

LARGEST_SHARE = 0.1
"""The part of its time limit for which a job waits at its gate at most, because it lacks that time afterwards."""

SHORTEST_IN_RACE = 60
"""Seconds for which a job of a race waits at least, but for no more than half of its time limit: whoever decides asks
at intervals, and it has nodes already."""


def lines(seconds: int) -> Sequence[str]:
    """Return lines of POSIX shell that wait until the gate is decided, for the prologue.

    They use its variable ``claims`` and its function ``fail``, and leave with 100 where nothing may run. A claim that
    is there decides, too: the job was requeued, or its task was cancelled.

    :param seconds: how long the job waits, until it closes the gate itself
    """
    return (
        f"    left={seconds}",
        '    until [ -h "$claims/gate" ] || [ -h "$claims/claim" ] || [ $left -le 0 ]; do',
        # Listing the directory makes an NFS client look again, which believes for a minute that there is no such file.
        '        sleep 1; left=$((left - 1)); ls "$claims" > /dev/null 2>&1 || :',
        "    done",
        '    [ -h "$claims/claim" ] || {',
        f'        if problem=$({{ mkdir -p "$claims" && ln -sn "$claims/{CLOSED}" "$claims/gate"; }} 2>&1); then',
        f'            printf "firecrest: nobody has let this job begin for {seconds} s, so it ends. Another one will '
        'follow.\\n" >&2',
        "            exit 100",
        "        fi",
        '        gate=$(readlink "$claims/gate") || fail "this job cannot read its gate: $problem"',
        f'        [ "${{gate##*/}}" = {OPEN} ] || exit 100',
        "    }",
    )


def longest_wait(spec: JobSpec, *, in_race: bool = False) -> int:
    """Return the seconds for which a job waits at its gate.

    :param spec: the job
    :param in_race: it waits until a race is decided
    """
    limit = None
    with suppress(ValueError):  # the script's own lines, which the scheduler judges
        limit = quantities.seconds(TIME_LIMIT.given(spec) or quantities.UNLIMITED)
    if limit is None:
        return LONGEST_WAIT
    shortest = min(SHORTEST_IN_RACE, limit / 2) if in_race else 0
    return math.ceil(min(LONGEST_WAIT, max(limit * LARGEST_SHARE, shortest)))


async def decide(claims: ClaimDirectory, key: ClaimKey, *, opens: bool) -> bool:
    """Open or close the gate of a key, unless that is decided.

    :param claims: where it is
    :param key: the key
    :param opens: open it, else close it
    :returns: whether it is open
    """
    if await retry_transient(partial(claims.link, key, "gate", OPEN if opens else CLOSED), math.inf):
        return opens
    return (await retry_transient(claims.read, math.inf)).gate(key) == OPEN
