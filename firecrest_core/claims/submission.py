"""The submission of one specification: find the job that runs for a key, or that may, else submit one.

A *generation* begins only when a job that has ended holds the claim of the generation before: it has failed, or its
directory says why another job follows. So only the first generation without a claim may still get one.
A job of a generation that has not begun may wait in the queue (see :mod:`firecrest_core.claims.ahead`).
:mod:`firecrest_core.claims.protocol` repeats what is here until it is known how it has ended.

Of alternatives at other places (see :mod:`firecrest_core.claims.admission`), the submission at home decides everything:
it has one at each other place, which submits there, and finds what runs there.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import RetryBudget, retry_transient
from firecrest_core.api.client import System
from firecrest_core.claims.admission import admit, give_up, has_given_up
from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.claims.claim import CANCELLED, Claims
from firecrest_core.claims.directory import ClaimDirectory, wait_until_gone
from firecrest_core.claims.gate import decide
from firecrest_core.claims.secret_file import SecretFile, written
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.partition import choose_partition
from firecrest_core.jobs.status import read_status
from firecrest_core.jobs.submission import check_working_dir, job_from_submission, with_text
from firecrest_core.result import JobResult
from firecrest_core.spec.alternatives import Alternatives, check_places
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.spec.place import Place
from firecrest_core.states import JobState
from firecrest_core.stopped_elements import stopped_before

log = logging.getLogger(__name__)

# Seconds for which a place other than the home may be out of reach until the others go on without it.
_LONGEST_OUTAGE_ELSEWHERE = 60.0

BeforePost = Callable[[], Awaitable[None]]

PreparePlace = Callable[[System, JobSpec], Awaitable[None]]
"""Makes another place ready for a job: its directory, and its inputs."""

Adjust = Callable[[JobSpec, Scheduler, Sequence[str]], JobSpec]
"""Returns the specification of a generation: from the first one's, whose script is read, from what runs it, and from
what was written down of the generations before, the oldest first."""


def unchanged(spec: JobSpec, scheduler: Scheduler, causes: Sequence[str]) -> JobSpec:
    """Return the same specification for each generation."""
    return spec


@dataclass
class Submission:
    """The submission of one specification, with what its attempts have in common.

    The parameters are those of :func:`firecrest_core.claims.protocol.submit`, with the claims that they have led to.

    :param posted: the key of the last attempt that was sent
    :param elsewhere: that of each other place
    :param home: of the submission at another place, the one that decides
    """

    claims: ClaimDirectory
    spec: JobSpec
    scheduler: Scheduler
    before_post: BeforePost | None
    adjust: Adjust
    alternatives: Alternatives | None
    prepare_place: PreparePlace | None = None
    posted: ClaimKey | None = None
    elsewhere: dict[Place, Submission] = field(default_factory=dict)
    home: Place | None = None

    @classmethod
    async def prepare(
        cls,
        system: System,
        spec: JobSpec,
        identity: str,
        before_post: BeforePost | None = None,
        adjust: Adjust = unchanged,
        alternatives: Alternatives | None = None,
        prepare_place: PreparePlace | None = None,
    ) -> Submission:
        """Return the submission of a task's job; a ``script_path`` is read.

        :param system: where to submit it
        :param spec: the job, as for :func:`firecrest_core.claims.protocol.submit`
        :param identity: the task's
        :param before_post: as for that function, as the following ones are
        """
        scheduler = await system.scheduler()
        await check_working_dir(system, spec.working_dir)
        if spec.script_path is not None:
            spec = await with_text(system, spec, spec.script_path)
        if alternatives is not None:
            check_places(alternatives, system.name, spec.working_dir)
        claims = ClaimDirectory(system, spec.working_dir, identity)
        return cls(claims, spec, scheduler, before_post, adjust, alternatives, prepare_place)

    @property
    def system(self) -> System:
        """Where to submit it."""
        return self.claims.system

    @property
    def place(self) -> Place:
        """The same, with the working directory."""
        return Place(self.system.name, self.spec.working_dir)

    @property
    def name(self) -> str:
        """The user's name for the job."""
        return self.spec.job_name(self.scheduler)

    def _spec_of(self, key: ClaimKey, found: Claims) -> JobSpec:
        return self.adjust(self.spec, self.scheduler, found.causes_before(key))

    async def post(self, key: ClaimKey, found: Claims) -> Job:
        """Submit once, or each alternative once."""
        self.posted = key
        spec = self._spec_of(key, found)
        if self.alternatives is None:
            return await self._post(spec, key, found)
        taken: list[Job] = []
        failed: list[errors.FirecRESTError] = []
        for shape, place in zip(self.alternatives.of(spec), self.alternatives.places, strict=True):
            try:
                if place is not None:
                    post = partial(self._post_elsewhere, place, shape, key, found)
                    taken.append(await retry_transient(post, _LONGEST_OUTAGE_ELSEWHERE))
                else:
                    post = partial(self._post, shape, key, found)
                    taken.append(await (retry_transient(post, math.inf) if taken else post()))
            except (
                errors.SubmissionRejected,
                errors.SubmissionLimitReached,
                errors.SubmissionUnknown,  # if it exists, it is found by its name, and runs only if it begins first
                errors.InvalidJobSpec,
            ) as error:
                failed.append(error)
            except errors.FirecRESTError as error:
                if place is None:
                    raise
                failed.append(error)
        if not taken:  # without an answer, one of them may exist
            raise min(failed, key=lambda one: not isinstance(one, errors.SubmissionUnknown))
        for refusal in failed:
            log.warning("%s: an alternative was not taken, and the others go on. %s", self.name, refusal)
        at_home = [job for job in taken if job.home is None]
        job = replace(at_home[0], rivals=tuple(one.job_id for one in at_home[1:])) if at_home else None
        return self._racing(job, [one for one in taken if one.home is not None])

    def _racing(self, job: Job | None, elsewhere: Sequence[Job]) -> Job:
        """Return a job at home, or else the first one elsewhere, with those that it races with."""
        job = job or elsewhere[0]
        if self.home is not None or self.alternatives is None or not self.alternatives.are_elsewhere:
            return job
        return replace(job, home=self.place, elsewhere=tuple(elsewhere))

    async def _post_elsewhere(self, place: Place, shape: JobSpec, key: ClaimKey, found: Claims) -> Job:
        there = await self._at(place)
        if there.prepare_place is not None:
            await there.prepare_place(there.system, shape)
            there.prepare_place = None
        elif key.generation > 0 and not any(there.place.name in found.places[of] for of in found.places):
            raise errors.RemotePathNotFound(f"{place}: nothing was made ready for the job there")
        await check_working_dir(there.system, there.spec.working_dir)
        # Before a job is there, so that whoever cancels from here finds it.
        await self.claims.link(key, there.place.name, there.place.to_text())
        return await there._post(shape, key, found)

    async def _at(self, place: Place) -> Submission:
        """Return the submission at another place."""
        system = self.system.client.system(place.system)
        scheduler = await system.scheduler()  # from then on, the system has the server's own spelling of its name
        place = Place(system.name, place.working_dir)
        if place not in self.elsewhere:
            claims, spec = self.claims.at(place), replace(self.spec, working_dir=place.working_dir)
            self.elsewhere[place] = replace(
                self, claims=claims, spec=spec, scheduler=scheduler, home=self.place, elsewhere={}
            )
        return self.elsewhere[place]

    async def post_ahead(self, key: ClaimKey, holder: str, found: Claims) -> str:
        """Submit what follows a job that runs, if the end of that one changes nothing.

        :param key: of the job that runs
        :param holder: its id
        :param found: the claims
        :returns: the id of the job that waits
        """
        spec = replace(self._spec_of(key, found), dependency=f"afterany:{holder}")
        return (await self._post(spec, key.next_generation(), found, ahead=True)).job_id

    async def _post(self, spec: JobSpec, key: ClaimKey, found: Claims, *, ahead: bool = False) -> Job:
        spec = await choose_partition(self.system, spec)
        bound = BoundSubmission.bind(spec, key, self.scheduler, ahead=ahead, elsewhere=self.claims.elsewhere)
        secret_file = SecretFile.of_claim(spec, key.directory(self.spec.working_dir), self.scheduler)
        request = bound.request(self.scheduler, secret_file)
        async with written(self.system, secret_file):
            if self.before_post is not None:
                await self.before_post()
            submitted_at = time.time()
            job_id = await self.system.submit_job(request, name=bound.name)
        return await self._job(bound, job_id, submitted_at, found)

    async def find_or_post(self, key: ClaimKey, *, resubmit_failed: bool) -> Job:
        """Return the job that holds the claim, else the first one in the queue that may get it, else submit one."""
        found = await self.claims.read()
        if found.has_newer_epoch(key.epoch):
            raise self._withdrawn("a newer run has begun")
        latest = replace(key, generation=max(0, found.latest(key.epoch)))
        holder = found.holder(latest)
        if holder == CANCELLED:
            raise self._withdrawn("it was cancelled")
        resubmit = resubmit_failed or key.generation > latest.generation
        if holder is not None:
            if (place := found.place(latest)) is not None:
                there = await self._at(place)
                if (job := await there._at_chosen(self.claims, latest, found, resubmit=resubmit)) is not None:
                    return job
                found = await self.claims.read()
                if found.has_newer_epoch(key.epoch):
                    raise self._withdrawn("a newer run has begun")
            elif found.cause(latest) is not None:
                await self._end(holder)
            elif not resubmit or not await self._has_failed(holder):
                rivals = [] if self.alternatives is None else await self._live(latest)
                elsewhere, _ = await self._elsewhere(latest, found)
                return self._racing(await self._found(latest, [holder, *rivals], found), elsewhere)
            if self.alternatives is not None:  # whoever waited may have died before it had cancelled the others
                await self.claims.delete(await self._live(latest))
                await self._end_elsewhere(latest, found)
            latest = latest.next_generation()
        live = await self._admitted(latest, found)
        elsewhere, left = await self._elsewhere(latest, found)
        if live or elsewhere:
            return self._racing(await self._found(latest, live, found) if live else None, elsewhere)
        if left is not None:  # this generation ends, as a job that is submitted there would leave at once
            await self.claims.take(latest, left.name)
            return await self.find_or_post(key, resubmit_failed=resubmit_failed)
        if latest.epoch > 0:  # the process that began this epoch may have died before the older ones had ended
            await self.claims.end_older(latest)
        try:
            return await self.post(latest, found)
        except (errors.SubmissionRejected, errors.InvalidJobSpec):
            # An earlier submission whose answer was lost may be in the queue. It may even be the reason, if there is a
            # limit on submitted jobs. A job that is reported as rejected must not run later.
            if await self._withdraw(latest):
                raise
        return await self.find_or_post(latest, resubmit_failed=resubmit_failed)

    async def _admitted(self, key: ClaimKey, found: Claims) -> list[str]:
        """Return the jobs in the queue that may get a claim which is still free.

        Those that were submitted ahead may if the end of the job before them has changed nothing of what they ask for.
        """
        plain, ahead = await self.claims.live_of(key)
        if not ahead:
            return plain
        before = replace(key, generation=key.generation - 1)
        asks_the_same = self._spec_of(key, found) == self._spec_of(before, found)
        if await decide(self.claims, key, opens=asks_the_same):
            return [*plain, *ahead]
        await self.claims.delete(ahead)
        for job_id in ahead:
            await wait_until_gone(self.system, job_id)
        return plain

    async def _elsewhere(self, key: ClaimKey, found: Claims) -> tuple[list[Job], Place | None]:
        """Return the jobs that wait at other places, and a place whose jobs have given up, if there is one.

        A place that is out of reach is left out, because its jobs run only if they are let in.
        """
        jobs: list[Job] = []
        left = None
        for place in found.places_of(key).values():
            try:
                there = await self._at(place)
                live = await there._live(key)
                jobs += [await there._found(key, [job_id], found) for job_id in live]
                if not live and await has_given_up(self.claims, key, place):
                    left = place
            except errors.FirecRESTError as error:
                log.warning("%s: the race goes on without the jobs on %s. %s", self.name, place, error)
        return jobs, left

    async def _end_elsewhere(self, key: ClaimKey, found: Claims) -> None:
        claims = replace(self.claims, retry=RetryBudget(_LONGEST_OUTAGE_ELSEWHERE))
        try:
            await claims.end_elsewhere(found, lambda *of: of == (key.epoch, key.generation))
        except errors.FirecRESTError as error:
            log.warning("%s: jobs at another place stay for now, and will run nothing. %s", self.name, error)

    async def _at_chosen(self, home: ClaimDirectory, key: ClaimKey, found: Claims, *, resubmit: bool) -> Job | None:
        """Return the job of this place, which the claim at home names; ``None`` if another generation follows."""
        is_open = await admit(home, key, self.place)
        holder = (await self.claims.read()).holder(key)
        if holder is None and is_open and (live := await self._live(key)):
            return await self._found(key, live, found)
        if holder is None and not await self.claims.take(key, CANCELLED):
            holder = (await self.claims.read()).holder(key)
        if holder in (None, CANCELLED):  # nothing has run here or ever will
            await give_up(home, key)
        elif found.cause(key) is not None:
            await self._end(holder)
        elif not resubmit or not await self._has_failed(holder):
            return await self._found(key, [holder, *await self._live(key)], found)
        return None

    async def _live(self, key: ClaimKey) -> list[str]:
        return (await self.claims.live()).get((key.epoch, key.generation), [])

    async def _has_failed(self, job_id: str) -> bool:
        """Tell whether a job has failed and will not come back.

        The caller cannot know this: the job that it found failed may be another one than the job that holds the claim.
        """
        job = Job(system=self.system.name, job_id=job_id, array_indices=self.spec.array_indices)
        try:
            status = await read_status(self.system, job)
        except errors.JobNotFound:
            return False
        if not (status.all_ended and status.complete) or status.state is JobState.COMPLETED:
            return False
        await self._end(job_id)
        return True

    async def _end(self, job_id: str) -> None:
        """Keep a job that has failed from coming back: the scheduler may be requeuing it, after a node failure say."""
        if await self.system.cancel_job(job_id):
            await wait_until_gone(self.system, job_id)

    async def _withdraw(self, key: ClaimKey) -> bool:
        try:
            return await self.claims.take(key, CANCELLED)
        except errors.UserError as error:  # if the claim cannot be made from here, no job can make it
            log.debug("%s: the claim cannot be cancelled. %s", self.name, error)
            return True

    async def _found(self, key: ClaimKey, job_ids: Sequence[str], found: Claims) -> Job:
        """Return the first of these jobs, with the others as its rivals if they are alternatives."""
        first, *others = dict.fromkeys(job_ids)
        bound = BoundSubmission.bind(self._spec_of(key, found), key, self.scheduler)
        job = await self._job(bound, first, 0.0, found)
        return job if self.alternatives is None else replace(job, rivals=tuple(others))

    async def _job(self, bound: BoundSubmission, job_id: str, submitted_at: float, found: Claims) -> Job:
        job = await job_from_submission(
            self.system, bound.spec, job_id, name=bound.name, submitted_at=submitted_at, key=bound.key
        )
        job = replace(job, home=self.home)
        everything = self.spec.array_indices
        if everything is None or job.array_indices is None:
            return job
        stopped = Indices.joined(group.indices for group in stopped_before(found.ends_before(bound.key)))
        return replace(job, completed_indices=everything - job.array_indices - stopped or None)

    def _withdrawn(self, reason: str) -> errors.JobWithdrawn:
        return errors.JobWithdrawn(
            JobResult(
                job_id="",
                system=self.system.name,
                name=self.name,
                state=JobState.CANCELLED,
                reason=reason,
                working_dir=self.spec.working_dir,
            )
        )
