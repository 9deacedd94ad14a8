"""The state of one wait for one job: what is reported of the job, and when the wait ends.

Nothing here sends requests. :class:`firecrest_core.watch.watcher.JobWatcher` queries many jobs at once and passes its
answers on to each wait. An outage of the network or the server does not end a wait. It is reported once, and then at
growing intervals. Only the caller's own limit ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from firecrest_core import errors
from firecrest_core.api.backoff import OUTAGES, Backoff
from firecrest_core.diagnosis import PendingReason
from firecrest_core.elements import shorten
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import UNRECORDED_GRACE, JobStatus
from firecrest_core.result import JobResult, duration, index_list
from firecrest_core.spec.output_paths import completed_path
from firecrest_core.states import JobState, Phase
from firecrest_core.watch.queue_place import QueuePlace, expected_start

log = logging.getLogger(__name__)

OnMessage = Callable[[str], None]
OnStatus = Callable[[JobStatus], None]

# Seconds. A new job may be unknown for some seconds, and an end may be provisional.
NOT_FOUND_GRACE = 60.0
PROVISIONAL_GRACE = 60.0

# Seconds. A single failed request is not reported, nor that the accounting is as late as usual.
_REPORT_AFTER = 3.0
_REPORT_UNRECORDED_AFTER = 30.0


class JobTracker:
    """Receives each answer about one job. All times are in seconds of one monotonic clock.

    :param job: the job
    :param now: when the wait began
    :param on_message: gets a line for the job's first state, each change with its reason, expected start, node and
        elapsed time, and each outage; of a job that waits, one now and then; the log unless given
    :param on_warning: gets a line for what keeps the job from starting; ``on_message`` unless given
    :param on_status: gets each status until the job has ended
    :param fail_if_stuck: raise :class:`~firecrest_core.errors.JobStuck` when the job can never start
    :param not_found_grace: seconds for which the scheduler may not know the job; ``NOT_FOUND_GRACE`` unless given
    :param provisional_grace: seconds for which a preempted job, or one whose node failed, may come back, for which
        the name and directory of a job of somebody else may not be known, and for which elements of an array may not
        be listed; ``PROVISIONAL_GRACE`` and ``UNRECORDED_GRACE`` unless given
    """

    def __init__(
        self,
        job: Job,
        now: float,
        *,
        on_message: OnMessage | None = None,
        on_warning: OnMessage | None = None,
        on_status: OnStatus | None = None,
        fail_if_stuck: bool = False,
        not_found_grace: float | None = None,
        provisional_grace: float | None = None,
    ) -> None:
        self.job = job
        self._log = on_message or log.info
        self._log_warning = on_warning or on_message or log.warning
        self._on_status = on_status
        self._fail_if_stuck = fail_if_stuck
        self._not_found_grace = NOT_FOUND_GRACE if not_found_grace is None else not_found_grace
        self._provisional_grace = PROVISIONAL_GRACE if provisional_grace is None else provisional_grace
        self._unrecorded_grace = UNRECORDED_GRACE if provisional_grace is None else provisional_grace
        self._moved_at = now
        self._due_at: float | None = None
        self._seen: tuple[JobState, str | None] | None = None
        self._place: QueuePlace | None = None
        self._warned: PendingReason | None = None
        self._partition = ""
        self._answered = False
        self._unknown_since: float | None = None
        self._all_ended_since: float | None = None
        self._reported_unrecorded = False
        self._outage: Backoff | None = None

    def on_status(self, status: JobStatus, now: float) -> JobResult | None:
        """Report the job's status, and decide whether the job has ended.

        :param status: the answer to a query
        :param now: the current time
        :returns: the result, or ``None`` if the job has not ended
        :raises JobStuck: the job can never start; only with ``fail_if_stuck``
        """
        self._reached(now)
        self._unknown_since = None
        self._partition = status.partition or self._partition
        self._report(status, now)
        self._due_at = None
        if status.state.phase is Phase.RUNNING and status.time_limit and status.elapsed is not None:
            self._due_at = now + status.time_limit - status.elapsed
        if not status.all_ended:
            self._all_ended_since = None
            if self._on_status:
                self._on_status(status)
            return None
        if self._all_ended_since is None:
            self._all_ended_since = self._moved_at = now
        # The scheduler's time of the end counts too, because a caller may wait again and again for a moment only.
        ended_for = max(now - self._all_ended_since, status.ended_ago)
        if (status.provisional or self._is_unnamed(status)) and ended_for <= self._provisional_grace:
            return None
        if not status.complete and ended_for <= self._unrecorded_grace:
            self._report_unrecorded(status, ended_for)
            return None
        return self._end(status.without_late_rows())

    def on_not_found(self, error: errors.JobNotFound, now: float) -> None:
        """Handle the answer that the scheduler does not know the job.

        :param error: the answer
        :param now: the current time
        :raises JobNotFound: the scheduler has not known it for longer than the grace period
        """
        self._reached(now)
        if self._unknown_since is None:
            self._unknown_since = self._moved_at = now
        if now - self._unknown_since > self._not_found_grace:
            raise errors.JobNotFound(self._not_found_message(error))

    def _not_found_message(self, error: errors.JobNotFound) -> str:
        job = self.job
        message = f"{job} on {job.system}: the scheduler no longer knows it, so nobody can say how it ended ({error})."
        if job.key is not None:
            message += f" Its claim is in {job.key.directory(job.working_dir)}."
        elif not job.is_ours:
            message += " Check the job's id and the system."
        where = job.stdout or job.working_dir
        return message + (f" Its output says whether it ran: see {where}." if where else "")

    def on_error(self, error: errors.FirecRESTError, now: float) -> None:
        """Handle a query that got no answer.

        :param error: why it failed
        :param now: the current time
        :raises FirecRESTError: ``error`` itself, if no query was ever answered and the error will not pass by itself
        """
        if not self._answered and not isinstance(error, OUTAGES):
            raise error
        self._outage = self._outage or Backoff(now)
        if now - self._outage.began >= _REPORT_AFTER and self._outage.should_report(now):
            self._log(f"{self.job}: its state cannot be read, still waiting. {error}")

    def touch(self, now: float) -> None:
        """Note that a change is likely, so that the job is queried more often."""
        self._moved_at = now

    def idle_seconds(self, now: float) -> float:
        """Return the seconds since the last change, or the distance to the job's time limit if that is less."""
        since_change = now - self._moved_at
        return since_change if self._due_at is None else min(since_change, abs(self._due_at - now))

    def overdue(self, limit: float) -> errors.WaitTimedOut:
        """Return the error for a wait that has reached the caller's limit.

        :param limit: the limit in seconds
        """
        outage = " Its state could not be read at last." if self._outage else ""
        return errors.WaitTimedOut(f"{self.job} on {self.job.system} has not ended within {duration(limit)}.{outage}")

    def _reached(self, now: float) -> None:
        self._answered = True
        if self._outage and self._outage.reported:
            self._log(f"{self.job}: the server answers again after {duration(now - self._outage.began)}.")
        self._outage = None

    def _report(self, status: JobStatus, now: float) -> None:
        waits = status.state.phase is Phase.WAITING
        if status.all_ended or not self._is_due(status, now):
            return
        line = f"{self.job} on {self.job.system}: {status.state}"
        if waits:
            line += f" ({status.reason})" if status.reason else ""
            line += f", {expected}" if (expected := expected_start(status)) else ""
        if status.state.phase is Phase.RUNNING:
            line += f" on {status.nodes}" if status.nodes else ""
            line += f", elapsed {duration(status.elapsed)}"
            line += f" of {duration(status.time_limit)}" if status.time_limit else ""
        self._log(line)
        if waits:
            self._warn(status.reason)

    def _is_due(self, status: JobStatus, now: float) -> bool:
        waits = status.state.phase is Phase.WAITING
        before, self._seen = self._seen, (status.state, status.reason if waits else None)
        if self._seen != before:
            self._moved_at = now
        if before is not None and before[0] is status.state:
            return self._place is not None and self._place.is_due(status, now)
        self._place = QueuePlace(status, now) if waits else None
        return True

    def _report_unrecorded(self, status: JobStatus, ended_for: float) -> None:
        if self._reported_unrecorded or ended_for < _REPORT_UNRECORDED_AFTER:
            return
        self._reported_unrecorded = True
        which, grace = index_list(status.unrecorded) or "some", duration(self._unrecorded_grace)
        self._log(
            f"{self.job} on {self.job.system}: the array elements that the scheduler shows have ended, but it has no "
            f"record of {which}. Those count as cancelled if it has none {grace} after the end."
        )

    def _warn(self, text: str | None) -> None:
        reason = PendingReason.parse(text)
        if reason is None or reason is self._warned:
            return
        self._warned = reason
        verdict = "can never start" if reason.hopeless else "does not start by itself"
        line = f"{self.job} on {self.job.system} {verdict} ({text}): {reason.advice}"
        if reason.hopeless and self._fail_if_stuck:
            raise errors.JobStuck(line, text or "")
        self._log_warning(line)

    def _is_unnamed(self, status: JobStatus) -> bool:
        # The accounting can show the end of a short job before the job's name and directory. Whoever has not submitted
        # the job does not know them either.
        return not (self.job.name or self.job.working_dir or status.name or status.working_dir)

    def _end(self, status: JobStatus) -> JobResult:
        job = self.job
        is_array = job.array_indices is not None or bool(status.groups)
        stdout, stderr = (
            completed_path(path, job.job_id, status.nodes, is_array=is_array) for path in (job.stdout, job.stderr)
        )
        result = JobResult(
            job_id=job.job_id,
            system=job.system,
            name=job.name or status.name,
            state=status.state,
            reason=status.reason,
            exit_code=status.exit_code,
            signal=status.signal,
            cancelled_by=status.cancelled_by,
            submitted_at=job.submitted_at or None,
            started_at=status.started_at,
            ended_at=status.ended_at,
            elapsed=status.elapsed,
            partition=self._partition,  # in the accounting, the row of a short job may not have it at first
            nodes=status.nodes,
            node_count=status.node_count,
            node_seconds=status.node_seconds,
            working_dir=job.working_dir or status.working_dir,
            stdout=stdout,
            stderr=stderr,
            groups=shorten(status.groups),
        )
        self._log(result.summary())
        return result
