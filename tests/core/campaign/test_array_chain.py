"""Chains of arrays: each element is a chain of its own, and the next job is an array of those that go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import Chain, lifecycle
from firecrest_core.api.client import System
from firecrest_core.array_chain import ArrayEnd, Ended, unknown_ends
from firecrest_core.campaign import Campaign
from firecrest_core.chain import Checkpoint, Progress
from firecrest_core.elements import ElementGroup
from firecrest_core.errors import AnswerTooLarge, InvalidJobSpec, JobFailed, JobWithdrawn
from firecrest_core.escalation import Escalation
from firecrest_core.followup import Cause, FollowUp, Note
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_core.stopped_elements import Stopped, Why, stopped_before, to_text

GIVEN = {"max_jobs": 5, "signal": "USR1@120", "done": "run-%a/train.done", "checkpoint": "run-%a/ckpt/*"}
CHAIN = Chain(**GIVEN)
DONE = Progress(done=True)
NEW = Progress(newest=Checkpoint("step-3", "2026-11-20T15:05:40", 12), is_newer=True)
OLD = Progress(newest=Checkpoint("step-3", "2026-11-20T15:05:40", 12))

# --- what is asked for, and what follows ------------------------------------------------------------------


@pytest.mark.parametrize(
    "paths",
    [
        {"done": "train.done"},
        {"checkpoint": "ckpt/*"},
        {"checkpoint": "ckpt/%a*"},  # element 1 would have those of 10
        {"checkpoint": "ckpt/*%a"},
        {"done": "run-1%a.done"},
        {"done": "run-%a0.done"},
        {"done": "run-%%a.done"},
    ],
)
def test_elements_that_cannot_be_told_from_each_other_are_refused(paths: dict[str, str]) -> None:
    chain = Chain(**GIVEN | paths)
    chain.check(JobSpec(command="true"))
    with pytest.raises(InvalidJobSpec, match="^chain: .* put %a there for its index"):
        chain.check(JobSpec(command="true", array="0-3"))


def test_an_array_that_cannot_be_a_chain_is_refused() -> None:
    spec = JobSpec(command="true", array="0-3")
    CHAIN.check(spec)
    with pytest.raises(InvalidJobSpec, match="has 2001 elements; give at most 1000"):
        CHAIN.check(JobSpec(command="true", array="0-2000"))


@pytest.mark.parametrize("done", ["run-%4a.done", "%a/done", "%a"])
def test_forms_of_the_index(done: str) -> None:
    Chain(**GIVEN | {"done": done}).check_elements()


ENDS = {"COMPLETED": JobState.COMPLETED, "TIMEOUT": JobState.TIMEOUT, "FAILED": JobState.FAILED}


def array_end(*states: JobState, before: tuple[Stopped, ...] = (), jobs: int = 1, completed: str = "") -> ArrayEnd:
    """Return the end of an array with these states of its elements."""
    indices = Indices.of(range(len(states)))
    groups = [ElementGroup.of(Indices.of([index]), state) for index, state in enumerate(states)]
    failed = [state for state in states if state is not JobState.COMPLETED]
    result = JobResult(
        job_id="57",
        system="rig",
        state=failed[0] if failed else JobState.COMPLETED,
        groups=tuple(groups),
    )
    earlier = Indices.parse(completed)
    if earlier:
        result = result.with_completed(earlier)
    job = Job(system="rig", job_id="57", array_indices=indices, completed_indices=earlier or None)
    ends = {
        index: JobResult(job_id=f"57_{index}", system="rig", state=state, exit_code=1, elapsed=10)
        for index, state in enumerate(states)
    }
    spec = JobSpec(command="true", array=str(indices), memory="60G", time_limit="1:00:00")
    return ArrayEnd(job, result, spec, ends, before, (), jobs)


def decide(end: ArrayEnd, *progress: Progress, escalate: Any = None) -> FollowUp | Ended:
    escalation = None if escalate is None else Escalation.parse(escalate)
    return end.decide(CHAIN, escalation, dict(enumerate(progress)))


COMPLETED, TIMEOUT, FAILED, MEMORY = JobState.COMPLETED, JobState.TIMEOUT, JobState.FAILED, JobState.OUT_OF_MEMORY


def test_those_go_on_that_have_left_a_checkpoint() -> None:
    following = decide(array_end(COMPLETED, COMPLETED, TIMEOUT, TIMEOUT, FAILED), DONE, NEW, NEW, OLD, NEW)
    assert isinstance(following, FollowUp)
    assert following.note == Note(Cause.CHAIN, elements="1-2", stopped="TIMEOUT.idle:3;FAILED.failed:4")
    assert following.reason.startswith("Job 57: elements 1-2 go on, job 2 of at most 5; done: 0; stopped: 3-4.")
    assert "Element 3 of job 57 ended TIMEOUT without a new run-3/ckpt/*" in following.reason
    assert Note.parse(following.note.to_text()) == following.note


def test_those_that_were_done_or_stopped_in_earlier_jobs_are_named_too() -> None:
    before = (Stopped(TIMEOUT, Why.IDLE, Indices.parse("5"), "56"),)
    following = decide(array_end(COMPLETED, TIMEOUT, before=before, completed="3-5"), DONE, NEW)
    assert isinstance(following, FollowUp)
    assert following.reason == "Job 57: element 1 goes on, job 2 of at most 5; done: 0, 3-4; stopped: 5."


def test_all_are_done() -> None:
    end = array_end(COMPLETED, COMPLETED)
    assert decide(end, DONE, DONE) == Ended(end.result)


def test_those_that_stopped_earlier_count_as_failed() -> None:
    before = (
        Stopped(TIMEOUT, Why.IDLE, Indices.parse("7"), "56"),
        Stopped(COMPLETED, Why.IDLE, Indices.parse("8"), "55"),
    )
    ended = decide(array_end(COMPLETED, COMPLETED, before=before, completed="5-6"), DONE, DONE)
    assert isinstance(ended, Ended)
    assert not ended.retry_helps
    assert (ended.result.state, str(ended.result.failed_indices)) == (FAILED, "7-8")
    assert ended.result.element_counts == {COMPLETED: 4, TIMEOUT: 1, FAILED: 1}
    assert (
        "Element 7 of job 56 ended TIMEOUT without a new run-7/ckpt/*, so another job would repeat it" in ended.problem
    )
    assert "Element 8 of job 55 ended COMPLETED without run-8/train.done" in ended.problem


def test_alike_ends_are_one_sentence() -> None:
    ended = decide(array_end(TIMEOUT, TIMEOUT, TIMEOUT), OLD, Progress(), OLD)
    assert isinstance(ended, Ended)
    assert ended.problem.count("ended") == 1
    assert ended.problem.startswith("Elements 0-2 of job 57 ended TIMEOUT")
    assert ended.result.element_counts == {TIMEOUT: 3}


def test_the_most_jobs_end_it() -> None:
    ended = decide(array_end(TIMEOUT, COMPLETED, jobs=5), NEW, NEW)
    assert isinstance(ended, Ended)
    assert "would go on, but it was job 5 of a chain of max_jobs=5" in ended.problem
    assert str(ended.result.failed_indices) == "0-1"


def test_what_is_looked_for_once_more_is_named() -> None:
    end = array_end(COMPLETED, TIMEOUT, COMPLETED, FAILED, TIMEOUT, jobs=5)
    progress = dict(enumerate((NEW, OLD, DONE, OLD, NEW)))
    assert end.lacking(CHAIN, progress) == (
        "Element 0 of job 57 left a new checkpoint, but no run-0/train.done; "
        "Element 1 of job 57 left neither run-1/train.done nor a new checkpoint (run-1/ckpt/*)"
    )
    assert array_end(COMPLETED, COMPLETED).lacking(CHAIN, dict(enumerate((NEW, DONE)))) == ""


def test_a_retry_helps_where_an_element_has_failed_by_itself() -> None:
    ended = decide(array_end(COMPLETED, FAILED, TIMEOUT), DONE, NEW, OLD)
    assert isinstance(ended, Ended)
    assert ended.retry_helps
    assert "Element 1 of job 57 ended FAILED." in ended.problem


def test_a_policy_gives_more_to_all_that_go_on() -> None:
    policy = {"out_of_memory": {"memory": "x2", "max": "100G"}}
    following = decide(array_end(TIMEOUT, MEMORY, FAILED), NEW, OLD, OLD, escalate=policy)
    assert isinstance(following, FollowUp)
    assert following.note == Note(Cause.OUT_OF_MEMORY, elements="0-1", stopped="FAILED.failed:2")
    assert "Job 57_1 ended OUT_OF_MEMORY with a memory of 60G: the next job gets 100G." in following.reason
    bound = {"out_of_memory": {"memory": "x2", "max": "60G"}}
    ended = decide(array_end(COMPLETED, MEMORY), DONE, OLD, escalate=bound)
    assert isinstance(ended, Ended)
    assert "Element 1 of job 57 ended OUT_OF_MEMORY, and escalate allows no more." in ended.problem
    assert not ended.retry_helps


def test_more_time_where_it_did_not_suffice_for_a_checkpoint() -> None:
    policy = {"time_limit": {"time_limit": "x2", "max": "4:00:00"}}
    following = decide(array_end(TIMEOUT, TIMEOUT), NEW, OLD, escalate=policy)
    assert isinstance(following, FollowUp)
    assert following.note == Note(Cause.TIME_LIMIT, elements="0-1")


def test_what_has_stopped_is_read_from_the_notes() -> None:
    stopped = (Stopped(TIMEOUT, Why.IDLE, Indices.parse("1,3")), Stopped(FAILED, Why.FAILED, Indices.parse("5")))
    first = Note(Cause.CHAIN, elements="0,7", stopped=to_text(stopped)).to_text()
    assert [(one.job_id, str(one.indices)) for one in stopped_before([("57", first)])] == [("57", "1,3"), ("57", "5")]
    retried = Note(Cause.RETRY, elements="1-3").to_text()
    assert [str(one.indices) for one in stopped_before([("57", first), ("58", retried)])] == ["5"]
    assert stopped_before([("57", "chain,stopped=what"), ("58", "chain,stopped=ODD.idle%3A3"), ("59", "?")]) == ()


def test_a_list_of_indices_takes_no_more_room_in_a_link() -> None:
    elements = ",".join(map(str, range(0, 1000, 2)))
    text = Note(Cause.CHAIN, elements=elements).to_text()
    assert len(text) == len("chain,elements=") + len(elements)
    assert Note.parse(text) == Note(Cause.CHAIN, elements=elements)


def test_more_than_a_link_holds_ends_it_with_a_sentence() -> None:
    states = [TIMEOUT, COMPLETED] * 500
    ended = decide(array_end(*states), *[NEW, OLD] * 500)
    assert isinstance(ended, Ended)
    assert "too much to be written down" in ended.problem
    assert len(ended.result.failed_indices) == 1000


def test_ends_that_nobody_tells() -> None:
    end = array_end(TIMEOUT, COMPLETED)
    assert not unknown_ends(end.job, end.result)
    assert "does not tell how each element" in unknown_ends(end.job, JobResult(job_id="57", system="rig", state=FAILED))
    assert not unknown_ends(end.job, JobResult(job_id="57", system="rig", state=COMPLETED))


# --- on the embedded server --------------------------------------------------------------------------------

KEY = ClaimKey("chain")
# Each element goes on from the number of its checkpoints. A checkpoint follows each step.
TRAINING = """#!/bin/bash
mkdir -p run-$SLURM_ARRAY_TASK_ID/ckpt; cd run-$SLURM_ARRAY_TASK_ID
echo $SLURM_ARRAY_JOB_ID >> jobs; n=$(wc -l < jobs); step=$(ls ckpt | wc -l); e=$SLURM_ARRAY_TASK_ID
while [ $step -lt {steps} ]; do
    case $e.$n.$step in
        {events}
    esac
    step=$((step + 1)); echo $step >> steps; echo > ckpt/$step
done
touch train.done
"""


def campaign_of(
    system: System, workdir: Path, steps: int, *events: str, max_jobs: int = 9, escalate: Any = None, **fields: Any
) -> Campaign:
    script = TRAINING.replace("{steps}", str(steps)).replace("{events}", "\n        ".join(events))
    asked = {"working_dir": str(workdir), "script": script, "time_limit": "00:00:30", "array": "0-3%3"}
    chain = Chain(max_jobs=max_jobs, signal="B:USR1@1", done="run-%a/train.done", checkpoint="run-%a/ckpt/*")
    escalation = None if escalate is None else Escalation.parse(escalate)
    return Campaign(system, JobSpec(**asked | fields), escalation, chain)


async def run(campaign: Campaign, log: list[str] | None = None, **how: Any) -> JobResult:
    job: Job | JobResult = await campaign.submit(KEY, **how)
    while isinstance(job, Job):
        result = await lifecycle.wait(campaign.system, job, poll_interval=0.2)
        job = await campaign.follow(job, result, ([] if log is None else log).append)
    return job


def jobs_of(workdir: Path) -> list[int]:
    return [len((workdir / f"run-{index}" / "jobs").read_text().split()) for index in range(4)]


def steps_of(workdir: Path, index: int) -> list[int]:
    return [int(step) for step in (workdir / f"run-{index}" / "steps").read_text().split()]


async def test_elements_of_different_lengths(system: System, workdir: Path) -> None:
    """One is done at once, one in the second job, one in the third, and one stops without progress."""
    log: list[str] = []
    events = ("1.1.1|2.1.1|2.2.2) exit ;;", "3.*.0) exit ;;")
    result = await run(campaign_of(system, workdir, 3, *events), log, first_attempt=True)
    assert jobs_of(workdir) == [1, 2, 3, 1]
    assert [steps_of(workdir, index) for index in range(3)] == [[1, 2, 3]] * 3
    assert (result.state, str(result.failed_indices)) == (JobState.FAILED, "3")
    assert result.element_counts == {JobState.COMPLETED: 3, JobState.FAILED: 1}
    assert result.course is not None
    assert [job.cause for job in result.course.earlier_jobs] == ["chain", "chain"]
    first = result.course.earlier_jobs[0].job_id
    assert (
        f"Element 3 of job {first} ended COMPLETED without run-3/train.done and a new run-3/ckpt/*." in result.problem
    )
    starts = [line.split(";")[0] for line in log if "on, job" in line]
    assert [line.partition(": ")[2] for line in starts] == [
        "elements 1-2 go on, job 2 of at most 9",
        "element 2 goes on, job 3 of at most 9",
    ]
    assert result.output_paths()[0] == f"{workdir}/slurm-{first}_3.out"  # of the job in which it ran
    with pytest.raises(JobFailed, match=r"3 of 4 array elements COMPLETED, 1 FAILED \(3\)") as failed:
        await lifecycle.raise_for_state(system, result)
    assert failed.value.user_error
    # A person has mended it, and tries it again.
    (workdir / "run-3" / "ckpt" / "0").touch()
    result = await run(campaign_of(system, workdir, 3, *events))
    assert jobs_of(workdir) == [1, 2, 3, 2]
    assert result.succeeded
    assert result.element_counts == {JobState.COMPLETED: 4}


async def test_a_training_survives_what_happens_and_repeats_no_step(system: System, workdir: Path) -> None:
    campaign = campaign_of(
        system,
        workdir,
        4,
        "0.1.1) exec python3 -c 'import time; held = bytearray(90 << 20); time.sleep(60)' ;;",
        "1.1.2) trap 'exit 0' USR1; while :; do sleep 0.1; done ;;",
        "1.2.3|3.1.1) trap '' USR1; sleep 60 ;;",
        "2.2.2|2.1.2) kill -9 $PPID; exit ;;",
        memory="64M",
        time_limit="00:00:06",
        escalate={"out_of_memory": {"memory": "x2", "max": "1G"}, "node_failure": {"max": 3}},
    )
    result = await run(campaign, first_attempt=True)
    assert (result.state, result.problem) == (JobState.COMPLETED, "")
    assert jobs_of(workdir) == [2, 3, 3, 2]
    assert [steps_of(workdir, index) for index in range(4)] == [[1, 2, 3, 4]] * 4
    assert result.course is not None
    assert [job.cause for job in result.course.earlier_jobs] == ["out_of_memory", "node_failure"]


async def test_what_ran_in_another_job_of_the_key_is_followed_alike(system: System, workdir: Path) -> None:
    """Whose answer was lost, and who was submitted once more, wait for the same array."""
    campaign = campaign_of(system, workdir, 3, "1.1.1) exit ;;", "3.*.0) exit 1 ;;")
    jobs = [await campaign.submit(KEY, first_attempt=True) for _ in range(2)]
    results = [await lifecycle.wait(system, job, poll_interval=0.2) for job in jobs]
    [ran] = {result.job_id for result in results}
    log: list[str] = []
    other = next(job for job in jobs if job.job_id != ran)
    following = await campaign.follow(other, results[0], log.append)
    assert isinstance(following, Job)
    assert str(following.array_indices) == "1"
    assert f"Element 3 of job {ran} ended FAILED" in log[0]
    result = await campaign.follow(following, await lifecycle.wait(system, following, poll_interval=0.2))
    assert isinstance(result, JobResult)
    assert (jobs_of(workdir), str(result.failed_indices)) == ([1, 2, 1, 1], "3")


async def test_a_retry_runs_those_that_failed_and_stopped(system: System, workdir: Path) -> None:
    events = ("0.1.1|2.1.0) exit 1 ;;", "1.1.0) exit ;;", "3.1.1) exit ;;")
    campaign = campaign_of(system, workdir, 2, *events, time_limit="01:00:00")
    result = await run(campaign, first_attempt=True)
    assert str(result.failed_indices) == "0-2"
    assert result.course is not None
    assert result.course.retry_helps
    with pytest.raises(JobFailed) as failed:
        await lifecycle.raise_for_state(system, result)
    assert not failed.value.user_error
    result = await run(campaign)
    assert result.succeeded
    assert jobs_of(workdir) == [2, 2, 2, 2]
    assert [steps_of(workdir, index) for index in range(4)] == [[1, 2]] * 4


async def test_a_kill_at_any_request_continues_the_same_chain(
    system: System, workdir: Path, follow_dying: Callable[..., Awaitable[int]]
) -> None:
    """Whoever follows a job is killed before a request or behind it, at another one for each job."""
    most = 24
    # A step in each job; element 0 stops after three, element 1 is done after five.
    events = ("0.*.3) exit ;;", "1.5.*) ;;", "*) [ $step -lt $n ] || exit 0 ;;")
    campaign = campaign_of(system, workdir, most, *events, max_jobs=most, array="0-2")
    assert await follow_dying(campaign, KEY, resubmit_failed=False) > 10
    result = await run(campaign, resubmit_failed=False)
    assert str(result.failed_indices) == "0"
    jobs = [len((workdir / f"run-{index}" / "jobs").read_text().split()) for index in range(3)]
    assert jobs[1:] == [5, most]
    assert 4 <= jobs[0] < 12  # repeated while claims are made in the second of its last checkpoint
    assert steps_of(workdir, 0) == [1, 2, 3]
    assert steps_of(workdir, 1) == steps_of(workdir, 2) == list(range(1, most + 1))


async def test_a_person_cancels_it(system: System, workdir: Path) -> None:
    """Nothing follows, although an element has left a checkpoint."""
    campaign = campaign_of(system, workdir, 2, "0.1.1) exit ;;", "1.1.1) sleep 60 ;;", array="0-1")
    job = await campaign.submit(KEY, first_attempt=True)
    while len(list(workdir.glob("run-*/ckpt/1"))) < 2:
        await asyncio.sleep(0.05)
    while not any(row.state is COMPLETED for row in await system.get_job(job.job_id)):
        await asyncio.sleep(0.05)
    await lifecycle.cancel(system, job)
    result = await lifecycle.wait(system, job, poll_interval=0.2)
    with pytest.raises(JobWithdrawn):
        await campaign.follow(job, result)
    assert [(workdir / f"run-{index}" / "jobs").read_text().count("\n") for index in range(2)] == [1, 1]


async def test_a_newer_run_ends_it(system: System, workdir: Path) -> None:
    campaign = campaign_of(system, workdir, 2, "*.1.1) exit ;;")
    job = await campaign.submit(KEY, first_attempt=True)
    await lifecycle.wait(system, job, poll_interval=0.2)
    await lifecycle.cancel_and_wait(system, job)
    result = await campaign.follow(job, await lifecycle.wait(system, job, poll_interval=0.2))
    assert isinstance(result, JobResult)
    assert (result.state, result.reason, result.problem) == (JobState.CANCELLED, "a newer run has begun", "")


@pytest.mark.parametrize(("elements", "is_too_large"), [(100, False), (10, True)])
async def test_many_elements_cost_few_requests(
    system: System, workdir: Path, monkeypatch: pytest.MonkeyPatch, elements: int, is_too_large: bool
) -> None:
    """If the directory above all is too large, each element's own is listed."""
    listed, requests = System.list_files, Counter[str]()

    async def counted(self: System, path: str, **how: Any) -> Any:
        if ".firecrest" not in path:
            requests["all" if path == str(workdir) else "one"] += 1
            if is_too_large and path == str(workdir):
                raise AnswerTooLarge("too large")
        return await listed(self, path, **how)

    monkeypatch.setattr(System, "list_files", counted)
    half = elements // 2
    campaign = campaign_of(system, workdir, 2, f"*.1.1) [ $e -lt {half} ] || exit 0 ;;", array=f"0-{elements - 1}")
    result = await run(campaign, first_attempt=True)
    assert result.succeeded
    assert result.element_counts == {JobState.COMPLETED: elements}
    assert requests == {"all": 2} | ({"one": 2 * (elements + half)} if is_too_large else {})
