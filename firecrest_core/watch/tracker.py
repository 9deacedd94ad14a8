"""One wait for one job: what is told of it, and when it is over.

Nothing here asks the server: :class:`firecrest_core.watcher.JobWatcher` asks for many jobs at once and hands each
wait what it found. A wait never fails for the network's or the server's sake: an outage is told once, then at growing
intervals, and ended only by the caller's own limit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from firecrest_core import errors
from firecrest_core.api.backoff import OUTAGES, Backoff
from firecrest_core.diagnosis import PendingReason
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus
from firecrest_core.result import JobResult, duration
from firecrest_core.states import JobState, Phase

log = logging.getLogger(__name__)

OnMessage = Callable[[str], None]
OnStatus = Callable[[JobStatus], None]

# A new job may be invisible for seconds, an end may be provisional, accounting may lag behind an array's end.
NOT_FOUND_GRACE = 60.0
PROVISIONAL_GRACE = 60.0

# A single request that fails is no news.
_REPORT_AFTER = 3.0


class JobTracker:
    """Hears of each answer about one job; every time is in seconds of one clock that only runs forward.

    :param on_message: gets a line for the job's first state, each change with its reason, node and elapsed time, what
        keeps it from starting, and each outage
    :param on_status: gets each answer until the job has ended
    :param fail_if_stuck: raise :class:`JobStuck` when the job can never start
    :param not_found_grace: seconds for which the scheduler may not know the job; ``NOT_FOUND_GRACE`` unless given
    :param provisional_grace: seconds for which a preempted job, or one whose node failed, may come back, and the
        rest of an array's elements may be missing; ``PROVISIONAL_GRACE`` unless given
    """

    def __init__(
        self,
        job: Job,
        now: float,
        *,
        on_message: OnMessage | None = None,
        on_status: OnStatus | None = None,
        fail_if_stuck: bool = False,
        not_found_grace: float | None = None,
        provisional_grace: float | None = None,
    ) -> None:
        self.job = job
        self._log = on_message or log.info
        self._on_status = on_status
        self._fail_if_stuck = fail_if_stuck
        self._not_found_grace = NOT_FOUND_GRACE if not_found_grace is None else not_found_grace
        self._provisional_grace = PROVISIONAL_GRACE if provisional_grace is None else provisional_grace
        self._moved_at = now
        self._due_at: float | None = None
        self._reported: tuple[JobState, str | None] | None = None
        self._warned: PendingReason | None = None
        self._answered = False
        self._unknown_since: float | None = None
        self._all_ended_since: float | None = None
        self._outage: Backoff | None = None

    def on_status(self, found: JobStatus, now: float) -> JobResult | None:
        """Judge an answer; return the result at the job's end.

        :raises JobStuck: if wanted
        """
        self._reached(now)
        self._unknown_since = None
        self._report(found, now)
        self._due_at = None
        if found.state.phase is Phase.RUNNING and found.time_limit and found.elapsed is not None:
            self._due_at = now + found.time_limit - found.elapsed
        if not found.all_ended:
            self._all_ended_since = None
            if self._on_status:
                self._on_status(found)
            return None
        if self._all_ended_since is None:
            self._all_ended_since = self._moved_at = now
        final = found.complete and not found.provisional
        if final or now - self._all_ended_since > self._provisional_grace:
            return self._end(found)
        return None

    def on_not_found(self, error: errors.JobNotFound, now: float) -> None:
        """Hear that the scheduler does not know the job.

        :raises JobNotFound: when that has been so for too long
        """
        self._reached(now)
        if self._unknown_since is None:
            self._unknown_since = self._moved_at = now
        if now - self._unknown_since > self._not_found_grace:
            raise error

    def on_error(self, error: errors.FirecRESTError, now: float) -> None:
        """Hear that a question got no answer.

        :raises FirecRESTError: that error, if no answer ever came and it is not one that time heals
        """
        if not self._answered and not isinstance(error, OUTAGES):
            raise error
        self._outage = self._outage or Backoff(now)
        if now - self._outage.began >= _REPORT_AFTER and self._outage.should_report(now):
            self._log(f"{self.job}: its state cannot be read, still waiting. {error}")

    def touch(self, now: float) -> None:
        """Note a sign that something is about to change."""
        self._moved_at = now

    def idle_seconds(self, now: float) -> float:
        """Return the seconds since the last change or until (or since) the job's time limit, whichever is less."""
        since = now - self._moved_at
        return since if self._due_at is None else min(since, abs(self._due_at - now))

    def overdue(self, limit: float) -> errors.WaitTimedOut:
        """Return what to raise when the caller's limit passes first."""
        trouble = " Its state could not be read at last." if self._outage else ""
        return errors.WaitTimedOut(f"{self.job} on {self.job.system} has not ended within {duration(limit)}.{trouble}")

    def _reached(self, now: float) -> None:
        self._answered = True
        if self._outage and self._outage.reported:
            self._log(f"{self.job}: the server answers again after {duration(now - self._outage.began)}.")
        self._outage = None

    def _report(self, found: JobStatus, now: float) -> None:
        waits = found.state.phase is Phase.WAITING
        news = (found.state, found.reason if waits else None)
        if news == self._reported or found.all_ended:
            return
        self._reported, self._moved_at = news, now
        line = f"{self.job} on {self.job.system}: {found.state}"
        if news[1]:
            line += f" ({news[1]})"
        if found.state.phase is Phase.RUNNING:
            line += f" on {found.nodes}" if found.nodes else ""
            line += f", elapsed {duration(found.elapsed)}"
            line += f" of {duration(found.time_limit)}" if found.time_limit else ""
        self._log(line)
        if waits:
            self._warn(found.reason)

    def _warn(self, text: str | None) -> None:
        reason = PendingReason.parse(text)
        if reason is None or reason is self._warned:
            return
        self._warned = reason
        verdict = "can never start" if reason.hopeless else "does not start by itself"
        line = f"{self.job} on {self.job.system} {verdict} ({text}): {reason.advice}"
        if reason.hopeless and self._fail_if_stuck:
            raise errors.JobStuck(line, text or "")
        if reason.hopeless:
            line += f" To end it: scancel {self.job.job_id}"
        self._log(f"Warning: {line}")

    def _end(self, found: JobStatus) -> JobResult:
        job = self.job
        result = JobResult(
            job_id=job.job_id,
            system=job.system,
            name=job.name or found.name,
            state=found.state,
            reason=found.reason,
            exit_code=found.exit_code,
            signal=found.signal,
            cancelled_by=found.cancelled_by,
            elapsed=found.elapsed,
            nodes=found.nodes,
            node_count=found.node_count,
            working_dir=job.working_dir or found.working_dir,
            stdout=job.stdout,
            stderr=job.stderr,
            elements=found.elements,
        )
        self._log(result.summary())
        return result
