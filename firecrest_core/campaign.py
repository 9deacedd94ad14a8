"""A campaign: the jobs that one task needs, one after the other, because of its escalation policy or its chain.

Each job is a generation of the task's claim. What a generation gets is computed from what the claim directory holds of
the ones before it, so a worker or a triggerer that comes after a crash goes on where the last one was. That is used
like this::

    campaign = Campaign(system, spec, escalation, chain)
    job = await campaign.submit(key)
    while isinstance(job, Job):
        async with campaign.submitting_ahead(job) as on_status:
            result = await lifecycle.wait(system, job, on_status=on_status)
        job = await campaign.follow(job, result)    # the next job, or how the last one ended
"""

from __future__ import annotations

import asyncio
import logging
import math
import posixpath
from asyncio import sleep
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from firecrest_core import lifecycle
from firecrest_core.api.backoff import delays, retry_transient
from firecrest_core.api.client import System
from firecrest_core.array_chain import ArrayEnd, Ended, unknown_ends
from firecrest_core.chain import Chain, Checkpoint, Progress
from firecrest_core.claims.ahead import cancel_ahead, submit_ahead
from firecrest_core.claims.claim import CACHED, Claims
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.claims.submission import BeforePost, PreparePlace
from firecrest_core.course import Course, EarlierJob
from firecrest_core.errors import FirecRESTError, WaitTimedOut
from firecrest_core.escalation import MEMORY, TIME_LIMIT, Escalation, excluded_nodes
from firecrest_core.failed_elements import failed_elements, only_elements
from firecrest_core.followup import Cause, FollowUp, Note, Stop
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.status import JobStatus
from firecrest_core.jobs.submission import with_text
from firecrest_core.result import JobResult
from firecrest_core.spec.alternatives import Alternatives, check_beside
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.states import Phase
from firecrest_core.transfer.patterns import matching_rows
from firecrest_core.watch.tracker import OnMessage, OnStatus

log = logging.getLogger(__name__)

BeforeNext = Callable[[], Awaitable[None]]

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Campaign:
    """The jobs of one task.

    :param system: where they run; with alternatives at other places, the home
    :param spec: what the first one asks for
    :param escalation: what the next one gets when one has ended for want of memory, time or a node
    :param chain: whether another one follows when one has ended at its time limit, or before its work was done
    :param alternatives: the shapes in which the job is submitted, of which one runs; without a policy and a chain

    Without a policy and a chain, there is one job, as the task's retries want it.
    """

    system: System
    spec: JobSpec
    escalation: Escalation | None = None
    chain: Chain | None = None
    alternatives: Alternatives | None = None

    @classmethod
    def parse(cls, system: System, spec: JobSpec, escalate: Any, chain: Any, alternatives: Any = None) -> Campaign:
        """Return the campaign that a person has asked for.

        :param system: where its jobs run
        :param spec: what the first one asks for
        :param escalate: as :meth:`Escalation.parse` reads it, or ``None``
        :param chain: as :meth:`Chain.parse` reads it, or ``None``
        :param alternatives: as :meth:`Alternatives.parse` reads them, or ``None``
        :raises InvalidJobSpec: one of them is not valid, or not beside another one
        """
        if alternatives is not None:
            check_beside(exactly_once=True, escalate=escalate, chain=chain)
        return cls(
            system,
            spec,
            None if escalate is None else Escalation.parse(escalate),
            None if chain is None else Chain.parse(chain),
            None if alternatives is None else Alternatives.parse(alternatives),
        )

    async def first_spec(self) -> JobSpec:
        """Return what the first job asks for.

        :raises InvalidJobSpec: the policy or the chain cannot begin with this job
        """
        return self._adjust(await self._with_text(), await self.system.scheduler(), ())

    async def submit(
        self,
        key: ClaimKey,
        *,
        first_attempt: bool = False,
        resubmit_failed: bool = True,
        wait_for_room: bool = True,
        before_post: BeforePost | None = None,
        prepare_place: PreparePlace | None = None,
        on_message: OnMessage = log.info,
    ) -> Job:
        """Submit the task's job, or find the one that is alive or was last.

        :param key: of the task and its epoch
        :param first_attempt: as for :func:`firecrest_core.lifecycle.submit`, as the following ones are
        :param resubmit_failed: if the last job has failed, submit another one in any case: as the policy says, and
            where it says nothing, as it was
        :param wait_for_room: wait while a limit on submitted jobs is reached
        :param before_post: awaited once, before the first POST
        :param prepare_place: awaited once for each other place of the alternatives, before a job is submitted there
        :param on_message: gets a line for each job that is followed by another one
        :raises InvalidJobSpec: the policy cannot begin with this job
        :raises FirecRESTError: as :func:`firecrest_core.lifecycle.submit`
        """
        submit = partial(
            lifecycle.submit,
            self.system,
            self.spec,
            key,
            wait_for_room=wait_for_room,
            before_post=before_post,
            adjust=self._adjust,
            alternatives=self.alternatives,
            prepare_place=prepare_place,
        )
        if not self._has_many and self.spec.array_indices is None:
            return await submit(first_attempt=first_attempt, resubmit_failed=resubmit_failed)
        job = await submit(first_attempt=first_attempt, resubmit_failed=False)
        if first_attempt or job.submitted_at or not resubmit_failed:
            return job
        try:
            result = await lifecycle.wait(self.system, job, timeout=0)
        except WaitTimedOut:
            return job
        ended = await self._go_on(job, result, on_message)
        if ended is None:
            return await submit(resubmit_failed=False)
        if ended.succeeded:
            return job
        # Of a chain, those that have stopped in an earlier job run again, too.
        elements = failed_elements(ended) if self.chain is None else str(ended.failed_indices)
        if elements or result.succeeded:  # one that has ended well is tried again all the same
            await self._write_down(job, Note(Cause.RETRY, elements=elements))
        return await submit()

    @asynccontextmanager
    async def submitting_ahead(
        self, job: Job, on_status: OnStatus | None = None, on_message: OnMessage = log.info
    ) -> AsyncIterator[OnStatus | None]:
        """Submit the next job as soon as one runs, if the chain says so, while the body waits for that one.

        :param job: the job that is waited for
        :param on_status: gets each of its statuses
        :param on_message: gets a line for the job that waits, or why none does
        :returns: what gets each status in the place of ``on_status``
        """
        key, task = job.key, None
        if not self._submits_ahead or self.chain is None or key is None or key.generation + 1 >= self.chain.max_jobs:
            yield on_status
            return

        def on_own_status(status: JobStatus) -> None:
            nonlocal task
            if task is None and status.state.phase is Phase.RUNNING:
                task = asyncio.create_task(self._submit_ahead(key, on_message))
            if on_status is not None:
                on_status(status)

        try:
            yield on_own_status
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def follow(
        self, job: Job, result: JobResult, on_message: OnMessage = log.info, *, before_next: BeforeNext | None = None
    ) -> Job | JobResult:
        """Submit the next job, if one follows a job that has ended.

        :param job: the job
        :param result: how it ended
        :param on_message: gets a line that says why another one follows
        :param before_next: awaited if another one follows, before it can begin; not again once that is written down
        :returns: the next job, or the result of the last one with its course
        :raises JobWithdrawn: the task was cancelled
        :raises SubmissionRejected: the scheduler refused the next job
        """
        if not self._has_many:
            return await self._race_again(job, result, on_message)
        ended = await self._go_on(job, result, on_message, before_next)
        if ended is not None:
            if self._submits_ahead:
                await self._cancel_ahead(job, "no other job follows", on_message)
            return ended
        return await lifecycle.submit(self.system, self.spec, job.key, resubmit_failed=False, adjust=self._adjust)

    async def _submit_ahead(self, key: ClaimKey, on_message: OnMessage) -> None:
        try:
            job_id = await submit_ahead(self.system, self.spec, key, adjust=self._adjust)
        except Exception as error:  # the chain goes on without it
            on_message(f"The next job is submitted when this one has ended, and not ahead. {error}")
            return
        if job_id is not None:
            on_message(f"Job {job_id} waits in the queue already, to go on when this one has ended.")

    async def _cancel_ahead(self, job: Job, reason: str, on_message: OnMessage) -> None:
        assert job.key is not None
        try:
            for job_id in await cancel_ahead(self.system, job.working_dir, job.key):
                on_message(f"Job {job_id}, which waited in the queue, is cancelled: {reason}.")
        except FirecRESTError as error:
            log.warning("What was submitted ahead of the end of %s will run nothing, but stays for now. %s", job, error)

    async def _race_again(self, job: Job, result: JobResult, on_message: OnMessage) -> Job | JobResult:
        """Submit the alternatives anew if the race across file systems has ended without a job that ran."""
        if job.home is None or job.key is None or result.succeeded:
            return result
        claims = await retry_transient(self._directory(job).read, math.inf)
        if claims.cause(job.key) is None:
            return result
        on_message(f"{job} has run nothing, so the alternatives are submitted again.")
        return await lifecycle.submit(
            self.system, self.spec, job.key, resubmit_failed=False, alternatives=self.alternatives
        )

    async def _go_on(
        self, job: Job, result: JobResult, on_message: OnMessage, before_next: BeforeNext | None = None
    ) -> JobResult | None:
        """Write down that another job follows, and why. If none does, return the result with the course to it."""
        assert job.key is not None, "only jobs with a claim are followed by others"
        key = job.key
        claims = await retry_transient(self._directory(job).read, math.inf)
        if claims.cause(key) is not None:  # whoever waited before has written it down
            on_message(f"{job} was followed by another job.")
            return None
        causes = claims.causes_before(key)
        scheduler = await retry_transient(self.system.scheduler, math.inf)
        first = await self._with_text()
        spec = self._adjust(first, scheduler, causes)
        decision = await self._decide(job, result, spec, claims, on_message)
        if isinstance(decision, FollowUp):
            if before_next is not None:
                await before_next()
            elements = decision.note.elements or failed_elements(result)
            note = replace(decision.note, elements=elements)
            await self._write_down(job, note)
            on_message(decision.reason)
            if self._submits_ahead and self._adjust(first, scheduler, [*causes, note.to_text()]) != spec:
                await self._cancel_ahead(job, "the next one gets something else", on_message)
            return None
        course = Course(
            earlier_jobs=_earlier_jobs(claims, key),
            memory=MEMORY.given(spec),
            time_limit=TIME_LIMIT.given(spec),
            excluded_nodes=excluded_nodes(spec),
            problem="" if decision is None else decision.problem,
            retry_helps=isinstance(decision, Ended) and decision.retry_helps,
        )
        return replace(decision.result if isinstance(decision, Ended) else result, course=course)

    async def _decide(
        self, job: Job, result: JobResult, spec: JobSpec, claims: Claims, on_message: OnMessage
    ) -> FollowUp | Stop | Ended | None:
        assert job.key is not None
        notes, jobs = _notes(claims.causes_before(job.key)), len(_earlier_jobs(claims, job.key)) + 1
        if self.chain is None:
            return self.escalation.after(result, spec, notes) if self.escalation else None
        if job.array_indices is not None:
            return await self._decide_elements(job, result, spec, claims, jobs, on_message)
        mark = next((note.checkpoint for note in reversed(notes) if note.checkpoint), "")

        after = partial(self.chain.after, result, spec, jobs=jobs)
        unseen = self.chain.unseen
        progress = await self._seen(
            partial(self._progress, job, claims, mark),
            lambda progress: (what := unseen(after(progress), result.state, progress)) and f"{job} left {what}",
            on_message,
        )
        decision = self.chain.or_escalated(after(progress), self.escalation, result, spec, notes, jobs)
        if not isinstance(decision, FollowUp):
            return decision
        newest = progress.newest.mark if progress.newest else mark
        return replace(decision, note=replace(decision.note, checkpoint=newest))

    async def _decide_elements(
        self, job: Job, result: JobResult, spec: JobSpec, claims: Claims, jobs: int, on_message: OnMessage
    ) -> FollowUp | Stop | Ended | None:
        assert self.chain is not None
        assert job.key is not None
        if claims.has_newer_epoch(job.key.epoch) or claims.holder(job.key) != result.job_id:
            return None  # it was cancelled before it began, or could not make its claim
        job = replace(job, job_id=result.job_id)  # which may be another one of the key
        if problem := unknown_ends(job, result):
            return Stop(problem)
        end = await ArrayEnd.read(self.system, job, result, spec, claims, jobs)
        progress = await self._seen(
            partial(end.progress, self.system, self.chain, claims), partial(end.lacking, self.chain), on_message
        )
        return end.decide(self.chain, self.escalation, progress)

    async def _seen(
        self, look: Callable[[], Awaitable[Seen]], lacking: Callable[[Seen], str], on_message: OnMessage
    ) -> Seen:
        """Return what the jobs have left. The login node may see late what the compute node has written last.

        :param look: returns what is seen now
        :param lacking: says who has left what, if more may be seen later; empty if not
        """
        for number, pause in enumerate((*delays(CACHED), None)):
            seen = await retry_transient(look, math.inf)
            if pause is None or not (lack := lacking(seen)):
                break
            if number == 0:
                on_message(
                    f"{lack}. Looking again for some two minutes, because the file systems of compute and login nodes "
                    "have caches."
                )
            await sleep(pause)
        return seen

    async def _progress(self, job: Job, claims: Claims, mark: str) -> Progress:
        """Return what a job of the chain has left.

        :param mark: of the newest checkpoint before it, as far as the chain has one
        """
        assert job.key is not None
        assert self.chain is not None
        epoch = job.key.epoch
        began = min((at for (each, _), at in claims.claimed_at.items() if each == epoch), default="")
        marker = await matching_rows(self.system, posixpath.join(job.working_dir, self.chain.done))
        found = await matching_rows(self.system, posixpath.join(job.working_dir, self.chain.checkpoint))
        newest = Checkpoint.newest_of(Checkpoint(row.name, row.last_modified, row.size) for row in found)
        return Progress(
            done=any(row.last_modified >= began for row in marker),
            stale=bool(marker),
            newest=newest,
            is_newer=newest is not None and (newest.is_newer(mark) if mark else newest.modified >= began),
        )

    @property
    def _submits_ahead(self) -> bool:
        return self.chain is not None and self.chain.ahead

    @property
    def _has_many(self) -> bool:
        return self.escalation is not None or self.chain is not None

    def _directory(self, job: Job) -> ClaimDirectory:
        assert job.key is not None, "only jobs with a claim are followed by others"
        return ClaimDirectory(self.system, job.origin.working_dir, job.key.identity)

    async def _write_down(self, job: Job, note: Note) -> None:
        assert job.key is not None
        await retry_transient(partial(self._directory(job).note_cause, job.key, note.to_text()), math.inf)

    async def _with_text(self) -> JobSpec:
        if self.spec.script_path is None:
            return self.spec
        return await retry_transient(partial(with_text, self.system, self.spec, self.spec.script_path), math.inf)

    def _adjust(self, spec: JobSpec, scheduler: Scheduler, causes: Sequence[str]) -> JobSpec:
        """Return what a generation asks for, from what the first one does and the notes of those before it."""
        if self.chain is not None:
            self.chain.check(spec, scheduler)
            spec = self.chain.apply(spec)
        if self.escalation is not None:
            self.escalation.check(spec, scheduler)
        for note in _notes(causes):
            if self.escalation is not None:
                spec = self.escalation.apply(spec, note)
            spec = only_elements(spec, note.elements)
        return spec


def _notes(causes: Sequence[str]) -> list[Note]:
    return [note for cause in causes if (note := Note.parse(cause)) is not None]


def _earlier_jobs(claims: Claims, key: ClaimKey) -> tuple[EarlierJob, ...]:
    """Return the jobs of the generations before that of a key."""
    earlier = []
    for (epoch, generation), job_id in sorted(claims.holders.items()):
        if epoch == key.epoch and generation < key.generation:
            note = Note.parse(claims.causes.get((epoch, generation), ""))
            earlier.append(EarlierJob(job_id, "retry" if note is None else note.cause.value))
    return tuple(earlier)
