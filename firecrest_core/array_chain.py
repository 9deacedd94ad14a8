"""A chain whose job is an array: each element is a chain of its own.

::

    array="0-9"
    chain=Chain(max_jobs=20, signal="USR1@120", done="run-%a/train.done", checkpoint="run-%a/ckpt/*")

After the end of an array, each element is done, goes on, or has stopped: it has failed, or has left no new checkpoint.
The next job is an array of those that go on. Those that have stopped do not keep the others from going on, and count as
failed in the end. The chain ends when none goes on.

A checkpoint is new if it is not older than the claim of the array that has just ended. The first element that begins
makes that claim, and it does so after the array before it has ended. So what is newer was written by this array, and
what an element of this array writes is never older. Times are whole seconds, so a checkpoint of the array before that
lies in the second of the claim counts as new, too. The next claim is made in a later second, as a rule. So no element
is stopped that has made progress, and one without is repeated once in a rare case, but not for ever. One time, which
the claim directory has anyway, is enough for all elements, while a link has no room for a mark of each.
"""

from __future__ import annotations

import asyncio
import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from firecrest_core import errors
from firecrest_core.api.backoff import retry_transient
from firecrest_core.api.client import System
from firecrest_core.api.models import FileInfo, JobInfo
from firecrest_core.chain import Chain, Checkpoint, Progress
from firecrest_core.claims.claim import Claims
from firecrest_core.elements import ElementGroup
from firecrest_core.escalation import LONGEST_NODES, Escalation
from firecrest_core.followup import Cause, FollowUp, Note, Stop
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import array_end
from firecrest_core.result import JobResult, element_path, index_as_glob, index_list
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.output_paths import output_paths
from firecrest_core.states import JobState
from firecrest_core.stopped_elements import Stopped, Why, stopped_before, to_text
from firecrest_core.transfer.patterns import matches, rows_by_path

_NUMBER = re.compile(r"\d+", re.ASCII)
# Characters of a note. It is a part of what a link holds, which is a path of 4095 at most.
_LONGEST_NOTE = 3500


@dataclass(frozen=True, slots=True)
class Ended:
    """No element of a chain's array goes on.

    :param result: how the array ended, with all elements of all jobs
    :param problem: sentences that say why elements have stopped; empty if all are done
    :param retry_helps: an element has failed by itself, which the engine's retries are for
    """

    result: JobResult
    problem: str = ""
    retry_helps: bool = False


@dataclass(frozen=True, slots=True)
class ArrayEnd:
    """The end of an array of a chain, and what is known of it.

    :param job: the array
    :param result: how it ended
    :param spec: what was asked for
    :param ends: how each of its elements ended
    :param before: the elements that have stopped in earlier jobs
    :param notes: those of the jobs before it
    :param jobs: how many jobs there were, with this one
    """

    job: Job
    result: JobResult
    spec: JobSpec
    ends: Mapping[int, JobResult]
    before: Sequence[Stopped]
    notes: Sequence[Note]
    jobs: int

    @classmethod
    async def read(
        cls, system: System, job: Job, result: JobResult, spec: JobSpec, claims: Claims, jobs: int
    ) -> ArrayEnd:
        """Read how each element of an array ended.

        :param system: where it is
        :param job: the array
        :param result: how it ended
        :param spec: what was asked for
        :param claims: those of its task
        :param jobs: how many jobs there were, with this one
        """
        assert job.key is not None
        before = claims.ends_before(job.key)
        notes = [note for _, cause in before if (note := Note.parse(cause)) is not None]
        failed = any(group.failed for group in result.groups)
        rows = await retry_transient(partial(_rows, system, job.job_id), math.inf) if failed else {}
        return cls(job, result, spec, _ends(job, result, rows), stopped_before(before), notes, jobs)

    async def progress(self, system: System, chain: Chain, claims: Claims) -> dict[int, Progress]:
        """Return what each element has left.

        :param system: where to look
        :param chain: the chain
        :param claims: those of its task
        """
        key = self.job.key
        assert key is not None
        began = min((at for (epoch, _), at in claims.claimed_at.items() if epoch == key.epoch), default="")
        since = claims.claimed_at.get((key.epoch, key.generation), began)
        markers, checkpoints = await self._found(system, chain.done, chain.checkpoint)
        return {
            index: _progress(markers.get(index, ()), checkpoints.get(index, ()), began, since) for index in self.ends
        }

    def lacking(self, chain: Chain, progress: Mapping[int, Progress]) -> str:
        """Say what elements have left, if more may be seen later; empty if not.

        :param chain: the chain
        :param progress: what each element has left
        """
        left: dict[str, list[int]] = defaultdict(list)
        for index, end in self.ends.items():
            if what := chain.unseen(self._chained(chain, end, progress[index]), end.state, progress[index]):
                left[what].append(index)
        groups = [(Indices.of(indices), what) for what, indices in left.items()]
        return "; ".join(
            _of_only(f"{_named(which).capitalize()} of job {self.job.job_id} left {what}", which)
            for which, what in groups
        )

    def _chained(self, chain: Chain, end: JobResult, progress: Progress) -> FollowUp | Stop | None:
        return chain.after(end, self.spec, progress, self.jobs)

    async def _found(self, system: System, *patterns: str) -> list[dict[int, list[FileInfo]]]:
        """Return for each pattern what is there of each element."""
        below = partial(posixpath.join, self.job.working_dir)
        try:
            rows = await rows_by_path(system, [below(str(index_as_glob(pattern))) for pattern in patterns])
        except (errors.RemotePathRefused, errors.RequestTimedOut):
            # Other files are too many to be listed with those of all elements.
            rows = {}
            for index in self.ends:
                rows |= await rows_by_path(system, [below(_of(pattern, index)) for pattern in patterns])
        own = {index: [below(_of(pattern, index)) for pattern in patterns] for index in self.ends}
        return await asyncio.to_thread(_by_element, rows, own)  # a hundred thousand files take a second

    def decide(self, chain: Chain, escalation: Escalation | None, progress: Mapping[int, Progress]) -> FollowUp | Ended:
        """Decide which elements go on, and with what.

        Of several causes, the first one in the order of :class:`~firecrest_core.followup.Cause` says what the next
        array gets. The other elements run in it, too.

        :param chain: the chain
        :param escalation: the policy beside it
        :param progress: what each element has left
        """
        following: dict[Cause, dict[int, FollowUp]] = defaultdict(dict)
        stopped: dict[tuple[JobState, Why], list[int]] = defaultdict(list)
        done: list[int] = []
        for index, end in self.ends.items():
            chained = self._chained(chain, end, progress[index])
            decision = chain.or_escalated(chained, escalation, end, self.spec, self.notes, self.jobs)
            if isinstance(decision, FollowUp):
                following[decision.note.cause][index] = decision
            elif end.state is JobState.COMPLETED and decision is None:
                done.append(index)
            else:
                stopped[end.state, self._why(decision, chain, chained, progress[index])].append(index)
        now = [Stopped(state, why, Indices.of(indices), self.job.job_id) for (state, why), indices in stopped.items()]
        if not following:
            return self._ended(chain, now)
        return self._follow_up(chain, following, Indices.of(done), now)

    def _why(
        self, decision: FollowUp | Stop | None, chain: Chain, chained: FollowUp | Stop | None, progress: Progress
    ) -> Why:
        if decision is None:
            return Why.FAILED
        if isinstance(chained, Stop) and not progress.is_newer:
            return Why.IDLE
        return Why.LAST if self.jobs >= chain.max_jobs else Why.BOUND

    def _follow_up(
        self, chain: Chain, following: Mapping[Cause, Mapping[int, FollowUp]], done: Indices, now: Sequence[Stopped]
    ) -> FollowUp | Ended:
        cause = next(cause for cause in Cause if cause in following)
        going = Indices.of(index for indices in following.values() for index in indices)
        nodes = ",".join(dict.fromkeys(one.note.nodes for one in following[cause].values() if one.note.nodes))
        nodes = nodes if len(nodes) <= LONGEST_NODES else ""
        note = Note(cause, nodes=nodes, elements=str(going), stopped=to_text(now))
        if len(note.to_text()) > _LONGEST_NOTE:
            problem = "Which elements go on and which have stopped is too much to be written down; use fewer elements."
            return self._ended(chain, [*now, Stopped(JobState.COMPLETED, Why.LAST, going)], problem)
        verb = "go" if len(going) > 1 else "goes"
        parts = [f"{_named(going)} {verb} on, job {self.jobs + 1} of at most {chain.max_jobs}"]
        stopped = Indices.joined(group.indices for group in (*self.before, *now))
        if done := Indices.joined([done, (self.job.completed_indices or Indices()) - stopped]):
            parts.append(f"done: {index_list(done)}")
        if stopped:
            parts.append(f"stopped: {index_list(stopped)}")
        text = f"{self.job}: {'; '.join(parts)}."
        if cause is not Cause.CHAIN:
            text += f" {next(iter(following[cause].values())).reason}"
        return FollowUp(note, " ".join([text, *self._sentences(chain, now)]))

    def _ended(self, chain: Chain, now: Sequence[Stopped], problem: str = "") -> Ended:
        if not now and not self.before:
            return Ended(self.result)
        own = self.job.array_indices or Indices()
        gone = Indices.joined(group.indices for group in (*self.before, *now))
        everything = Indices.joined([own, self.job.completed_indices or Indices()]) | gone
        groups = [group for group in self.result.groups if group.failed]
        known = Indices.joined(group.indices for group in groups)
        for group in (*self.before, *now):
            if left := group.indices - known:
                unfinished = group.state is JobState.COMPLETED
                groups.append(ElementGroup.of(left, JobState.FAILED if unfinished else group.state))
        if good := everything - gone:
            groups.append(ElementGroup.of(good, JobState.COMPLETED, exit_code=0))
        state = array_end({group.state for group in groups})
        sentences = [problem] if problem else self._sentences(chain, (*self.before, *now))
        helps = any(group.why is Why.FAILED for group in (*self.before, *now))
        result = replace(self.result, state=state, groups=tuple(groups))
        return Ended(self._with_output(result), " ".join(sentences), helps)

    def _sentences(self, chain: Chain, groups: Iterable[Stopped]) -> list[str]:
        """Return a sentence for elements that have stopped alike."""
        alike: dict[tuple[Why, JobState, str], list[Indices]] = defaultdict(list)
        for group in groups:
            alike[group.why, group.state, group.job_id].append(group.indices)
        sentences = []
        for (why, state, job_id), several in alike.items():
            indices = Indices.joined(several)
            which = _named(indices).capitalize()
            ended = f"{which} of job {job_id} ended {state}"
            advice = chain.advice(replace(self.result, state=state, signal=None), self.spec)
            match why:
                case Why.IDLE if state is JobState.COMPLETED:
                    text = f"{ended} without {chain.done} and a new {chain.checkpoint}. {advice}"
                case Why.IDLE:
                    text = f"{ended} without a new {chain.checkpoint}, so another job would repeat it. {advice}"
                case Why.BOUND:
                    text = f"{ended}, and escalate allows no more."
                case Why.LAST:
                    text = (
                        f"{which} would go on, but it was job {self.jobs} of a chain of max_jobs={chain.max_jobs}. "
                        "A new run of the task goes on from the newest checkpoints (in Airflow, clear the task)."
                    )
                case Why.FAILED:
                    text = f"{ended}."
            sentences.append(_of_only(text, indices))
        return sentences

    def _with_output(self, result: JobResult) -> JobResult:
        """Return the result with the output of the job in which the element ran last whose output is shown."""
        shown = result.reported_element
        job_id = next((group.job_id for group in self.before if shown and shown.index in group.indices), "")
        stdout, stderr = (output_paths(self.spec, job_id) if job_id else None) or (result.stdout, result.stderr)
        return replace(result, stdout=stdout, stderr=stderr)


def unknown_ends(job: Job, result: JobResult) -> str:
    """Return a sentence if the scheduler does not say how each element of an array ended; else an empty text.

    :param job: the array
    :param result: how it ended
    """
    counted = sum(group.count for group in result.groups)
    expected = sum(len(indices or ()) for indices in (job.array_indices, job.completed_indices))
    whole = all(len(group.indices) == group.count for group in result.groups if group.failed)
    if result.state is JobState.COMPLETED or (whole and counted == expected):
        return ""
    return f"FirecREST does not tell how each element of {job} ended, so nobody can say which of them go on."


def _of(pattern: str, index: int) -> str:
    return str(element_path(pattern, index))


def _by_element(rows: Mapping[str, FileInfo], patterns: Mapping[int, Sequence[str]]) -> list[dict[int, list[FileInfo]]]:
    """Return for each pattern what it matches, by element.

    :param rows: what is there, by path
    :param patterns: those of each element, by its index, which is a number in each path that they match
    """
    found: list[dict[int, list[FileInfo]]] = [defaultdict(list) for _ in next(iter(patterns.values()))]
    for path, row in rows.items():
        for index in patterns.keys() & set(map(int, _NUMBER.findall(path))):
            for pattern, of_element in zip(patterns[index], found, strict=True):
                if matches(pattern, path):
                    of_element[index].append(row)
    return found


async def _rows(system: System, job_id: str) -> dict[str, JobInfo]:
    with suppress(errors.JobNotFound):
        return {row.job_id: row for row in await system.get_job(job_id)}
    return {}


def _ends(job: Job, result: JobResult, rows: Mapping[str, JobInfo]) -> dict[int, JobResult]:
    """Return how each element ended, as if it were a job of its own."""
    own = job.array_indices or Indices()
    ends: dict[int, JobResult] = {}
    for group in (*(group for group in result.groups if group.failed), ElementGroup.of(own, JobState.COMPLETED, 0)):
        alike = replace(result, state=group.state, exit_code=group.exit_code, signal=None, elapsed=None, groups=())
        for index in group.indices & own:
            end = replace(alike, job_id=f"{job.job_id}_{index}")
            if group.failed and (row := rows.get(end.job_id)) is not None:
                end = replace(
                    end, exit_code=row.exit_code, signal=row.signal, elapsed=row.elapsed, nodes=row.nodes or end.nodes
                )
            ends.setdefault(index, end)
    return dict(sorted(ends.items()))


def _progress(markers: Collection[FileInfo], checkpoints: Iterable[FileInfo], began: str, since: str) -> Progress:
    newest = Checkpoint.newest_of(Checkpoint(row.name, row.last_modified, row.size) for row in checkpoints)
    return Progress(
        done=any(row.last_modified >= began for row in markers),
        stale=bool(markers),
        newest=newest,
        is_newer=newest is not None and newest.modified >= since,
    )


def _of_only(text: str, indices: Indices) -> str:
    """Return a text that holds ``%a`` with the index in its place, if there is only one."""
    return _of(text, *indices) if len(indices) == 1 else text


def _named(indices: Indices) -> str:
    return f"element{'s' if len(indices) > 1 else ''} {index_list(indices)}"
