"""The protocol on a model of a cluster, where everything that can go wrong does, between any two steps.

The workers are the real coroutines of :mod:`firecrest_core.claims.protocol`, driven request by request: each request
may be answered, lost before or after it was obeyed, obeyed much later or twice, and its worker may die there. The
jobs are modelled: they take the prologue's steps (claim, look for later epochs, run) one at a time.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from firecrest_core import errors
from firecrest_core.api import backoff
from firecrest_core.api.models import FileInfo, JobInfo
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.claims import ahead, cancel_many, claim, directory, gate, owner, protocol, removal
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claim_identity, claims_home, fingerprint, is_ahead, read_job_name
from firecrest_core.result import JobResult
from firecrest_core.spec.alternatives import Alternatives
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState

WORKDIR = "/wd"
SPEC = JobSpec(working_dir=WORKDIR, command="true", name="relax")
# Two deployments run the same DAG; only the nonces differ. A task has a new one after its claims were removed.
TASKS = ("one", "two")
IDENTITIES = {
    task: [claim_identity("dag", "scheduled__2026-11-20", "task", nonce=f"{task}{number}") for number in range(5)]
    for task in TASKS
}
BY_FINGERPRINT = {fingerprint(identity): identity for identities in IDENTITIES.values() for identity in identities}


# --- the cluster --------------------------------------------------------------------------------------


@dataclass
class ModelJob:
    """A job, and how far it is: queued → claiming → looking → running → ended.

    One that was submitted ahead is *at its gate* before it claims. It may start at any time, because no dependency is
    modelled. One whose node failed is *lost*: it looks as if it had ended, and may be queued again.
    """

    id: str
    name: str
    key: ClaimKey
    stage: str = "queued"
    state: JobState = JobState.PENDING
    visible: bool = False
    dying: bool = False
    ran: bool = False
    saw_no_claim: bool = False


@dataclass
class Cluster:
    """A file system with atomic links, a scheduler, and what must never happen.

    :param mutation: what is wrong with the prologue, to see that the checks notice
    """

    mutation: str = ""
    directories: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    cancelled: set[tuple[str, int]] = field(default_factory=set)
    begun: dict[str, int] = field(default_factory=dict)
    failed: dict[ClaimKey, str] = field(default_factory=dict)

    # What the API does.

    def submit(self, request: SubmitRequest) -> str:
        assert request.name is not None
        name = read_job_name(request.name)
        assert name is not None
        job = ModelJob(str(100 + len(self.jobs)), request.name, ClaimKey(BY_FINGERPRINT[name[0]], *name[1:]))
        self.jobs[job.id] = job
        return job.id

    def rows(self, job_id: str | None = None) -> list[JobInfo]:
        jobs = [job for job in self.jobs.values() if job.visible and job_id in (None, job.id)]
        if job_id is not None and not jobs:
            raise errors.JobNotFound(job_id)
        return [JobInfo(job_id=job.id, name=job.name, status={"state": job.state.value}) for job in jobs]

    def delete(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.stage == "ended":
            return False
        if job.stage == "running":
            job.dying = True  # it may take its time to end
        else:
            self.end(job, JobState.CANCELLED)
        return True

    def list_files(self, path: str) -> list[FileInfo]:
        inside = [each for each in self.directories if each.startswith(f"{path}/")]
        if not inside:
            raise errors.RemotePathNotFound(path)
        found = [FileInfo(name=each.removeprefix(f"{path}/"), type="d") for each in inside]
        return found + [
            FileInfo(name=link.removeprefix(f"{path}/"), type="l", link_target=target)
            for link, target in self.links.items()
            if link.startswith(f"{path}/")
        ]

    def link(self, target: str, link: str) -> None:
        if link.rpartition("/")[0] not in self.directories:
            raise errors.RemotePathNotFound(link)
        if link in self.links:
            raise errors.RemotePathExists(link)
        self.links[link] = target

    def remove(self, path: str) -> None:
        self.directories = {each for each in self.directories if not each.startswith(f"{path}/")}
        self.links = {link: target for link, target in self.links.items() if not link.startswith(f"{path}/")}

    # What jobs do.

    def step(self, job: ModelJob) -> None:
        """One step of the prologue."""
        directory = job.key.directory(WORKDIR)
        link, own = f"{directory}/claim", f"{directory}/job-{job.id}"
        if job.stage == "queued":
            waits = is_ahead(job.name) and self.mutation != "passes any gate"
            job.stage, job.state = "at its gate" if waits else "claiming", JobState.RUNNING
            if self.mutation == "claims without care":
                job.saw_no_claim = link not in self.links
        elif job.stage == "at its gate":
            decided = self.links.get(f"{directory}/gate", "")
            if link in self.links or decided.endswith(gate.OPEN):
                job.stage = "claiming"
            elif decided:
                self.end(job, JobState.COMPLETED)
        elif job.stage == "claiming":
            self.directories.add(directory)
            if job.saw_no_claim:
                self.links[link] = own
            if self.mutation == "asks for no claim" or self.links.setdefault(link, own) == own:
                job.stage = "looking"
            else:
                self.end(job, JobState.COMPLETED)
        elif job.stage == "looking":
            home = claims_home(WORKDIR, job.key.identity)
            epochs = [int(each.removeprefix(f"{home}/").split(".")[0]) for each in self.directories if home in each]
            if max(epochs) > job.key.epoch and self.mutation != "looks for no later epoch":
                self.end(job, JobState.COMPLETED)
            else:
                self.run(job)

    def close_gate(self, job: ModelJob) -> None:
        """Nobody has decided for too long."""
        directory = job.key.directory(WORKDIR)
        self.directories.add(directory)
        if f"{directory}/claim" not in self.links:
            self.links.setdefault(f"{directory}/gate", f"{directory}/{gate.CLOSED}")
        self.step(job)

    def run(self, job: ModelJob) -> None:
        """The payload begins."""
        key = job.key
        others = [each for each in self.jobs.values() if each is not job and each.key.identity == key.identity]
        assert not [each for each in others if each.ran and each.key == key], f"a second payload of {key}"
        assert not [each for each in others if each.stage == "running"], f"two payloads of {key.identity} at once"
        done = [each for each in others if each.ran and each.state is JobState.COMPLETED]
        assert key.epoch not in {each.key.epoch for each in done}, f"{key} runs after it ended well"
        assert (key.identity, key.epoch) not in self.cancelled, f"{key} runs after it was cancelled"
        assert self.begun.get(key.identity, 0) <= key.epoch, f"{key} runs after a later epoch has begun"
        assert self.failed.get(key, job.id) == job.id, f"{key} runs after its failure was reported"
        job.stage, job.ran = "running", True

    def end(self, job: ModelJob, state: JobState) -> None:
        job.stage, job.state = "ended", JobState.CANCELLED if job.dying else state


# --- a client that stops at each request ----------------------------------------------------------------


@dataclass
class Request:
    """What a worker waits for.

    :param changes: it does something, so that it may also be obeyed late or twice
    :param identity: of a submission, the task's
    """

    name: str
    obey: Callable[[], Any]
    changes: bool = False
    identity: str = ""


@types.coroutine
def ask(request: Request) -> Generator[Request, Any, Any]:
    return (yield request)


class System:
    """As much of a system as the protocol uses."""

    name = "rig"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.client = Mock(system=lambda _: self)

    async def scheduler(self) -> str:
        return "slurm"

    async def has_directory(self, path: str) -> bool:
        return True

    async def get_job_metadata(self, job_id: str) -> Any:
        raise errors.JobNotFound(job_id)

    async def submit_job(self, request: SubmitRequest, *, name: str) -> str:
        key = read_job_name(str(request.name))
        assert key is not None
        identity = BY_FINGERPRINT[key[0]]
        return await ask(Request("submit", lambda: self.cluster.submit(request), changes=True, identity=identity))

    async def get_jobs(self, *, all_readable: bool = False) -> list[JobInfo]:
        return await ask(Request("jobs", self.cluster.rows))

    async def get_job(self, job_id: str) -> list[JobInfo]:
        return await ask(Request("job", lambda: self.cluster.rows(job_id)))

    async def cancel_job(self, job_id: str) -> bool:
        return await ask(Request("delete", lambda: self.cluster.delete(job_id), changes=True))

    async def list_files(self, path: str, *, recursive: bool) -> list[FileInfo]:
        return await ask(Request("ls", lambda: self.cluster.list_files(path)))

    async def make_directory(self, path: str) -> None:
        await ask(Request("mkdir", lambda: self.cluster.directories.add(path), changes=True))

    async def symlink(self, target: str, link: str) -> None:
        await ask(Request("symlink", lambda: self.cluster.link(target, link), changes=True))

    async def remove(self, path: str, *, missing_ok: bool) -> None:
        await ask(Request("rm", lambda: self.cluster.remove(path), changes=True))


async def sleep(delay: float) -> None:
    await ask(Request("sleep", lambda: None))


async def gather(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    return [await each for each in work]


async def wait(system: Any, job: Job) -> JobResult:
    while True:
        try:
            seen = await directory.read_status(system, job)
        except (errors.JobNotFound, errors.TransientError):
            if job.job_id not in system.cluster.jobs:
                raise
            await sleep(1)
            continue
        if seen.all_ended:
            return JobResult(job_id=job.job_id, system=job.system, name=job.name, state=seen.state)
        await sleep(1)


async def resolve_owner(system: Any, job: Job, result: JobResult) -> JobResult:
    """What ``lifecycle.wait`` does when a job has ended."""
    while isinstance(found := await owner.find_owner(system, job, result), Job):
        job, result = found, await wait(system, found)
    return found


async def resume(system: Any, spec: JobSpec, key: ClaimKey, **how: Any) -> Job:
    return await protocol.submit(system, spec, key, **how)


async def start(system: Any, spec: JobSpec, key: ClaimKey, **how: Any) -> Job:
    return await protocol.submit(system, spec, key, resubmit_failed=False, **how)


async def start_epoch(system: Any, spec: JobSpec, key: ClaimKey, **how: Any) -> Job:
    await protocol.end_older(system, WORKDIR, key)
    return await start(system, spec, key, **how)


async def cancel_together(system: Any, working_dir: str, identity: str, epoch: int) -> None:
    """What a reconciler or a trigger does when many tasks end at once, for one of them."""
    job = Job(system="rig", job_id="", working_dir=working_dir, key=ClaimKey(identity, epoch))
    for error in (await cancel_many.cancel_many(system, [job])).values():
        raise error


CANCELS = {"cancel": protocol.cancel, "cancel_together": cancel_together}


async def one_by_one(items: Iterable[Any], act: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    for item in items:
        await act(item)


@dataclass
class Worker:
    """A coroutine, the identity of its task, the request at which it stands, and what became of it."""

    work: Coroutine[Any, Any, Any]
    identity: str
    on_done: Callable[[Any], None] = lambda outcome: None
    request: Request | None = None
    outcome: Any = None

    def resume(self, answer: Any = None, error: Exception | None = None) -> None:
        self.request = None
        try:
            self.request = self.work.throw(error) if error is not None else self.work.send(answer)
        except StopIteration as stop:
            self.outcome = stop.value
            self.on_done(stop.value)
        except (
            errors.SubmissionRejected,
            errors.SubmissionUnknown,
            errors.TransientError,
            errors.JobWithdrawn,
        ) as outcome:
            self.outcome = outcome

    def answer(self) -> None:
        """Let the request be obeyed and answered."""
        assert self.request is not None
        try:
            answer = self.request.obey()
        except errors.FirecRESTError as error:
            self.resume(error=error)
        else:
            self.resume(answer)


# --- what may happen, in any order ----------------------------------------------------------------------

PROLOGUE = ("queued", "at its gate", "claiming", "looking")
FATES = ["answered"] * 6 + ["lost before", "lost after", "late", "twice", "rejected"]


class Protocol(RuleBasedStateMachine):
    mutation = ""
    forgets_identities = True
    alternatives: Alternatives | None = None

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(self.mutation)
        self.system: Any = System(self.cluster)
        self.identities = {task: IDENTITIES[task][0] for task in TASKS}
        self.epochs = dict.fromkeys(TASKS, 0)
        self.succeeded: dict[tuple[str, int], str] = {}
        self.over: dict[str, ClaimKey] = {}
        self.withdrawn: set[tuple[str, int]] = set()
        self.workers: list[Worker] = []
        self.late: list[Request] = []

    # Workers.

    def spawn(
        self, identity: str, work: Coroutine[Any, Any, Any], on_done: Callable[[Any], None] = lambda outcome: None
    ) -> Worker:
        worker = Worker(work, identity, on_done)
        worker.resume()
        self.workers.append(worker)
        return worker

    async def attempt(self, key: ClaimKey, begin: Callable[..., Any], **how: Any) -> JobResult:
        """One try of a task, as an engine makes it."""
        job = await begin(self.system, SPEC, key, alternatives=self.alternatives, **how)
        if begin is start_epoch:
            self.cluster.begun[key.identity] = max(key.epoch, self.cluster.begun.get(key.identity, 0))
            assert all(job.key.epoch >= key.epoch for job in self.payloads(key.identity)), "an older epoch runs on"
            coming_back = [job for job in self.jobs("lost") if job.key.identity == key.identity and not job.dying]
            assert all(job.key.epoch >= key.epoch for job in coming_back), "an older epoch may come back"
        result: JobResult = await resolve_owner(self.system, job, await wait(self.system, job))
        ran = self.cluster.jobs[result.job_id]
        if result.succeeded:
            assert ran.ran, f"{result} ran nothing"
            self.succeeded[key.identity, key.epoch] = result.job_id
        elif result.state in (JobState.FAILED, JobState.NODE_FAIL):
            self.cluster.failed.setdefault(ran.key, result.job_id)
        return result

    def key(self, task: str) -> ClaimKey:
        return ClaimKey(self.identities[task], self.epochs[task])

    def first(self, task: str, *, first_attempt: bool) -> Worker:
        key = self.key(task)
        begin = start_epoch if key.epoch else start
        return self.spawn(key.identity, self.attempt(key, begin, first_attempt=first_attempt))

    @rule(task=st.sampled_from(TASKS), first_attempt=st.booleans())
    def a_worker_begins(self, task: str, first_attempt: bool) -> None:
        if task not in self.over:
            self.first(task, first_attempt=first_attempt)

    @rule(task=st.sampled_from(TASKS))
    def a_worker_retries(self, task: str) -> None:
        if task not in self.over:
            self.spawn(self.identities[task], self.attempt(self.key(task), resume))

    @rule(task=st.sampled_from(TASKS), by=st.integers(1, 4))
    def a_person_wants_a_new_run(self, task: str, by: int) -> None:
        assume(self.epochs[task] < 20)
        if self.over.pop(task, None) is None or not self.forgets_identities:
            self.epochs[task] += by
        self.first(task, first_attempt=True)

    @rule(task=st.sampled_from(TASKS), back=st.integers(0, 2), cancel=st.sampled_from(["cancel", "cancel_together"]))
    def a_person_cancels(self, task: str, back: int, cancel: str) -> None:
        if task in self.over:
            return
        identity, epoch = self.identities[task], max(0, self.epochs[task] - back)
        self.withdrawn.add((identity, epoch))

        def on_done(_: Any) -> None:
            self.cluster.cancelled.add((identity, epoch))
            assert all(job.dying for job in self.payloads(identity) if job.key.epoch == epoch), "cancelled, and runs on"

        self.spawn(identity, CANCELS[cancel](self.system, WORKDIR, identity, epoch), on_done)

    # The removal of claims.

    def is_settled(self, task: str) -> bool:
        """Whether the task's success is on record, and was so for ``SETTLED_AFTER``: no submission is on its way."""
        key = self.key(task)
        requests = [*self.late, *(worker.request for worker in self.waiting() if worker.request is not None)]
        return (
            (key.identity, key.epoch) in self.succeeded
            and not any(request.identity == key.identity for request in requests)
            and not any(worker.identity == key.identity for worker in self.workers)
            and all(
                job.visible or job.stage == "ended"
                for job in self.cluster.jobs.values()
                if job.key.identity == key.identity
            )
        )

    @rule(task=st.sampled_from(TASKS), repeated=st.booleans(), steps=st.integers(20, 40))
    def a_task_goes_well(self, task: str, repeated: bool, steps: int) -> None:
        """It gets on without a fault, except that a proxy may repeat its submission."""
        if task in self.over:
            return
        worker = self.first(task, first_attempt=False)
        for _ in range(steps):
            if worker.request is None:
                return
            if worker.request.name == "submit" and repeated:
                self.obey(worker.request)
            worker.answer()
            jobs = [job for job in self.cluster.jobs.values() if job.key.identity == worker.identity]
            for job in jobs:
                job.visible = True
            if jobs and jobs[-1].stage in ("queued", "claiming", "looking"):
                self.cluster.step(jobs[-1])
            elif jobs and jobs[-1].stage == "running":
                self.cluster.end(jobs[-1], JobState.COMPLETED)

    @precondition(lambda self: [task for task in TASKS if task not in self.over and self.is_settled(task)])
    @rule(data=st.data())
    def the_claims_of_a_task_go(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from([task for task in TASKS if task not in self.over and self.is_settled(task)]))
        key = self.over[task] = self.key(task)
        if self.forgets_identities:
            number = IDENTITIES[task].index(key.identity) + 1
            assume(number < len(IDENTITIES[task]))
            self.identities[task], self.epochs[task] = IDENTITIES[task][number], 0
        self.remove_claims(key)

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def they_are_removed_once_more(self, data: st.DataObject) -> None:
        """After a crash, or by another triggerer."""
        self.remove_claims(self.over[data.draw(st.sampled_from(sorted(self.over)))])

    def remove_claims(self, key: ClaimKey) -> Worker:
        return self.spawn("", removal.remove_claims(self.system, {key: WORKDIR}))

    def waiting(self) -> list[Worker]:
        self.workers = [worker for worker in self.workers if worker.request is not None]
        return self.workers

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), fate=st.sampled_from(FATES))
    def a_request(self, data: st.DataObject, fate: str) -> None:
        worker = data.draw(st.sampled_from(range(len(self.workers))).map(self.workers.__getitem__))
        request = worker.request
        assert request is not None
        if fate == "rejected" and request.name == "submit":
            self.withdrawn.update((self.identities[task], self.epochs[task]) for task in TASKS)
            worker.resume(error=errors.SubmissionRejected("limit"))
            return
        if fate in ("answered", "rejected") or request.name == "sleep":
            worker.answer()
            return
        if fate == "twice":
            if request.changes:
                self.late.append(request)
            worker.answer()
            return
        if fate == "lost after":
            self.obey(request)
        elif fate == "late" and request.changes:
            self.late.append(request)
        # A fault of the list alone makes the worker go on without it.
        kinds = {"submit": errors.SubmissionUnknown, "jobs": errors.ServerFault}
        worker.resume(error=kinds.get(request.name, errors.ServerUnreachable)("lost"))

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), steps=st.integers(1, 12))
    def a_worker_gets_on(self, data: st.DataObject, steps: int) -> None:
        worker = data.draw(st.sampled_from(range(len(self.workers))).map(self.workers.__getitem__))
        for _ in range(steps):
            if worker.request is not None:
                worker.answer()

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), obeyed=st.booleans())
    def a_worker_dies(self, data: st.DataObject, obeyed: bool) -> None:
        worker = self.workers.pop(data.draw(st.sampled_from(range(len(self.workers)))))
        assert worker.request is not None
        if obeyed:
            self.obey(worker.request)
        worker.work.close()

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def a_late_request_arrives(self, data: st.DataObject) -> None:
        self.obey(self.late.pop(data.draw(st.sampled_from(range(len(self.late))))))

    def obey(self, request: Request) -> None:
        with contextlib.suppress(errors.FirecRESTError):  # nobody hears of it
            request.obey()

    # Jobs.

    def jobs(self, *stages: str) -> list[ModelJob]:
        return [job for job in self.cluster.jobs.values() if job.stage in stages]

    def payloads(self, task: str) -> list[ModelJob]:
        return [job for job in self.jobs("running") if job.key.identity == task]

    @precondition(lambda self: self.jobs(*PROLOGUE))
    @rule(data=st.data(), steps=st.integers(1, 3))
    def a_job_gets_on(self, data: st.DataObject, steps: int) -> None:
        job = data.draw(st.sampled_from(self.jobs(*PROLOGUE)))
        for _ in range(steps):
            self.cluster.step(job)

    @precondition(lambda self: self.jobs("running"))
    @rule(data=st.data(), how=st.sampled_from(["COMPLETED", "FAILED", "requeued"]))
    def a_job_ends(self, data: st.DataObject, how: str) -> None:
        job = data.draw(st.sampled_from(self.jobs("running")))
        if how == "requeued" and not job.dying:
            job.stage, job.state = "queued", JobState.PENDING
        else:
            self.cluster.end(job, JobState.FAILED if how == "requeued" else JobState(how))

    @precondition(lambda self: self.jobs("running"))
    @rule(data=st.data())
    def a_node_fails(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.jobs("running")))
        job.stage, job.state = "lost", JobState.NODE_FAIL

    @precondition(lambda self: self.jobs("lost"))
    @rule(data=st.data(), comes_back=st.booleans())
    def a_lost_job_comes_back_or_not(self, data: st.DataObject, comes_back: bool) -> None:
        job = data.draw(st.sampled_from(self.jobs("lost")))
        if comes_back and not job.dying:
            job.stage, job.state = "queued", JobState.PENDING
        else:
            job.stage = "ended"

    @precondition(lambda self: self.jobs("queued"))
    @rule(data=st.data(), state=st.sampled_from([JobState.FAILED, JobState.CANCELLED]))
    def a_job_ends_before_it_begins(self, data: st.DataObject, state: JobState) -> None:
        self.cluster.end(data.draw(st.sampled_from(self.jobs("queued"))), state)

    @precondition(lambda self: [job for job in self.cluster.jobs.values() if not job.visible])
    @rule(data=st.data())
    def a_job_becomes_visible(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([job for job in self.cluster.jobs.values() if not job.visible])).visible = True

    @precondition(lambda self: [job for job in self.jobs("ended") if job.visible])
    @rule(data=st.data())
    def an_ended_job_cannot_be_seen_for_a_while(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([job for job in self.jobs("ended") if job.visible])).visible = False

    @invariant()
    def one_claim_for_each_key(self) -> None:
        claims = [link for link in self.cluster.links if link.endswith("/claim")]
        assert len(claims) <= len(self.cluster.directories)

    # The end: no more faults, and a last try.

    def teardown(self) -> None:
        while self.late:
            self.obey(self.late.pop())
        self.run_to_the_end()
        for task in TASKS:
            if task in self.over:
                self.check_what_is_left(self.over[task])
                continue
            identity, epoch = self.identities[task], self.epochs[task]
            outcome: Any = None
            worker = self.first(task, first_attempt=False)
            for _ in range(10):
                self.run_to_the_end()
                outcome = worker.outcome
                if not isinstance(outcome, JobResult) or outcome.succeeded:
                    break
                worker = self.spawn(identity, self.attempt(ClaimKey(identity, epoch), resume))
            ran = [job for job in self.cluster.jobs.values() if job.ran and job.key.identity == identity]
            well = [job for job in ran if job.key.epoch == epoch and job.state is JobState.COMPLETED]
            if isinstance(outcome, JobResult) and outcome.succeeded:
                assert [job.id for job in well] == [outcome.job_id]
            else:
                assert isinstance(outcome, errors.JobWithdrawn), f"{task} ended with {outcome!r}"
                assert (identity, epoch) in self.withdrawn
        assert not self.jobs(*PROLOGUE, "running")

    def check_what_is_left(self, key: ClaimKey) -> None:
        """A task whose success is on record has run once, and leaves nothing when all of its jobs have ended."""
        well = [
            job.id
            for job in self.cluster.jobs.values()
            if job.ran and (job.key.identity, job.key.epoch, job.state) == (key.identity, key.epoch, JobState.COMPLETED)
        ]
        assert well == [self.succeeded[key.identity, key.epoch]]
        worker = self.remove_claims(key)
        self.run_to_the_end()
        assert worker.outcome == {key}
        assert not [each for each in self.cluster.directories if each.startswith(claims_home(WORKDIR, key.identity))]

    def run_to_the_end(self) -> None:
        """Let everything happen until nothing does."""
        for _ in range(500):
            for job in self.cluster.jobs.values():
                job.visible = True
            for worker in self.waiting():
                worker.answer()
            for job in self.jobs(*PROLOGUE):
                self.cluster.step(job)
            for job in [] if self.waiting() else self.jobs("at its gate"):
                self.cluster.close_gate(job)
            for job in self.jobs("running"):
                self.cluster.end(job, JobState.COMPLETED)
            for job in self.jobs("lost"):
                job.stage = "ended"
            if not self.waiting() and not self.jobs(*PROLOGUE, "running"):
                return
        raise AssertionError(f"this never ends: {[worker.request for worker in self.workers]}")


class Chained(Protocol):
    """The next job is submitted ahead, and gets more if the one before has failed."""

    escalates = False
    a_node_fails = None  # type: ignore[assignment]  # a cause is written only of a job that cannot come back

    async def attempt(self, key: ClaimKey, begin: Callable[..., Any], **how: Any) -> JobResult:
        result = await super().attempt(key, begin, adjust=_more, **how)
        last = self.cluster.jobs[result.job_id].key
        if self.escalates and result.state is JobState.FAILED:
            await backoff.retry_transient(
                lambda: directory.ClaimDirectory(self.system, WORKDIR, last.identity).note_cause(last, "out_of_memory")
            )
        else:
            await ahead.cancel_ahead(self.system, WORKDIR, last)
        return result

    @precondition(lambda self: self.jobs("running"))
    @rule(data=st.data(), steps=st.integers(0, 8))
    def the_next_job_is_submitted_ahead(self, data: st.DataObject, steps: int) -> None:
        key = data.draw(st.sampled_from(self.jobs("running"))).key
        self.get_on(self.spawn(key.identity, ahead.submit_ahead(self.system, SPEC, key, adjust=_more)), steps)

    @rule(task=st.sampled_from(TASKS), steps=st.integers(5, 30))
    def a_task_gets_on(self, task: str, steps: int) -> None:
        if task not in self.over:
            self.get_on(self.first(task, first_attempt=False), steps)

    @rule(task=st.sampled_from(TASKS), steps=st.integers(5, 30))
    def a_job_fails_and_the_task_gets_on(self, task: str, steps: int) -> None:
        if task in self.over:
            return
        for job in self.payloads(self.identities[task]):
            self.cluster.end(job, JobState.FAILED)
        self.get_on(self.spawn(self.identities[task], self.attempt(self.key(task), resume)), steps)

    def get_on(self, worker: Worker, steps: int) -> None:
        """Let a worker and its jobs get on without a fault, not beyond the beginning of a payload."""
        for _ in range(steps):
            if worker.request is not None:
                worker.answer()
            for job in self.jobs(*PROLOGUE):
                if job.key.identity == worker.identity:
                    job.visible = True
                    self.cluster.step(job)

    @precondition(lambda self: self.jobs("at its gate"))
    @rule(data=st.data())
    def nobody_decides_for_long(self, data: st.DataObject) -> None:
        self.cluster.close_gate(data.draw(st.sampled_from(self.jobs("at its gate"))))


def _more(spec: JobSpec, scheduler: str, causes: Sequence[str]) -> JobSpec:
    return replace(spec, memory=f"{len(causes) + 1}G")


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ahead, owner, directory, backoff):
        monkeypatch.setattr(module, "sleep", sleep)
    monkeypatch.setattr(removal, "gather", gather)
    monkeypatch.setattr(cancel_many, "_each", one_by_one)
    for module in (directory, cancel_many):
        monkeypatch.setattr(module, "LONGEST_WITHOUT_LIST", 0.0)


BUDGET = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

# To show that a fault is found, not to find its smallest example.
HUNT = settings(
    BUDGET,
    max_examples=2000,
    phases=[Phase.generate],
    database=None,
    print_blob=False,
    report_multiple_bugs=False,
)


def hunt(**changes: Any) -> None:
    """Look for a fault. With this seed, each of those below is found soon."""
    run_state_machine_as_test(seed(2)(type("Hunted", (Protocol,), changes)), settings=HUNT)


def test_one_payload_for_a_key_and_one_in_the_end() -> None:
    run_state_machine_as_test(Protocol, settings=BUDGET)


def test_one_payload_of_alternatives() -> None:
    racing = type("Racing", (Protocol,), {"alternatives": Alternatives.parse([{"partition": "a"}, {"partition": "b"}])})
    run_state_machine_as_test(racing, settings=settings(BUDGET, max_examples=50))


@pytest.mark.parametrize("escalates", [False, True])
def test_one_payload_where_the_next_job_is_submitted_ahead(escalates: bool) -> None:
    chained = type("Chained", (Chained,), {"escalates": escalates})
    run_state_machine_as_test(chained, settings=settings(BUDGET, max_examples=75))


# --- the check itself: each part that is taken away is missed --------------------------------------------


@pytest.mark.parametrize(
    ("mutation", "missed"),
    [
        ("asks for no claim", "a second payload|at once|ended well|cancelled|failure was reported"),
        ("claims without care", "a second payload|at once|ended well|cancelled|failure was reported"),
        ("looks for no later epoch", "later epoch|at once"),
    ],
)
def test_the_check_notices_a_wrong_prologue(mutation: str, missed: str) -> None:
    with pytest.raises(AssertionError, match=missed):
        hunt(mutation=mutation)


@pytest.mark.parametrize(("mutation", "missed"), [("", False), ("passes any gate", True)])
def test_the_check_notices_a_job_that_passes_any_gate(mutation: str, missed: bool) -> None:
    machine = type("Hunted", (Chained,), {"mutation": mutation})()
    machine.first("one", first_attempt=True)
    with pytest.raises(AssertionError, match="at once") if missed else contextlib.nullcontext():
        for _ in range(10):
            for worker in machine.waiting():
                worker.answer()
            for job in machine.jobs("running"):
                machine.spawn(job.key.identity, ahead.submit_ahead(machine.system, SPEC, job.key))
            for job in machine.jobs(*PROLOGUE):
                job.visible = True
                machine.cluster.step(job)
        assert machine.jobs("at its gate")


async def _nothing(*_: Any, **__: Any) -> claim.Claims:
    return claim.Claims({}, frozenset())


async def _believes(client: Any, job: Job, result: JobResult) -> JobResult:
    return result


async def _always(*_: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("where", "name", "instead"),
    [
        (owner, "find_owner", _believes),
        (directory.ClaimDirectory, "withdraw", _nothing),
        (directory.ClaimDirectory, "take", _always),
        (directory.ClaimDirectory, "delete", _nothing),
        (protocol, "end_older", _nothing),
    ],
)
def test_the_check_notices_a_wrong_worker(where: Any, name: str, instead: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, name, instead)
    with pytest.raises(AssertionError):
        hunt()


RUNS_AGAIN = "a second payload|ended well|at once|later epoch"


def _seen(rows: list[JobInfo]) -> set[tuple[str, int]]:
    return {name[:2] for row in rows if (name := read_job_name(row.name)) is not None}


def test_the_check_notices_a_removal_beside_a_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_without_live_job", _seen)
    with pytest.raises(AssertionError, match=RUNS_AGAIN):
        hunt()


def test_the_check_notices_a_removal_that_comes_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_on_record(machine: Protocol, task: str) -> bool:
        return (machine.identities[task], machine.epochs[task]) in machine.succeeded

    with pytest.raises(AssertionError, match=RUNS_AGAIN):
        hunt(is_settled=is_on_record)


def test_the_check_notices_a_new_run_in_the_old_directory() -> None:
    with pytest.raises(AssertionError, match=RUNS_AGAIN):
        hunt(forgets_identities=False)
