"""The lifecycle of a job: submit it, wait for its end, cancel it, read its output. Both faces use it.

With a :class:`~firecrest_core.jobs.key.ClaimKey` one payload runs for the key, however often :func:`submit` is called
(see :mod:`firecrest_core.claims.protocol`). Without one, a job is submitted once and nothing is recorded. If the answer
to that submission is lost, the job cannot be found again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import retry_transient
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.job_ids import read_job_id
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.claims import protocol
from firecrest_core.claims.ahead import cancel_ahead
from firecrest_core.claims.cancel_many import cancel_many
from firecrest_core.claims.cancel_queue import CancelQueue
from firecrest_core.claims.directory import wait_until_gone
from firecrest_core.claims.owner import find_owner
from firecrest_core.claims.removal import SETTLED_AFTER as SETTLED_AFTER
from firecrest_core.claims.removal import remove_claims, remove_raced_claims
from firecrest_core.claims.secret_file import SecretFile, written
from firecrest_core.claims.submission import Adjust, BeforePost, PreparePlace, unchanged
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.logs import output_tails
from firecrest_core.jobs.partition import choose_partition
from firecrest_core.jobs.status import parse_status
from firecrest_core.jobs.submission import check_working_dir, job_from_submission, with_text
from firecrest_core.jobs.submission_queue import SubmissionQueue
from firecrest_core.race import winner
from firecrest_core.result import JobResult
from firecrest_core.spec import arrays
from firecrest_core.spec.alternatives import Alternatives
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.options import script_options
from firecrest_core.spec.render import submit_request
from firecrest_core.watch.tracker import OnMessage, OnStatus
from firecrest_core.watch.watcher import JobWatcher

log = logging.getLogger(__name__)

OnOutput = Callable[[str, str], None]


async def submit(
    system: System,
    spec: JobSpec,
    key: ClaimKey | None = None,
    *,
    first_attempt: bool = False,
    resubmit_failed: bool = True,
    wait_for_room: bool = True,
    before_post: BeforePost | None = None,
    adjust: Adjust = unchanged,
    alternatives: Alternatives | None = None,
    prepare_place: PreparePlace | None = None,
) -> Job:
    """Submit a job, or find the one that was submitted for its key.

    The call returns as soon as the scheduler has accepted the job. It waits while the system is unhealthy or cannot be
    reached, and while a limit on submitted jobs is reached.

    :param system: where to submit it
    :param spec: the job
    :param key: the key of the job's claim. Without it, each call submits a new job, at most once.
    :param first_attempt: this is the first call for the key's epoch, so there is no earlier job to search for
    :param resubmit_failed: run the job once more if it has failed, as an automatic retry needs it
    :param wait_for_room: wait while a limit on submitted jobs is reached; with ``False``, raise the error. The wait
        has no limit of its own. All submissions of an event loop to one system wait in one line.
    :param before_post: awaited once, before the first POST of this call; only with a key. Here the caller records what
        it must not lose: from now on the job may exist. Without a POST it is not called, because the job exists
        already, or because nothing can have reached the scheduler. An error of it prevents the POST.
    :param adjust: makes the specification of a job that follows others of its epoch; only with a key. See
        :mod:`firecrest_core.campaign`.
    :param alternatives: the shapes in which the job is submitted, each once, so that the first that begins runs; only
        with a key. See :mod:`firecrest_core.race`.
    :param prepare_place: awaited once for each other place of the alternatives, before a job is submitted there. A
        place for which it fails is left out.
    :returns: the job that was submitted or found; of alternatives, one with the others as its ``rivals``
    :raises InvalidJobSpec: the job has no working directory, or the scheduler cannot express a field
    :raises RemotePathNotFound: the working directory does not exist. Slurm itself would accept the job and fail it
        without a message when it starts, hours later.
    :raises SubmissionRejected: the scheduler refused the job
    :raises SubmissionLimitReached: only without ``wait_for_room``
    :raises SubmissionUnknown: no answer says whether the job was taken; only without a key
    :raises JobWithdrawn: the key was cancelled, or a newer epoch has begun
    """
    spec.check_working_dir()
    if key is None:
        if spec.secrets and spec.script_path is not None:
            spec = await with_text(system, spec, spec.script_path)
        spec = await choose_partition(system, spec)
        scheduler = await system.scheduler()
        secret_file = SecretFile.without_claim(spec, scheduler)
        request = submit_request(spec, scheduler, secrets=secret_file.lines() if secret_file else ())
        await check_working_dir(system, spec.working_dir)

    async def before_first_post() -> None:
        nonlocal before_post
        if before_post is not None:
            await before_post()
            before_post = None

    async def submit_now() -> Job:
        nonlocal first_attempt
        if key is None:
            return await _submit_unclaimed(system, spec, request, secret_file)
        if not first_attempt:  # an earlier attempt has reached FirecREST at this URL
            system.client.trust_url()
        first, first_attempt = first_attempt, False  # in the line, an earlier submission may have been taken
        return await protocol.submit(
            system,
            spec,
            key,
            first_attempt=first,
            resubmit_failed=resubmit_failed,
            before_post=before_first_post,
            adjust=adjust,
            alternatives=alternatives,
            prepare_place=prepare_place,
        )

    if not wait_for_room:
        return await submit_now()
    return await SubmissionQueue.shared(system).submit(system, spec.job_name(), submit_now)


async def _submit_unclaimed(
    system: System, spec: JobSpec, request: SubmitRequest, secret_file: SecretFile | None
) -> Job:
    submitted_at = time.time()
    try:
        # Retry without a limit: the server was reached before, and these errors mean that it has done nothing yet.
        async with written(system, secret_file):
            job_id = await retry_transient(partial(system.submit_job, request), math.inf)
    except errors.SubmissionUnknown as error:
        advice = "Check with `squeue` or in the list of jobs before you submit it again."
        raise errors.SubmissionUnknown(f"{error} {advice}") from None
    return await job_from_submission(system, spec, job_id, name=request.name or "", submitted_at=submitted_at)


async def wait(
    system: System,
    job: Job,
    *,
    poll_interval: float = 10.0,
    timeout: float | None = None,
    on_message: OnMessage | None = None,
    on_warning: OnMessage | None = None,
    on_status: OnStatus | None = None,
    on_winner: Callable[[Job], None] | None = None,
    fail_if_stuck: bool = False,
) -> JobResult:
    """Wait until a job has ended in any state. Waits for jobs of the same system and user share their requests.

    For a job with a key, the result is that of the job that holds the claim. If that is another job, the call waits for
    it, too. Of a job with rivals, the first that begins is waited for, and the others are cancelled.

    :param system: where the job is, and as which user to ask. The client of the shared
        :class:`~firecrest_core.watch.watcher.JobWatcher` sends the status queries.
    :param job: the job to wait for
    :param poll_interval: longest time between two status queries, in seconds; a young job is queried more often
    :param timeout: seconds after which to stop waiting, though not before the first answer; the job is not cancelled
    :param on_message: gets a line for the job's first state, each change with its reason, node and elapsed time, and
        each outage
    :param on_warning: gets a line for what keeps the job from starting; ``on_message`` unless given
    :param on_status: gets each status until the job has ended
    :param on_winner: gets the job that runs, of one with rivals; the statuses before are those of ``job`` itself
    :param fail_if_stuck: raise an error when the job can never start, instead of a warning only
    :returns: how the job ended
    :raises WaitTimedOut: after ``timeout``
    :raises JobNotFound: the scheduler still does not know the job after a minute
    :raises JobStuck: the job can never start; only with ``fail_if_stuck``
    :raises ClaimMissing: the job ended, but nothing shows that it ran
    """
    if job.is_ours:
        system.client.trust_url()
    began = time.monotonic()
    if job.races:
        job = await winner(
            system,
            job,
            poll_interval=poll_interval,
            timeout=timeout,
            on_message=on_message,
            on_warning=on_warning,
            on_status=on_status,
            fail_if_stuck=fail_if_stuck,
        )
        if on_winner is not None:
            on_winner(job)
    while True:
        system = system.client.system(job.system)
        watcher = JobWatcher.shared(system.connection, job.system, type(system.client))
        result = await watcher.wait(
            job,
            poll_interval=poll_interval,
            timeout=timeout,
            waited=time.monotonic() - began,
            on_message=on_message,
            on_warning=on_warning,
            on_status=on_status,
            fail_if_stuck=fail_if_stuck,
        )
        owner = await find_owner(system, job, result)
        if isinstance(owner, JobResult):
            if on_message is not None and (used := owner.usage_summary()):
                on_message(f"{job} {used}.")
            return owner
        job = owner


async def cancel(system: System, job: Job) -> None:
    """Cancel a job. If it has a key, cancel all jobs that were or will be submitted for its epoch.

    A job that has already ended is no error.

    :param system: where the job is
    :param job: the job to cancel
    :raises FirecRESTError: it cannot be cancelled; see :func:`firecrest_core.claims.protocol.cancel`
    """
    if job.is_ours:
        system.client.trust_url()
    if job.key is None:
        await system.cancel_job(job.job_id)
    else:
        if job.home is not None and job.job_id:  # its home may be out of reach
            with suppress(errors.FirecRESTError):  # whoever cancels from home says what is wrong there
                await system.client.system(job.system).cancel_job(job.job_id)
        home = system.client.system(job.origin.system)
        await protocol.cancel(home, job.origin.working_dir, job.key.identity, job.key.epoch)


async def cancel_all(system: System, jobs: Collection[Job]) -> dict[Job, errors.FirecRESTError]:
    """Cancel many jobs as :func:`cancel` cancels one, with few requests. Those in the queue are cancelled first.

    :param system: where the jobs are
    :param jobs: the jobs to cancel
    :returns: those that may still run, with what went wrong
    :raises FirecRESTError: the server cannot be reached, or refuses the login or the list of jobs
    """
    return await cancel_many(system, jobs)


async def cancel_together(
    connection: Connection, job: Job, client_type: type[FirecRESTClient] = FirecRESTClient
) -> None:
    """Cancel a job as :func:`cancel` does. Those that call this at about the same time share a client and requests.

    :param connection: where the job is, and as which user to cancel it
    :param job: the job to cancel
    :param client_type: the class of the client
    :raises FirecRESTError: it cannot be cancelled
    """
    await CancelQueue.shared(connection, job.system, client_type).cancel(job)


async def cancel_attempt(system: System, job: Job) -> None:
    """Cancel this job only and wait until it has ended, so that the next attempt for its key submits a new one.

    Its rivals go with it, and the jobs that were submitted ahead of its end. Nothing is done for a job without an id:
    the next attempt finds it.

    :param system: where the job is
    :param job: the job to cancel
    """
    if job.is_ours:
        system.client.trust_url()
    own = [replace(job, job_id=job_id) for job_id in (job.job_id, *job.rivals) if job_id]
    for one in [*own, *job.elsewhere]:
        at = system.client.system(one.system)
        await at.cancel_job(one.job_id)
        await wait_until_gone(at, one.job_id)
    if job.key is not None:
        await cancel_ahead(system, job.working_dir, job.key)


async def cancel_and_wait(system: System, job: Job) -> None:
    """Cancel the same jobs as :func:`cancel`, and wait until they have ended.

    :param system: where the job is
    :param job: the job to cancel
    """
    if job.key is None:
        await cancel_attempt(system, job)
    else:
        system.client.trust_url()
        home = system.client.system(job.origin.system)
        await protocol.end_older(home, job.origin.working_dir, job.key.next_epoch())


async def clean_up(system: System, jobs: Collection[Job]) -> list[Job]:
    """Remove what the jobs of finished tasks have left in ``<working_dir>/.firecrest``.

    Nobody may ask for these jobs any more: how their tasks ended was recorded at least :data:`SETTLED_AFTER` seconds
    ago, and no further try can come. This costs one list of jobs for all of them, and one request for each.

    :param system: where the jobs were
    :param jobs: any job of each task; one without a key has left nothing
    :returns: those of which nothing is left. The others may still have a duplicate in the queue, or could not be
        removed; that is no error, because the prologue of a later job removes them by age.
    :raises FirecRESTError: the server cannot be reached, or refuses the login
    """
    if any(job.is_ours for job in jobs):
        system.client.trust_url()
    removed = await remove_claims(
        system, {job.key: job.working_dir for job in jobs if job.key is not None and job.home is None}
    )
    raced: dict[str, dict[ClaimKey, str]] = {}
    for job in jobs:
        if job.key is not None and job.home is not None:
            raced.setdefault(job.home.system, {})[job.key] = job.home.working_dir
    for name, tasks in raced.items():
        removed |= await remove_raced_claims(system.client.system(name), tasks)
    return [job for job in jobs if job.key is None or job.key in removed]


async def raise_for_state(system: System, result: JobResult, *, on_output: OnOutput | None = None) -> JobResult:
    """Raise an error if a job did not end well, with the last lines of its output.

    :param system: where the job ran
    :param result: how it ended
    :param on_output: gets the path and the last lines of each of the job's output files that is not empty, but for the
        one that the error shows. Without it, a job that ended well costs no request.
    :returns: ``result``
    :raises JobFailed: or the subclass for its state
    """
    if result.succeeded and on_output is None:
        return result
    stdout, stderr = tails = await output_tails(system, result)
    error = None if result.succeeded else errors.JobFailed.kind(result.state)(result, stderr, stdout)
    for path, tail in zip(result.output_paths(), tails, strict=True):
        in_error = error is not None and path == error.shown_path
        if on_output is not None and path is not None and tail.strip() and not in_error:
            on_output(path, tail.rstrip())
    if error is not None:
        raise error
    return result


async def find(system: System, job_id: str) -> Job:
    """Return a job that was submitted elsewhere, for example by hand.

    :param system: where it is
    :param job_id: its id, for example ``57``
    :raises JobNotFound: the scheduler does not know it
    :raises InvalidJobId: it cannot be the id of a job
    """
    job_id = read_job_id(job_id)
    await system.info()  # has the system's own spelling of its name
    status = parse_status(await system.get_job(job_id), job_id)
    try:
        metadata = await system.get_job_metadata(job_id)
    except (errors.JobNotFound, errors.TransientError):  # gone soon after the job's end on Slurm < 24.05
        return Job(system=system.name, job_id=job_id, name=status.name, working_dir=status.working_dir)
    array = script_options(metadata.script, await system.scheduler()).get("array")
    indices = None
    if array is not None:
        with suppress(ValueError):  # the script is what the server says it is
            indices = arrays.indices(array)
    return Job(
        system=system.name,
        job_id=job_id,
        name=status.name,
        working_dir=status.working_dir,
        stdout=metadata.stdout or None,
        stderr=metadata.stderr or None,
        array_indices=indices,
    )
