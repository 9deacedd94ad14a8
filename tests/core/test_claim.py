"""Keys and names, and the prologue's real text run by real shells on a real directory."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecrest_core.api.models import FileInfo
from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.claims.claim import CANCELLED, Claims
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claim_identity, fingerprint, read_job_name
from firecrest_core.spec.jobspec import JobSpec

SHELLS = [path for name in ("sh", "bash", "dash", "ksh", "mksh", "zsh") if (path := shutil.which(name))]


# --- names --------------------------------------------------------------------------------------------


def test_an_identity_is_readable_and_its_own() -> None:
    name = claim_identity("my dag", "manual__2026-11-20T16:00:00+00:00", "relax", -1, nonce="x")
    assert name.startswith("my-dag-manual-2026-11-20T16-00-00-00-00-relax-1-")
    others = [
        claim_identity("my dag", "manual__2026-11-20T16:00:00+00:00", "relax", -1, nonce="y"),
        claim_identity("my dag manual__2026-11-20T16:00:00+00:00", "relax", -1, nonce="x"),
        claim_identity("my_dag", "manual__2026-11-20T16:00:00+00:00", "relax", -1, nonce="x"),
    ]
    assert len({name, *others}) == 4


@given(st.lists(st.text(), max_size=4), st.text(max_size=5))
def test_any_parts_make_an_identity(parts: list[str], nonce: str) -> None:
    ClaimKey(claim_identity(*parts, nonce=nonce))


@pytest.mark.parametrize("identity", ["", "a/b", "..", "-x", "a b", "a'b", "x" * 201])
def test_an_unsafe_identity_is_refused(identity: str) -> None:
    with pytest.raises(ValueError, match="safe"):
        ClaimKey(identity)


def test_a_key_counts_from_zero() -> None:
    with pytest.raises(ValueError, match="count from 0"):
        ClaimKey("a", -1)


@given(st.text("ab-.0123456789 ", min_size=1, max_size=230), st.integers(0, 999), st.integers(0, 999))
def test_a_jobs_name_tells_its_key(name: str, epoch: int, generation: int) -> None:
    key = ClaimKey("task", epoch, generation)
    assert len(key.job_name(name)) <= 230
    assert read_job_name(key.job_name(name)) == (fingerprint("task"), epoch, generation)


@pytest.mark.parametrize("name", ["relax", "relax-1.0", "relax-abcdefghij-1", "relax-ABCDEFGHIJ-1.0", ""])
def test_a_name_without_a_key(name: str) -> None:
    assert read_job_name(name) is None


def test_records_survive_json() -> None:
    job = Job(system="rig", job_id="57", name="relax", array_indices=Indices.parse("0-1"), key=ClaimKey("task", 3, 1))
    assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job
    assert Job.from_dict({"system": "rig", "job_id": "57"}).key is None


# --- a listing ------------------------------------------------------------------------------------------


def entry(name: str, target: str | None = None) -> FileInfo:
    return FileInfo(name=name, type="l" if target else "d", link_target=target)


def test_a_listing_tells_the_claims() -> None:
    claims = Claims.read(
        [
            entry("3.0"),
            entry("3.1"),
            entry("7.0"),
            entry("3.0/claim", "/wd/.firecrest/task/3.0/job-57"),
            entry("3.1/claim", "/wd/.firecrest/task/3.1/cancelled"),
            entry("notes"),
        ]
    )
    assert claims.holder(ClaimKey("task", 3)) == "57"
    assert claims.holder(ClaimKey("task", 3, 1)) == CANCELLED
    assert claims.holder(ClaimKey("task", 7)) is None
    assert (claims.latest(3), claims.latest(7)) == (1, -1)
    assert claims.has_newer_epoch(3)
    assert not claims.has_newer_epoch(7)
    assert claims.jobs([3, 7]) == ["57"]


# --- what is submitted ------------------------------------------------------------------------------------


def script(spec: JobSpec, key: ClaimKey, scheduler: str = "slurm") -> str:
    request = BoundSubmission.bind(spec, key, scheduler).request(scheduler)  # type: ignore[arg-type]
    assert request.script is not None
    return request.script


def test_the_users_name_stays_in_output_paths_and_in_the_job() -> None:
    spec = JobSpec(working_dir="/wd", command="true", name="100%", stdout="%x-%j.out", stderr="%%x-%5j")
    submission = BoundSubmission.bind(spec, ClaimKey("task", 3))
    bound, prologue = submission.spec, submission.prologue
    assert bound.name == f"100%-{fingerprint('task')}-3.0"
    assert (bound.stdout, bound.stderr) == ("100%%-%j.out", "%%x-%5j")
    assert prologue[-1] == "export SLURM_JOB_NAME=100%"
    assert bound.directives == ()


def test_the_scripts_own_name_and_paths_count() -> None:
    text = "#!/bin/sh\n#SBATCH -J own --output=%x.log\ntrue\n"
    bound = BoundSubmission.bind(JobSpec(working_dir="/wd", script=text), ClaimKey("task")).spec
    assert bound.name == f"own-{fingerprint('task')}-0.0"
    assert bound.stdout == "own.log"
    assert bound.directives == ("--open-mode=append",)  # without %j a job that leaves would empty it


@pytest.mark.parametrize("where", ["script", "directives"])
def test_the_users_own_open_mode_stays(where: str) -> None:
    text = "#!/bin/sh\n" + ("#SBATCH --open-mode=truncate\n" if where == "script" else "") + "true\n"
    given = ["--open-mode=truncate"] if where == "directives" else []
    spec = JobSpec(working_dir="/wd", script=text, stdout="fixed", directives=given)
    assert script(spec, ClaimKey("task")).count("--open-mode") == 1
    assert "/dev/stdout" not in script(spec, ClaimKey("task"))


@pytest.mark.parametrize("fields", [{"dependency": "singleton"}, {}])
def test_a_singleton_keeps_its_name(fields: dict[str, str]) -> None:
    text = "#!/bin/sh\n" + ("" if fields else "#SBATCH --dependency=singleton\n") + "true\n"
    bound = BoundSubmission.bind(JobSpec(working_dir="/wd", script=text, name="mine", **fields), ClaimKey("task")).spec
    assert bound.name == "mine"


# --- the prologue, run ------------------------------------------------------------------------------------


def begin(path: Path, job_id: str, **environment: str) -> subprocess.Popen[str]:
    first = path.read_text().split("\n", 1)[0].removeprefix("#!").split(" ", 1)
    return subprocess.Popen(
        [*first, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": job_id, **environment},
    )


def run(path: Path, job_id: str, **environment: str) -> tuple[int, str, str]:
    process = begin(path, job_id, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture(params=["plain", "white space; $(touch bad) `x` & *\\n", "Größe ✓ [a-z]*"])
def workdir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.mkdir()
    return path


def write(workdir: Path, text: str, key: ClaimKey | None = None, scheduler: str = "slurm") -> Path:
    path = workdir.parent / "job script"
    path.write_text(
        script(JobSpec(working_dir=str(workdir), script=text, name="relax"), key or ClaimKey("task", 3), scheduler)
    )
    return path


@pytest.mark.parametrize("options", ["", " -e", " -eu", " -f"])
@pytest.mark.parametrize("shell", SHELLS)
def test_one_of_many_processes_runs(shell: str, options: str, workdir: Path) -> None:
    path = write(workdir, f"#!{shell}{options}\necho ran as $SLURM_JOB_NAME\n")
    processes = [begin(path, str(job_id)) for job_id in range(100, 112)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert sorted(ended) == [("", "", 0)] * 11 + [("ran as relax\n", "", 0)]
    assert [child.name for child in workdir.iterdir()] == [".firecrest"]
    link = workdir / ".firecrest" / "task" / "3.0" / "claim"
    owner = 100 + [out for out, _, _ in ended].index("ran as relax\n")
    assert link.readlink() == link.parent / f"job-{owner}"
    # Requeued, the job with the claim runs again, and no other ever does.
    assert run(path, str(owner))[1] == "ran as relax\n"
    assert run(path, "999") == (0, "", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_runs_when_it_was_cancelled_or_is_over(shell: str, workdir: Path) -> None:
    path = write(workdir, f"#!{shell}\necho ran\n")
    directory = workdir / ".firecrest" / "task" / "3.0"
    directory.mkdir(parents=True)
    (directory / "claim").symlink_to(directory / CANCELLED)
    assert run(path, "1") == (0, "", "")
    (directory / "claim").unlink()
    (directory.parent / "12.0").mkdir()
    assert run(path, "1") == (0, "", "")
    (directory.parent / "12.0").rename(directory.parent / "2.9")
    assert run(path, "1") == (0, "ran\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_what_cannot_be_claimed_fails_with_one_line(shell: str, workdir: Path) -> None:
    path = write(workdir, f"#!{shell}\necho ran\n")
    (workdir / ".firecrest").write_text("in the way")
    code, out, err = run(path, "1")
    assert (code, out) == (1, "")
    assert err.startswith("firecrest: this job cannot claim its task: mkdir:")
    assert err.count("\n") == 1
    (workdir / ".firecrest").unlink()
    code, out, err = run(path, "")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no job id" in err
    workdir.rmdir()
    code, out, err = run(path, "1")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "is no directory on" in err
    assert not workdir.exists()


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write everywhere")
def test_a_directory_without_permission(tmp_path: Path) -> None:
    workdir = tmp_path / "mine"
    workdir.mkdir(mode=0o555)
    path = write(workdir, "#!/bin/sh\necho ran\n")
    command = ["/bin/sh", str(path)]
    if os.geteuid() == 0:
        for each in (path, *list(path.parents)[:-2]):
            each.chmod(each.stat().st_mode | 0o055)
        command = ["setpriv", "--reuid=65534", "--clear-groups", *command]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "SLURM_JOB_ID": "1"}, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Permission denied" in ended.stderr


def test_the_elements_of_an_array_share_its_claim(workdir: Path) -> None:
    path = write(workdir, "#!/bin/sh\necho $SLURM_ARRAY_TASK_ID\n")
    for index in "012":
        assert run(path, f"2{index}", SLURM_ARRAY_JOB_ID="20", SLURM_ARRAY_TASK_ID=index) == (0, f"{index}\n", "")
    assert run(path, "30", SLURM_ARRAY_JOB_ID="30", SLURM_ARRAY_TASK_ID="0") == (0, "", "")


def test_pbs_claims_by_the_number_alone(workdir: Path) -> None:
    path = write(workdir, "#!/bin/sh\necho ran $PBS_JOBNAME\n", scheduler="pbs")
    assert run(path, "", PBS_JOBID="12[3].server", PBS_ARRAY_ID="12[].server") == (0, "ran relax\n", "")
    assert (workdir / ".firecrest/task/3.0/claim").readlink().name == "job-12"
    assert run(path, "", PBS_JOBID="13.server") == (0, "", "")


@pytest.mark.parametrize(
    ("interpreter", "text"),
    [
        (sys.executable, "import sys\nprint('ran')\nsys.exit(3)\n"),
        (f"{sys.executable} -uI", "print('ran')\nraise SystemExit(3)\n"),
        ("perl", 'use strict;\nprint "ran\\n";\nexit 3;\n'),
        ("tcsh", 'set word = ran\nif ($word == "ran") echo $word\nexit 3\n'),
        ("tcsh -f", "alias say echo\nsay ran\nexit 3\n"),
        ("fish", "set word ran\nif true\n    echo $word\nend\nexit 3\n"),
        ("env bash", "set -euo pipefail\necho ran\nexit 3\n"),
        ("env -S bash -u", "echo ran\nexit 3\n"),
        ("env perl", 'print "ran\\n";\nexit 3;\n'),
        ("bash -l", "echo ran\nexit 3\n"),
        ("zsh", "setopt err_return\nwords=(ran)\necho $words[1]\nexit 3\n"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["unix", "dos"])
def test_whatever_reads_the_script(interpreter: str, text: str, line_end: str, tmp_path: Path) -> None:
    workdir = tmp_path / "of mine"
    workdir.mkdir()
    program, *options = interpreter.split(" ")
    wanted = next(word for word in (program, *options) if word != "env" and not word.startswith("-"))
    found = shutil.which(program)
    if found is None or shutil.which(wanted) is None:
        pytest.skip(f"{wanted} is not installed")
    lines = f"#!{' '.join([found, *options])}\n#SBATCH -n 1\n{text}# a comment\n#SBATCH --array=0-3\n"
    path = write(workdir, lines.replace("\n", line_end))
    path.chmod(0o755)  # the kernel reads the first line, as it does for slurmd
    environment = {"PATH": os.environ["PATH"], "HOME": str(workdir.parent)}
    for job_id, out, code in (("1", "ran\n", 3), ("2", "", 0), ("1", "ran\n", 3)):
        ended = subprocess.run(
            [str(path)],
            capture_output=True,
            text=True,
            env={**environment, "SLURM_JOB_ID": job_id},
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (code, out, "")


def test_a_heterogeneous_job_claims_in_its_first_component(workdir: Path) -> None:
    path = write(workdir, "#!/bin/sh\n#SBATCH -n 1\n#SBATCH hetjob\n#SBATCH -n 2\necho ran\n")
    assert path.read_text().index("#SBATCH hetjob") < path.read_text().index("ln -sn")
    components = {"SLURM_HET_SIZE": "2", "SLURM_JOB_ID_HET_GROUP_0": "20", "SLURM_JOB_ID_HET_GROUP_1": "21"}
    assert run(path, "20", **components) == (0, "ran\n", "")
    assert run(path, "30") == (0, "", "")


@pytest.mark.parametrize("options", ["", " -eu"])
@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_job_id_nothing_runs(shell: str, options: str, workdir: Path) -> None:
    path = write(workdir, f"#!{shell}{options}\necho ran\n")
    command = [shell, *options.split(), str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no job id" in ended.stderr


def test_a_job_that_leaves_keeps_a_shared_output(tmp_path: Path) -> None:
    spec = JobSpec(working_dir=str(tmp_path), command="echo from $SLURM_JOB_ID", stdout="fixed.txt")
    path = tmp_path / "script"
    path.write_text(script(spec, ClaimKey("task")))
    output = tmp_path / "fixed.txt"
    output.write_text("of an earlier run\n")
    for job_id in ("1", "2"):
        line = f"exec bash {shlex.quote(str(path))} >> {shlex.quote(str(output))} 2>&1"
        subprocess.run(["bash", "-c", line], env={**os.environ, "SLURM_JOB_ID": job_id}, check=True)
    assert output.read_text() == "from 1\n"
