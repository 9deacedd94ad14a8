"""What crashes have left below the working directory goes by age, in the prologue of a later job, in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.claims.prologue import FORGOTTEN_AFTER
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec

OLD = FORGOTTEN_AFTER + 2
YOUNG = FORGOTTEN_AFTER - 2
SHELLS = [name for name in ("sh", "bash", "dash", "ksh", "mksh", "zsh", "busybox sh") if shutil.which(name.split()[0])]


@pytest.fixture(params=["plain", "white space; $(touch bad) `x` & *\\n", "Größe ✓ [a-z]*"])
def workdir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.mkdir()
    return path


@pytest.fixture(params=SHELLS)
def run_job(request: pytest.FixtureRequest, workdir: Path, tmp_path: Path) -> Callable[..., None]:
    """Run a job's script in a shell, and wait until its background is done. Busybox brings its own `find`."""
    environment = {"PATH": os.environ["PATH"]}
    if request.param == "busybox sh":
        tools = tmp_path / "tools"
        tools.mkdir()
        subprocess.run(["busybox", "--install", "-s", str(tools)], check=True)
        environment = {"PATH": str(tools)}

    def run_job(job_id: str = "1", task: str = "task", line: str = "echo ran") -> None:
        path = tmp_path / f"script {job_id}"
        spec = JobSpec(working_dir=str(workdir), script=f"#!/bin/sh\n{line}\n", name="relax", usage=False)
        script = BoundSubmission.bind(spec, ClaimKey(task, 3)).request().script
        assert script is not None
        path.write_text(script)
        ready, written = os.pipe()  # closed by the last process of the job
        shell, *applet = request.param.split()
        command = [shutil.which(shell) or shell, *applet, str(path)]
        ended = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[written],
            env=environment | {"SLURM_JOB_ID": job_id},
        )
        os.close(written)
        out, err = ended.communicate(timeout=60)
        os.read(ready, 1)
        os.close(ready)
        assert (ended.returncode, out, err) == (0, "ran\n", "")

    return run_job


def left_by(workdir: Path, task: str, days: float, *, claimed: float | None = None) -> Path:
    """Make a task's directory as a crash has left it: so many days old, its claim maybe younger."""
    directory = workdir / ".firecrest" / task / "0.0"
    directory.mkdir(parents=True)
    (directory / "claim").symlink_to(directory / "job-57")
    for path, age in ((directory / "claim", claimed), (directory, claimed), (directory.parent, None)):
        at = time.time() - (days if age is None else age) * 86400
        os.utime(path, (at, at), follow_symlinks=False)
    return directory.parent


def kept(workdir: Path) -> set[str]:
    return {path.name for path in (workdir / ".firecrest").iterdir() if not path.name.startswith(".pruned-")}


def stamps(workdir: Path) -> list[Path]:
    return list((workdir / ".firecrest").glob(".pruned-*"))


def test_old_directories_of_other_tasks_go(workdir: Path, run_job: Callable[..., None]) -> None:
    left_by(workdir, "old", OLD)
    left_by(workdir, "older-1.2_x", 10 * OLD)
    left_by(workdir, "young", YOUNG)
    left_by(workdir, "waited-long", OLD, claimed=YOUNG)  # its claim was made long after its directory
    left_by(workdir, "task", OLD)
    outside = workdir / "outside"
    left_by(outside, "old", OLD)
    (workdir / ".firecrest" / "link").symlink_to(outside)
    old = time.time() - OLD * 86400
    os.utime(workdir / ".firecrest" / "link", (old, old), follow_symlinks=False)
    (workdir / ".firecrest" / "notes").write_text("of the user")
    os.utime(workdir / ".firecrest" / "notes", (old, old))
    run_job()
    assert kept(workdir) == {"young", "waited-long", "task", "link", "notes"}
    assert (outside / ".firecrest" / "old" / "0.0" / "claim").is_symlink()
    assert len(stamps(workdir)) == 1
    assert {path.name for path in workdir.iterdir()} == {".firecrest", "outside"}


def test_it_is_done_once_a_day(workdir: Path, run_job: Callable[..., None]) -> None:
    run_job("0", "zero")
    assert stamps(workdir) == []  # in a directory of its own, a task leaves nothing
    run_job("1", "one")
    left_by(workdir, "old", OLD)
    run_job("2", "two")
    assert kept(workdir) == {"zero", "one", "two", "old"}
    assert len(stamps(workdir)) == 1
    stamps(workdir)[0].rename(workdir / ".firecrest" / ".pruned-20200101")  # the next day
    run_job("3", "three")
    assert kept(workdir) == {"zero", "one", "two", "three"}
    assert [path.name for path in stamps(workdir)] == [time.strftime(".pruned-%Y%m%d", time.gmtime())]


def test_a_directory_that_cannot_be_changed_fails_no_job(tmp_path: Path) -> None:
    """Without the tools, or where the stamp cannot be made, the payload runs all the same."""
    spec = JobSpec(working_dir=str(tmp_path), script="#!/bin/sh\necho ran\n", name="relax")
    script = BoundSubmission.bind(spec, ClaimKey("task", 3)).request().script
    assert script is not None
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("find", "date"):
        (tools / name).write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
        (tools / name).chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "1"}
    ended = subprocess.run(["sh", "-eu"], input=script, capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ran\n", "")
