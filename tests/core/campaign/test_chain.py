"""Chains: one piece of work in many jobs, each of which goes on from the checkpoint of the one before."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import Chain, lifecycle
from firecrest_core.api.client import System
from firecrest_core.campaign import Campaign
from firecrest_core.chain import Checkpoint, Progress
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.escalation import Escalation
from firecrest_core.followup import Cause, FollowUp, Stop
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState

GIVEN = {"max_jobs": 5, "signal": "USR1@120", "done": "train.done", "checkpoint": "ckpt/*"}
CHAIN = Chain(**GIVEN)
NEW = Progress(newest=Checkpoint("step-3", "2026-11-20T15:05:40", 12), is_newer=True)
OLD = Progress(newest=Checkpoint("step-3", "2026-11-20T15:05:40", 12))

# --- what is asked for, and what follows ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_jobs": 0}, "max_jobs is 0; give a whole number"),
        ({"max_jobs": "many"}, "max_jobs is 'many'"),
        ({"signal": "HELP@60"}, "signal: 'HELP' is not a signal"),
        ({"signal": None}, "signal: a text is needed"),
        ({"done": ""}, "done: is empty"),
        ({"done": "it's.done"}, "done: .* holds a quote"),
        ({"checkpoint": "~/ckpt/*"}, "checkpoint is '~/ckpt/\\*'; give a path below working_dir"),
        ({"checkpoint": 7}, "checkpoint: a text is needed"),
        ({"signal": "KILL@60"}, "signal is 'KILL@60', which no script can catch"),
        ({"signal": "B:19@60"}, "signal is 'B:19@60', which no script can catch"),
        ({"done": "train-%j.done"}, "done is 'train-%j.done'; leave out %j"),
        ({"checkpoint": "ckpt/"}, "checkpoint is 'ckpt/'; name what is in the directory, as in 'ckpt/\\*'"),
        ({"until": "done"}, "'until' is no field of it; there are max_jobs, signal, done, checkpoint"),
        ({"checkpoints": "ckpt/*"}, "'checkpoints' is no field of it; did you mean 'checkpoint'"),
    ],
)
def test_a_wrong_chain_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJobSpec, match=f"^chain: .*{words}"):
        Chain.parse(GIVEN | changes)


@pytest.mark.parametrize("given", [None, 20, "train.done", {"max_jobs": 3}])
def test_what_is_no_chain_is_refused(given: Any) -> None:
    with pytest.raises(InvalidJobSpec, match="^chain: .*the form is Chain"):
        Chain.parse(given)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidJobSpec, match="^chain: without signal, done; the form is Chain"):
        Chain.parse({"max_jobs": 3, "checkpoint": "ckpt/*"})


def test_a_chain_survives_as_json() -> None:
    assert Chain.parse(CHAIN.to_dict()) == Chain.parse(CHAIN) == CHAIN


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"array": "0-3"}, "done is .* put %a there"),
        ({"signal": "TERM@60"}, "that of the job"),
        ({"time_limit": 2}, "signal: 'USR1@120' comes 120 seconds before the end of 120 seconds, so at once"),
    ],
)
def test_a_job_that_does_not_fit_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJobSpec, match=f"^chain: .*{words}"):
        CHAIN.check(JobSpec(command="true", **fields))


def test_pbs_has_no_signal_for_a_chain() -> None:
    with pytest.raises(InvalidJobSpec, match="^chain: PBS sends no signal .* needs Slurm"):
        CHAIN.check(JobSpec(command="true"), "pbs")


def after(state: JobState, progress: Progress, jobs: int = 1, **more: Any) -> FollowUp | Stop | None:
    result = JobResult(job_id="57", system="rig", state=state, **more)
    return CHAIN.after(result, JobSpec(command="true", time_limit="1:00:00"), progress, jobs)


@pytest.mark.parametrize(
    "end",
    [
        {"state": JobState.TIMEOUT},
        {"state": JobState.COMPLETED},
        {"state": JobState.FAILED, "signal": 10},
        {"state": JobState.FAILED, "exit_code": 138},
        {"state": JobState.FAILED, "exit_code": 1, "elapsed": 3450},
    ],
)
def test_a_job_that_was_stopped_is_followed_if_it_has_left_a_checkpoint(end: dict[str, Any]) -> None:
    following = after(progress=NEW, **end)
    assert isinstance(following, FollowUp)
    assert following.note.cause is Cause.CHAIN
    assert following.note.checkpoint == NEW.newest.mark  # type: ignore[union-attr]
    assert following.reason.endswith("has left step-3: the next job, 2 of at most 5, goes on from it.")
    assert isinstance(after(progress=OLD, **end), Stop)
    assert isinstance(after(progress=NEW, jobs=5, **end), Stop)


@pytest.mark.parametrize(
    "end",
    [
        {"state": JobState.FAILED, "exit_code": 1, "elapsed": 100},
        {"state": JobState.OUT_OF_MEMORY},
        {"state": JobState.CANCELLED},
        {"state": JobState.NODE_FAIL},
    ],
)
def test_a_failure_of_its_own_is_no_link_of_a_chain(end: dict[str, Any]) -> None:
    assert after(progress=NEW, **end) is None


@pytest.mark.parametrize(
    ("limit", "signal", "elapsed", "stopped"),
    [
        ("00:00:30", "B:USR1@1", 0, False),
        ("00:00:30", "B:USR1@1", 10, False),
        ("00:00:30", "B:USR1@1", 15, True),
        ("00:01:00", "USR1", 0, False),  # it comes a minute before the end, which is at once
        ("00:02:00", "USR1@30", 44, False),
        ("00:02:00", "USR1@30", 45, True),
        ("1:00:00", "USR1@120", 3419, False),
        ("1:00:00", "USR1@120", 3420, True),
        ("3:00:00", "USR1@7200", 3540, True),
    ],
)
def test_a_script_that_fails_long_before_the_signal_has_failed_by_itself(
    limit: str, signal: str, elapsed: int, stopped: bool
) -> None:
    chain, spec = Chain(**GIVEN | {"signal": signal}), JobSpec(command="true", time_limit=limit)
    failed = JobResult(job_id="57", system="rig", state=JobState.FAILED, exit_code=3, elapsed=elapsed)
    assert isinstance(chain.after(failed, spec, OLD, 1), Stop) is stopped


def test_the_marker_ends_the_chain() -> None:
    assert after(JobState.COMPLETED, Progress(done=True)) is None


@pytest.mark.parametrize(
    ("state", "progress", "words"),
    [
        (JobState.TIMEOUT, Progress(), "(nothing matches ckpt/*; see whether the script writes there)"),
        (JobState.TIMEOUT, OLD, "no new checkpoint (step-3 is older)"),
        (JobState.TIMEOUT, OLD, "Give B:USR1@120 and begin the program with exec, or start it by srun."),
        (JobState.COMPLETED, OLD, "train.done is not there yet"),
        (JobState.COMPLETED, Progress(stale=True), "train.done is older than the chain"),
    ],
)
def test_without_progress_it_ends_with_a_sentence(state: JobState, progress: Progress, words: str) -> None:
    stop = after(state, progress)
    assert isinstance(stop, Stop)
    assert words in stop.problem


@pytest.mark.parametrize(
    ("signal", "fields", "end", "words"),
    [
        ("USR1@120", {"command": "srun train"}, {"state": JobState.TIMEOUT}, "handles USR1 and has the time"),
        ("USR1@120", {"command": ["srun", "train"]}, {"state": JobState.TIMEOUT}, "handles USR1 and"),
        ("USR1@120", {"command": "train", "launcher": "srun"}, {"state": JobState.TIMEOUT}, "handles USR1 and"),
        (
            "USR1@120",
            {"script": "#!/bin/sh\ntrain\n"},
            {"state": JobState.TIMEOUT},
            "reaches only what srun has started",
        ),
        ("B:USR1@120", {"command": "train"}, {"state": JobState.TIMEOUT}, "handles USR1 and"),
        ("B:USR1@120", {"command": "train"}, {"state": JobState.FAILED, "signal": 10}, "ended the script's own shell"),
        ("B:USR1@120", {"command": "train"}, {"state": JobState.FAILED, "exit_code": 138}, "handles USR1 and"),
    ],
)
def test_the_advice_tells_why_the_signal_did_nothing(
    signal: str, fields: dict[str, Any], end: dict[str, Any], words: str
) -> None:
    result = JobResult(job_id="57", system="rig", **end)
    stop = Chain(**GIVEN | {"signal": signal}).after(result, JobSpec(**fields), OLD, 1)
    assert isinstance(stop, Stop)
    assert words in stop.problem


def test_the_last_job_looks_for_the_marker_alone_and_names_the_newest_checkpoint() -> None:
    last = after(JobState.COMPLETED, NEW, jobs=5)
    assert last == Stop(
        "It was job 5 of a chain of max_jobs=5, and train.done is not there yet. A new run of the task goes on from "
        "step-3 (in Airflow, clear the task)."
    )
    assert CHAIN.unseen(last, JobState.COMPLETED, NEW) == "a new checkpoint, but no train.done"
    assert CHAIN.unseen(last, JobState.TIMEOUT, NEW) == ""  # it would not be done with the marker either
    assert CHAIN.unseen(after(JobState.COMPLETED, OLD), JobState.COMPLETED, OLD).startswith("neither train.done nor")


def test_a_signal_to_the_script_alone_is_named_without_the_option() -> None:
    chain = Chain(**GIVEN | {"signal": "B:USR1@120"})
    timed_out = JobResult(job_id="57", system="rig", state=JobState.TIMEOUT)
    stop = chain.after(timed_out, JobSpec(command="true"), OLD, 1)
    assert isinstance(stop, Stop)
    assert "handles USR1 and" in stop.problem


def test_a_checkpoint_that_is_written_over_is_newer() -> None:
    mark = Checkpoint("last", "2026-11-20T15:05:40", 12).mark
    assert Checkpoint("last", "2026-11-20T15:05:41", 12).is_newer(mark)
    assert Checkpoint("last", "2026-11-20T15:05:40", 13).is_newer(mark)
    assert not Checkpoint("last", "2026-11-20T15:05:40", 12).is_newer(mark)
    assert not Checkpoint("first", "2026-11-20T15:05:39", 12).is_newer(mark)  # the newest one was removed


def test_checkpoints_of_one_second() -> None:
    """A listing has whole seconds, and a short job may leave its checkpoint in the second of the one before."""
    second = "2026-11-20T15:05:40"
    steps = [Checkpoint(f"step-{number}", second, 12) for number in range(8, 12)]
    newest = Checkpoint.newest_of([*steps, Checkpoint("zero", "2026-11-20T15:05:39", 12)])
    before = Checkpoint.newest_of(steps[:3])
    assert newest is not None
    assert before is not None
    assert (before.name, newest.name) == ("step-10", "step-11")
    assert newest.is_newer(before.mark)
    assert not newest.is_newer(newest.mark)
    late = Checkpoint.newest_of([*steps, Checkpoint("a", second, 12)])
    assert late is not None
    assert late.is_newer(newest.mark)
    assert Checkpoint.newest_of([]) is None


# --- on the embedded server --------------------------------------------------------------------------------

KEY = ClaimKey("chain")
# Each job goes on from the number of checkpoints. A checkpoint follows each step.
TRAINING = """#!/bin/bash
mkdir -p ckpt; echo $SLURM_JOB_ID >> jobs; n=$(wc -l < jobs); step=$(ls ckpt | wc -l)
while [ $step -lt {steps} ]; do
    case $n.$step in
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
    asked = {"working_dir": str(workdir), "script": script, "time_limit": "00:00:30"}
    chain = Chain(max_jobs=max_jobs, signal="B:USR1@1", done="train.done", checkpoint="ckpt/*")
    escalation = None if escalate is None else Escalation.parse(escalate)
    return Campaign(system, JobSpec(**asked | fields), escalation, chain)


async def run(campaign: Campaign, **how: Any) -> JobResult:
    job: Job | JobResult = await campaign.submit(KEY, **how)
    while isinstance(job, Job):
        result = await lifecycle.wait(campaign.system, job, poll_interval=0.2)
        job = await campaign.follow(job, result)
    return job


def causes(result: JobResult) -> list[str]:
    assert result.course is not None
    return [job.cause for job in result.course.earlier_jobs]


def steps_in(workdir: Path) -> list[int]:
    return [int(step) for step in (workdir / "steps").read_text().split()]


async def test_a_training_survives_what_happens_and_repeats_no_step(system: System, workdir: Path) -> None:
    """An out-of-memory kill, two time limits and a failed node, without a person."""
    campaign = campaign_of(
        system,
        workdir,
        6,
        "1.1) exec python3 -c 'import time; held = bytearray(90 << 20); time.sleep(60)' ;;",
        "2.2) trap 'exit 0' USR1; while :; do sleep 0.1; done ;;",
        "3.3) trap '' USR1; sleep 60 ;;",
        "4.4) kill -9 $PPID; exit ;;",
        memory="64M",
        time_limit="00:00:06",
        escalate={"out_of_memory": {"memory": "x2", "max": "1G"}, "node_failure": {"exclude": "node", "max": 1}},
    )
    result = await run(campaign, first_attempt=True)
    assert (result.state, result.problem) == (JobState.COMPLETED, "")
    assert causes(result) == ["out_of_memory", "chain", "chain", "node_failure"]
    assert steps_in(workdir) == [1, 2, 3, 4, 5, 6]


async def test_it_ends_at_its_most_jobs(system: System, workdir: Path) -> None:
    result = await run(campaign_of(system, workdir, 9, "1.1|2.2) exit ;;", max_jobs=2), first_attempt=True)
    assert "It was job 2 of a chain of max_jobs=2" in result.problem
    assert not result.succeeded


async def test_a_checkpoint_that_is_seen_late_is_waited_for(
    system: System, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems of compute nodes and login nodes have caches."""
    monkeypatch.setattr("firecrest_core.campaign.CACHED", 60.0)
    monkeypatch.setattr("firecrest_core.api.backoff.LONGEST_PAUSE", 0.01)
    listed, hidden = System.list_files, [True, True]

    async def late(self: System, path: str, **how: Any) -> Any:
        return [] if path.endswith("ckpt") and hidden and hidden.pop() else await listed(self, path, **how)

    monkeypatch.setattr(System, "list_files", late)
    assert causes(await run(campaign_of(system, workdir, 2, "1.1) exit ;;"), first_attempt=True)) == ["chain"]


async def test_a_signal_that_the_script_ignores_ends_it(system: System, workdir: Path) -> None:
    campaign = campaign_of(system, workdir, 2, "1.0) sleep 60 ;;", time_limit="00:00:02")
    result = await run(campaign, first_attempt=True)
    assert "(nothing matches ckpt/*; " in result.problem


async def test_more_time_is_given_where_it_did_not_suffice_for_a_checkpoint(system: System, workdir: Path) -> None:
    policy = {"time_limit": {"time_limit": "x20", "max": "1:00:00"}}
    campaign = campaign_of(system, workdir, 2, "1.0) sleep 60 ;;", time_limit="00:00:02", escalate=policy)
    assert causes(await run(campaign, first_attempt=True)) == ["time_limit"]


async def test_a_script_that_fails_at_once_is_reported_at_once(system: System, workdir: Path) -> None:
    log: list[str] = []
    campaign = campaign_of(system, workdir, 2, "1.0) echo boom; exit 3 ;;")
    job = await campaign.submit(KEY, first_attempt=True)
    result = await campaign.follow(job, await lifecycle.wait(system, job, poll_interval=0.2), log.append)
    assert isinstance(result, JobResult)
    assert (result.exit_code, result.problem, log) == (3, "", [])


async def test_what_an_earlier_run_has_left_is_no_progress(system: System, workdir: Path) -> None:
    (workdir / "ckpt").mkdir()
    for old in (workdir / "ckpt" / "1", workdir / "train.done"):
        old.touch()
        os.utime(old, (1_700_000_000, 1_700_000_000))
    result = await run(campaign_of(system, workdir, 2, "1.1) exit ;;"), first_attempt=True)
    assert "train.done is older than the chain" in result.problem
    assert "1 is older" in result.problem


async def test_a_person_who_tries_it_again_gets_another_job(system: System, workdir: Path) -> None:
    campaign = campaign_of(system, workdir, 2, "1.0) exit ;;")
    assert (await run(campaign, first_attempt=True)).problem
    result = await run(campaign)
    assert result.succeeded
    assert causes(result) == ["retry"]


async def test_a_kill_at_any_request_continues_the_same_chain(
    system: System, workdir: Path, follow_dying: Callable[..., Awaitable[int]]
) -> None:
    """Whoever follows a job is killed before a request or behind it, at another one for each job."""
    most = 24
    # A step in each job.
    campaign = campaign_of(system, workdir, most, "*) [ $step -lt $n ] || exit 0 ;;", max_jobs=most)
    assert await follow_dying(campaign, KEY) > 10
    result = await run(campaign)
    assert result.succeeded
    assert causes(result) == ["chain"] * (most - 1)
    assert steps_in(workdir) == list(range(1, most + 1))
    assert len((workdir / "jobs").read_text().split()) == most
