"""What prepares a job's script: a login shell, environment modules and lines of shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.render import render, submit_request

MODULE = 'module() { echo "module $*"; [ "$3" != missing ]; }; export -f module\n'


def run(spec: JobSpec, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'{before}exec bash "$0"', "/dev/stdin"],
        input=render(spec),
        env={"PATH": os.environ["PATH"]},
        text=True,
        capture_output=True,
        check=False,
    )


def test_modules_are_loaded_between_the_environment_and_the_setup() -> None:
    spec = JobSpec(
        working_dir="/w",
        command="echo command $A",
        environment={"A": "1"},
        modules=["cray", "gcc/13"],
        setup=["echo setup $A", "A=2"],
    )
    done = run(spec, MODULE)
    assert done.stdout.splitlines() == ["module load cray gcc/13", "setup 1", "command 2"]


def test_a_module_that_cannot_be_loaded_ends_the_job() -> None:
    done = run(JobSpec(working_dir="/w", command="echo ran", modules=["gcc", "missing"]), MODULE)
    assert (done.returncode, done.stdout) == (1, "module load gcc missing\n")
    assert "firecrest: module load gcc missing has failed, so nothing runs." in done.stderr


def test_a_shell_without_modules_is_told_of_the_login_shell() -> None:
    done = run(JobSpec(working_dir="/w", command="echo ran", modules=["gcc"]))
    assert (done.returncode, done.stdout) == (1, "")
    assert "login_shell" in done.stderr


def test_a_script_in_python_gets_what_the_setup_exports(tmp_path: Path) -> None:
    script = "#!/usr/bin/env python3\nimport os\nprint(os.environ['A'])\n"
    done = run(JobSpec(working_dir=str(tmp_path), script=script, setup="export A=from-setup", modules="gcc"), MODULE)
    assert done.stdout.splitlines() == ["module load gcc", "from-setup"]


@pytest.mark.parametrize(
    ("first", "login"),
    [
        ("#!/bin/bash", "#!/bin/bash -l"),
        ("#! /bin/zsh", "#!/bin/zsh -l"),
        ("#!/bin/bash -eu", "#!/bin/bash -eul"),
        ("#!/bin/bash -l", "#!/bin/bash -l"),
        ("#!/bin/bash --login", "#!/bin/bash --login"),
        ("#!/usr/bin/env bash", "#!/usr/bin/env -S bash -l"),
        ("#!/usr/bin/env python3", "#!/bin/bash -l"),
        ("#!/usr/bin/python3", "#!/bin/bash -l"),
    ],
)
def test_the_first_line_asks_for_a_login_shell(first: str, login: str) -> None:
    script = f"{first}\n#SBATCH --nodes=2\ntrue\n"
    lines = render(JobSpec(working_dir="/w", script=script, login_shell=True)).splitlines()
    assert lines[:2] == [login, "#SBATCH --nodes=2"]


@pytest.mark.parametrize("first", ["#!/bin/bash --norc", "#!/usr/bin/env -S bash -e"])
def test_a_first_line_with_another_option_is_refused(first: str) -> None:
    with pytest.raises(InvalidJobSpec, match="login_shell: cannot be added to the script's first line"):
        JobSpec(working_dir="/w", script=f"{first}\ntrue\n", login_shell=True)


def test_a_login_shell_reads_the_profile(tmp_path: Path) -> None:
    (tmp_path / ".bash_profile").write_text("export MODULESHOME=/opt/modules\n")
    script = tmp_path / "job.sh"
    script.write_text(render(JobSpec(working_dir="/w", command="echo $MODULESHOME", login_shell=True)))
    script.chmod(0o700)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([script], env=environment, text=True, capture_output=True, check=True)
    assert done.stdout == "/opt/modules\n"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"modules": [1]}, "modules: a text is needed, not int 1"),
        ({"modules": 3}, "modules: a sequence of modules is needed"),
        ({"modules": ["gcc cuda"]}, "modules: 'gcc cuda' holds white space"),
        ({"setup": [None]}, "setup: a line of shell is needed, not None"),
        ({"setup": 3}, "setup: lines of shell are needed"),
        ({"setup": "a\0b"}, "setup: holds a NUL character"),
        ({"login_shell": "perhaps"}, "login_shell: True or False is needed"),
    ],
)
def test_what_cannot_be_right_is_refused(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidJobSpec, match=problem):
        JobSpec(working_dir="/w", command="true", **fields)


@pytest.mark.parametrize("fields", [{"modules": ["gcc"]}, {"setup": "true"}, {"login_shell": True}])
def test_a_script_on_the_cluster_stays_as_it_is(fields: dict[str, object]) -> None:
    spec = JobSpec(working_dir="/w", script_path="/w/job.sh", **fields)
    with pytest.raises(InvalidJobSpec, match="nothing can be added to a script_path"):
        submit_request(spec)


def test_the_fields_survive_a_mapping() -> None:
    spec = JobSpec(
        working_dir="/w",
        command="true",
        modules="gcc cuda",
        setup="a\r\nb\n",
        login_shell="true",
        launcher="srun",
        container="c",
        container_runtime="pyxis",
        container_mounts="/data",
    )
    assert (spec.modules, spec.setup, spec.login_shell) == (("gcc", "cuda"), ("a", "b"), True)
    assert JobSpec.from_mapping(spec.to_mapping()) == spec
