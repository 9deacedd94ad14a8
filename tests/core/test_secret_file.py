"""Secrets among a job's variables: no script, repr or record has them, and real shells read them from their file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, call

import pytest
from pydantic import SecretStr
from pytest_mock import MockerFixture

from firecrest_core import errors, lifecycle
from firecrest_core.api.client import System
from firecrest_core.api.models import FileInfo
from firecrest_core.claims import owner, protocol
from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.claims.secret_file import SecretFile
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, digest_of
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.render import submit_request
from firecrest_core.states import JobState

VALUE = "it's $SECRET`\r\n\\ =ls"
KEY = ClaimKey("task", 3)
PLAIN = {"OMP_NUM_THREADS": "8", "TOKENIZERS_PARALLELISM": "false", "MAX_TOKENS": "20480", "KEYBOARD": "german"}


def make(workdir: Path | str = "/wd", script: str = "#!/bin/bash\ntrue\n", **more: Any) -> JobSpec:
    return JobSpec(working_dir=str(workdir), script=script, environment={**PLAIN, "TOKEN": SecretStr(VALUE)}, **more)


# --- what is a secret -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HF_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY"])
def test_a_name_of_a_secret(name: str) -> None:
    spec = JobSpec(working_dir="/wd", command="true", environment={**PLAIN, name: "hf_abcdef"})
    assert (spec.secrets, spec.plain_environment) == ({name: "hf_abcdef"}, PLAIN)


def test_a_value_that_is_a_secret_whatever_its_name() -> None:
    spec = JobSpec(working_dir="/wd", command="true", environment={**PLAIN, "SEED": SecretStr("7")})
    assert (spec.secrets, spec.plain_environment) == ({"SEED": "7"}, PLAIN)


def test_no_repr_record_or_digest_has_it(connection: Any) -> None:
    spec = make()
    assert "SECRET" not in repr(spec)
    assert "SECRET" not in str(spec.to_mapping())
    assert JobSpec.from_mapping(spec.to_mapping()) == spec
    with pytest.raises(errors.InvalidJobSpec, match="TOKEN is a secret, and XComs are stored in clear"):
        spec.serialize()
    rotated = JobSpec.from_mapping(spec.to_mapping() | {"environment": {**PLAIN, "TOKEN": SecretStr("another")}})
    assert digest_of(connection, "rig", spec) == digest_of(connection, "rig", rotated)


def test_no_request_leaves_it_out() -> None:
    with pytest.raises(ValueError, match="lines are missing that read TOKEN"):
        submit_request(make())


# --- the script -----------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write script and file of a job as FirecREST would; return their paths."""

    def write(spec: JobSpec, scheduler: Any = "slurm") -> tuple[Path, Path]:
        file = SecretFile.of_claim(spec, KEY.directory(spec.working_dir), scheduler)
        assert file is not None
        text = BoundSubmission.bind(spec, KEY, scheduler).request(scheduler, file).script
        assert text is not None
        assert "SECRET" not in text
        path = Path(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content.get_secret_value().encode())
        script = tmp_path / "script"
        script.write_text(text)
        script.chmod(0o755)
        return script, path

    return write


def run(script: Path, job_id: str = "57", **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": job_id, **more}
    ran = subprocess.run([str(script)], capture_output=True, env=environment, check=False, stdin=subprocess.DEVNULL)
    # Not text=True, which changes line ends.
    return subprocess.CompletedProcess(ran.args, ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def workdir_of(tmp_path: Path) -> Path:
    workdir = tmp_path / "it is mine"
    workdir.mkdir()
    return workdir


@pytest.mark.parametrize("options", ["", " -eu", " -xv"])
@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "ksh", "mksh"])
def test_every_shell_reads_and_removes_it(
    shell: str, options: str, write: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    body = f"#!{shutil.which(shell)}{options}\n/usr/bin/env -0\nexit 3\n"
    script, file = write(make(workdir_of(tmp_path), body))
    ran = run(script)
    assert ran.returncode == 3, ran.stderr
    assert f"TOKEN={VALUE}\0" in ran.stdout
    assert "OMP_NUM_THREADS=8\0" in ran.stdout
    assert "firecrest_flags" not in ran.stdout
    assert "SECRET" not in ran.stderr
    assert ("+ exit 3" in ran.stderr or "> exit 3" in ran.stderr) == ("x" in options)  # zsh names the line
    assert not file.exists()
    # A duplicate leaves without a word, and the job that was started again says what is missing.
    assert (run(script, "58").returncode, run(script, "58").stdout) == (0, "")
    again = run(script)
    assert again.returncode == 1
    assert "the file with this job's secrets, is missing or somebody else's, so nothing runs" in again.stderr


def test_a_program_that_is_no_shell(write: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    script, file = write(make(workdir_of(tmp_path), '#!/usr/bin/awk -f\nBEGIN { printf ENVIRON["TOKEN"]; exit 3 }\n'))
    ran = run(script)
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, VALUE, "")
    assert not file.exists()


@pytest.mark.parametrize(
    ("scheduler", "more"),
    [
        ("slurm", {"array": "0-1"}),
        ("slurm", {"requeue": True}),
        ("slurm", {"script": '#!/bin/bash\n#SBATCH --requeue\nprintf %s "$TOKEN"\n'}),
        ("slurm", {"script": '#!/bin/bash\n#SBATCH -a 0-1\nprintf %s "$TOKEN"\n'}),
        ("pbs", {"array": "0-1"}),
        ("pbs", {"requeue": True}),
        ("pbs", {"script": '#!/bin/bash\n#PBS -r y\nprintf %s "$TOKEN"\n'}),
    ],
)
def test_what_may_start_again_keeps_it(
    scheduler: str, more: dict[str, Any], write: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    given = {"script": '#!/bin/bash\nprintf %s "$TOKEN"\n', "name": "job", **more}
    script, file = write(make(workdir_of(tmp_path), **given), scheduler)
    for _ in range(2):
        ran = run(script, PBS_JOBID="57.server")
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, VALUE, "")
        assert file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_somebody_elses_file_is_not_read(write: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    script, file = write(make(workdir_of(tmp_path), "#!/bin/sh\necho ran\n"))
    file.write_text("echo evil\n")
    os.chown(file, 65534, -1)
    ran = run(script)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "somebody else's" in ran.stderr


# --- what is sent -----------------------------------------------------------------------------------------


@pytest.fixture
def system(mocker: MockerFixture) -> Any:
    system: Any = AsyncMock(spec=System)
    system.name, system.submit_job.return_value = "rig", "57"
    system.scheduler.return_value, system.has_directory.return_value = "slurm", True
    system.list_files.return_value = []
    system.get_jobs.return_value = []
    system.get_job_metadata.return_value = mocker.Mock(stdout="", stderr="")
    return system


def changes(system: Any) -> list[str]:
    names = ("make_directory", "chmod", "upload_small", "submit_job", "remove")
    return [name for name, _, _ in system.mock_calls if name in names]


WRITTEN = ["make_directory", "chmod", "upload_small", "chmod"]


@pytest.mark.parametrize("key", [KEY, None])
async def test_nobody_else_can_read_it_at_any_moment(system: Any, key: ClaimKey | None) -> None:
    await lifecycle.submit(system, make(), key, first_attempt=True)
    assert changes(system) == [*WRITTEN, "submit_job"]
    directory, name, content = system.upload_small.call_args.args
    assert system.chmod.call_args_list == [call(directory, "700"), call(f"{directory}/{name}", "600")]
    assert b"export TOKEN=" in content
    assert b"OMP_NUM_THREADS" not in content
    request = system.submit_job.call_args.args[0]
    assert f"{directory}/{name}" in request.script
    assert "SECRET" not in str(request)


@pytest.mark.parametrize("key", [KEY, None])
async def test_a_refused_submission_leaves_no_file(system: Any, key: ClaimKey | None) -> None:
    system.submit_job.side_effect = errors.SubmissionRejected("no such partition")
    with pytest.raises(errors.SubmissionRejected):
        await lifecycle.submit(system, make(), key, first_attempt=True)
    assert changes(system) == [*WRITTEN, "submit_job", "remove"]
    assert system.remove.call_args.args[0] in system.chmod.call_args.args[0]


async def test_what_prevents_the_post_leaves_no_file(system: Any) -> None:
    async def refuse() -> None:
        raise RuntimeError("the record cannot be written")

    with pytest.raises(RuntimeError):
        await lifecycle.submit(system, make(), KEY, first_attempt=True, before_post=refuse)
    assert changes(system) == [*WRITTEN, "remove"]


async def test_a_file_that_cannot_be_protected_prevents_the_post(system: Any) -> None:
    system.chmod.side_effect = errors.RemotePathRefused("Operation not permitted")
    with pytest.raises(errors.RemotePathRefused):
        await lifecycle.submit(system, make(), KEY, first_attempt=True)
    assert changes(system) == ["make_directory", "chmod", "remove"]


async def test_after_a_lost_answer_the_next_submission_has_a_file_of_its_own(
    system: Any, mocker: MockerFixture
) -> None:
    mocker.patch("firecrest_core.api.backoff.Backoff.wait")
    system.submit_job.side_effect = [errors.SubmissionUnknown("lost"), "58"]
    await lifecycle.submit(system, make(), ClaimKey("task"), first_attempt=True)
    assert changes(system) == [*WRITTEN, "submit_job"] * 2  # the first job may read the first one
    assert len({one.args[1] for one in system.upload_small.call_args_list}) == 2


@pytest.mark.parametrize("more", [{"array": "0-1"}, {"requeue": True}])
async def test_what_may_start_again_needs_a_claim(system: Any, more: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidJobSpec, match="TOKEN: the secrets of an array.*take exactly_once"):
        await lifecycle.submit(system, make(**more))
    assert changes(system) == []


@pytest.mark.parametrize("key", [KEY, None])
async def test_a_script_on_the_cluster(system: Any, key: ClaimKey | None) -> None:
    system.download_small.return_value = b"#!/bin/bash\nsrun relax\n"
    spec = JobSpec(working_dir="/wd", script_path="/wd/job.sh", environment={"TOKEN": SecretStr(VALUE)})
    await lifecycle.submit(system, spec, key, first_attempt=True)
    request = system.submit_job.call_args.args[0]
    assert "srun relax" in request.script
    assert request.env is None


# --- what is left -------------------------------------------------------------------------------------------


def listing(*left: str) -> list[FileInfo]:
    claim = FileInfo(name="3.0/claim", type="l", link_target="/wd/.firecrest/task/3.0/job-57")
    return [FileInfo(name="3.0", type="d"), claim, *(FileInfo(name=name, type="-") for name in left)]


def removed(system: Any) -> list[str]:
    return [one.args[0].removeprefix("/wd/.firecrest/task/") for one in system.remove.call_args_list]


async def test_the_end_of_a_job_removes_what_is_left(system: Any) -> None:
    system.list_files.return_value = listing("2.0/secrets-ab", "3.0/secrets-cd", "3.1/secrets-ef", "3.0/notes")
    job = Job(system="rig", job_id="57", working_dir="/wd", key=KEY)
    result = JobResult(job_id="57", system="rig", name="relax", state=JobState.COMPLETED)
    assert await owner.find_owner(system, job, result) == result
    assert removed(system) == ["2.0/secrets-ab", "3.0/secrets-cd"]


async def test_a_cancelled_job_leaves_no_file(system: Any) -> None:
    system.list_files.return_value = listing("3.0/secrets-cd", "3.1/secrets-ef", "4.0/secrets-01")
    system.remove.side_effect = errors.ServerFault("away")  # no error: they go with the claim
    await protocol.cancel(system, "/wd", "task", 3)
    assert removed(system) == ["3.0/secrets-cd", "3.1/secrets-ef"]
