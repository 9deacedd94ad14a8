"""Any job that is not refused means the same in every shell: its environment, its claim, its command, its script."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from firecrest_core.claims.bound_submission import BoundSubmission
from firecrest_core.claims.secret_file import SecretFile
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.options import script_options
from firecrest_core.spec.render import render
from firecrest_core.spec.shell import posix_shell

KEY = ClaimKey("task", 3)
REQUIRED, OTHERS = ("bash", "dash", "zsh"), ("sh", "ksh", "mksh")
SHELLS = [*REQUIRED, *filter(shutil.which, OTHERS)]

ODD = st.text(
    st.one_of(st.sampled_from(list("=~!$`'\"\\ #%*?[]{}();&|<>^,:@-+./\n\r\tls10")), st.characters()), max_size=12
)
# Odd, but a job or a directory may have such a name.
POSSIBLE = st.text("=~!#%*?[]{}();&<>^:@-+. a1é✓", min_size=1, max_size=8)
WORDS = st.sampled_from(["=ls", "=", "~", "~root", "a:=ls", "a:~", "$HOME", "`id`", "!!", "-n", "\\n", "it's", "\r\n"])
# What shells use themselves, and what our own lines of shell do.
KNOWN = (
    "PATH IFS HOME ENV BASH_ENV ZDOTDIR TMPDIR CDPATH MANPATH FPATH PS4 PWD OLDPWD path status argv UID PPID SHLVL _ "
    "RANDOM SECONDS LINENO OPTIND COLUMNS USERNAME FUNCNAME GROUPS POSIXLY_CORRECT prompt PROMPT RPS1 NULLCMD TMOUT "
    "MAIL KSH_VERSION options functions SLURM_JOB_NAME job job_script name tasks workdir claims"
)
NAMES = st.one_of(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True), st.sampled_from(KNOWN.split()))
VALUES = st.one_of(ODD, WORDS, st.integers(-3, 99).map(str))
ENVIRONMENTS = st.dictionaries(NAMES, VALUES, max_size=5)
many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, require: Callable[[bool, str], None]) -> str:
    path = shutil.which(request.param)
    require(path is not None, f"the shell {request.param}: apt-get install {request.param}")
    return str(path)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def run(text: str, shell: str, where: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    assert "\r\n" not in text  # sbatch refuses it
    file = where / "job"
    file.write_bytes(text.encode())
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "SLURM_JOB_ID": "57", **more}
    return subprocess.run(
        [shell, str(file)], cwd=where, env=environment, check=False, capture_output=True, stdin=subprocess.DEVNULL
    )


def directory(inside: Path, name: str) -> Path:
    path = inside / (name.translate(dict.fromkeys(map(ord, "\0/"))).encode(errors="ignore")[:80].decode() or "x")
    return path if path.parent == inside and path.name not in (".", "..") else inside / "x"


@many
@given(
    environment=ENVIRONMENTS,
    secrets=ENVIRONMENTS,
    name=st.one_of(POSSIBLE, POSSIBLE, ODD),
    folder=st.one_of(POSSIBLE, WORDS, ODD),
)
@example(environment={"A": "=ls"}, secrets={}, name="=ls", folder="=ls")
@example(environment={"A": "\ud800"}, secrets={}, name="job", folder="x")
@example(environment={"PATH": "/none", "A": "\r\n", "B": "=" * 3}, secrets={}, name="=", folder="a b")
@example(environment={"A": "\r\n"}, secrets={"PATH": "/none", "IFS": "/s", "Z": "\r\n"}, name="job", folder="a'b")
def test_a_job_sees_its_environment_and_holds_its_claim(
    shell: str, place: Path, environment: dict[str, str], secrets: dict[str, str], name: str, folder: str
) -> None:
    with tempfile.TemporaryDirectory(dir=place) as inside:
        workdir = directory(Path(inside), folder)
        workdir.mkdir()
        try:
            spec = JobSpec(
                working_dir=str(workdir),
                script=f"#!{shell}\n#SBATCH -n 1\n/usr/bin/env -0\n",
                name=name,
                environment={**environment, **{key: SecretStr(value) for key, value in secrets.items()}},
            )
            secret_file = SecretFile.of_claim(spec, KEY.directory(str(workdir)), "slurm")
            text = BoundSubmission.bind(spec, KEY).request("slurm", secret_file).script
        except InvalidJobSpec:
            return
        assert text is not None
        if secret_file is not None:
            Path(secret_file.directory).mkdir(parents=True)
            Path(secret_file.path).write_bytes(secret_file.content.get_secret_value().encode())
        ran = run(text, shell, place)
        assert ran.returncode == 0, ran.stderr
        seen = dict(line.split(b"=", 1) for line in ran.stdout.split(b"\0") if line)
        expected = {"SLURM_JOB_NAME": name, **environment, **secrets}
        assert {key: seen[key.encode()].decode() for key in expected} == expected
        claim = Path(KEY.directory(str(workdir))) / "claim"
        assert claim.readlink() == claim.parent / "job-57"
        assert secret_file is None or not Path(secret_file.path).exists()
        # Another job of the key leaves without running anything.
        other = run(text, shell, place, SLURM_JOB_ID="58")
        assert (other.returncode, other.stdout) == (0, b"")


@many
@given(text=ODD, environment=ENVIRONMENTS)
@example(text="\nEND_OF_SCRIPT\n$HOME `id`\r", environment={"PATH": "/none", "IFS": "1", "job_script": "=ls"})
def test_a_script_in_another_language_arrives_as_it_is(place: Path, text: str, environment: dict[str, str]) -> None:
    try:
        spec = JobSpec(working_dir="/", script=f"#!/bin/cat\n{text}\n", environment={"A": "1", **environment})
    except InvalidJobSpec:
        return
    ran = run(render(spec), "bash", place)
    assert (ran.returncode, ran.stdout.decode()) == (0, spec.script), ran.stderr


@many
@given(environment=ENVIRONMENTS)
def test_a_program_in_another_language_sees_its_environment(place: Path, environment: dict[str, str]) -> None:
    try:
        spec = JobSpec(working_dir="/", script='#!/usr/bin/awk -f\nBEGIN { system(""); }\n', environment=environment)
    except InvalidJobSpec:
        return
    text = render(spec).replace("exec /usr/bin/awk -f", "exec /usr/bin/env -0 #")
    seen = dict(line.split(b"=", 1) for line in run(text, "bash", place).stdout.split(b"\0") if line)
    assert {key: seen[key.encode()].decode() for key in environment} == environment


@many
@given(words=st.lists(st.one_of(ODD, WORDS), max_size=4), environment=ENVIRONMENTS)
@example(words=["A=b", "=ls", "\r\n"], environment={})
def test_a_command_gets_its_words(place: Path, words: list[str], environment: dict[str, str]) -> None:
    try:
        command = ["printf", "%s\\0", *words, "end"]
        text = render(JobSpec(working_dir="/", command=command, environment=environment))
    except InvalidJobSpec:
        return
    ran = run(text, "bash", place)
    assert ran.stdout.decode() == "".join(f"{word}\0" for word in [*words, "end"]), ran.stderr


@settings(max_examples=300, deadline=None)
@given(name=st.one_of(POSSIBLE, ODD), stdout=st.one_of(POSSIBLE, WORDS, ODD))
def test_the_scheduler_reads_its_options(name: str, stdout: str) -> None:
    try:
        text = render(JobSpec(working_dir="/wd", command="true", name=name, stdout=stdout))
    except InvalidJobSpec:
        return
    assert dict(script_options(text)) == {"job-name": name, "output": stdout, "no-requeue": ""}


@pytest.mark.parametrize(
    ("first_line", "name"),
    [
        *(("/bin/zsh", name) for name in ("path", "status", "UID", "COLUMNS", "_")),
        *(("/bin/sh", name) for name in ("UID", "PPID", "SHELLOPTS", "RANDOM")),
        ("/usr/bin/env python3", "BASHOPTS"),
    ],
)
def test_what_a_shell_keeps_for_itself_is_refused(first_line: str, name: str) -> None:
    with pytest.raises(InvalidJobSpec, match=f"environment: {name} is a variable of .* own"):
        JobSpec(working_dir="/", script=f"#!{first_line}\n", environment={name: "1"})


def test_what_another_shell_keeps_for_itself_is_not() -> None:
    JobSpec(working_dir="/", script="#!/bin/bash\n", environment={"path": "1", "status": "2", "COLUMNS": "80"})


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "\ud800"},
        {"working_dir": "/\udfff"},
        {"script": "#!/bin/sh\n\ud800"},
        {"command": ["a", "\ud800"]},
        {"command": "\ud800"},
        {"environment": {"A": "\ud800"}},
        {"account": "\ud800"},
        {"directives": ["--comment=\ud800"]},
    ],
)
def test_half_of_a_character_is_refused(fields: dict[str, Any]) -> None:
    given = {"working_dir": "/", **({} if fields.keys() & {"script", "command"} else {"command": "true"}), **fields}
    with pytest.raises(InvalidJobSpec) as raised:
        JobSpec(**given)
    str(raised.value).encode()


@pytest.mark.parametrize("line", ["/bin/zsh -f", "/usr/bin/env -S A=1 ksh93", "/usr/bin/python3", ""])
def test_which_shell_runs_a_script(line: str) -> None:
    assert posix_shell(line) == ("zsh" if "zsh" in line else None)
