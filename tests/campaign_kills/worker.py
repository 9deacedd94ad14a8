"""The processes of an engine: one submits a task's jobs and waits for them, another one cancels them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firecrest_core import campaign, lifecycle
from firecrest_core.api import backoff
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.http import HTTPSession
from firecrest_core.claims import gate, protocol
from firecrest_core.connection import Connection
from firecrest_core.errors import JobWithdrawn
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_core.watch import tracker
from tests.campaign_kills import task
from tests.campaign_kills.plan import Case, Kill, Moment

#: The state that is reported of a task that was cancelled.
WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True)
class Start:
    """What a process is started with.

    :param case: the case
    :param folder: the case's directory on the cluster
    :param variables: those that `firecrest-local` prints
    :param attempt: how often the engine has tried the task before, because it failed
    :param is_first: no process was started before for this case
    :param kill: at which request it is killed
    :param sabotage: ignore what other processes have claimed and written down
    """

    case: Case
    folder: Path
    variables: Mapping[str, str]
    attempt: int = 0
    is_first: bool = False
    kill: Kill | None = None
    sabotage: bool = False

    @property
    def history(self) -> Path:
        """The file of what all processes of the case have said."""
        return self.folder / "history"

    @property
    def outcomes(self) -> Path:
        """The file with a line of JSON for each process that has reported how the task ended."""
        return self.folder / "outcomes"

    @property
    def job(self) -> Path:
        """The file of what the engine has stored: the job that this attempt began with."""
        return self.folder / f"job-{self.attempt}.json"

    @property
    def key(self) -> ClaimKey:
        """The key that this process uses."""
        own = task.key(self.case)
        return replace(own, identity=f"{own.identity}-{os.getpid()}") if self.sabotage else own

    def say(self, text: str) -> None:
        """Write a line into the history."""
        with self.history.open("a") as file:
            file.write(f"{time.time():.3f} {os.getpid()} {' '.join(text.split())}\n")


def run(start: Start) -> None:
    """Submit the task's job or find it, wait for its end and that of those that follow, and report it."""
    _begin(start, _run(start))


def cancel(start: Start) -> None:
    """Cancel the task, as an engine does for a person."""
    _begin(start, _cancel(start))


async def _run(start: Start) -> None:
    async with _client(start) as client:
        try:
            result = await _wait(start, client.system())
            state, problem = str(result.state), result.problem
        except JobWithdrawn as error:
            state, problem = WITHDRAWN, error.result.reason or ""
    start.say(f"reports {state} {problem}")
    with start.outcomes.open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), "state": state, "problem": problem}) + "\n")


async def _wait(start: Start, system: System) -> JobResult:
    jobs = task.campaign(system, start.case, start.folder)
    job: Job | JobResult
    if start.job.exists() and not start.case.reads_claims and not start.sabotage:
        job = Job.from_dict(json.loads(start.job.read_text()))
    else:
        job = await jobs.submit(start.key, first_attempt=start.is_first, on_message=start.say)
        if not start.job.exists():
            draft = start.job.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(job.to_dict()))
            draft.rename(start.job)
    while isinstance(job, Job):
        start.say(job.submission_message())
        async with jobs.submitting_ahead(job, on_message=start.say) as on_status:
            result = await lifecycle.wait(system, job, poll_interval=1.0, on_message=start.say, on_status=on_status)
        job = await jobs.follow(job, result, start.say)
    return job


async def _cancel(start: Start) -> None:
    async with _client(start) as client:
        own = start.key
        await protocol.cancel(client.system(), str(start.folder), own.identity, own.epoch)
    start.say("has cancelled the task")


def _client(start: Start) -> FirecRESTClient:
    return FirecRESTClient(Connection.from_environment(start.variables))


def _begin(start: Start, work: Any) -> None:
    with start.history.open("ab") as history:  # also for what the interpreter itself says of an error
        os.dup2(history.fileno(), sys.stderr.fileno())
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=f"%(created).3f {os.getpid()} %(message)s")
    # A node that is lost here does not come back, and no outage takes long.
    tracker.PROVISIONAL_GRACE = 0.0
    campaign.CACHED = 2.0  # type: ignore[attr-defined]  # no file is seen late
    backoff.LONGEST_PAUSE = 1.0
    # What waits at a gate has seconds until its time limit.
    gate.LARGEST_SHARE = 0.5
    if start.kill is not None and start.kill.moment is not Moment.SECONDS:
        _die_at(start.kill, start.say)
    asyncio.run(work)


def _die_at(kill: Kill, say: Callable[[str], None]) -> None:
    send: Callable[..., Awaitable[Any]] = HTTPSession._send_once
    changes = 0

    def die_at(moment: Moment, number: int, what: str) -> None:
        if (moment, number) == (kill.moment, kill.at):
            say(f"dies: {moment} {number}, {what}")
            os.kill(os.getpid(), signal.SIGKILL)

    async def counted(session: HTTPSession, method: str, url: str, options: dict[str, Any]) -> Any:
        nonlocal changes
        if method == "GET":
            return await send(session, method, url, options)
        changes += 1
        number, what = changes, f"{method} {url}"
        die_at(Moment.BEFORE_CHANGE, number, what)
        try:
            return await send(session, method, url, options)
        finally:
            die_at(Moment.AFTER_CHANGE, number, what)

    HTTPSession._send_once = counted  # type: ignore[method-assign, assignment]
