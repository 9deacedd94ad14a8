"""The points of a sweep as the elements of an array."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.points import ARRAY_SIZE, in_arrays, over_points
from firecrest_core.spec.render import render

SHELLS = [name for name in ("bash", "dash", "zsh") if shutil.which(name)]


def spec(**fields: Any) -> JobSpec:
    return JobSpec(**{"working_dir": "/wd", "command": 'printf "%s|%s" "$ALPHA" "$NOTE"'} | fields)


def element(script: str, index: int, tmp_path: Path, *, variable: str = "SLURM_ARRAY_TASK_ID") -> str:
    """Run an element as a scheduler does, and return what it prints."""
    file = tmp_path / "script"
    file.write_text(script)
    file.chmod(0o755)
    environment = os.environ | {variable: str(index)}
    done = subprocess.run([file], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    return done.stdout if done.returncode == 0 else f"{done.returncode} {done.stderr}"


@pytest.mark.parametrize("shell", SHELLS)
def test_each_element_gets_the_values_of_its_point(tmp_path, shell) -> None:
    points = [
        {"ALPHA": 0.1, "NOTE": "it's $HOME\n`x`"},
        {"ALPHA": [1, "a"], "NOTE": True},
        {"ALPHA": "1;2)", "NOTE": ""},
    ]
    job = over_points(
        spec(command=None, script=f'#!{shutil.which(shell)}\nset -eu\nprintf \'%s|%s\' "$ALPHA" "$NOTE"\n'),
        points,
    )
    assert job.array == "0-2"
    script = render(job)
    values = [element(script, index, tmp_path) for index in range(3)]
    assert values == ["0.1|it's $HOME\n`x`", '[1, "a"]|true', "1;2)|"]
    assert element(script, 3, tmp_path).startswith("1 firecrest: this array has no such element")


def test_an_element_on_pbs(tmp_path) -> None:
    job = over_points(spec(working_dir=str(tmp_path)), [{"ALPHA": 1}, {"ALPHA": 2}])
    assert element(render(job, "pbs"), 1, tmp_path, variable="PBS_ARRAY_INDEX") == "2|"


def test_a_script_in_another_language(tmp_path) -> None:
    script = "#!/usr/bin/env python3\nimport os\nprint(os.environ['SEED'], end='')\n"
    job = over_points(spec(command=None, script=script), [{"SEED": 7}, {"SEED": 8}])
    assert element(render(job), 1, tmp_path) == "8"


def test_the_values_come_before_the_lines_of_setup() -> None:
    job = over_points(spec(setup=["source env-$SEED"]), [{"SEED": 7}])
    assert job.setup[-1] == "source env-$SEED"
    assert any("SEED=7" in line for line in job.setup[:-1])


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        ([], "give a list with a mapping of values for each element"),
        ("SEED=1", "give a list with a mapping"),
        ({"SEED": 1}, "give a list with a mapping"),
        ([{"SEED": 1}, {}], "point 1 is {}"),
        ([{"SEED": 1}, 2], "point 1 is 2"),
        ([{"SEED": 1}, {"SEDE": 2}], "point 1 has the names SEDE, and point 0 has SEED"),
        ([{"learning rate": 1}], "'learning rate' cannot be the name of a variable"),
        ([{"SLURM_JOB_ID": "1"}], "cannot be the name of a variable"),
        ([{"SEED": {1, 2}}], "SEED is {1, 2}, which is no JSON"),
        ([{"SEED": float}], "which is no JSON"),
        ([{"SEED": "a\0b"}], "holds a NUL character"),
        ([{"API_TOKEN": "abcdefgh"}], "looks like a secret"),
        ([{"SEED": number} for number in range(ARRAY_SIZE + 1)], "1001 points are too many for one array"),
        ([{"TEXT": "x" * 600_000}], "the values are more than 512 KiB"),
    ],
)
def test_points_that_cannot_be_right(points, problem) -> None:
    with pytest.raises(InvalidJobSpec, match="^over: ") as raised:
        over_points(spec(), points)
    assert problem in str(raised.value)
    assert "abcdefgh" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"array": "0-3"}, "^array: each point is an element"),
        ({"command": None, "script": "#!/bin/sh\n#SBATCH --array=0-3\n"}, "^array: each point is an element"),
        ({"command": None, "script_path": "/wd/job.sh"}, "^script_path: nothing can be added"),
    ],
)
def test_jobs_that_cannot_be_run_over_points(fields, problem) -> None:
    with pytest.raises(InvalidJobSpec, match=problem):
        over_points(spec(**fields), [{"SEED": 1}])


def test_parts_that_are_about_as_large_as_each_other() -> None:
    points = [{"SEED": number} for number in range(2500)]
    parts = in_arrays(points)
    assert [len(part) for part in parts] == [833, 833, 834]
    assert [point for part in parts for point in part] == points
    assert in_arrays(points[:3]) == [points[:3]]
    with pytest.raises(InvalidJobSpec, match="^over: give a list"):
        in_arrays([])
