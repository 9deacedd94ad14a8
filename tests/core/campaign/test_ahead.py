"""Chains whose next job is submitted ahead, on the embedded server, and the gate at which it waits, in real shells."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import Chain, lifecycle
from firecrest_core.api.client import System
from firecrest_core.campaign import Campaign
from firecrest_core.claims import gate
from firecrest_core.claims.ahead import cancel_ahead, submit_ahead
from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.claims.claim import CANCELLED
from firecrest_core.claims.directory import ClaimDirectory
from firecrest_core.errors import InvalidJobSpec, JobWithdrawn, SubmissionUnknown
from firecrest_core.escalation import Escalation
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, is_ahead
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState

KEY = ClaimKey("chain")
FOLLOWING = KEY.next_generation()
SHELLS = [path for name in ("sh", "bash", "dash", "ksh", "mksh", "zsh") if (path := shutil.which(name))]

# --- the gate ---------------------------------------------------------------------------------------------


def ahead_of(spec: JobSpec) -> str:
    request = BoundSubmission.bind(spec, FOLLOWING, ahead=True).request()
    assert is_ahead(request.name or "")
    assert request.script is not None
    return request.script


def start(shell: str, script: str, job: str = "57") -> subprocess.Popen[str]:
    environ = {**os.environ, "SLURM_JOB_ID": job}
    return subprocess.Popen([shell, "-c", script], env=environ, text=True, stdout=-1, stderr=-1)


def linked(directory: Path, name: str, target: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).symlink_to(directory / target)


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    return Path(FOLLOWING.directory(str(tmp_path)))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("link", "runs"),
    [
        (("gate", gate.OPEN), True),
        (("gate", gate.CLOSED), False),
        (("claim", CANCELLED), False),
        (("claim", "job-58"), False),
        (("claim", "job-57"), True),  # it was requeued
    ],
)
def test_a_job_waits_until_that_is_decided(
    tmp_path: Path, claim: Path, shell: str, link: tuple[str, str], runs: bool
) -> None:
    job = start(shell, ahead_of(JobSpec(working_dir=str(tmp_path), command="echo runs")))
    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(0.3)
    linked(claim, *link)
    assert job.communicate(timeout=20) == ("runs\n" if runs else "", "")
    assert job.returncode == 0
    assert (claim / "claim").is_symlink() == (runs or link[0] == "claim")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_job_that_nobody_lets_begin_closes_the_gate(tmp_path: Path, claim: Path, shell: str) -> None:
    script = ahead_of(JobSpec(working_dir=str(tmp_path), command="echo runs", time_limit="00:00:10"))
    output, errors = start(shell, script).communicate(timeout=20)
    assert output == ""
    assert "firecrest: nobody has let this job begin for 1 s" in errors
    assert (claim / "gate").readlink().name == gate.CLOSED
    assert not (claim / "claim").is_symlink()
    assert start(shell, script, "58").communicate(timeout=20) == ("", "")


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 600),
        ({"time_limit": "24:00:00"}, 600),
        ({"time_limit": "01:00:00"}, 360),
        ({"time_limit": "UNLIMITED"}, 600),
        ({"script": "#!/bin/sh\n#SBATCH -t 10\ntrue\n", "command": None}, 60),
        ({"script": "#!/bin/sh\n#SBATCH -t soon\ntrue\n", "command": None}, 600),
    ],
)
def test_the_wait_takes_a_small_part_of_the_time_limit(fields: dict[str, Any], seconds: int) -> None:
    assert gate.longest_wait(JobSpec(**{"working_dir": "/wd", "command": "true"} | fields)) == seconds


# --- what is asked for --------------------------------------------------------------------------------------

GIVEN: dict[str, Any] = {
    "max_jobs": 5,
    "signal": "B:USR1@1",
    "done": "train.done",
    "checkpoint": "ckpt/*",
    "ahead": True,
}


def test_ahead_is_off_unless_asked_for() -> None:
    assert not Chain.parse({name: value for name, value in GIVEN.items() if name != "ahead"}).ahead
    assert Chain.parse(Chain(**GIVEN).to_dict()).ahead
    with pytest.raises(InvalidJobSpec, match="^chain: ahead is 'yes'"):
        Chain.parse(GIVEN | {"ahead": "yes"})


def test_an_array_is_refused() -> None:
    paths = {"done": "%a.done", "checkpoint": "ckpt-%a/*"}
    with pytest.raises(InvalidJobSpec, match="only the end of an array tells which of its elements go on"):
        Chain(**GIVEN | paths).check(JobSpec(command="true", array="0-3"))


@pytest.mark.parametrize(
    "fields",
    [
        {"command": "true", "dependency": "afterok:12"},
        {"script": "#!/bin/sh\n#SBATCH -d singleton\ntrue\n"},
        {"script": "#!/bin/sh\n#SBATCH --dependency=afterok:12\ntrue\n"},
        {"command": "true", "directives": ("#PBS -W depend=afterok:12",)},
    ],
)
def test_a_job_with_a_dependency_is_refused(fields: dict[str, Any]) -> None:
    spec = JobSpec(**fields)
    with pytest.raises(InvalidJobSpec, match="leave out ahead, or the job's dependency"):
        Chain(**GIVEN).check(spec)
    Chain(**GIVEN | {"ahead": False}).check(spec)


# --- on the embedded server ---------------------------------------------------------------------------------

# Each job goes on from the number of checkpoints, and runs until a file lets it.
TRAINING = """#!/bin/bash
mkdir -p ckpt; echo $SLURM_JOB_ID >> jobs; n=$(wc -l < jobs); step=$(ls ckpt | wc -l)
until [ -e go-$n ]; do sleep 0.05; done
case $n in
    {events}
esac
step=$((step + 1)); echo $step >> steps; echo > ckpt/$step
[ $step -lt {steps} ] || touch train.done
"""


def campaign_of(
    system: System, workdir: Path, steps: int, *events: str, max_jobs: int = 5, escalate: Any = None, **fields: Any
) -> Campaign:
    script = TRAINING.replace("{steps}", str(steps)).replace("{events}", "\n    ".join(events))
    asked = {"working_dir": str(workdir), "script": script, "time_limit": "00:01:00"}
    escalation = None if escalate is None else Escalation.parse(escalate)
    return Campaign(system, JobSpec(**asked | fields), escalation, Chain(**GIVEN | {"max_jobs": max_jobs}))


class Run:
    """An engine's task: it submits and waits, and lets each job go on."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.lines: list[str] = []
        self.workdir = Path(campaign.spec.working_dir)

    async def jobs(self, job: Job | JobResult | None = None, **how: Any) -> JobResult:
        """Return how the last job ended."""
        campaign = self.campaign
        job = job or await campaign.submit(KEY, on_message=self.lines.append, **how)
        while isinstance(job, Job):
            async with campaign.submitting_ahead(job, on_message=self.lines.append) as on_status:
                result = await lifecycle.wait(campaign.system, job, poll_interval=0.2, on_status=on_status)
            job = await campaign.follow(job, result, self.lines.append)
        return job

    async def ahead(self, count: int = 1) -> str:
        """Wait until this many jobs were submitted ahead, let the one before go on, and return the last one's id."""
        await until(lambda: len(self.waiting) >= count)
        (self.workdir / f"go-{count}").touch()
        return self.waiting[count - 1]

    @property
    def waiting(self) -> list[str]:
        return [line.split()[1] for line in self.lines if "waits in the queue already" in line]

    @property
    def payloads(self) -> list[str]:
        return (self.workdir / "jobs").read_text().split()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.05)


async def state_of(system: System, job_id: str) -> JobState:
    async with asyncio.timeout(30):
        while not (rows := await system.get_job(job_id))[0].state.ended:
            await asyncio.sleep(0.1)
    return rows[0].state


async def live_jobs(system: System) -> dict[tuple[int, int], list[str]]:
    return await ClaimDirectory(system, "/", KEY.identity).live()


@pytest.fixture(autouse=True)
async def _nothing_is_left(system: System) -> AsyncIterator[None]:
    yield
    async with asyncio.timeout(30):
        while await live_jobs(system):
            await asyncio.sleep(0.1)


async def test_the_next_job_waits_while_one_runs(system: System, workdir: Path) -> None:
    run = Run(campaign_of(system, workdir, 3))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    ahead = [await run.ahead(1), await run.ahead(2)]
    await run.ahead(3)
    result = await ending
    assert (result.state, result.problem) == (JobState.COMPLETED, "")
    assert run.payloads[1:] == ahead
    assert (workdir / "steps").read_text() == "1\n2\n3\n"
    assert await state_of(system, run.waiting[2]) is JobState.CANCELLED  # the work was done before
    cancelled = [line for line in run.lines if "cancelled" in line]
    assert cancelled == [f"Job {run.waiting[2]}, which waited in the queue, is cancelled: no other job follows."]


async def test_the_last_job_that_is_allowed_has_none_behind_it(system: System, workdir: Path) -> None:
    run = Run(campaign_of(system, workdir, 9, max_jobs=2))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    await run.ahead(1)
    (workdir / "go-2").touch()
    assert "job 2 of a chain of max_jobs=2" in (await ending).problem
    assert len(run.waiting) == 1


async def test_nothing_runs_after_a_failure_until_it_is_tried_again(system: System, workdir: Path) -> None:
    run = Run(campaign_of(system, workdir, 2, "1) exit 3 ;;"))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    ahead = await run.ahead(1)
    assert (await ending).exit_code == 3
    assert await state_of(system, ahead) is JobState.CANCELLED
    for number in (2, 3):
        (workdir / f"go-{number}").touch()
    result = await run.jobs()
    assert result.succeeded
    assert len(run.payloads) == 3
    assert ahead not in run.payloads


async def test_a_job_that_gets_more_is_submitted_anew(system: System, workdir: Path) -> None:
    hungry = "1) exec python3 -c 'import time; held = bytearray(90 << 20); time.sleep(60)' ;;"
    policy = {"out_of_memory": {"memory": "x2", "max": "1G"}}
    run = Run(campaign_of(system, workdir, 1, hungry, memory="64M", escalate=policy))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    ahead = await run.ahead(1)
    (workdir / "go-2").touch()
    result = await ending
    assert result.succeeded
    assert result.course is not None
    assert result.course.memory == "128M"
    assert f"Job {ahead}, which waited in the queue, is cancelled: the next one gets something else." in run.lines
    assert ahead not in run.payloads
    assert await state_of(system, ahead) is JobState.CANCELLED


async def test_the_gate_of_a_job_that_left_is_no_end_of_the_chain(
    system: System, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was there when the first job ended."""
    monkeypatch.setattr(gate, "LARGEST_SHARE", 0.02)  # 2 s
    run = Run(campaign_of(system, workdir, 2))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    await until(lambda: run.waiting)
    ending.cancel()
    (workdir / "go-1").touch()
    ahead = run.waiting[0]
    assert await state_of(system, ahead) is JobState.COMPLETED
    (workdir / "go-2").touch()
    result = await run.jobs()
    assert result.succeeded
    assert len(run.payloads) == 2
    assert ahead not in run.payloads


@pytest.mark.parametrize("listed", [True, False])
async def test_a_cancel_ends_what_waits(
    system: System, workdir: Path, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    run = Run(campaign_of(system, workdir, 2))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    await until(lambda: run.waiting)
    ending.cancel()
    job = await run.campaign.submit(KEY)
    if not listed:
        get_jobs = System.get_jobs

        async def without_ahead(self: System, **how: Any) -> Any:
            return [row for row in await get_jobs(self, **how) if not is_ahead(row.name)]

        monkeypatch.setattr(System, "get_jobs", without_ahead)
    await lifecycle.cancel(system, job)
    assert await state_of(system, run.waiting[0]) in (JobState.CANCELLED, JobState.COMPLETED)
    assert len(run.payloads) == 1
    with pytest.raises(JobWithdrawn):
        await run.campaign.submit(KEY)


async def test_a_try_that_took_too_long_takes_along_what_waits(system: System, workdir: Path) -> None:
    run = Run(campaign_of(system, workdir, 1))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    await until(lambda: run.waiting)
    ending.cancel()
    await lifecycle.cancel_attempt(system, await run.campaign.submit(KEY))
    assert not await live_jobs(system)
    (workdir / "go-2").touch()
    assert (await run.jobs()).succeeded


async def test_a_lost_answer_doubles_nothing(system: System, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit_job = System.submit_job

    async def lossy(self: System, request: Any, **how: Any) -> str:
        job_id = await submit_job(self, request, **how)
        if is_ahead(request.name):
            raise SubmissionUnknown("the answer was lost")
        return job_id

    monkeypatch.setattr(System, "submit_job", lossy)
    run = Run(campaign_of(system, workdir, 2))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    ahead = await run.ahead(1)
    assert await submit_ahead(system, run.campaign.spec, KEY) in (ahead, None)
    (workdir / "go-2").touch()
    assert (await ending).succeeded
    assert run.payloads[1:] == [ahead]


async def test_the_chain_goes_on_where_the_scheduler_refuses_it(
    system: System, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_job = System.submit_job

    async def strict(self: System, request: Any, **how: Any) -> str:
        if is_ahead(request.name):
            request = replace(request, script=request.script.replace("afterany", "afterwards"))
        return await submit_job(self, request, **how)

    monkeypatch.setattr(System, "submit_job", strict)
    run = Run(campaign_of(system, workdir, 2))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    await until(lambda: any("and not ahead" in line for line in run.lines))
    for number in (1, 2):
        (workdir / f"go-{number}").touch()
    assert (await ending).succeeded
    assert "Job dependency problem" in next(line for line in run.lines if "and not ahead" in line)


async def test_what_another_process_goes_on_with_is_not_cancelled(system: System, workdir: Path) -> None:
    """A process that was paused when the job failed comes back when the next one, which waited, runs in a retry."""
    run = Run(campaign_of(system, workdir, 1, "1) exit 3 ;;"))
    ending = asyncio.create_task(run.jobs(first_attempt=True))
    await until(lambda: run.waiting)
    ending.cancel()
    first = await run.campaign.submit(KEY)
    (workdir / "go-1").touch()
    await lifecycle.wait(system, first, poll_interval=0.2)
    second = await run.campaign.submit(KEY)
    assert second.job_id == run.waiting[0]
    await cancel_ahead(system, str(workdir), KEY)
    (workdir / "go-2").touch()
    assert (await run.jobs(second)).succeeded
