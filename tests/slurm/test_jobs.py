"""What only a real Slurm does, and what the embedded server adds to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import Connection, FirecRESTClient, Job, JobSpec, JobState, errors, lifecycle
from firecrest_core.indices import Indices
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.jobs.logs import output_tails
from firecrest_core.spec.render import submit_request
from firecrest_core.watch.watcher import JobWatcher
from firecrest_local import LocalFirecREST, Plan, Settings
from harness.firecrest import FirecRESTServer
from harness.slurm import Slurm


async def submit(client: FirecRESTClient, workdir: Path, command: str, **fields: Any) -> Job:
    return await lifecycle.submit(client.system(), JobSpec(command=command, working_dir=str(workdir), **fields))


async def wait(client: FirecRESTClient, job: Job, **options: Any) -> Any:
    return await lifecycle.wait(client.system(), job, poll_interval=1, timeout=120, **options)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.1)


async def test_a_dependency_that_can_never_be_met(client: FirecRESTClient, workdir: Path) -> None:
    failed = await submit(client, workdir, "false")
    job = await submit(client, workdir, "true", dependency={"afterok": [failed.job_id]})
    with pytest.raises(errors.JobStuck, match="DependencyNeverSatisfied"):
        await wait(client, job, fail_if_stuck=True)
    await client.system().cancel_job(job.job_id)
    assert (await wait(client, job)).state is JobState.CANCELLED


async def test_a_job_that_is_requeued_runs_again(client: FirecRESTClient, workdir: Path, slurm: Slurm) -> None:
    command = "echo began >> runs; until [ -e go ]; do sleep 0.1; done"
    job = await submit(client, workdir, command, requeue=True)
    waiting = asyncio.create_task(wait(client, job))
    await until((workdir / "runs").exists)
    slurm.command("scontrol", "requeue", job.job_id)
    (workdir / "go").touch()
    assert (await waiting).state is JobState.COMPLETED
    assert (workdir / "runs").read_text() == "began\nbegan\n"


async def test_a_job_that_is_requeued_reads_its_secrets_again(
    client: FirecRESTClient, workdir: Path, slurm: Slurm
) -> None:
    command = "echo $HF_TOKEN >> runs; until [ -e go ]; do sleep 0.1; done"
    fields = {"requeue": True, "environment": {"HF_TOKEN": "hf_abcdefgh"}}
    spec = JobSpec(command=command, working_dir=str(workdir), **fields)
    job = await lifecycle.submit(client.system(), spec, ClaimKey("task"), first_attempt=True)
    waiting = asyncio.create_task(wait(client, job))
    await until((workdir / "runs").exists)
    assert "hf_abcdefgh" not in slurm.command("scontrol", "write", "batch_script", job.job_id, "-")
    slurm.command("scontrol", "requeue", job.job_id)
    (workdir / "go").touch()
    result = await waiting
    assert result.state is JobState.COMPLETED
    assert result.usage is not None
    assert result.usage.cpus == 1
    assert (workdir / "runs").read_text() == "hf_abcdefgh\nhf_abcdefgh\n"
    assert not list(workdir.rglob("secrets-*"))


async def test_a_wait_includes_all_elements_of_a_throttled_array(client: FirecRESTClient, workdir: Path) -> None:
    result = await wait(client, await submit(client, workdir, "exit 0", array="0-11%6"))
    assert result.state is JobState.COMPLETED
    assert [one.index for one in result.elements] == list(range(12))


async def test_an_element_that_is_cancelled_while_it_waits_is_no_success(
    client: FirecRESTClient, workdir: Path, slurm: Slurm
) -> None:
    """Slurm 22.05 never writes a row for it."""
    command = "until [ -e go ]; do sleep 0.1; done"
    job = await submit(client, workdir, command, array="0-3%1")
    await until(lambda: f"{job.job_id}_0 RUNNING" in slurm.command("squeue", "-h", "-o", "%i %T"))
    slurm.command("scancel", f"{job.job_id}_3")
    (workdir / "go").touch()
    result = await JobWatcher.shared(client.connection, job.system).wait(job, poll_interval=1, provisional_grace=10)
    assert (result.state, result.unrecorded) == (JobState.CANCELLED, Indices.parse("3"))
    assert [one.state for one in result.elements] == ["COMPLETED", "COMPLETED", "COMPLETED", "CANCELLED"]
    assert "no record of 3: cancelled while waiting, never ran" in result.summary()
    rows = await client.system().get_job(job.job_id)
    assert sorted(row.job_id for row in rows) == [f"{job.job_id}_{index}" for index in range(3)]


@pytest.mark.parametrize(
    ("command", "state", "shown"),
    [
        ("sh -c 'kill -9 $$'; exit $?", JobState.FAILED, "exit code 9 (or 137, signal 9)"),
        ("sh -c 'kill -15 $$'; exit $?", JobState.FAILED, "exit code 15 (or 143, signal 15)"),
        ("echo 'slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.' >&2; exit 1", JobState.FAILED, "memory"),
    ],
)
async def test_a_killed_command_is_told_of(
    command: str, state: JobState, shown: str, client: FirecRESTClient, workdir: Path
) -> None:
    result = await wait(client, await submit(client, workdir, command))
    assert result.state is state
    with pytest.raises(errors.JobFailed) as failed:
        await lifecycle.raise_for_state(client.system(), result)
    assert shown in str(failed.value)


async def test_the_node_in_an_output_path(client: FirecRESTClient, workdir: Path) -> None:
    job = await submit(client, workdir, "echo out; echo err >&2", stdout="%N.%j.out", stderr="%n.%t.%s.%5j.err")
    result = await wait(client, job)
    # This Slurm's node has another name than its host, which slurmstepd fills in.
    assert result.stdout == f"{workdir}/localhost.{job.job_id}.out"
    assert result.stderr is not None
    assert Path(result.stderr).read_text() == "err\n"
    assert (await output_tails(client.system(), result))[1] == "err\n"


async def test_attaching(client: FirecRESTClient, connection: Connection, workdir: Path, slurm: Slurm) -> None:
    job = await submit(client, workdir, "echo > runs; sleep 100")
    await until((workdir / "runs").exists)
    await client.requests.pyfirecrest.attach_to_job(
        "local", job.job_id, f"sh -c 'echo $SLURM_JOB_ID > {workdir}/attached'"
    )
    assert (workdir / "attached").read_text() == f"{job.job_id}\n"
    await client.system().cancel_job(job.job_id)


async def test_jobs_outlive_the_server(slurm: Slurm, tmp_path: Path) -> None:
    ids = []
    for grace in (5, 0):  # interrupted, and killed
        with FirecRESTServer(tmp_path / str(grace), slurm=slurm) as firecrest:
            firecrest.wait()
            async with FirecRESTClient(Connection.from_environment(firecrest.variables)) as client:
                job = await submit(client, Path(firecrest.variables["FIRECREST_WORKDIR"]), "sleep 100")
                await until(lambda id_=job.job_id: "RUNNING" in slurm.command("squeue", "-h", "-o", "%T", "-j", id_))
                ids.append(job.job_id)
            firecrest.service.stop(grace)
    assert sorted(slurm.command("squeue", "-h", "-o", "%i", "-j", ",".join(ids)).split()) == sorted(ids)
    slurm.command("scancel", *ids)


# --- the server in this process


@pytest.fixture
def server(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalFirecREST]:
    """An embedded server in this process that detected Slurm by itself, with an empty fault plan."""
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    with LocalFirecREST(Settings(root=tmp_path / "auto", scheduler="auto", faults=Plan(), command_timeout=2)) as server:
        yield server


async def test_jobs_become_visible_as_late_as_the_plan_says(server: LocalFirecREST) -> None:
    async with FirecRESTClient(Connection.from_environment(server.environ)) as client:
        server.faults.set(Plan(invisible=600))
        job_id = await client.system().submit_job(submit_request(JobSpec(command="true", working_dir=str(server.home))))
        with pytest.raises(errors.JobNotFound):
            await client.system().get_job(job_id)
        assert job_id not in {row.job_id for row in await client.system().get_jobs()}
        server.faults.set(Plan())
        job = Job(system="local", job_id=job_id)
        assert (await wait(client, job)).state is JobState.COMPLETED
        server.faults.set(Plan(accounting_lag=600))
        assert job_id not in {row.job_id for row in await client.system().get_jobs()}
        (row,) = await client.system().get_job(job_id)
        assert (row.name, row.state) == ("allocation", JobState.COMPLETED)


async def test_a_slow_slurm_command_times_out(
    server: LocalFirecREST, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    for command in ("sbatch", "sacct"):
        slow = tmp_path / "bin" / command
        slow.parent.mkdir(exist_ok=True)
        slow.write_text("#!/bin/sh\nsleep 1000 & wait\n")
        slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    server.start()
    async with FirecRESTClient(Connection.from_environment(server.environ), attempts=1) as client:
        with pytest.raises(errors.SubmissionUnknown, match="timeout limit exceeded"):
            await client.system().submit_job(submit_request(JobSpec(command="true", working_dir=str(server.home))))
        with pytest.raises(errors.FirecRESTError, match="Error executing Slurm command"):
            await client.system().get_jobs()


async def test_the_account_is_shown(client: FirecRESTClient) -> None:
    assert (await client.system().get_userinfo()).accounts[0] == "test"


def test_a_missing_slurm_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slurm.conf").write_text("ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\n")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(ConnectionError, match="no Slurm answers here"):
        LocalFirecREST(Settings(root=tmp_path / "cluster", scheduler="slurm")).start()


async def test_slurm_passes_over_a_partition_with_a_shorter_limit(client: FirecRESTClient, workdir: Path) -> None:
    job = await submit(client, workdir, "echo $SLURM_JOB_PARTITION > where", partition="auto", time_limit="2:00:00")
    assert (await wait(client, job)).state is JobState.COMPLETED
    metadata = await client.system().get_job_metadata(job.job_id)
    [asked] = [line for line in metadata.script.splitlines() if "--partition" in line]
    assert "debug" in asked
    assert (workdir / "where").read_text().strip() in {"normal", "low", "lowrequeue", "high"}
