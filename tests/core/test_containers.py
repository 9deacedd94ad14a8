"""A job's container, in the script of each runtime."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.render import render


def script(**fields: Any) -> str:
    return render(JobSpec(working_dir="/w", **{"command": "python train.py", **fields}))


def test_an_edf_alone_is_that_of_the_batch_script() -> None:
    assert "#SBATCH --environment=/e/pytorch.toml\n" in script(container="/e/pytorch.toml")
    assert "#SBATCH --environment=pytorch\n" in script(container="pytorch", container_runtime="edf")


@pytest.mark.parametrize("launcher", ["srun", "torchrun", "ray"])
def test_an_edf_with_a_launcher_is_that_of_the_step(launcher: str) -> None:
    text = script(container="pytorch", launcher=launcher)
    assert "#SBATCH --environment" not in text
    assert text.count("    --environment=pytorch ") == 1


def test_pyxis_is_given_to_srun() -> None:
    text = script(
        container="nvcr.io#nvidia/pytorch:24.01",
        container_runtime="pyxis",
        container_mounts=["/data:/d:ro"],
        launcher="srun",
    )
    assert (
        "    --container-image='nvcr.io#nvidia/pytorch:24.01' --container-mounts=/w:/w,/data:/d:ro "
        "--container-workdir=/w \\\n"
    ) in text


@pytest.mark.parametrize(
    ("fields", "start"),
    [({}, ""), ({"launcher": "srun"}, "    "), ({"launcher": "torchrun"}, "    "), ({"launcher": "mpirun"}, "    ")],
)
def test_apptainer_stands_before_the_command(fields: dict[str, Any], start: str) -> None:
    text = script(container="~/p.sif", container_runtime="apptainer", container_mounts="/data", **fields)
    assert f"\n{start}apptainer exec --bind /w:/w,/data:/data --pwd /w '~/p.sif' \\\n" in text


def test_apptainer_shows_the_gpus_that_were_asked_for() -> None:
    assert "apptainer exec --nv --bind" in script(container="p.sif", container_runtime="apptainer", gpus_per_node=4)


def test_apptainer_gets_the_command_whole(tmp_path: Path) -> None:
    stand_in = tmp_path / "apptainer"
    stand_in.write_text('#!/bin/sh\nshift 6\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    text = script(command="echo 'a b' && exit 3", container="p.sif", container_runtime="apptainer")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash"], input=text, env=environment, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == ["bash", "-c", "echo 'a b' && exit 3"]


def test_pbs_has_apptainer() -> None:
    spec = JobSpec(working_dir="/w", command="./a", container="p.sif", container_runtime="apptainer")
    assert "apptainer exec --bind /w:/w --pwd /w p.sif" in render(spec, "pbs")
    with pytest.raises(InvalidJobSpec, match="container: EDFs and Pyxis are Slurm's"):
        render(JobSpec(working_dir="/w", command="./a", container="p.toml"), "pbs")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"container": "c", "container_runtime": "docker"}, "container_runtime: 'docker'; there are edf, pyxis"),
        ({"container_runtime": "pyxis"}, "container_runtime: there is no container"),
        ({"container_mounts": ["/data"]}, "container_mounts: there is no container"),
        ({"container": "c", "container_mounts": ["/data"]}, "container_mounts: an EDF names its mounts itself"),
        ({"container": "c", "launcher": "mpirun"}, "launcher: mpirun cannot start containers of CSCS's engine"),
        ({"container": "c", "container_runtime": "pyxis"}, "launcher: srun alone starts containers of Pyxis"),
        (
            {"container": "c", "container_runtime": "apptainer", "command": None, "script": "#!/bin/bash\ntrue"},
            "container: apptainer runs a command",
        ),
        *(
            (
                {"container": "c", "container_runtime": "apptainer", "container_mounts": mounts},
                "container_mounts: .*(the form is|white space)",
            )
            for mounts in (["data:/d"], ["/a:b"], ["/a:/b:ro:x"], ["/a,/b"], "/a b")
        ),
        ({"container": "c", "container_runtime": "apptainer", "container_mounts": 5}, "container_mounts: a sequence"),
    ],
)
def test_what_cannot_be_right_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidJobSpec, match=problem):
        script(**fields)
