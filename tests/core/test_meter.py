"""The meter's real lines, run by real shells: it measures, and nothing else of the job changes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.usage import JobUsage, parse_usage

KEY = ClaimKey("task", 3)
SHELLS = [name for name in ("sh", "bash", "dash", "zsh", "ksh", "mksh") if shutil.which(name)]
# Those that bear a trap on EXIT.
WITH_TRAP = [name for name in SHELLS if name not in ("ksh", "mksh")]
UNTIL_MEASURED = "until [ -e .firecrest/task/3.0/usage.json ]; do sleep 0.05; done"


def begin(
    workdir: Path, text: str, *, replaced: dict[str, str] | None = None, usage: bool = True, **environment: str
) -> subprocess.Popen[str]:
    script = BoundSubmission.bind(JobSpec(working_dir=str(workdir), script=text, usage=usage), KEY).request().script
    assert script is not None
    for old, new in (replaced or {}).items():
        assert old in script
        script = script.replace(old, new)
    path = workdir.parent / "script"
    path.write_text(script)
    return subprocess.Popen(
        [*script.split("\n", 1)[0].removeprefix("#!").split(" "), str(path)],
        cwd=workdir,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": "57", "SLURM_CPUS_ON_NODE": "2", **environment},
    )


def run(workdir: Path, text: str, **options: object) -> tuple[int, str, str]:
    process = begin(workdir, text, **options)  # type: ignore[arg-type]
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def measured(workdir: Path) -> JobUsage | None:
    file = workdir / ".firecrest" / "task" / "3.0" / "usage.json"
    return parse_usage(file.read_bytes()) if file.exists() else None


@pytest.fixture(params=["plain", "a  b $(c) `d` é"])
def workdir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.mkdir()
    return path


@pytest.mark.parametrize("options", ["", " -eu"])
@pytest.mark.parametrize("shell", [*WITH_TRAP, "python3", "tcsh", "fish"])
def test_a_script_that_ends_is_measured(shell: str, options: str, workdir: Path) -> None:
    if not (path := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    if options and shell not in WITH_TRAP:
        pytest.skip("not its option")
    text = "import sys\nprint('ran')\nsys.exit(3)\n" if shell == "python3" else "echo ran\nexit 3\n"
    assert run(workdir, f"#!{path}{options}\n{text}") == (3, "ran\n", "")
    usage = measured(workdir)
    assert usage is not None
    assert (usage.cpus, usage.memory_peak, usage.gpus, usage.node_energy) == (2, None, None, None)
    assert usage.cpu_seconds is not None
    assert [path.name for path in (workdir / ".firecrest").iterdir()] == ["task"]


@pytest.mark.parametrize("shell", WITH_TRAP)
def test_the_cpu_time_of_children_is_measured(shell: str, tmp_path: Path) -> None:
    """Wherever the script is left by a failing command, too."""
    text = f"#!/usr/bin/env {shell}\nset -e\nhead -c 60000000 /dev/zero | cksum\nPATH=/none; IFS=1; false\necho no\n"
    (tmp_path / "wd").mkdir()
    code, out, err = run(tmp_path / "wd", text)
    assert (code, out.count("\n"), err) == (1, 1, "")
    usage = measured(tmp_path / "wd")
    assert usage is not None
    assert usage.cpu_seconds is not None
    assert usage.cpu_seconds > 0
    assert not usage.cpu_complete


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("text", "out"),
    [
        (f"trap 'echo bye' EXIT\n{UNTIL_MEASURED}\nexit 4\n", "bye\n"),
        (f"trap - EXIT\n{UNTIL_MEASURED}\nexit 4\n", ""),
        (f"exec sh -c '{UNTIL_MEASURED}; exit 4'\n", ""),
        (f"{UNTIL_MEASURED}\nwait; jobs; kill -KILL $$\n", ""),
    ],
    ids=["own trap", "no trap", "exec", "killed"],
)
def test_the_meter_measures_where_no_trap_runs(shell: str, text: str, out: str, tmp_path: Path) -> None:
    workdir = tmp_path / "wd"
    workdir.mkdir()
    code, *written = run(workdir, f"#!/usr/bin/env {shell}\n{text}")
    assert (code, written) == (-signal.SIGKILL if "KILL" in text else 4, [out, ""])
    assert measured(workdir) is not None


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_job_as_it_does_without(shell: str, number: signal.Signals, tmp_path: Path) -> None:
    """For example ``--signal=B:USR1``: it reaches the script's own shell."""
    ends = []
    for usage in (False, True):
        workdir = tmp_path / f"{usage}" / "wd"
        workdir.mkdir(parents=True)
        text = "sh -c 'touch began; exec sleep 1 > /dev/null 2>&1'\nexit 5\n"
        process = begin(workdir, f"#!/usr/bin/env {shell}\n{text}", usage=usage)
        deadline = time.monotonic() + 30
        while not (workdir / "began").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        ends.append((*process.communicate(timeout=60), process.returncode))
    assert ends[0] == ends[1]
    if shell == "bash" and number is signal.SIGTERM:
        assert measured(workdir) is not None


@pytest.mark.parametrize("shell", WITH_TRAP)
def test_the_users_own_handler_of_a_signal_runs(shell: str, tmp_path: Path) -> None:
    workdir = tmp_path / "wd"
    workdir.mkdir()
    text = "trap 'echo saved; exit 7' TERM\ntouch began\nwhile :; do sleep 0.05; done\n"
    process = begin(workdir, f"#!/usr/bin/env {shell}\n{text}")
    while not (workdir / "began").exists():
        time.sleep(0.01)
    process.terminate()
    assert process.communicate(timeout=60) == ("saved\n", "")
    assert process.returncode == 7
    assert measured(workdir) is not None


@pytest.mark.parametrize("shell", WITH_TRAP)
def test_what_cannot_be_written_fails_no_job(shell: str, workdir: Path) -> None:
    assert run(workdir, f"#!/usr/bin/env {shell}\nrm -r .firecrest\necho ran\n") == (0, "ran\n", "")
    assert list(workdir.iterdir()) == []
    (workdir / "other").write_text("mine\n")
    text = "rm -r .firecrest/task/3.0; ln -s ../../other .firecrest/task/3.0\necho ran\n"
    assert run(workdir, f"#!/usr/bin/env {shell} -e\n{text}", SLURM_JOB_ID="58") == (0, "ran\n", "")
    assert (workdir / "other").read_text() == "mine\n"
    assert not list((workdir / ".firecrest").glob(".usage*"))


@pytest.mark.parametrize("shell", WITH_TRAP)
def test_a_shell_that_prints_what_it_does_prints_none_of_the_end(shell: str, tmp_path: Path) -> None:
    workdir = tmp_path / "wd"
    workdir.mkdir()
    code, out, err = run(workdir, f"#!/usr/bin/env {shell}\nset -x\necho ran\n")
    assert (code, out) == (0, "ran\n")
    assert err.count("\n") == 1
    assert err.endswith("echo ran\n")


def test_subshells_measure_nothing(tmp_path: Path) -> None:
    """The trap is of the script's own shell alone."""
    workdir = tmp_path / "wd"
    workdir.mkdir()
    file = ".firecrest/task/3.0/usage.json"
    text = f"#!/bin/bash\n(exit 3)\nx=$(true)\ntrue | (true)\ntrue & wait\n[ ! -e {file} ]\n"
    assert run(workdir, text) == (0, "", "")


# --- what there is to measure ------------------------------------------------------------------------------


def test_the_job_s_cgroup(tmp_path: Path) -> None:
    workdir, node = tmp_path / "wd", tmp_path / "node"
    workdir.mkdir()
    job = node / "fs/system.slice/slurmstepd.scope/job_57"
    job.mkdir(parents=True)
    (node / "cgroup").write_text("0::/system.slice/slurmstepd.scope/job_57/step_batch/user/task_0\n")
    (job / "cpu.stat").write_text("usage_usec 250000000\nuser_usec 1\n")
    (job / "memory.peak").write_text(f"{3 * 1024**3}\n")
    (job / "memory.max").write_text(f"{8 * 1024**3}\n")
    replaced = {"/sys/fs/cgroup": str(node / "fs"), "/proc/$shell/cgroup": str(node / "cgroup")}
    # The node's clock counts hundredths of a second, and a job that took none has no share of it.
    assert run(workdir, "#!/bin/sh\nsleep 0.1\n", replaced=replaced, SLURM_JOB_NUM_NODES="4")[0] == 0
    usage = measured(workdir)
    assert usage is not None
    assert (usage.cpu_seconds, usage.cpu_complete) == (250.0, True)
    assert usage.summary() == "used 100 % of 2 cores, 3 of 8 GiB (batch node, one of 4)"
    # Without a limit, that of the submission counts; without a file, nothing is made of it.
    (job / "memory.max").write_text("max\n")
    (job / "memory.peak").unlink()
    assert run(workdir, "#!/bin/sh\n:\n", replaced=replaced, SLURM_MEM_PER_CPU="1024")[0] == 0
    usage = measured(workdir)
    assert usage is not None
    assert (usage.memory_peak, usage.memory_limit) == (None, 2 * 1024**3)


def test_the_job_s_cgroups_of_version_1(tmp_path: Path) -> None:
    workdir, node = tmp_path / "wd", tmp_path / "node"
    workdir.mkdir()
    for name, files in {
        "memory": {"memory.max_usage_in_bytes": 1024**3, "memory.limit_in_bytes": 9223372036854771712},
        "cpuacct": {"cpuacct.usage": 1_500_000_000},
    }.items():
        directory = node / "fs" / name / "slurm/uid_1000/job_57"
        directory.mkdir(parents=True)
        for file, value in files.items():
            (directory / file).write_text(f"{value}\n")
    path = "/slurm/uid_1000/job_57/step_batch/task_0"
    (node / "cgroup").write_text(f"5:memory:{path}\n3:cpu,cpuacct:{path}\n1:pids:/slurm/uid_1000/job_571\n0::/\n")
    replaced = {"/sys/fs/cgroup": str(node / "fs"), "/proc/$shell/cgroup": str(node / "cgroup")}
    assert run(workdir, "#!/bin/sh\n:\n", replaced=replaced)[0] == 0
    usage = measured(workdir)
    assert usage is not None
    assert (usage.cpu_seconds, usage.memory_peak, usage.memory_limit) == (1.5, 1024**3, None)


def test_another_s_cgroup_is_not_the_job_s(tmp_path: Path) -> None:
    workdir = tmp_path / "wd"
    workdir.mkdir()
    (tmp_path / "cgroup").write_text("0::/slurm/job_571\n")
    assert run(workdir, "#!/bin/sh\n:\n", replaced={"/proc/$shell/cgroup": str(tmp_path / "cgroup")})[0] == 0
    usage = measured(workdir)
    assert usage is not None
    assert not usage.cpu_complete


def test_gpus_and_energy(tmp_path: Path) -> None:
    workdir, tools = tmp_path / "wd", tmp_path / "tools"
    workdir.mkdir()
    tools.mkdir()
    (tmp_path / "energy").write_text("1000 J 1690000 us\n")
    (tools / "nvidia-smi").write_text('#!/bin/sh\necho "$@" > asked\necho "90, 1024, 4096"; echo "30, 2048, 4096"\n')
    (tools / "nvidia-smi").chmod(0o755)
    text = f"#!/bin/bash\n{UNTIL_MEASURED}\necho '2800 J 1 us' > {tmp_path}/energy\n"
    replaced = {"/sys/cray/pm_counters/energy": str(tmp_path / "energy")}
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "SLURM_GPUS_ON_NODE": "2", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert run(workdir, text, replaced=replaced, **environment) == (0, "", "")
    usage = measured(workdir)
    assert usage is not None
    assert (usage.gpus, usage.gpu_utilization, usage.node_energy) == (2, 0.6, 1800)
    assert (usage.gpu_memory_peak, usage.gpu_memory) == (3 * 1024**3, 8 * 1024**3)
    assert "60 % of 2 GPUs, 3 of 8 GiB of their memory, 0.0005 kWh of the whole node" in usage.summary()
    assert (workdir / "asked").read_text().startswith("-i 0,1 ")


def test_gpus_of_amd(tmp_path: Path) -> None:
    workdir, card = tmp_path / "wd", tmp_path / "drm" / "card1" / "device"
    workdir.mkdir()
    card.mkdir(parents=True)
    for name, value in {"gpu_busy_percent": 40, "mem_info_vram_used": 2**30, "mem_info_vram_total": 2**36}.items():
        (card / name).write_text(f"{value}\n")
    text = f"#!/bin/bash\n{UNTIL_MEASURED}\n"
    replaced = {"/sys/class/drm": str(tmp_path / "drm"), "command -v nvidia-smi": "command -v no-such-program"}
    assert run(workdir, text, replaced=replaced, SLURM_GPUS_ON_NODE="1") == (0, "", "")
    usage = measured(workdir)
    assert usage is not None
    assert (usage.gpus, usage.gpu_utilization, usage.gpu_memory) == (1, 0.4, 2**36)


# --- which jobs have a meter --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "metered"),
    [({}, True), ({"usage": False}, False), ({"usage": "False"}, False), ({"array": "0-3"}, False)],
)
def test_which_jobs_have_a_meter(fields: dict[str, object], metered: bool) -> None:
    spec = JobSpec(working_dir="/wd", command="true", **fields)  # type: ignore[arg-type]
    script = BoundSubmission.bind(spec, KEY).request().script
    assert script is not None
    assert ("firecrest_usage" in script) is metered
    assert JobSpec.from_mapping(spec.to_mapping()) == spec
    assert ("usage" in spec.to_mapping()) is ("usage" in fields)
