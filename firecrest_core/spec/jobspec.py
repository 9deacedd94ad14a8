"""The job specification: a batch job as data.

:mod:`firecrest_core.spec.render` turns it into the batch script and the request.

The fields have Slurm's names and forms. All of them become directives *in* the script. So the script on the cluster
states what it needs, and it can be submitted by hand as well.

FirecREST has fields of its own for some of them (name, account, partition, reservation, constraint, outputs, working
directory). These are sent as well, because the server puts them on the command line of sbatch or qsub. There, neither a
line of the script nor a variable of the login node overrides them.

A ``script_path`` is a file on the cluster, and nothing can be added to it. There only FirecREST's own fields work, and
the others are refused.

Facts: FirecREST v2's ``JobDescriptionModel``, and the commands that it makes of it; Slurm's sbatch manual,
tried with sbatch 22.05; PBS Professional's qsub manual.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.hidden_values import looks_secret
from firecrest_core.indices import Indices
from firecrest_core.spec import arrays, containers, launchers, options, quantities, shell, validation
from firecrest_core.spec.script import interpreter, login_line

if TYPE_CHECKING:
    from pydantic import SecretStr

Scheduler = Literal["slurm", "pbs"]


def given_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that were given: without those that a template left blank.

    :param fields: names and values. ``None``, a blank text, and ``"None"``, which a template makes of it, count as not
        given.
    """
    return {name: value for name, value in fields.items() if not _is_blank(value)}


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", "None"))


def check_names(names: Iterable[str], beside: Iterable[str] = ()) -> None:
    """Refuse names that are no fields of a job.

    :param names: the names
    :param beside: names of what may be given beside the fields
    :raises InvalidJobSpec: one is no field; the message says what is meant by it
    """
    known = list(dict.fromkeys((*(each.name for each in dataclasses.fields(JobSpec)), *beside)))
    for name in names:
        if name not in known:
            # Imported here because DAG files import this module, and only this error needs it.
            from firecrest_core.spec.field_hints import meaning

            hint = meaning(str(name), known) or f"the fields are {', '.join(known)}"
            raise InvalidJobSpec(str(name), f"a job has no such field; {hint}")


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    r"""One batch job. Exactly one of ``script``, ``script_path`` and ``command`` is given.

    Numbers may be given as text (``"4"``, ``"4.0"``), because templates yield text. Values are normalized:
    ``time_limit`` to ``"1-02:00:00"``, ``memory`` to ``"4G"``, ``dependency`` to ``"afterok:12"``, sequences to tuples.

    :param working_dir: directory on the cluster where the job runs (sbatch's ``--chdir``). Like the other paths there,
        it may be in any form that :func:`firecrest_core.paths.expand_spec` makes absolute. A PBS job starts in the
        home directory, so there the script changes to this directory first. It may be left out here if the operator
        or the method that submits the job is given one.
    :param script: the text of a batch script; its first line begins with ``#!``. Empty lines before that line and its
        indentation are removed, and DOS line ends are converted. Its own ``#SBATCH`` lines apply unless a field here
        overrides them.
    :param script_path: path of a batch script on the cluster
    :param command: a line of shell, or the words of one command (quoted as needed); run by bash
    :param launcher: what starts the ``command`` as many processes on all nodes: ``"srun"``, ``"torchrun"``,
        ``"mpirun"`` or ``"ray"``, see :mod:`firecrest_core.spec.launchers`. Without it, the command runs once, on the
        first node; a script starts its processes itself. With ``srun`` and ``mpirun``, a job that asks for GPUs and
        for no number of tasks gets a task for each GPU. PBS has ``mpirun`` alone
    :param login_shell: whether the script's shell is a login shell (``bash -l``), which reads ``/etc/profile``. Some
        sites define ``module`` there alone
    :param modules: environment modules to load, in this order, before ``setup``. If one cannot be loaded, the job fails
    :param setup: lines of shell that run before the script, as a text or one by one, such as
        ``"source venv/bin/activate"``. A script that is not for a POSIX shell gets what they export
    :param name: the job's name, at most 230 characters; no ``|`` (such a job would be invisible in FirecREST), no
        ``,`` ``/`` ``\``, quotes, or control characters
    :param account: account or project to charge
    :param partition: Slurm's partition, PBS's queue. ``"auto"`` is all of Slurm's partitions that can run the job, see
        :mod:`firecrest_core.jobs.partition`
    :param nodes: number of nodes, Slurm's range ``"2-4"``, or, where Slurm is newer than 22.05, the numbers that will
        do: ``"2,4,8"``, ``"1-15:4"``
    :param ntasks: number of tasks (MPI ranks) in all. PBS shares tasks evenly among ``nodes``; without
        ``nodes``, all are on one node (or on as many as ``ntasks_per_node`` makes)
    :param ntasks_per_node: number of tasks on each node
    :param cpus_per_task: cores for each task
    :param gpus: GPUs of the whole job: a number, or with Slurm's types ``"a100:4"``, ``"a100:2,v100:1"``
    :param gpus_per_node: GPUs on each node, in the same forms
    :param memory: memory on each node: ``"4G"``, ``"500M"``, or a number of mebibytes; 0 is all (Slurm)
    :param time_limit: a number of minutes, a :class:`~datetime.timedelta`, ``"30"`` (minutes), ``"10:00"``
        (minutes:seconds), ``"1:30:00"``, ``"2-00:00:00"``, ``"UNLIMITED"``
    :param array: ``"0-3"``, ``"1,5,9"``, ``"0-15:4"``, ``"0-99%10"``; PBS takes only one range
    :param dependency: ``"afterok:12"``, or a mapping such as ``{"afterok": [12, 13]}`` (all must be met)
    :param qos: quality of service (Slurm)
    :param constraint: features that the nodes must have, such as ``"gpu"`` (Slurm)
    :param reservation: a reservation's name; in PBS, that of its queue, without ``partition``
    :param environment: variables for the job, exported in the script. A value that is a pydantic ``SecretStr`` or a
        ``Secret`` block, or whose name looks like that of a secret (``HF_TOKEN``), stands in no script: the job reads
        it from a file of its own, see :mod:`firecrest_core.claims.secret_file`. FirecREST's own field is not used,
        because it joins variables with commas, so a comma in a value would make a second variable. If the script is not
        for a POSIX shell (Python, csh, …), it is wrapped in a bash script that runs it with its own interpreter.
    :param uenv: CSCS's user environment, ``"name/version:tag"``, with views as ``"name/version:tag --view=default"``
    :param container: name or path of an environment definition file (EDF) of CSCS's container engine, or the image
        for another ``container_runtime``. An EDF alone is that of the whole batch script; with a launcher, and with
        Pyxis or Apptainer, the container is that of the ``command``
    :param container_runtime: what starts the container: ``"edf"`` (unless given), ``"pyxis"`` or ``"apptainer"``; see
        :mod:`firecrest_core.spec.containers`
    :param container_mounts: further directories in a container of Pyxis or Apptainer, ``"/scratch"`` or
        ``"$SCRATCH/data:/data:ro"``, in the forms of ``working_dir``, which is mounted anyway
    :param signal: signal before the time limit, ``"USR1@60"`` (seconds), ``"B:USR1@60"`` to the script alone (Slurm)
    :param directives: further options for which there is no field, ``["--exclusive", "--gres=craynetwork:0"]``,
        with or without the prefix ``#SBATCH`` or ``#PBS``
    :param stdout: file for the standard output; relative paths start at ``working_dir``. Slurm fills in ``%j``
        (job), ``%A`` (array), ``%a`` (index), ``%x`` (name), ``%u`` (user).
    :param stderr: file for the standard error; without it, Slurm writes both into one
    :param requeue: whether the scheduler may run the job a second time after a node failure or a preemption.
        ``None``: only if the script's own lines ask for it. PBS may always rerun the elements of an array.
    :param usage: whether the job writes down what it uses of its cores, memory and GPUs, with a claim alone; see
        :mod:`firecrest_core.usage`
    :raises InvalidJobSpec: a field is not valid; the message begins with its name
    """

    working_dir: str = ""
    script: str | None = None
    script_path: str | None = None
    command: str | Sequence[str] | None = None
    launcher: str | None = None
    login_shell: bool = False
    modules: Sequence[str] = ()
    setup: Sequence[str] = ()
    name: str | None = None
    account: str | None = None
    partition: str | None = None
    nodes: int | str | None = None
    ntasks: int | None = None
    ntasks_per_node: int | None = None
    cpus_per_task: int | None = None
    gpus: int | str | None = None
    gpus_per_node: int | str | None = None
    memory: int | str | None = None
    time_limit: int | str | timedelta | None = None
    array: str | None = None
    dependency: str | Mapping[str, Any] | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    environment: Mapping[str, str | SecretStr] = field(default_factory=dict, hash=False)
    uenv: str | None = None
    container: str | None = None
    container_runtime: str | None = None
    container_mounts: Sequence[str] = ()
    signal: str | None = None
    directives: Sequence[str] = ()
    stdout: str | None = None
    stderr: str | None = None
    requeue: bool | None = None
    usage: bool = True

    def __repr__(self) -> str:
        """Show the fields that were given, and of the environment the names alone: a value may be a secret."""
        given = {
            each.name: value
            for each in dataclasses.fields(self)
            if (value := getattr(self, each.name)) not in (None, "", (), {}, each.default)
        }
        if self.environment:
            given["environment"] = dict.fromkeys(self.environment, "…")
        return f"JobSpec({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def __post_init__(self) -> None:
        given = [name for name in ("script", "script_path", "command") if getattr(self, name) is not None]
        if len(given) != 1:
            problem = "nothing says what to run" if not given else f"given together with {given[0]}"
            raise InvalidJobSpec(
                given[1] if given else "script", f"{problem}; exactly one of script, script_path, command is needed"
            )
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if value is not None and not (each.name == "working_dir" and value == ""):
                # The class is frozen, and the field must hold the checked and normalized value.
                object.__setattr__(self, each.name, validation.checked(each.name, value))
        validation.check_together(
            nodes=self.nodes,
            ntasks=self.ntasks,
            ntasks_per_node=self.ntasks_per_node,
            gpus=self.gpus,
            gpus_per_node=self.gpus_per_node,
        )
        if self.launcher is not None and self.command is None:
            raise InvalidJobSpec(
                "launcher", f"{self.launcher} starts a command, and a script starts its processes itself; give command"
            )
        containers.check_container(
            container=self.container,
            container_runtime=self.container_runtime,
            container_mounts=self.container_mounts,
            has_command=self.command is not None,
            launcher=self.launcher,
        )
        if self.login_shell and self.script_path is None:
            self._check_login_shell()
        if self.script_path is None:
            validation.check_variables(self.environment, shell.posix_shell(interpreter(self.text)) or "bash")
        own = self.script_options()
        try:
            arrays.indices(own.get("array", "0"))
        except ValueError as error:
            raise InvalidJobSpec("script", f"its own --array: {error}") from None
        validation.check_signal(self.signal, self.time_limit or own.get("time"))
        if self.name is None and "job-name" in own:
            validation.check_name("script", own["job-name"])

    def _check_login_shell(self) -> None:
        try:
            login_line(self.text)
        except ValueError as error:
            raise InvalidJobSpec("login_shell", str(error)) from None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> JobSpec:
        """Return the specification in a mapping, as a template or a file yields it.

        :param mapping: field names and values; see :func:`given_fields` for what counts as not given
        :raises InvalidJobSpec: a field is not valid, or a key is not the name of a field
        """
        check_names(mapping)
        spec = cls(**given_fields(mapping))
        spec.check_working_dir()
        return spec

    def check_working_dir(self) -> None:
        """Refuse a specification without a working directory.

        :raises InvalidJobSpec: it has none
        """
        if not self.working_dir:
            raise InvalidJobSpec("working_dir", "missing; give the directory on the cluster where the job runs")

    def to_mapping(self) -> dict[str, Any]:
        """Return the fields that were given; :meth:`from_mapping` reads them back.

        They are of JSON types, but for each ``SecretStr`` of the environment.
        """
        mapping: dict[str, Any] = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, tuple):
                value = list(value)
            if value not in (None, "", [], {}, each.default):
                mapping[each.name] = value
        return mapping

    # What Airflow calls for an XCom.
    __version__: ClassVar[int] = 1

    def serialize(self) -> dict[str, Any]:
        """Return what :meth:`to_mapping` does, if it may be stored in clear.

        :raises InvalidJobSpec: a variable is a ``SecretStr``
        """
        for name, value in self.environment.items():
            if not isinstance(value, str):
                raise InvalidJobSpec(
                    "environment",
                    f"{name} is a secret, and XComs are stored in clear; give it to what submits",
                )
        return self.to_mapping()

    @staticmethod
    def deserialize(data: Mapping[str, Any], version: int) -> JobSpec:
        """Return the specification that :meth:`serialize` wrote.

        :param data: what it returned
        :param version: the version of its form
        """
        return JobSpec.from_mapping(data)

    @property
    def secrets(self) -> dict[str, str]:
        """The variables whose values must stand in no script, log or record."""
        return {
            name: value if isinstance(value, str) else value.get_secret_value()
            for name, value in self.environment.items()
            if not isinstance(value, str) or looks_secret(name, value)
        }

    @property
    def plain_environment(self) -> dict[str, str]:
        """The variables that are no secrets."""
        secrets = self.secrets
        return {name: str(value) for name, value in self.environment.items() if name not in secrets}

    @property
    def array_indices(self) -> Indices | None:
        """The indices of the array, from ``array`` or from the script's own lines; ``None`` if the job is no array.

        The lines of a ``script_path`` are not known here.
        """
        expression = self.array or self.script_options().get("array")
        return None if expression is None else arrays.indices(expression)

    @property
    def text(self) -> str:
        """The text of the script, or of one that runs ``command``."""
        if self.script is not None:
            return self.script
        line = self.command if isinstance(self.command, str) else shell.join(self.command or ())
        return "\n".join(["#!/bin/bash", *launchers.start(self.launcher, line, self._container_of_command)]) + "\n"

    @property
    def is_script_in_container(self) -> bool:
        """Whether the batch script as a whole is in the container: that of an EDF, without a launcher."""
        return self.container is not None and self.container_runtime in (None, "edf") and self.launcher is None

    @property
    def _container_of_command(self) -> containers.Container | None:
        if self.container is None or self.is_script_in_container:
            return None
        return containers.Container(
            image=self.container,
            runtime=self.container_runtime or containers.RUNTIMES[0],
            mounts=self.container_mounts,
            working_dir=self.working_dir,
            gpus=bool(quantities.gpu_count(self.gpus) or quantities.gpu_count(self.gpus_per_node)),
        )

    def script_options(self, scheduler: Scheduler = "slurm") -> Mapping[str, str]:
        """Return the options that the script's own lines set, by sbatch's long names; none without a ``script``.

        :param scheduler: which of its directives count
        """
        return {} if self.script is None else options.script_options(self.script, scheduler)

    def ignored_lines(self) -> list[str]:
        """Return one sentence for each line of the script that asks the scheduler for something in vain."""
        # Imported here because DAG files import this module.
        from firecrest_core.spec.ignored_lines import ignored_lines

        return [] if self.script is None else ignored_lines(self.script)

    def job_name(self, scheduler: Scheduler = "slurm") -> str:
        """Return the job's name, from ``name`` or from the script's own lines, or else ``job``.

        :param scheduler: which of the script's directives count
        """
        return self.own_name(scheduler) or "job"

    def own_name(self, scheduler: Scheduler) -> str | None:
        """Return the name that the user has given the job, in ``name`` or in the script's own lines.

        :param scheduler: which of the script's directives count
        """
        return self.name or self.script_options(scheduler).get("job-name")
