"""Race a job in several queues of an embedded FirecREST, and kill whoever waits for it.

    python -m benchmarks.race [--races N] [--seed S] [--check]

Each race is submitted and waited for by a process that is killed up to three times, at random moments; the next one
goes on. Every second race is between two systems, each with its own files. Where a job there has begun and nobody lets
it in for two seconds, it gives up, and another race follows. The last line is a JSON object:

- ``races``, ``kills``: how many races came to their end, and how many processes were killed meanwhile
- ``elsewhere``: how many of the races between systems were run by the other one
- ``given_up``: how many of them a job that nobody let in has ended, so that another race followed
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.campaign import Campaign
from firecrest_core.claims import gate
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
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
# Seconds for which the full partition is busy, and for which a job waits until it is let in.
_BUSY = 15
_LONGEST_AT_GATE = 2


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
        LocalFirecREST(settings(Path(root))) as server,
    ):
        waits = asyncio.run(measured_waits(server.environ))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            ends = list(pool.map(partial(raced, server), range(given.races), plans))
    payloads = Counter(end.payloads for end in ends)
    report = {
        "races": len(ends),
        "kills": sum(end.kills for end in ends),
        "elsewhere": sum(end.elsewhere for end in ends),
        "given_up": sum(end.given_up for end in ends),
        "payloads": payloads,
        **waits,
    }
    print(json.dumps(report))
    if given.check and (payloads != {1: given.races} or waits["wait_race"] >= waits["wait_full"] / 2):
        sys.exit("each race must run one payload, and wait less than half as long as in the full partition")


def settings(root: Path) -> Settings:
    """Return the settings of a server with two systems."""
    return Settings(root=root, other_systems=("other",), cores=8, partitions=PARTITIONS, accounting_lag=0.2)


@dataclass(frozen=True)
class End:
    """The end of one race.

    :param payloads: how often its job has run
    :param kills: how many processes were killed
    :param elsewhere: the other system has run it
    :param given_up: a job that nobody let in has ended, and another race followed
    """

    payloads: int
    kills: int
    elsewhere: bool
    given_up: bool


def raced(server: LocalFirecREST, number: int, plan: list[float]) -> End:
    """Let processes submit and wait for one race."""
    here, there = (home / f"race-{number}" for home in (server.home, server.home_on("other")))
    alternatives: list[dict[str, Any]] = [{"partition": "free"}, {"partition": "other"}]
    if number % 2:
        alternatives[number % 4 // 2 :] = [
            {"system": "other", "working_dir": str(there), "partition": name} for name in ("free", "other")
        ]
    kills = 0
    seconds: float | None
    for directory in (here, there):
        directory.mkdir()
    for begun, seconds in enumerate([*plan, None]):
        waiting = _PROCESSES.Process(target=run, args=(server.environ, str(here), alternatives, begun == 0))
        waiting.start()
        waiting.join(seconds)
        if waiting.exitcode is None:
            waiting.kill()
            waiting.join()
            kills += 1
    ran_here, ran_there = (
        len(jobs.read_text().split()) if (jobs := directory / "jobs").exists() else 0 for directory in (here, there)
    )
    given_up = any((one / "cause").is_symlink() for one in here.glob(".firecrest/*/*"))
    return End(ran_here + ran_there, kills, ran_there > 0, given_up)


def run(environ: Mapping[str, str], directory: str, given: list[dict[str, Any]], first_attempt: bool) -> None:
    """Submit a race, or go on with it, and wait for its end. This is what a process does until it is killed."""
    gate.LONGEST_WAIT = _LONGEST_AT_GATE
    job = JobSpec(working_dir=directory, command="echo $SLURM_JOB_ID >> jobs", stdout="/dev/null", time_limit=10)
    asyncio.run(submit_and_wait(environ, job, Alternatives.parse(given), first_attempt=first_attempt))


async def submit_and_wait(
    environ: Mapping[str, str], spec: JobSpec, alternatives: Alternatives, *, first_attempt: bool = True
) -> JobResult:
    """Submit a job in its shapes, and return how it ended."""
    key = ClaimKey(claim_identity("benchmark", spec.working_dir, *alternatives.to_list()))
    async with FirecRESTClient(Connection.from_environment(environ)) as client:
        campaign = Campaign(client.system(), spec, alternatives=alternatives)
        following: Job | JobResult = await campaign.submit(key, first_attempt=first_attempt)
        while isinstance(following, Job):
            raced: list[Job] = []
            result = await lifecycle.wait(client.system(), following, on_winner=raced.append)
            following = await campaign.follow(raced[0] if raced else following, result)
    assert following.succeeded, following.summary()
    return following


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
_PROCESSES.set_forkserver_preload(["firecrest_core.campaign", "firecrest_local"])

if __name__ == "__main__":
    main()
