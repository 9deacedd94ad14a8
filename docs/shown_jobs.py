"""The jobs that the screenshot of *HPC Jobs* shows: a morning at a centre, which a laptop does not have."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

HOUR, MINUTE = 3600, 60
SCRATCH = "/capstor/scratch/cscs/ada"


def shown_jobs(task: str) -> Iterator[dict[str, Any]]:
    """Return snapshots as :class:`firecrest_core.jobs.snapshot.JobSnapshot` stores them.

    :param task: ``waiting`` for jobs whose task waits, ``ended`` for those whose task has ended
    """
    for number, (kind, name, state, place, nodes, submitted, waited, ran, limit, more) in enumerate(_JOBS):
        if kind != task:
            continue
        system, partition, account = place
        begin = time.time() - submitted
        start = None if ran is None else round(begin + waited)
        ended = kind == "ended"
        yield {
            "job_id": str(418_200 + 7 * number),
            "system": system,
            "connection_id": "firecrest_default",
            "name": name,
            "state": state,
            "account": account,
            "partition": partition,
            "node_count": nodes,
            "submitted_at": begin,
            "started_at": start,
            "ended_at": round(start + ran) if ended and start else None,
            "elapsed": ran,
            "time_limit": limit,
            "node_hours": nodes * ran / HOUR if ended and ran else None,
            "expected_start": round(time.time() + 40 * MINUTE) if state == "PENDING" else None,
            "working_dir": f"{SCRATCH}/{name}",
            "seen_at": time.time(),
            **more,
        }


_DAINT, _DEBUG, _EIGER = ("daint", "normal", "s1142"), ("daint", "debug", "s1142"), ("eiger", "normal", "s1015")

# Whether its task still waits, name, state, place, nodes; seconds since its submission, until its start and of its run;
# its time limit, and what else is known.
_JOBS: list[tuple[Any, ...]] = [
    ("waiting", "train-digits", "RUNNING", _DEBUG, 1, 26 * MINUTE, 2 * MINUTE, 24 * MINUTE, 25 * MINUTE, {}),
    ("waiting", "bands-si-444", "PENDING", _DAINT, 8, 94 * MINUTE, 0, None, 2 * HOUR, {"reason": "Priority"}),
    ("waiting", "relax-si-444", "RUNNING", _DAINT, 16, 153 * MINUTE, 51 * MINUTE, 102 * MINUTE, 4 * HOUR, {}),
    ("ended", "sweep-0", "COMPLETED", _EIGER, 4, 200 * MINUTE, 16 * MINUTE, 100 * MINUTE, 4 * HOUR, {}),
    ("ended", "sweep-1", "OUT_OF_MEMORY", _EIGER, 4, 201 * MINUTE, 21 * MINUTE, 88 * MINUTE, 4 * HOUR, {}),
    ("waiting", "sweep-2", "RUNNING", _EIGER, 4, 202 * MINUTE, 31 * MINUTE, 171 * MINUTE, 4 * HOUR, {}),
    ("ended", "train-digits", "COMPLETED", _DEBUG, 1, 5 * HOUR, 11 * MINUTE, 20 * MINUTE, 30 * MINUTE, {}),
    ("ended", "forecast-eu", "COMPLETED", _EIGER, 32, 8 * HOUR, 40 * MINUTE, 5 * HOUR, 6 * HOUR, {}),
    ("ended", "archive", "TIMEOUT", _EIGER, 1, 9 * HOUR, 5 * MINUTE, HOUR, HOUR, {"reason": "TimeLimit"}),
]
