"""The lines of launchers run in a real bash, on two nodes that a stand-in for srun makes of this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import Connection, FirecRESTClient, lifecycle
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.render import render
from firecrest_local import LocalFirecREST
from harness.ports import reserved_ports

STAND_INS = Path(__file__).parent.parent / "stand_ins"
ALL_REDUCE = shlex.join([sys.executable, str(STAND_INS / "all_reduce.py")])


def run(spec: JobSpec, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a job's script as Slurm does on the first of its nodes."""
    with reserved_ports(1) as [port]:
        free = str(port)
    environment = {
        "PATH": f"{STAND_INS}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": str(spec.nodes or 1),
        "SLURM_CPUS_ON_NODE": "2",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": free,
        **variables,
    }
    return subprocess.run(
        ["bash", "-s"],
        input=render(spec),
        env=environment,
        cwd=spec.working_dir,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_srun_gives_each_task_what_torchrun_does(tmp_path: Path) -> None:
    spec = JobSpec(working_dir=str(tmp_path), command=ALL_REDUCE, launcher="srun", nodes=2, ntasks=4)
    done = run(spec, SLURM_NTASKS="4")
    assert sorted(done.stdout.splitlines()) == [f"rank {rank} of 4, local {rank % 2}, sum 6" for rank in range(4)], (
        done.stderr
    )


@pytest.mark.parametrize(
    "variables",
    [{"SLURM_TASKS_PER_NODE": "3(x2)"}, {"SLURM_TASKS_PER_NODE": "1(x2)", "SLURM_GPUS_ON_NODE": "3"}],
    ids=["a process a task", "a process a GPU"],
)
def test_the_agents_of_torchrun_meet(tmp_path: Path, variables: dict[str, str]) -> None:
    done = run(JobSpec(working_dir=str(tmp_path), command=ALL_REDUCE, launcher="torchrun", nodes=2), **variables)
    assert sorted(done.stdout.splitlines()) == [f"rank {rank} of 6, local {rank % 3}, sum 15" for rank in range(6)], (
        done.stderr
    )


def test_the_nodes_of_ray_join_before_the_command_runs_once(tmp_path: Path) -> None:
    command = "echo cluster $RAY_ADDRESS; ray status; exit 3"
    done = run(JobSpec(working_dir=str(tmp_path), command=command, launcher="ray", nodes=3))
    assert done.stdout.count("cluster localhost:") == 1
    assert done.stdout.count("1 node_") == 3
    assert done.returncode == 3, done.stderr


@pytest.mark.parametrize("launcher", ["torchrun", "ray"])
async def test_on_a_laptop(f7t: LocalFirecREST, workdir: Path, launcher: str) -> None:
    command = {"torchrun": ALL_REDUCE, "ray": "echo $RAY_ADDRESS; ray status"}[launcher]
    setup = [f"ln -s {STAND_INS / launcher} .", "export PATH=$PWD:$PATH MASTER_ADDR=localhost"]
    spec = JobSpec(
        working_dir=str(workdir), command=command, launcher=launcher, ntasks=2, setup=setup, stdout="out", stderr="err"
    )
    async with FirecRESTClient(Connection.from_environment(f7t.environ)) as client:
        system = client.system()
        result = await lifecycle.wait(system, await lifecycle.submit(system, spec), poll_interval=0.2, timeout=60)
    assert result.succeeded, (workdir / "err").read_text()
    expected = {"torchrun": "rank 1 of 2, local 1, sum 1\n", "ray": " 1 node_0\n"}
    assert expected[launcher] in (workdir / "out").read_text()


def test_nothing_runs_when_the_head_of_ray_cannot_start(tmp_path: Path) -> None:
    failing = tmp_path / "bin"
    failing.mkdir()
    (failing / "ray").write_text("#!/bin/sh\nexit 2\n")
    (failing / "ray").chmod(0o755)
    path = f"{failing}:{STAND_INS}:{os.environ['PATH']}"
    done = run(JobSpec(working_dir=str(tmp_path), command="echo ran", launcher="ray"), PATH=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the head of Ray has ended, so nothing runs" in done.stderr


@pytest.mark.parametrize("launcher", ["srun", "torchrun", "ray"])
def test_a_command_keeps_its_quotes_and_its_exit_code(tmp_path: Path, launcher: str) -> None:
    spec = JobSpec(
        working_dir=str(tmp_path), command=["bash", "-c", 'echo "it\'s $0"; exit 4', "$HOME"], launcher=launcher
    )
    done = run(spec, SLURM_TASKS_PER_NODE="1")
    assert (done.stdout, done.returncode) == ("it's $HOME\n", 4)


def test_variables_have_the_values_of_each_process(tmp_path: Path) -> None:
    spec = JobSpec(working_dir=str(tmp_path), command="echo task $SLURM_PROCID", launcher="srun", ntasks=2)
    assert sorted(run(spec, SLURM_NTASKS="2").stdout.split()) == ["0", "1", "task", "task"]


def test_mpirun_gets_the_number_of_tasks(tmp_path: Path) -> None:
    stand_in = tmp_path / "mpirun"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    spec = JobSpec(working_dir=str(tmp_path), command="./solver", launcher="mpirun", ntasks=8)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert run(spec, PATH=path, SLURM_NTASKS="8").stdout == "-np 8 bash -c ./solver\n"
    assert run(spec, PATH=path).stdout == "bash -c ./solver\n"


@pytest.mark.parametrize(
    ("command", "run_by_torchrun"),
    [
        ("train.py --lr 0.1", "'python -u train.py --lr 0.1'"),
        ("src/train.py", "'python -u src/train.py'"),
        ("-m package.train", "'python -u -m package.train'"),
        ("python train.py", "'python train.py'"),
        ("./train.python", "./train.python"),
    ],
)
def test_torchrun_takes_what_it_takes_on_a_command_line(command: str, run_by_torchrun: str) -> None:
    text = JobSpec(working_dir="/w", command=command, launcher="torchrun").text
    assert text.endswith(f"--no-python \\\n    bash -c {run_by_torchrun}\n")


def test_the_meeting_point_follows_from_the_job() -> None:
    lines = JobSpec(working_dir="/w", command="true", launcher="srun").text.splitlines()[1:3]
    script = "\n".join([*lines, 'echo "$MASTER_ADDR $MASTER_PORT"'])

    def meeting_point(**variables: str) -> list[str]:
        done = subprocess.run(["bash", "-c", script], env=variables, text=True, capture_output=True, check=True)
        return done.stdout.split()

    assert meeting_point(SLURM_JOB_ID="123456") == [os.uname().nodename, "23456"]
    assert meeting_point(SLURM_JOB_ID="1", MASTER_ADDR="nid1-hsn0", MASTER_PORT="5") == ["nid1-hsn0", "5"]


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
@pytest.mark.parametrize(
    ("asked", "tasks"),
    [
        ({"nodes": 2, "gpus_per_node": "a100:4"}, "--ntasks-per-node=4"),
        ({"gpus": 8}, "--ntasks=8"),
        ({"gpus_per_node": 4, "ntasks": 2}, "--ntasks=2"),
        ({"gpus_per_node": 4, "ntasks_per_node": 1}, "--ntasks-per-node=1"),
    ],
)
def test_a_job_with_gpus_gets_a_task_for_each(launcher: str, asked: dict[str, Any], tasks: str) -> None:
    script = render(JobSpec(working_dir="/w", command="true", launcher=launcher, **asked))
    assert [line for line in script.splitlines() if line.startswith("#SBATCH --ntasks")] == [f"#SBATCH {tasks}"]


@pytest.mark.parametrize("launcher", ["torchrun", "ray", None])
def test_other_jobs_with_gpus_get_no_tasks(launcher: str | None) -> None:
    assert "#SBATCH --ntasks" not in render(JobSpec(working_dir="/w", command="true", launcher=launcher, gpus=4))


def test_a_launcher_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidJobSpec, match="launcher: 'torch'; did you mean 'torchrun'"):
        JobSpec(working_dir="/w", command="true", launcher="torch")


@pytest.mark.parametrize("run_by", [{"script": "#!/bin/bash\ntrue"}, {"script_path": "/w/job.sh"}])
def test_a_launcher_takes_a_command(run_by: dict[str, str]) -> None:
    with pytest.raises(InvalidJobSpec, match="launcher: torchrun starts a command"):
        JobSpec(working_dir="/w", launcher="torchrun", **run_by)


@pytest.mark.parametrize("launcher", ["srun", "torchrun", "ray"])
def test_pbs_has_no_srun(launcher: str) -> None:
    spec = JobSpec(working_dir="/w", command="true", launcher=launcher)
    with pytest.raises(InvalidJobSpec, match=f"launcher: {launcher} needs srun, which PBS has not"):
        render(spec, "pbs")


def test_mpirun_is_for_pbs_too() -> None:
    script = render(JobSpec(working_dir="/w", command="./a", launcher="mpirun", nodes=2, gpus_per_node=4), "pbs")
    assert "#PBS -l select=2:ncpus=4:mpiprocs=4:ngpus=4\n" in script
    assert script.endswith("    bash -c ./a\n")
