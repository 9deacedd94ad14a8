"""Race a job in several queues of an embedded FirecREST, and kill whoever waits for it.

    python -m benchmarks.race [--races N] [--seed S] [--check]

Each race is submitted and waited for by a process that is killed up to three times, at random moments; the next one
goes on. The last line is a JSON object:

- ``races``, ``kills``: how many races came to their end, and how many processes were killed meanwhile
- ``payloads``: how often the job of a race has run, as ``{"1": 200}``; anything but 1 is a violation
- ``wait_full``, ``wait_race``: seconds in the queue of a job in a full partition, and of one that races there and in a
  free one

``--check`` fails if a race has run no payload or several, or if racing does not shorten the wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.jobs.key import ClaimKey, claim_identity
from firecrest_core.result import JobResult
from firecrest_core.spec.alternatives import Alternatives
from firecrest_core.spec.jobspec import JobSpec
from firecrest_local import LocalFirecREST, Settings
from firecrest_local.settings import Partition

PARTITIONS = (Partition("full", cores=1), Partition("free", cores=4), Partition("other", cores=4))
# Seconds. A race takes two or three.
_LATEST_KILL = 3.0
_MOST_KILLS = 3
_AT_ONCE = 4
# Seconds for which the full partition is busy.
_BUSY = 15


def main() -> None:
    """Race, kill, count, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="fail if the promise of a race is broken")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    plans = [
        [chance.uniform(0, _LATEST_KILL) for _ in range(chance.randint(0, _MOST_KILLS))] for _ in range(given.races)
    ]
    with (
        tempfile.TemporaryDirectory() as root,
        LocalFirecREST(Settings(root=Path(root), cores=8, partitions=PARTITIONS, accounting_lag=0.2)) as server,
    ):
        waits = asyncio.run(measured_waits(server.environ))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            ends = list(pool.map(partial(raced, server.environ), range(given.races), plans))
    payloads = Counter(payloads for payloads, _ in ends)
    report = {"races": len(ends), "kills": sum(kills for _, kills in ends), "payloads": payloads, **waits}
    print(json.dumps(report))
    if given.check and (payloads != {1: given.races} or waits["wait_race"] >= waits["wait_full"] / 2):
        sys.exit("each race must run one payload, and wait less than half as long as in the full partition")


def raced(environ: Mapping[str, str], number: int, plan: list[float]) -> tuple[int, int]:
    """Let processes submit and wait for one race; return how often its job has run, and how many were killed."""
    directory = Path(environ["FIRECREST_WORKDIR"], f"race-{number}")
    directory.mkdir()
    kills = 0
    seconds: float | None
    for begun, seconds in enumerate([*plan, None]):
        waiting = _PROCESSES.Process(target=run, args=(dict(environ), str(directory), begun == 0))
        waiting.start()
        waiting.join(seconds)
        if waiting.exitcode is None:
            waiting.kill()
            waiting.join()
            kills += 1
    jobs = directory / "jobs"
    return len(jobs.read_text().split()) if jobs.exists() else 0, kills


def run(environ: Mapping[str, str], directory: str, first_attempt: bool) -> None:
    """Submit a race, or go on with it, and wait for its end. This is what a process does until it is killed."""
    job = JobSpec(working_dir=directory, command="echo $SLURM_JOB_ID >> jobs", stdout="/dev/null", time_limit=10)
    alternatives = Alternatives.parse([{"partition": "free"}, {"partition": "other"}])
    asyncio.run(submit_and_wait(environ, job, alternatives, first_attempt=first_attempt))


async def submit_and_wait(
    environ: Mapping[str, str], job: JobSpec, alternatives: Alternatives, *, first_attempt: bool = True
) -> JobResult:
    """Submit a job in its shapes, and return how it ended."""
    key = ClaimKey(claim_identity("benchmark", job.working_dir, *alternatives.to_list()))
    async with FirecRESTClient(Connection.from_environment(environ)) as client:
        system = client.system()
        submitted = await lifecycle.submit(system, job, key, first_attempt=first_attempt, alternatives=alternatives)
        result = await lifecycle.wait(system, submitted)
    assert result.succeeded, result.summary()
    return result


async def measured_waits(environ: Mapping[str, str]) -> dict[str, float]:
    """Return the seconds in the queue of a job in the full partition, and of one that races there and elsewhere."""
    workdir = environ["FIRECREST_WORKDIR"]
    job = JobSpec(working_dir=workdir, command="true", stdout="/dev/null", time_limit=10)
    busy = JobSpec(working_dir=workdir, command=f"sleep {_BUSY}", stdout="/dev/null", partition="full", time_limit=10)
    async with FirecRESTClient(Connection.from_environment(environ)) as client:
        await lifecycle.submit(client.system(), busy)
        shapes = {"wait_full": ["full"], "wait_race": ["full", "free"]}
        ends = await asyncio.gather(
            *(
                submit_and_wait(environ, job, Alternatives.parse([{"partition": one} for one in partitions]))
                for partitions in shapes.values()
            )
        )
    return dict(zip(shapes, map(_wait, ends), strict=True))


def _wait(result: JobResult) -> float:
    assert result.started_at is not None
    assert result.submitted_at is not None
    return round(max(0.0, result.started_at - result.submitted_at), 1)


_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["firecrest_core.lifecycle", "firecrest_local"])

if __name__ == "__main__":
    main()
