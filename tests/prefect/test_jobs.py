"""The job block and its runs, in functions and in coroutines, outside of any flow."""

from __future__ import annotations

import dataclasses
import json
import pickle
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import ValidationError

from firecrest_core import Chain, JobSpec, JobState
from firecrest_core.documentation import page_url
from firecrest_core.errors import (
    ConfigurationError,
    InvalidJobSpec,
    JobFailed,
    RemotePathNotFound,
    SubmissionRejected,
    WaitTimedOut,
)
from prefect_firecrest import FirecRESTJob


class TestStandard(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[FirecRESTJob]:
        return FirecRESTJob

    def test_has_a_valid_image(self, block: type[FirecRESTJob]) -> None:
        # Prefect's own test fetches the picture: that is for a machine with a network.
        assert str(block._logo_url) == page_url("images/logo.svg")


def test_the_block_has_every_field_of_a_job() -> None:
    ours = {"credentials", "system", "preset", "make_working_dir", "poll_interval", "exactly_once", "secret_variables"}
    ours |= {"metrics", "escalate", "alternatives", "chain"}
    assert set(FirecRESTJob.model_fields) - ours == {field.name for field in dataclasses.fields(JobSpec)}


def test_the_names_that_stored_blocks_depend_on_are_stable() -> None:
    assert FirecRESTJob.get_block_type_slug() == "firecrest-job"
    assert FirecRESTJob._block_type_name == "FirecREST Job"


def test_every_field_gets_to_the_scheduler(credentials) -> None:
    fields = {
        "working_dir": "/scratch/me",
        "command": ["relax", "in put"],
        "name": "relax",
        "nodes": "2-4",
        "time_limit": "1:30:00",
        "environment": {"A": "1,2"},
        "array": "0-3",
        "directives": ["--exclusive"],
        "requeue": False,
    }
    assert FirecRESTJob(credentials=credentials, **fields).spec() == JobSpec(**fields)


def test_an_interval_that_is_given_as_text_is_a_number(make) -> None:
    assert repr(make("true", poll_interval="2").poll_interval) == "2.0"


def test_a_block_comes_back_whole(credentials) -> None:
    job = FirecRESTJob(
        credentials=credentials,
        working_dir="/scratch/me",
        command=["relax", "in put"],
        time_limit=timedelta(hours=30),
        dependency={"afterok": [12, 13]},
        gpus="a100:4",
    )
    job.save("relax", overwrite=True)
    loaded = FirecRESTJob.load("relax")
    assert loaded.spec() == job.spec()
    assert loaded.spec().time_limit == "1-06:00:00"
    assert loaded.credentials.connection() == credentials.connection()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"command": None}, "script: nothing says what to run"),
        ({"script": "#!/bin/sh\n"}, "given together"),
        ({"nodes": 0}, "nodes"),
        ({"time_limt": 5}, "did you mean 'time_limit'"),
        ({"exactly_onec": True}, "exactly_onec: a job has no such field; did you mean 'exactly_once'"),
        ({"poll_interval": "often"}, "poll_interval\n.*valid number"),
        ({"poll_interval": "inf"}, "poll_interval\n.*finite number"),
        ({"poll_interval": 0}, "poll_interval\n.*greater than 0"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once(make, wrong, message) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**{"command": "true"} | wrong)


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"nodes": "2.0"}, "nodes", 2),
        ({"nodes": 2.0}, "nodes", 2),
        ({"nodes": "1-15:4"}, "nodes", "1-15:4"),
        ({"ntasks": "4.0"}, "ntasks", 4),
        ({"cpus_per_task": 4.0}, "cpus_per_task", 4),
        ({"gpus": "a100:2,v100:1"}, "gpus", "a100:2,v100:1"),
        ({"time_limit": "5.0"}, "time_limit", "00:05:00"),
        ({"array": 7}, "array", "7"),
        ({"ntasks": ""}, "ntasks", None),
        ({"requeue": "None"}, "requeue", None),
        ({"environment": "", "directives": None}, "directives", ()),
    ],
)
def test_fields_as_people_and_templates_write_them(make, given, field, value) -> None:
    assert getattr(make("true", **given).spec(), field) == value


@pytest.mark.parametrize(
    ("wrong", "hint"), [("env", "'environment'"), ("walltime", "'time_limit'"), ("gres", "--gres")]
)
def test_a_name_that_is_no_field_is_told_with_what_is_meant(make, wrong, hint) -> None:
    with pytest.raises(ValidationError, match=rf"(?s){wrong}: a job has no such field.*{hint}"):
        make("true", **{wrong: "x"})


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("escalat", "did you mean 'escalate'"),
        ("walltime", "did you mean 'time_limit'"),
        ("dry_run", r"it is the method \.dry_run\(\)"),
    ],
)
def test_a_name_that_is_no_field_is_refused_where_it_is_written(make, wrong, hint) -> None:
    job = make("true")
    with pytest.raises(InvalidJobSpec, match=f"{wrong}: a job has no such field; {hint}"):
        setattr(job, wrong, {})
    with pytest.raises(ValidationError, match=f"{wrong}: a job has no such field; {hint}"):
        make("true", **{wrong: {}})


def test_lines_that_the_scheduler_ignores_are_in_the_log(make, caplog) -> None:
    make(None, script="#!/bin/bash\ntrue\n#SBATCH --nodes=2\n").trigger()
    assert "script, line 3, '#SBATCH --nodes=2': the scheduler ignores it" in caplog.text


def test_the_secret_is_not_shown(make, credentials) -> None:
    secret = credentials.client_secret.get_secret_value()
    job = make("true")
    assert secret not in repr(job) + str(job) + json.dumps(job.model_dump(mode="json"))


def test_a_job_runs_to_its_end(make, workdir) -> None:
    run = make("echo first; pwd; echo last", name="hello").trigger()
    run.wait_for_completion()
    result = run.fetch_result()
    assert (result.state, result.exit_code, result.name) == (JobState.COMPLETED, 0, "hello")
    assert result.job_id == run.job_id
    assert run.log_tail(1).strip() == "last"
    assert run.status().state is JobState.COMPLETED


async def test_a_job_runs_to_its_end_in_coroutines(make) -> None:
    run = await make("echo last").atrigger()
    await run.await_for_completion()
    assert (await run.afetch_result()).succeeded
    assert (await run.alog_tail(1)).strip() == "last"
    assert (await run.astatus()).all_ended
    assert await run.aresume() is not None
    await run.acancel()


async def test_functions_work_in_a_running_event_loop(make) -> None:
    run = make("true").trigger()
    run.wait_for_completion()
    assert run.fetch_result().succeeded


def test_a_job_that_fails_says_so(make) -> None:
    run = make("echo it broke >&2; exit 3").trigger()
    with pytest.raises(JobFailed, match=r"(?s)exit code 3.*it broke") as failure:
        run.wait_for_completion()
    assert run.fetch_result() == failure.value.result


def test_a_failure_survives_pickling(make) -> None:
    """Prefect keeps results by pickling them, and task runners pass them between processes."""
    with pytest.raises(JobFailed) as failure:
        make("exit 3").trigger().wait_for_completion()
    again = pickle.loads(pickle.dumps(failure.value))
    assert (type(again), str(again), again.result) == (JobFailed, str(failure.value), failure.value.result)


def test_a_job_is_cancelled(make) -> None:
    run = make("sleep 60").trigger()
    with pytest.raises(WaitTimedOut):
        run.fetch_result()
    with pytest.raises(WaitTimedOut):
        run.wait_for_completion(timeout=0.5)
    run.cancel()
    run.cancel()
    with pytest.raises(JobFailed, match="CANCELLED"):
        run.wait_for_completion()
    assert run.fetch_result().state is JobState.CANCELLED


def test_an_array(make) -> None:
    run = make("exit $((SLURM_ARRAY_TASK_ID / 2))", array="0-2").trigger()
    with pytest.raises(JobFailed, match=r"2 of 3 array elements COMPLETED, 1 FAILED \(2\)"):
        run.wait_for_completion()
    assert [element.index for element in run.fetch_result().failed_elements] == [2]


def test_a_refusal_is_in_the_schedulers_words(make) -> None:
    with pytest.raises(SubmissionRejected, match="partition"):
        make("true", partition="nowhere").trigger()


def test_a_working_directory_that_is_missing(make, workdir) -> None:
    with pytest.raises(RemotePathNotFound, match="working_dir"):
        make("true", working_dir=f"{workdir}/missing").trigger()


def test_outside_of_a_flow_each_call_submits(make, workdir) -> None:
    runs = [make("echo run >> runs").trigger() for _ in range(2)]
    for run in runs:
        run.wait_for_completion()
    assert (workdir / "runs").read_text().split() == ["run", "run"]


@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_job_that_failed_is_run_again(make, workdir, exactly_once) -> None:
    run = make("echo run >> runs; [ -e go ]", exactly_once=exactly_once).trigger()
    with pytest.raises(JobFailed):
        run.wait_for_completion()
    Path(workdir, "go").touch()
    again = run.resume()
    assert again.job_id != run.job_id
    again.wait_for_completion()
    assert again.resume().job_id == again.job_id
    assert (workdir / "runs").read_text().split() == ["run", "run"]


def test_a_run_is_kept_without_the_secret(make, credentials) -> None:
    run = make("true").trigger()
    kept = pickle.dumps(run)
    assert credentials.client_secret.get_secret_value().encode() not in kept
    with pytest.raises(ConfigurationError, match="Save the credentials"):
        pickle.loads(kept).wait_for_completion()
    run.wait_for_completion()


def test_a_run_of_saved_credentials_goes_on_elsewhere(make, credentials) -> None:
    credentials.save("elsewhere", overwrite=True)
    kept = pickle.dumps(make("true").trigger())
    assert credentials.client_secret.get_secret_value().encode() not in kept
    run = pickle.loads(kept)
    run.wait_for_completion()
    assert run.fetch_result().succeeded


def test_a_dry_run_submits_nothing(make, workdir) -> None:
    chain = Chain(max_jobs=3, signal="B:USR1@60", done="done", checkpoint="ckpt/*")
    job = make("echo hello", partition="auto", chain=chain)
    found = job.dry_run()
    assert "#SBATCH --signal=B:USR1@60" in found.script
    assert "#SBATCH --partition=normal,debug" in found.script
    assert not found.problems
    assert not (workdir / ".firecrest").exists()
    assert make("true", partition="gpu").dry_run().problems == (
        "partition: there is no 'gpu'; there are normal, debug.",
    )
