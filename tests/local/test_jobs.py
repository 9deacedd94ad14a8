"""Real jobs: their environment, their files, their ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from firecrest_local import LocalFirecREST, Settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    root = tmp_path_factory.mktemp("jobs") / "cluster"
    with LocalFirecREST(Settings(root=root, cores=4, accounting_lag=0.0, kill_wait=0.3)) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Any, connect: Callable[[Any], Any]) -> Any:
    return connect(server)


def test_job_sees_slurms_variables(server: Any, api: Any) -> None:
    job_id = api.submit(
        "#!/bin/bash\n#SBATCH -c 2 --ntasks=2\nenv | sort\n", server.home, name="vars", env={"A": "1,B=2"}
    )
    assert api.wait_end(job_id)["status"]["state"] == "COMPLETED"
    lines = (server.home / f"slurm-{job_id}.out").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    assert variables["A"] == "1"
    assert variables["B"] == "2"
    expected = {
        "SLURM_JOB_ID": job_id,
        "SLURM_JOBID": job_id,
        "SLURM_JOB_NAME": "vars",
        "SLURM_SUBMIT_DIR": str(server.home),
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_JOB_PARTITION": "normal",
        "SLURM_CPUS_ON_NODE": "4",
        "SLURM_JOB_ACCOUNT": "test",
        "SLURMD_NODENAME": "nid001",
        "SLURM_JOB_NODELIST": "nid001",
        "HOME": str(server.home),
    }
    assert {name: variables[name] for name in expected} == expected


def test_job_does_not_see_the_servers_environment(serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "a-secret-of-the-server")
    server = serve()
    api = connect(server)
    job_id = api.submit("#!/bin/bash\nenv\n", server.home)
    api.wait_end(job_id)
    output = (server.home / f"slurm-{job_id}.out").read_text()
    assert "a-secret-of-the-server" not in output
    assert server.client_secret not in output


def test_output_files(server: Any, api: Any) -> None:
    script = "#!/bin/bash\n#SBATCH -o %x-%j.log\n#SBATCH --error=%j.err\ncat; echo oops >&2\n"
    (server.home / "in.txt").write_text("given\n")
    job_id = api.submit(script, server.home, name="files", standardInput="in.txt")
    api.wait_end(job_id)
    assert (server.home / f"files-{job_id}.log").read_text() == "given\n"
    assert (server.home / f"{job_id}.err").read_text() == "oops\n"
    again = api.submit(script, server.home, standardOutput="mine.txt")
    api.wait_end(again)
    assert (server.home / "mine.txt").exists()


def test_script_on_the_cluster_and_another_interpreter(server: Any, api: Any) -> None:
    script = server.home / "count.py"
    script.write_text("#!/usr/bin/env python3\nprint(6 * 7)\n")
    body = {"job": {"workingDirectory": str(server.home), "scriptPath": str(script)}}
    job_id = api.http.post(api.jobs_url, json=body).json()["jobId"]
    assert api.wait_end(job_id)["name"] == "count.py"
    assert (server.home / f"slurm-{job_id}.out").read_text() == "42\n"


def test_unknown_interpreter_fails(server: Any, api: Any) -> None:
    row = api.wait_end(api.submit("#!/no/such/shell\n", server.home))
    assert (row["status"]["state"], row["status"]["exitCode"]) == ("FAILED", 2)


def test_array_in_steps_with_its_variables(server: Any, api: Any) -> None:
    script = "#!/bin/sh\n#SBATCH -a 1-5:2\necho $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_MAX\n"
    job_id = api.submit(script, server.home)
    api.wait_end(job_id)
    for index in (1, 3, 5):
        assert (server.home / f"slurm-{job_id}_{index}.out").read_text() == f"{job_id} {index} 5\n"
    assert [row["jobId"] for row in api.rows(job_id)] == [f"{job_id}_{index}" for index in (1, 3, 5)]
    # The next job's id comes after those of all elements.
    assert int(api.submit("#!/bin/sh\n", server.home)) == int(job_id) + 3


def test_cancelling_an_array_cancels_running_and_pending_elements(serve: Any, connect: Any) -> None:
    server = serve(cores=1)
    api = connect(server)
    job_id = api.submit("#!/bin/sh\n#SBATCH --array=0-2\nsleep 60\n", server.home)
    assert api.cancel(job_id).status_code == 204
    api.wait_end(job_id)
    states = {row["status"]["state"] for row in api.rows(job_id)}
    assert states == {f"CANCELLED by {os.getuid()}"}


def test_pending_element_that_is_cancelled_alone_leaves_no_row(serve: Any, connect: Any) -> None:
    """As on Slurm 22.05."""
    server = serve(cores=1)
    api = connect(server)
    job_id = api.submit("#!/bin/sh\n#SBATCH --array=0-2%1\nsleep 1\n", server.home)
    assert api.cancel(str(int(job_id) + 2)).status_code == 204  # the raw id of the second element
    api.wait_end(job_id)
    assert sorted(row["jobId"] for row in api.rows(job_id)) == [f"{job_id}_0", f"{job_id}_2"]


def test_job_that_ignores_sigterm_is_killed(server: Any, api: Any, until: Any) -> None:
    script = "#!/bin/bash\ntrap '' TERM\necho $$ > pid\nwhile true; do sleep 0.1; done\n"
    job_id = api.submit(script, server.home)
    until(lambda: (server.home / "pid").exists() and (server.home / "pid").read_text(), "the job wrote its pid")
    pid = int((server.home / "pid").read_text())
    assert api.cancel(job_id).status_code == 204
    until(lambda: not _alive(pid), "the job is killed")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_time_limit_warns_then_ends(server: Any, api: Any) -> None:
    script = (
        "#!/bin/bash\n#SBATCH --time=0:02 --signal=B:USR1@1\n"
        "trap 'echo warned' USR1\nfor i in $(seq 100); do sleep 0.1; done\n"
    )
    job_id = api.submit(script, server.home)
    row = api.wait_end(job_id)
    assert row["status"]["state"] == "TIMEOUT"
    assert row["time"]["limit"] == 2
    assert "warned" in (server.home / f"slurm-{job_id}.out").read_text()


def test_background_processes_end_with_their_job(server: Any, api: Any, until: Any) -> None:
    job_id = api.submit("#!/bin/bash\nsleep 300 & echo $! > child\n", server.home)
    assert api.wait_end(job_id)["status"]["state"] == "COMPLETED"
    until(lambda: not _alive(int((server.home / "child").read_text())), "the child is gone")


def test_dependencies_run_in_order(server: Any, api: Any) -> None:
    first = api.submit("#!/bin/sh\nsleep 0.5; echo first >> log\n", server.home)
    after = f"#!/bin/sh\n#SBATCH --dependency=afterok:{first}\necho second >> log\n"
    second = api.submit(after, server.home)
    assert api.reason(second) in ("Dependency", "None")
    assert api.wait_end(second)["status"]["state"] == "COMPLETED"
    assert (server.home / "log").read_text() == "first\nsecond\n"


def test_begin_in_the_future_waits(server: Any, api: Any) -> None:
    job_id = api.submit("#!/bin/sh\n#SBATCH --begin=now+1\ntrue\n", server.home)
    assert api.reason(job_id) == "BeginTime"
    assert api.wait_end(job_id)["status"]["state"] == "COMPLETED"


def test_the_queue_tells_when_a_job_is_expected_to_start(serve: Any, connect: Any, until: Any) -> None:
    """As squeue does, in the place of the start: when the job that runs has to end."""
    server = serve(cores=1)
    api = connect(server)
    first = api.submit("#!/bin/sh\n#SBATCH --time=10\nsleep 60\n", server.home)
    second = api.submit("#!/bin/sh\n#SBATCH --time=1\ntrue\n", server.home)
    started = until(lambda: api.row(first)["time"]["start"], "the first job runs")
    times = until(lambda: (found := api.row(second)["time"])["start"] and found, "the second job is planned")
    assert abs(times["start"] - started - 600) <= 1
    assert (times["elapsed"], times["end"] - times["start"]) == (0, 60)
    api.cancel(first)
    assert api.wait_end(second)["time"]["start"] < started + 300


def test_full_node_keeps_jobs_pending(serve: Any, connect: Any) -> None:
    server = serve(cores=1)
    api = connect(server)
    first = api.submit("#!/bin/sh\nsleep 60\n", server.home)
    second, third = (api.submit("#!/bin/sh\ntrue\n", server.home) for _ in range(2))
    assert (api.reason(second), api.reason(third)) == ("Resources", "Priority")
    assert api.http.get("/status/local/nodes").json()["nodes"][0]["state"] == ["ALLOCATED"]
    api.cancel(first)
    assert api.wait_end(third)["status"]["state"] == "COMPLETED"


@pytest.mark.parametrize(
    ("directive", "words"),
    [
        ("--gpus=1", "Requested node configuration is not available"),
        ("--gres=gpu:1", "Requested node configuration is not available"),
        ("--gpus-per-node=2", "Requested node configuration is not available"),
        ("--cpus-per-task=500", "Requested node configuration is not available"),
        ("--array=0-5000", "Invalid job array specification"),
        ("--time=soon", "Invalid --time specification"),
        ("--constraint=moon", "Invalid feature specification"),
        ("--reservation=none", "Requested reservation is invalid"),
        ("--dependency=sometime", "Job dependency problem"),
        ("--mem=lots", "Invalid --mem specification"),
        ("--nodes=none", "Invalid node count"),
        ("--no-such-option", "unrecognized option '--no-such-option'"),
    ],
)
def test_refusal(directive: str, words: str, server: Any, api: Any) -> None:
    answer = api.try_submit(f"#!/bin/sh\n#SBATCH {directive}\n", server.home)
    assert answer.status_code == 500
    assert answer.json()["message"].startswith("Unexpected Slurm command response. exit_status:")
    assert words in answer.json()["message"]


def test_gpus_and_memory_are_granted_where_there_are_gpus(serve: Any, connect: Any) -> None:
    server = serve(gpus=2)
    api = connect(server)
    script = "#!/bin/sh\n#SBATCH --gres=gpu:2 --mem=4G\necho $CUDA_VISIBLE_DEVICES\n"
    job_id = api.submit(script, server.home)
    api.wait_end(job_id)
    assert (server.home / f"slurm-{job_id}.out").read_text() == "0,1\n"


@pytest.mark.parametrize("option", ["--parsable", "--quiet", "-Q", "--test-only"])
def test_submission_whose_id_the_real_server_cannot_read(option: str, server: Any, api: Any) -> None:
    name = f"no-id{option}"
    answer = api.try_submit(f"#!/bin/sh\n#SBATCH {option}\n", server.home, name=name)
    assert (answer.status_code, answer.json()["message"]) == (500, "Unable to submit new job")
    # All but one of the options have a job all the same.
    assert len(api.list(name=name)) == (option != "--test-only")


def test_list_is_filtered(serve: Any, connect: Any) -> None:
    server = serve(accounts=("one", "two"))
    api = connect(server)
    for name, account in (("a", "one"), ("b", "one"), ("c", "two")):
        api.wait_end(api.submit("#!/bin/sh\n", server.home, name=name, account=account))
    assert [row["name"] for row in api.list()] == ["a", "b", "c"]
    assert [row["name"] for row in api.list(name="a,c")] == ["a", "c"]
    assert [row["name"] for row in api.list(account="two", allusers=True)] == ["c"]
    assert len(api.list(time_window="7d")) == 3


def test_name_with_a_bar_is_invisible(server: Any, api: Any) -> None:
    job_id = api.submit("#!/bin/sh\nsleep 1\n", server.home, name="a|b")
    assert api.http.get(f"{api.jobs_url}/{job_id}").status_code == 404
    assert all(row["name"] != "a|b" for row in api.list())


def test_accounting_lags(serve: Any, connect: Any, until: Any) -> None:
    server = serve(accounting_lag=30.0)
    api = connect(server)
    job_id = api.submit("#!/bin/sh\necho ran > ran\n", server.home)
    until(lambda: api.state(job_id) == "COMPLETED", "the job ends")
    row = api.row(job_id)
    assert (row["name"], row["partition"], row["workingDirectory"]) == ("allocation", "", "")
    assert api.list() == []


def test_metadata_is_gone_some_time_after_the_end(serve: Any, connect: Any, until: Any) -> None:
    server = serve(min_job_age=0.5)
    api = connect(server)
    job_id = api.submit("#!/bin/sh\n", server.home)
    url = f"{api.jobs_url}/{job_id}/metadata"
    assert api.http.get(url).status_code == 200
    until(lambda: api.http.get(url).status_code == 404, "the metadata is gone")
    assert api.state(job_id) == "COMPLETED"
    assert "Invalid job id specified" in api.cancel(job_id).json()["message"]


def test_list_leaves_out_a_job_that_has_just_ended(serve: Any, connect: Any, until: Any) -> None:
    server = serve(accounting_lag=0.8)
    api = connect(server)
    job_id = api.submit("#!/bin/sh\nsleep 1.5\n", server.home, name="just-ended")
    assert [row["jobId"] for row in api.list(name="just-ended")] == [job_id]
    until(lambda: api.state(job_id) == "COMPLETED", "the job ends")
    assert api.list(name="just-ended") == []
    until(lambda: api.list(name="just-ended"), "the list shows it")


def test_wrong_ids(api: Any) -> None:
    answer = api.http.get(f"{api.jobs_url}/abc")
    assert answer.status_code == 500
    assert answer.json()["message"] == "Error executing Slurm command."
    assert "abc" in answer.json()["causedBy"][0]
    assert api.cancel("abc").status_code == 500


def test_attach_runs_inside_the_job(server: Any, api: Any) -> None:
    job_id = api.submit("#!/bin/sh\nsleep 60\n", server.home)
    api.wait_running(job_id)
    url = f"{api.jobs_url}/{job_id}/attach"
    assert api.http.put(url, json={"command": "echo $SLURM_JOB_ID > attached"}).status_code == 204
    assert (server.home / "attached").read_text() == f"{job_id}\n"
    failed = api.http.put(url, json={"command": "echo no >&2; exit 3"})
    assert failed.status_code == 500
    assert "exit_status:3 std_err:no" in failed.json()["message"]
    gone = api.http.put(f"{api.jobs_url}/999/attach", json={"command": "true"})
    assert "Invalid job id specified" in gone.json()["message"]


def test_working_directory_outside_of_the_root_cannot_be_entered(server: Any, api: Any) -> None:
    row = api.wait_end(api.submit("#!/bin/sh\ntouch here\n", "/"))
    assert (row["status"]["state"], row["status"]["interruptSignal"]) == ("FAILED", 53)
    assert not Path("/here").exists()


def test_many_jobs_at_once(server: Any, api: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: api.submit("#!/bin/sh\n:\n", server.home), range(40)))
    assert len(set(ids)) == 40
    for job_id in ids:
        assert api.wait_end(job_id)["status"]["state"] == "COMPLETED"
