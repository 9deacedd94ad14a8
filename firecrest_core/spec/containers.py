"""A job's container: which program starts it, and the words that this takes on a command line.

- ``edf``: CSCS's container engine, a Slurm plugin. An environment definition file (EDF) holds image and mounts.
- ``pyxis``: NVIDIA's Slurm plugin, whose options srun takes.
- ``apptainer``: a program of its own, which needs no plugin.

A command in a container of Pyxis or Apptainer starts in the job's working directory, which is mounted. An EDF names its
working directory itself.

Facts: the documentation of CSCS's container engine (``--environment``), Pyxis's ``--container-…`` options, Apptainer's
manual of ``exec``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec import shell

RUNTIMES = ("edf", "pyxis", "apptainer")
"""The values of ``container_runtime``; the first one is meant where none is given."""


@dataclass(frozen=True, slots=True)
class Container:
    """The container of one job.

    :param image: an image, or name or path of an EDF
    :param runtime: one of :data:`RUNTIMES`
    :param mounts: ``source:target[:options]``, or one path for both
    :param working_dir: where the command starts
    :param gpus: the job asks for GPUs
    """

    image: str
    runtime: str
    mounts: Sequence[str]
    working_dir: str
    gpus: bool

    @property
    def srun_options(self) -> list[str]:
        """The options of srun that start it; none of Apptainer, which :attr:`command` starts."""
        if self.runtime == "edf":
            return [f"--environment={shell.quote(self.image)}"]
        if self.runtime == "pyxis":
            return [
                f"--container-image={shell.quote(self.image)}",
                f"--container-mounts={shell.quote(self._all_mounts)}",
                f"--container-workdir={shell.quote(self.working_dir)}",
            ]
        return []

    @property
    def command(self) -> list[str]:
        """The words that stand before a command, to run it in the container."""
        if self.runtime != "apptainer":
            return []
        words = ["apptainer", "exec", *(["--nv"] if self.gpus else [])]
        words += ["--bind", shell.quote(self._all_mounts), "--pwd", shell.quote(self.working_dir)]
        return [*words, shell.quote(self.image)]

    @property
    def _all_mounts(self) -> str:
        return ",".join(
            mount if ":" in mount else f"{mount}:{mount}" for mount in dict.fromkeys([self.working_dir, *self.mounts])
        )


def check_container(
    *,
    container: str | None,
    container_runtime: str | None,
    container_mounts: Sequence[str],
    has_command: bool,
    launcher: str | None,
) -> None:
    """Refuse a container that the job could not start. The parameters are the fields of the same names.

    :param has_command: the job has a ``command``, and no script
    :raises InvalidJobSpec: naming the field that does not fit the others
    """
    if container is None:
        for field, value in (("container_runtime", container_runtime), ("container_mounts", container_mounts)):
            if value:
                raise InvalidJobSpec(field, "there is no container; give its image, or its EDF, as container")
        return
    runtime = container_runtime or RUNTIMES[0]
    if runtime == "edf":
        if container_mounts:
            raise InvalidJobSpec("container_mounts", "an EDF names its mounts itself")
        if launcher == "mpirun":
            raise InvalidJobSpec("launcher", "mpirun cannot start containers of CSCS's engine; launcher='srun' can")
    elif not has_command:
        raise InvalidJobSpec(
            "container", f"{runtime} runs a command; give command, or start the container in the script itself"
        )
    elif runtime == "pyxis" and launcher in (None, "mpirun"):
        raise InvalidJobSpec("launcher", "srun alone starts containers of Pyxis; give 'srun', 'torchrun' or 'ray'")
