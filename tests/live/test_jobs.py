"""Jobs from the submission to the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from firecrest_core import Job, JobResult, JobSpec, JobState, System, errors, lifecycle
from firecrest_core.indices import Indices
from firecrest_core.jobs.logs import output_tails
from firecrest_core.jobs.status import parse_status, read_status


@pytest.fixture
def run(system: System, workdir: str) -> Any:
    async def run(**fields: Any) -> JobResult:
        spec = JobSpec(**{"working_dir": workdir, "time_limit": "5:00", **fields})
        job = await lifecycle.submit(system, spec)
        return await lifecycle.wait(system, job, poll_interval=2, timeout=300)

    return run


async def until(system: System, job: Job, state: JobState) -> None:
    """Wait until the job is in ``state``; accounting may lag behind a submission."""
    for _ in range(120):
        try:
            if (await read_status(system, job)).state is state:
                return
        except errors.JobNotFound:
            pass
        await asyncio.sleep(0.5)
    raise AssertionError(f"{job} did not reach {state}")


async def test_a_job_that_succeeds(run: Any, system: System, workdir: str) -> None:
    result = await run(script="#!/bin/bash\necho hello\n", name="live-ok")
    assert result.state is JobState.COMPLETED
    assert result.exit_code == 0
    assert result.name == "live-ok"
    assert result.working_dir == workdir
    assert result.stdout == f"{workdir}/slurm-{result.job_id}.out"
    assert await output_tails(system, result) == ("hello\n", "")
    assert await lifecycle.raise_for_state(system, result) is result


async def test_a_job_that_fails(run: Any, system: System) -> None:
    result = await run(command="echo out; echo oops >&2; exit 3", stderr="err-%j.txt")
    assert (result.state, result.exit_code) == (JobState.FAILED, 3)
    tails = await output_tails(system, result)
    assert tails == ("out\n", "oops\n")
    with pytest.raises(errors.JobFailed, match=r"FAILED, exit code 3(.|\n)*oops"):
        await lifecycle.raise_for_state(system, result)


async def test_a_job_that_a_signal_ends(run: Any) -> None:
    result = await run(command="kill -SEGV $$")
    assert result.state is JobState.FAILED
    assert result.signal == 11 or result.exit_code == 139


async def test_a_job_over_its_time_limit(run: Any, system: System) -> None:
    result = await run(command="sleep 600", time_limit="0:01")
    assert result.state is JobState.TIMEOUT
    with pytest.raises(errors.JobTimeLimit, match="time_limit"):
        await lifecycle.raise_for_state(system, result)


async def test_the_environment_arrives_unchanged(run: Any, system: System) -> None:
    values = {"A": "1,B=2", "QUOTES": 'it\'s "x"', "DOLLAR": "$HOME `id`", "LINES": "one\ntwo", "UNICODE": "ångström"}
    result = await run(command='printf "%s|" "$A" "$QUOTES" "$DOLLAR" "$LINES" "$UNICODE"', environment=values)
    assert (await output_tails(system, result))[0] == "".join(f"{value}|" for value in values.values())


async def test_a_python_script(run: Any, system: System) -> None:
    result = await run(script="#!/usr/bin/env python3\nimport os\nprint(os.environ['A'])\n", environment={"A": "b"})
    assert result.succeeded
    assert (await output_tails(system, result))[0] == "b\n"


async def test_a_script_on_the_cluster(run: Any, system: System, workdir: str) -> None:
    script = b"#!/bin/bash\n#SBATCH --output=there-%j.txt\necho from the cluster\n"
    await system.upload_small(workdir, "there.sh", script)
    result = await run(script_path=f"{workdir}/there.sh", time_limit=None)
    assert result.succeeded
    assert result.stdout == f"{workdir}/there-{result.job_id}.txt"
    assert (await output_tails(system, result))[0] == "from the cluster\n"


async def test_an_array(run: Any, system: System) -> None:
    result = await run(command="echo $SLURM_ARRAY_TASK_ID; exit $((SLURM_ARRAY_TASK_ID % 2))", array="0-3")
    assert result.state is JobState.FAILED
    assert [(one.index, one.state) for one in result.elements] == [
        (0, JobState.COMPLETED),
        (1, JobState.FAILED),
        (2, JobState.COMPLETED),
        (3, JobState.FAILED),
    ]
    assert (await output_tails(system, result))[0] == "1\n"  # of the first that failed


@pytest.mark.parametrize("array", ["1,5,9", "0-15:5", "0-3%2"])
async def test_forms_of_arrays(array: str, run: Any) -> None:
    result = await run(command="sleep 1", array=array)
    assert result.succeeded
    assert len(result.elements) in (3, 4)


async def test_cancel_while_it_runs(system: System, workdir: str) -> None:
    job = await lifecycle.submit(system, JobSpec(command="sleep 300", working_dir=workdir))
    await until(system, job, JobState.RUNNING)
    await system.cancel_job(job.job_id)
    result = await lifecycle.wait(system, job, poll_interval=2, timeout=120)
    assert result.state is JobState.CANCELLED
    await system.cancel_job(job.job_id)  # cancelling what has ended succeeds
    with pytest.raises(errors.JobCancelled):
        await lifecycle.raise_for_state(system, result)


async def test_cancel_while_it_is_held(system: System, workdir: str) -> None:
    spec = JobSpec(command="true", working_dir=workdir, directives=["--hold"])
    job = await lifecycle.submit(system, spec)
    await system.cancel_job(job.job_id)
    assert (await lifecycle.wait(system, job, poll_interval=2, timeout=120)).state is JobState.CANCELLED


async def test_cancel_of_an_unknown_job(system: System) -> None:
    await system.cancel_job("99999999")


async def test_dependencies(system: System, workdir: str) -> None:
    def job(**fields: Any) -> Any:
        return lifecycle.submit(system, JobSpec(working_dir=workdir, **fields))

    first = await job(command="sleep 2; echo first >> order.txt")
    second = await job(command="echo second >> order.txt", dependency={"afterok": [first.job_id]})
    assert (await lifecycle.wait(system, second, poll_interval=2, timeout=120)).succeeded
    assert await system.tail(f"{workdir}/order.txt", lines=5) == "first\nsecond\n"


async def test_a_job_that_somebody_else_submitted(system: System, workdir: str) -> None:
    spec = JobSpec(command="sleep 1", array="0-2", working_dir=workdir, name="live-found")
    submitted = await lifecycle.submit(system, spec)
    found = await lifecycle.find(system, submitted.job_id)
    assert found.array_indices == Indices.parse("0-2")
    assert (await lifecycle.wait(system, found, poll_interval=2, timeout=120)).succeeded


async def test_a_timeout_leaves_the_job_running(system: System, workdir: str) -> None:
    job = await lifecycle.submit(system, JobSpec(command="sleep 300", working_dir=workdir))
    with pytest.raises(errors.WaitTimedOut):
        await lifecycle.wait(system, job, poll_interval=1, timeout=1)
    assert not (await read_status(system, job)).all_ended
    await system.cancel_job(job.job_id)


async def test_the_list_shows_what_was_submitted(system: System, workdir: str) -> None:
    job = await lifecycle.submit(system, JobSpec(command="sleep 300", working_dir=workdir, name="live-listed"))
    rows = await system.get_jobs(name="live-listed")
    assert job.job_id in {row.job_id for row in rows}
    assert not parse_status([row for row in rows if row.job_id == job.job_id], job.job_id).all_ended
    await system.cancel_job(job.job_id)


async def test_unknown_job(system: System) -> None:
    with pytest.raises(errors.JobNotFound):
        await lifecycle.find(system, "99999999")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"partition": "no-such-partition"}, "partition"),
        ({"script": None, "command": None, "script_path": "/no/such/script.sh"}, "/no/such/script.sh"),
    ],
)
async def test_rejected_submissions(fields: dict[str, Any], words: str, system: System, workdir: str) -> None:
    spec = JobSpec(**{"command": "true", "working_dir": workdir, **fields})
    with pytest.raises(errors.SubmissionRejected, match=words):
        await lifecycle.submit(system, spec)


async def test_a_working_directory_that_does_not_exist(system: System, workdir: str) -> None:
    with pytest.raises(errors.RemotePathNotFound, match="working_dir"):
        await lifecycle.submit(system, JobSpec(command="true", working_dir=f"{workdir}/none"))


async def test_an_unknown_system(system: System, workdir: str) -> None:
    with pytest.raises(errors.SystemNotFound, match=f"no-such-system.*{system.name}"):
        await lifecycle.submit(system.client.system("no-such-system"), JobSpec(command="true", working_dir=workdir))
