"""Removing the claims of tasks whose end is on record, so that they leave nothing in their working directory.

A claim is what stops a duplicate of a job: a submission that a proxy has repeated, or whose answer was lost. Once the
claim is gone, a duplicate that begins runs the payload again. So a claim may go only when

- the engine has recorded how the task ended: a crash before that makes the next try look for the claim;
- that was at least :data:`SETTLED_AFTER` ago, so that no submission of the task is still on its way;
- the list of jobs shows that no job of the task waits or runs.

What is not removed here is removed by age, by the prologue of a later job in the same working directory.
"""

from __future__ import annotations

import logging
from asyncio import gather
from collections.abc import Iterable, Mapping

from firecrest_core import errors
from firecrest_core.api.client import System
from firecrest_core.api.models import JobInfo
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.jobs.key import ClaimKey, claims_home, fingerprint, read_job_name

log = logging.getLogger(__name__)

SETTLED_AFTER = 600.0
"""Seconds without a submission after which all jobs of a task are in the list of jobs.

Until then a submission may still be on its way. A client gives up a request after 5 minutes, gateways after less, and
a proxy repeats a request at once or never. The `sbatch` of a request that the server has given up retries for 2 minutes
while the controller is busy. Accounting lags by seconds. Airflow takes a silent worker for dead after 5 minutes, and
such a worker ends itself before.
"""

# While a job is being launched, the server may show it without its own name.
_WITHOUT_NAME = ("", "allocation")


async def remove_claims(system: System, tasks: Mapping[ClaimKey, str]) -> set[ClaimKey]:
    """Remove the claims of tasks, except of those that may still have a job in the queue.

    This costs one list of jobs for all tasks, and one request for each task whose claims go. A failure is no
    error, because what is left is removed by age.

    :param system: where their jobs were
    :param tasks: a key of the task's last epoch → absolute path of the jobs' working directory; how each of them ended
        is on record for :data:`SETTLED_AFTER`
    :returns: the keys of the tasks whose claims are gone
    :raises FirecRESTError: the server cannot be reached, or refuses the login
    """
    if not tasks:
        return set()
    try:
        # All rows must be readable: one that is left out may be a job of these tasks.
        over = _without_live_job(await system.get_jobs(all_readable=True))
    except errors.OF_CONNECTION:
        raise
    except errors.FirecRESTError as error:
        log.debug("The claims of %d tasks on %s stay: %s", len(tasks), system, error)
        return set()

    async def remove(key: ClaimKey, working_dir: str) -> ClaimKey | None:
        try:
            await system.remove(claims_home(working_dir, key.identity), missing_ok=True)
        except errors.FirecRESTError as error:
            log.debug("The claims of %s on %s stay: %s", key.identity, system, error)
            return None
        return key

    removable = [each for each in tasks.items() if (fingerprint(each[0].identity), each[0].epoch) in over]
    return {key for key in await gather(*(remove(*each) for each in removable)) if key is not None}


async def remove_raced_claims(system: System, tasks: Mapping[ClaimKey, str]) -> set[ClaimKey]:
    """Do what :func:`remove_claims` does for tasks whose alternatives have raced across file systems, at all places.

    This costs one list of jobs for each system, and for each task a listing at home and a request for each place.

    :param system: that of their home
    :param tasks: as for :func:`remove_claims`, with the working directory at home
    """
    lists: dict[str, list[JobInfo]] = {}
    removed = set()
    for key, working_dir in tasks.items():
        home = ClaimDirectory(system, working_dir, key.identity)
        try:
            found = await home.read()
            places = {place for some in found.places.values() for place in some.values()}
            everywhere = [*map(home.at, places), home]  # home last, because it has the links to the others
            for there in everywhere:
                if there.system.name not in lists:
                    lists[there.system.name] = await there.system.get_jobs(all_readable=True)
            rows = [row for there in everywhere for row in lists[there.system.name]]
            own = fingerprint(key.identity)
            if (own, key.epoch) not in _without_live_job(
                rows, dict.fromkeys((fingerprint(key.identity, place) for place in places), own)
            ):
                continue
            for there in everywhere:
                await there.system.remove(claims_home(there.working_dir, key.identity), missing_ok=True)
        except errors.OF_CONNECTION:
            raise
        except errors.FirecRESTError as error:
            log.debug("The claims of %s on %s stay: %s", key.identity, system, error)
        else:
            removed.add(key)
    return removed


def _without_live_job(rows: Iterable[JobInfo], alike: Mapping[str, str] | None = None) -> set[tuple[str, int]]:
    """Return fingerprint and epoch of those tasks that have jobs in a list, all of which have ended for good.

    An epoch without any row may have jobs that the list does not show: those of another user, those of a singleton,
    which keep their own name, or those of a scheduler without a history.

    :param rows: the list
    :param alike: fingerprints that count as another one
    """
    seen: set[tuple[str, int]] = set()
    live: set[str] = set()
    for row in rows:
        over = row.state.ended and not row.state.provisional
        name = read_job_name(row.name)
        if name is not None:
            own = (alike or {}).get(name[0], name[0])
            seen.add((own, name[1]))
            if not over:
                live.add(own)
        elif not over and row.name in _WITHOUT_NAME:
            return set()
    return {each for each in seen if each[0] not in live}
