"""Waiting for a job's end.

It never fails for the network's or the server's sake: an outage is told once, then at growing intervals, and
ended only by the caller's own limit.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from firecrest_core import errors, progress
from firecrest_core.client import FirecRESTClient
from firecrest_core.job import Job
from firecrest_core.progress import Progress
from firecrest_core.result import JobResult, duration
from firecrest_core.states import JobState, Phase

log = logging.getLogger(__name__)

Story = Callable[[str], None]

# A new job may be invisible for seconds, an end may be provisional, accounting may lag behind an array's end.
NOT_FOUND_GRACE = 60.0
PROVISIONAL_GRACE = 60.0

# What stops a first contact is an outage once the server has been reached as this user.
_OUTAGE = (errors.TransientError, errors.AuthenticationFailed, errors.HostNotFound, errors.TLSFailed)


async def status(client: FirecRESTClient, job: Job) -> Progress:
    """Ask once where the job is.

    :raises JobNotFound: the scheduler does not know it (yet)
    """
    return progress.read(await client.get_job(job.system, job.job_id), job.job_id, job.array_indices)


async def wait(
    client: FirecRESTClient,
    job: Job,
    *,
    poll_interval: float = 10.0,
    timeout: float | None = None,
    story: Story | None = None,
) -> JobResult:
    """Wait for the job's end, whatever it is.

    :param poll_interval: seconds between two questions at the most; a young job is asked for more often
    :param timeout: seconds after which to give up waiting; the job is left alone
    :param story: gets a line for the job's first state, each change with its reason, node and elapsed time, and
        each outage
    :raises WaitTimedOut: after ``timeout``
    :raises JobNotFound: when the job stays unknown for a minute
    """
    return await _Vigil(client, job, poll_interval, timeout, story or log.info).keep()


class _Vigil:
    """One wait for one job."""

    def __init__(
        self, client: FirecRESTClient, job: Job, poll_interval: float, timeout: float | None, story: Story
    ) -> None:
        self._client = client
        self._job = job
        self._poll_interval = poll_interval
        self._limit = timeout
        self._story = story
        self._began = time.monotonic()
        self._told: tuple[JobState, str | None] | None = None
        self._unknown_since: float | None = None
        self._settled_since: float | None = None
        self._outage: _Outage | None = None

    async def keep(self) -> JobResult:
        while True:
            delay = await self._look()
            if isinstance(delay, JobResult):
                return delay
            await self._pause(delay)

    async def _look(self) -> JobResult | float:
        """Ask once; return the result at the end, else the seconds to wait before the next question."""
        try:
            seen = await status(self._client, self._job)
        except errors.JobNotFound:
            self._unknown_since = self._unknown_since or time.monotonic()
            if time.monotonic() - self._unknown_since > NOT_FOUND_GRACE:
                raise
            return self._interval()
        except _OUTAGE as error:
            self._outage = self._outage or _Outage(self._story)
            return max(self._outage.again(error, str(self._job)), self._interval())
        if self._outage:
            self._outage.over(str(self._job))
        self._outage = self._unknown_since = None
        self._tell(seen)
        if not seen.settled:
            self._settled_since = None
            return self._interval()
        self._settled_since = self._settled_since or time.monotonic()
        final = seen.complete and not seen.provisional
        if final or time.monotonic() - self._settled_since > PROVISIONAL_GRACE:
            return self._end(seen)
        return min(self._interval(), 5.0)

    def _interval(self) -> float:
        """Short while the job is young, so that a short job is not waited for long; then the user's, with jitter."""
        young = max(1.0, (time.monotonic() - self._began) / 10)
        return min(self._poll_interval, young) * random.uniform(0.9, 1.0)

    async def _pause(self, delay: float) -> None:
        if self._limit is not None:
            left = self._began + self._limit - time.monotonic()
            if left <= 0:
                raise errors.WaitTimedOut(
                    f"{self._job} on {self._job.system} has not ended within {duration(self._limit)}."
                )
            delay = min(delay, left)
        await asyncio.sleep(delay)

    def _tell(self, seen: Progress) -> None:
        now = (seen.state, seen.reason if seen.state.phase is Phase.WAITING else None)
        if now == self._told or seen.settled:
            return
        self._told = now
        line = f"{self._job} on {self._job.system}: {seen.state}"
        if now[1] and now[1] != "None":
            line += f" ({now[1]})"
        if seen.state.phase is Phase.RUNNING:
            line += f" on {seen.nodes}" if seen.nodes and seen.nodes != "None assigned" else ""
            line += f", elapsed {duration(seen.elapsed)}"
            line += f" of {duration(seen.time_limit)}" if seen.time_limit else ""
        self._story(line)

    def _end(self, seen: Progress) -> JobResult:
        job = self._job
        result = JobResult(
            job_id=job.job_id,
            system=job.system,
            name=job.name or seen.name,
            state=seen.state,
            reason=seen.reason,
            exit_code=seen.exit_code,
            signal=seen.signal,
            elapsed=seen.elapsed,
            nodes=seen.nodes,
            node_count=seen.node_count,
            working_directory=job.working_directory or seen.working_directory,
            stdout=job.stdout,
            stderr=job.stderr,
            elements=seen.elements,
        )
        self._story(result.story())
        return result


class _Outage:
    """Tells of an outage once, then at growing intervals, and of its end."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._began = time.monotonic()
        self._tell_at = self._began
        self._delay = 1.0

    def again(self, error: errors.FirecRESTError, job: str) -> float:
        """Note one more failed question; return the seconds to wait before the next."""
        now = time.monotonic()
        if now >= self._tell_at:
            self._story(f"{job}: its state cannot be read, still waiting. {error}")
            self._tell_at = now + max(60.0, 2 * (now - self._began))
        self._delay = min(self._delay * 2, 60.0)
        asked = getattr(error, "retry_after", None) or 0.0
        return max(self._delay, asked) * random.uniform(0.8, 1.0)

    def over(self, job: str) -> None:
        self._story(f"{job}: the server answers again after {duration(time.monotonic() - self._began)}.")
