"""Tasks and flows in real flow runs: called, submitted and mapped, in functions and in coroutines."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.client.schemas.filters import FlowRunFilter
from prefect.context import FlowRunContext
from prefect.flow_engine import run_flow
from prefect.states import Failed
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from firecrest_core import JobState
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.errors import (
    FileTooLarge,
    FirecRESTError,
    InvalidFileName,
    JobFailed,
    JobNodeFailure,
    RemotePathNotFound,
    ServerFault,
    SubmissionRejected,
)
from firecrest_core.result import JobResult
from prefect_firecrest import (
    FirecRESTCredentials,
    FirecRESTJob,
    FirecRESTJobRun,
    acancel_job,
    adelete_files,
    adownload_files,
    afetch_outputs,
    afind_job,
    alist_files,
    amake_directory,
    arun_job,
    asubmit_job,
    aupload_files,
    await_for_file,
    await_for_job,
    cancel_job,
    delete_files,
    download_files,
    fetch_outputs,
    find_job,
    is_retryable,
    list_files,
    make_directory,
    run_job,
    submit_job,
    upload_files,
    wait_for_file,
    wait_for_job,
)

TASKS = [
    submit_job, find_job, wait_for_job, cancel_job, upload_files, download_files, fetch_outputs, list_files,
    wait_for_file, make_directory, delete_files,
]  # fmt: skip
TWINS = [
    asubmit_job, afind_job, await_for_job, acancel_job, aupload_files, adownload_files, afetch_outputs, alist_files,
    await_for_file, amake_directory, adelete_files,
]  # fmt: skip


def test_a_flow_stages_in_submits_waits_and_fetches(make, workdir, tmp_path) -> None:
    (tmp_path / "in.txt").write_text("42")
    job = make("cp in.txt out.txt", working_dir=f"{workdir}/made", name="copy")
    result = run_job(
        job,
        local_files=[str(tmp_path / "in.txt")],
        remote_files=["out*.txt", "slurm-{job_id}.out"],
        local_directory=str(tmp_path / "results"),
    )
    assert result.succeeded
    assert (tmp_path / "results" / "out.txt").read_text() == "42"
    assert result.fetched == (f"{tmp_path}/results/out.txt", f"{tmp_path}/results/slurm-{result.job_id}.out")
    assert JobResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


async def test_a_flow_of_coroutines_does_the_same(make, workdir, tmp_path) -> None:
    (tmp_path / "in.txt").write_text("42")
    result = await arun_job(
        make("cp in.txt out.txt"),
        local_files=[str(tmp_path / "in.txt")],
        remote_files=["out.txt", f"{workdir}/in.txt"],
        local_directory=str(tmp_path),
    )
    assert result.fetched == (f"{tmp_path}/out.txt", f"{tmp_path}/in.txt")
    assert (tmp_path / "out.txt").read_text() == "42"


def test_tasks_are_mapped(make, workdir) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=8))
    def sweep() -> list[JobResult]:
        runs = submit_job.map([make(f"echo {point} >> points") for point in range(5)])
        return wait_for_job.map(runs).result()

    assert all(result.succeeded for result in sweep())
    assert sorted((workdir / "points").read_text().split()) == ["0", "1", "2", "3", "4"]


def test_equal_calls_are_different_calls(make, workdir) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=8))
    def replicas() -> list[JobResult]:
        job = make("echo run >> runs")
        runs = [*submit_job.map([job] * 3), submit_job.submit(job), submit_job(job), job.trigger(), job.trigger()]
        return [wait_for_job(run) for run in runs]

    assert len({result.job_id for result in replicas()}) == 7
    assert (workdir / "runs").read_text().count("run") == 7


async def test_coroutines_are_submitted_and_gathered(make, credentials, workdir, tmp_path) -> None:
    @flow
    async def coroutines() -> tuple[Any, ...]:
        run = asubmit_job.submit(make("true"))
        first = await_for_job.submit(run).result()
        second = await await_for_job(await asubmit_job(make("echo 1 > out")))
        endless = await asubmit_job(make("sleep 60"))
        await acancel_job(endless)
        cancelled = await await_for_job(endless, return_state=True)
        (tmp_path / "in").write_text("x")
        assert await amake_directory(credentials, f"{workdir}/deep/down") == f"{workdir}/deep/down"
        await adelete_files(credentials, [f"{workdir}/deep"])
        await aupload_files(credentials, [tmp_path / "in"], str(workdir))
        await adownload_files(credentials, f"{workdir}/out", tmp_path)
        return first, second, cancelled, await alist_files(credentials, str(workdir))

    first, second, cancelled, listing = await coroutines()
    assert first.succeeded
    assert second.succeeded
    assert cancelled.is_failed()
    names = {entry.name for entry in listing}
    assert {"in", "out"} <= names
    assert "deep" not in names
    assert (tmp_path / "out").read_text() == "1\n"


def test_functions_in_a_flow_of_functions(make, credentials, workdir, tmp_path) -> None:
    @flow
    def functions() -> Any:
        run = submit_job(make("sleep 60"))
        cancel_job(run)
        with pytest.raises(JobFailed, match="CANCELLED"):
            wait_for_job(run)
        (tmp_path / "in").write_text("x")
        upload_files(credentials, tmp_path / "in", f"{workdir}/new")
        download_files(credentials, [f"{workdir}/new/in"], str(tmp_path / "back"))
        return list_files(credentials, f"{workdir}/new")

    assert [entry.name for entry in functions()] == ["in"]
    assert (tmp_path / "back" / "in").read_text() == "x"


@pytest.mark.parametrize("code", [0, 7])
def test_inputs_and_outputs_of_a_flow(make, workdir, tmp_path, code) -> None:
    (tmp_path / "in.txt").write_text("42")
    flow_run = lambda: run_job(  # noqa: E731
        make(f"mkdir -p tree; cp renamed.txt tree/out.txt; exit {code}"),
        inputs={str(tmp_path / "in.txt"): "renamed.txt"},
        outputs={"tree": str(tmp_path / "tree"), "slurm-{job_id}.out": f"{tmp_path}/logs/"},
    )
    for _ in range(2):
        if code:
            with pytest.raises(JobFailed):
                flow_run()
        else:
            result = flow_run()
            assert result.fetched == (f"{tmp_path}/tree", f"{tmp_path}/logs/slurm-{result.job_id}.out")
    assert (tmp_path / "tree" / "out.txt").read_text() == "42"
    assert [path.name for path in (tmp_path / "tree").iterdir()] == ["out.txt"]


def test_a_retry_that_adopts_the_job_sends_nothing(make, workdir, tmp_path) -> None:
    (tmp_path / "in.txt").write_text("first")
    job = make("until [ -e go ]; do sleep 0.1; done; echo run >> runs")

    @task(retries=1)
    def twice() -> JobResult:
        run = job.trigger({str(tmp_path / "in.txt"): "in.txt"})
        if not (workdir / "go").exists():
            (tmp_path / "in.txt").write_text("second")
            (workdir / "go").touch()
            raise ServerFault("once more")
        run.wait_for_completion()
        return run.fetch_result()

    @flow
    def adopts() -> JobResult:
        return twice()

    assert adopts().succeeded
    assert (workdir / "in.txt").read_text() == "first"
    assert (workdir / "runs").read_text() == "run\n"


def test_the_failure_of_a_job_counts_and_not_what_it_has_not_written(make, workdir, tmp_path) -> None:
    outputs = {"missing": str(tmp_path / "missing"), "log": str(tmp_path / "log")}
    with pytest.raises(JobFailed, match="exit code 7"):
        run_job(make("echo why > log; exit 7"), outputs=outputs)
    assert (tmp_path / "log").read_text() == "why\n"


def test_files_that_would_become_one_are_refused_before_the_job_is_submitted(make, workdir, tmp_path) -> None:
    with pytest.raises(InvalidFileName, match="a/x and b/x would both become"):
        run_job(make("touch ran"), outputs={"a/x": f"{tmp_path}/", "b/x": f"{tmp_path}/"})
    assert not (workdir / "ran").exists()


def test_a_job_that_is_run_once_more_gets_its_inputs_anew(make, workdir, tmp_path) -> None:
    (tmp_path / "in.txt").write_text("42")

    @flow
    def resumes() -> JobResult:
        run = submit_job(
            make("cat in.txt >> seen; rm in.txt; [ $(wc -c < seen) = 4 ]"), inputs={str(tmp_path / "in.txt"): "in.txt"}
        )
        with pytest.raises(JobFailed):
            run.wait_for_completion()
        return wait_for_job(run.resume())

    assert resumes().succeeded
    assert (workdir / "seen").read_text() == "4242"


def test_directories_are_made_and_removed(credentials, workdir) -> None:
    path = f"{workdir}/a/b"
    assert make_directory.fn(credentials, path) == make_directory.fn(credentials, path) == path
    delete_files.fn(credentials, f"{workdir}/a")
    assert list(workdir.iterdir()) == []
    delete_files.fn(credentials, [f"{workdir}/a"], missing_ok=True)
    with pytest.raises(RemotePathNotFound):
        delete_files.fn(credentials, f"{workdir}/a")


def test_a_directory_that_is_fetched_twice_ends_in_the_same_place(credentials, workdir, tmp_path) -> None:
    (workdir / "tree" / "sub").mkdir(parents=True)
    (workdir / "tree" / "sub" / "x").write_text("x")
    for _ in range(2):
        download_files.fn(credentials, [f"{workdir}/tr*", f"{workdir}/tree/sub/x"], tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new" / "tree").iterdir()) == ["sub"]
    assert (tmp_path / "new" / "x").read_text() == "x"


def test_two_files_of_one_name_are_refused_before_the_first(credentials, workdir, tmp_path) -> None:
    for directory in ("p1", "p2"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "r.out").write_text(directory)
    with pytest.raises(InvalidFileName, match=r"would both become r\.out"):
        upload_files.fn(credentials, [tmp_path / "p1" / "r.out", tmp_path / "p2" / "r.out"], f"{workdir}/new")
    assert not (workdir / "new").exists()
    with pytest.raises(InvalidFileName, match=r"would both become r\.out"):
        download_files.fn(credentials, ["/p1/r.out", "/p2/r.out"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


async def test_a_flow_refuses_two_files_of_one_name_before_it_submits(make, workdir, tmp_path) -> None:
    job = make("mkdir p1 p2; touch p1/r.out p2/r.out")
    for directory in ("p1", "p2"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "in.txt").touch()
    inputs = [str(tmp_path / "p1" / "in.txt"), str(tmp_path / "p2" / "in.txt")]
    for files, name in (({"remote_files": ["p1/r.out", "p2/r.out"]}, "r.out"), ({"local_files": inputs}, "in.txt")):
        with pytest.raises(InvalidFileName, match=f"would both become {name}"):
            await arun_job(job, local_directory=str(tmp_path / "new"), **files)
        with pytest.raises(InvalidFileName, match=f"would both become {name}"):
            run_job(job, local_directory=str(tmp_path / "new"), **files)
    assert list(workdir.iterdir()) == []


def test_a_directory_larger_than_the_limit(credentials, workdir, tmp_path) -> None:
    (workdir / "tree").mkdir()
    (workdir / "tree" / "f").write_bytes(bytes(1000))
    for limit in ({"max_unpacked_size": 999}, {"max_unpacked_files": 1}):
        with pytest.raises(FileTooLarge, match=next(iter(limit))):
            download_files.fn(credentials, f"{workdir}/tree", tmp_path / "new", **limit)
    assert list((tmp_path / "new").iterdir()) == []


async def test_what_the_ui_shows(make) -> None:
    @flow
    def named() -> Any:
        run = submit_job(make("true", name="relax"))
        wait_for_job(run)
        submit_job(make("true"))
        return FlowRunContext.get().flow_run.id, run

    async def stored(flow_run_id: UUID, expected: set[str]) -> dict[str, list[str]]:
        """Return the tags of the task runs by name, once they are stored: that takes the server a moment."""
        give_up_at, seen = time.monotonic() + 60, {}
        async with get_client() as client:
            while not expected <= set(seen) and time.monotonic() < give_up_at:
                await asyncio.sleep(0.2)
                task_runs = await client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run_id]}))
                seen = {one.name: one.tags for one in task_runs}
        return seen

    expected, seen = {"unseen"}, {}
    while not expected <= set(seen):  # a server that is overloaded drops what it hears of a task run
        flow_run_id, run = named()
        expected = {"submit relax", f"wait for Job {run.job_id} (relax)", "submit job"}
        seen = await stored(flow_run_id, expected)
    assert all("firecrest" in tags for tags in seen.values())


@pytest.mark.parametrize("one", [*TASKS, *TWINS])
def test_every_task_is_retried_where_that_can_help_and_never_cached(one) -> None:
    assert one.retries == 3
    assert one.retry_condition_fn is is_retryable
    assert one.cache_policy.compute_key(None, {}, {}) is None
    assert one.description


@pytest.mark.parametrize(("one", "twin"), [*zip(TASKS, TWINS, strict=True), (run_job, arun_job)])
def test_twins_take_the_same(one, twin) -> None:
    assert twin.name.replace("-", "_") == "a" + one.name.replace("-", "_")
    assert twin.isasync
    assert not one.isasync
    assert one.parameters == twin.parameters if hasattr(one, "parameters") else True


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ServerFault("502"), True),
        (JobNodeFailure(JobResult(job_id="1", system="x", state=JobState.NODE_FAIL)), True),
        (JobFailed(JobResult(job_id="1", system="x", state=JobState.FAILED)), False),
        (SubmissionRejected("no such partition"), False),
        (FirecRESTError("what nobody knows"), False),
        (OSError("another's"), True),
    ],
)
def test_what_is_retryable(error, verdict) -> None:
    assert is_retryable(None, None, Failed(data=error)) is verdict


def test_a_bad_script_is_not_tried_again(make, workdir) -> None:
    @flow
    def bad() -> JobResult:
        return wait_for_job(submit_job(make("echo run >> runs; exit 1")))

    with pytest.raises(JobFailed):
        bad()
    assert (workdir / "runs").read_text().split() == ["run"]


def test_a_job_that_lost_its_node_is_run_again(make, workdir, monkeypatch) -> None:
    wait, ends = FirecRESTJobRun._wait_for_result, []

    async def lose_the_node(run: FirecRESTJobRun, *how: Any) -> JobResult:
        result = await wait(run, *how)
        ends.append(result.job_id)
        if len(ends) == 1:
            raise JobNodeFailure(result)
        return result

    monkeypatch.setattr(FirecRESTJobRun, "_wait_for_result", lose_the_node)

    @flow
    def lost() -> JobResult:
        job = make("echo run >> runs; [ -e second ] || { touch second; exit 1; }")
        return wait_for_job.with_options(retry_delay_seconds=0)(submit_job(job))

    assert lost().job_id == ends[-1] != ends[0]
    assert (workdir / "runs").read_text().split() == ["run", "run"]


def test_a_server_that_is_away_is_waited_for(make, workdir, faults, monkeypatch) -> None:
    @flow
    def outage() -> JobResult:
        run = submit_job(make("until [ -e go ]; do sleep 0.1; done"))
        faults.set({"rules": [{"fault": "status", "status": 503, "route": "/compute/**", "duration": 3}]})
        Path(workdir, "go").touch()
        return wait_for_job(run)

    assert outage().succeeded


def test_many_tasks_share_a_client(make, monkeypatch) -> None:
    made = []

    class Counted(FirecRESTClient):
        def __init__(self, *arguments: Any, **how: Any) -> None:
            made.append(self)
            super().__init__(*arguments, **how)

    monkeypatch.setattr("firecrest_core.api.client.FirecRESTClient", Counted)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=10))
    def many() -> None:
        submit_job.map([make(f"true {number}") for number in range(10)]).wait()

    many()
    assert len(made) < 10


def test_a_task_of_ones_own(make, workdir) -> None:
    """A retried task goes on with the job of its first try."""
    tries = []

    @task(retries=1)
    def relax() -> str:
        run = make("echo run >> runs").trigger()
        run.wait_for_completion()
        tries.append(run.job_id)
        if len(tries) == 1:
            raise ValueError("of our own making")
        return run.job_id

    @flow
    def own() -> str:
        return relax()

    assert own() == tries[0]
    assert (workdir / "runs").read_text().split() == ["run"]


def test_a_deployment_runs_a_job_that_is_stored(make, credentials) -> None:
    """Its parameters name blocks; what Prefect keeps of a call from Python shows no secret."""
    credentials.save("stored", overwrite=True)
    job = make("true", name="stored", credentials=FirecRESTCredentials.load("stored"))
    document = job.save("stored", overwrite=True)
    with get_client(sync_client=True) as client:
        reference = {"job": {"$ref": {"block_document_id": str(document)}}}
        flow_run = client.create_flow_run(run_job, parameters=reference)
        assert run_flow(run_job, flow_run=client.read_flow_run(flow_run.id)).succeeded
        assert client.read_flow_run(flow_run.id).name == "run stored"


def test_the_parameters_of_a_flow_run_show_no_secret(make, credentials) -> None:
    @flow
    def parameters(job: FirecRESTJob) -> UUID:
        submit_job(job)
        return FlowRunContext.get().flow_run.id

    flow_run_id = parameters(make("true"))
    with get_client(sync_client=True) as client:
        kept = client.read_flow_run(flow_run_id)
    assert "job" in kept.parameters
    assert credentials.client_secret.get_secret_value() not in kept.model_dump_json()


def test_tasks_in_other_processes(make, credentials, workdir) -> None:
    """They cannot count together, so the task run stands for the number: equal calls stay different calls."""
    credentials.save("stored", overwrite=True)
    stored = FirecRESTCredentials.load("stored")

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def replicas() -> list[JobResult]:
        runs = submit_job.map([make("echo run >> runs", credentials=stored)] * 2)
        return wait_for_job.map(runs).result()

    assert all(result.succeeded for result in replicas())
    assert (workdir / "runs").read_text().split() == ["run", "run"]


def test_flows_in_tasks_in_other_processes(make, credentials, workdir) -> None:
    credentials.save("stored", overwrite=True)
    job = make("echo run >> runs", credentials=FirecRESTCredentials.load("stored"))

    @task
    def relax(job: FirecRESTJob) -> str:
        return run_job(job).job_id

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def replicas() -> list[str]:
        return relax.map([job] * 2).result()

    assert len(set(replicas())) == 2
    assert (workdir / "runs").read_text().split() == ["run", "run"]
