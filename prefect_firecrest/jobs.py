"""The block that describes a job: where, and what to ask the scheduler for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from prefect.blocks.abstract import JobBlock
from pydantic import ConfigDict, Field, HttpUrl, PrivateAttr, SecretStr, field_validator, model_validator

from firecrest_core.documentation import page_url
from firecrest_core.errors import InvalidJobSpec
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.handed_over import read_job_again
from prefect_firecrest.hidden_values import hide_values
from prefect_firecrest.job_runs import FirecRESTJobRun
from prefect_firecrest.prefect_internals import (
    current_flow_folder,
    hide_values_of,
    is_block_metadata,
    take_identity,
    unknown_fields,
)
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.dry_run import DryRun
    from firecrest_core.spec.jobspec import JobSpec
    from prefect_firecrest.late_script import LateScript

# What is no field of a JobSpec.
_NOT_OF_SPEC = frozenset({
    "credentials", "system", "preset", "make_working_dir", "secret_variables", "escalate", "chain", "alternatives",
    "metrics", "poll_interval", "exactly_once",
})  # fmt: skip
# Numbers as templates and computations yield them, such as "2.0", of which pydantic takes fewer than a JobSpec.
_NUMBERS = frozenset({"ntasks", "ntasks_per_node", "cpus_per_task", "array"})
# Lists that may be given as a text.
_LISTS = frozenset({"modules", "setup", "container_mounts"})


class FirecRESTJob(JobBlock):  # type: ignore[type-arg]  # a parameter would make another block class
    """
    A batch job on a system behind a FirecREST v2. Exactly one of script, script path and command says what to run.

    Within a flow run, however often a call is tried or the run is restarted, one payload of it runs: a job that is
    alive or ended well is adopted, and only one that failed is submitted again.

    Example:
        ```python
        from prefect import flow
        from prefect_firecrest import FirecRESTJob, arun_job, run_job


        @flow
        def compute():
            job = FirecRESTJob.load("BLOCK_NAME")
            return run_job(job)


        @flow
        async def acompute():
            job = await FirecRESTJob.aload("BLOCK_NAME")
            return await arun_job(job)
        ```
    """

    # Neither an error nor the block's page may repeat the values of variables.
    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra=hide_values_of("environment"))

    _block_type_name = "FirecREST Job"
    _block_type_slug = "firecrest-job"
    _logo_url = HttpUrl(page_url("images/logo.svg"))
    _documentation_url = HttpUrl(page_url("prefect.html#a-job"))

    credentials: FirecRESTCredentials = Field(description="Where the FirecREST is, and as whom to speak to it.")
    system: str | None = Field(
        default=None, description="System to run on; that of the credentials if empty.", examples=["daint"]
    )
    preset: str | None = Field(
        default=None,
        description="Name of a preset, whose values take the place of those that are empty here. It is looked for in "
        "firecrest-presets.toml beside the flow, or else in the credentials. A job that is made in Python has the "
        "fields from then on, and no preset.",
        examples=["clariden-train"],
    )
    working_dir: str = Field(
        title="Working directory",
        description=(
            "Directory on the system where the job runs: absolute, from ~ or a variable such as $SCRATCH, or relative "
            "to the base directory of the credentials."
        ),
        examples=["~/relax"],
    )
    make_working_dir: bool | None = Field(
        default=None,
        title="Make working directory",
        description="Whether to make the working directory if it is missing; if empty, only one that is relative.",
    )
    script: str | None = Field(default=None, description="Text of a batch script; its first line begins with #!.")
    script_path: str | None = Field(default=None, description="Path of a batch script on the system.")
    command: str | list[str] | None = Field(
        default=None, description="A line of shell, or the words of one command; run by bash."
    )
    launcher: str | None = Field(
        default=None,
        description="What starts the command as many processes on all nodes: srun, torchrun, mpirun or ray.",
        examples=["torchrun"],
    )
    login_shell: bool | None = Field(
        default=None,
        title="Login shell",
        description="Whether the script's shell is a login shell (bash -l), which some sites' modules need.",
    )
    modules: list[str] = Field(default_factory=list, description="Environment modules to load.")
    setup: list[str] = Field(default_factory=list, description="Lines of shell that run before the script.")
    name: str | None = Field(default=None, title="Job name", description="The job's name, at most 230 characters.")
    account: str | None = Field(default=None, description="Account or project to charge.")
    partition: str | None = Field(
        default=None, description="Slurm's partition ('auto': all that can run the job), or PBS's queue."
    )
    nodes: int | str | None = Field(default=None, description="Number of nodes, or Slurm's 2-4 or 2,4,8.")
    ntasks: int | None = Field(default=None, title="Tasks", description="Number of tasks (MPI ranks) in all.")
    ntasks_per_node: int | None = Field(
        default=None, title="Tasks per node", description="Number of tasks on each node."
    )
    cpus_per_task: int | None = Field(default=None, title="CPUs per task", description="Cores for each task.")
    gpus: int | str | None = Field(
        default=None, title="GPUs", description="GPUs of the whole job: a number, or by type such as a100:4."
    )
    gpus_per_node: int | str | None = Field(
        default=None, title="GPUs per node", description="GPUs on each node, in the same forms."
    )
    memory: int | str | None = Field(
        default=None, description="Memory on each node, such as 4G; a number is in mebibytes."
    )
    time_limit: int | str | None = Field(
        default=None, description="Minutes, or a time such as 1:30:00 or 2-00:00:00.", examples=["1:30:00"]
    )
    array: str | None = Field(default=None, description="Indices of a job array, such as 0-3, 0-15:4 or 0-99%10.")
    dependency: str | dict[str, Any] | None = Field(
        default=None, description="What must have happened before it starts, such as afterok:12."
    )
    qos: str | None = Field(default=None, title="QOS", description="Quality of service.")
    constraint: str | None = Field(default=None, description="Features that the nodes must have, such as gpu.")
    reservation: str | None = Field(default=None, description="Name of a reservation.")
    environment: dict[str, str | SecretStr] = Field(
        default_factory=dict,
        description="Environment variables of the job. Values of names such as API_TOKEN are hidden, and stand in no "
        "script: the job reads them from a file of its own.",
    )
    secret_variables: list[str] = Field(
        default_factory=list,
        title="Secret variables",
        description="Names of further variables whose values are secrets. Those that a flow gives as SecretStr or "
        "Secret are added here, so that a saved job knows them.",
    )
    uenv: str | None = Field(default=None, title="uenv", description="CSCS's user environment, name/version:tag.")
    container: str | None = Field(
        default=None,
        description="Name or path of an EDF file of CSCS's container engine, or an image for another runtime.",
    )
    container_runtime: str | None = Field(
        default=None,
        title="Container runtime",
        description="What starts the container: edf (if empty), pyxis or apptainer.",
    )
    container_mounts: list[str] = Field(
        default_factory=list,
        title="Container mounts",
        description="Further directories in a container of Pyxis or Apptainer, such as $SCRATCH/data:/data:ro.",
    )
    signal: str | None = Field(default=None, description="Signal before the time limit, such as USR1@60.")
    directives: list[str] = Field(
        default_factory=list, description="Further options of sbatch or qsub, such as --exclusive."
    )
    stdout: str | None = Field(
        default=None, title="Standard output", description="File for the standard output, such as relax-%j.out."
    )
    stderr: str | None = Field(
        default=None, title="Standard error", description="File for the standard error; that of the output if empty."
    )
    requeue: bool | None = Field(
        default=None, description="Whether the scheduler itself may run the job again after a node failure."
    )
    usage: bool | None = Field(
        default=None,
        description="Whether the job writes down what it uses of its cores, memory and GPUs; it does if empty.",
    )
    escalate: dict[str, Any] | None = Field(
        default=None,
        description="Which job follows one that ended for want of memory, time or a node, such as "
        '{"out_of_memory": {"memory": "x2", "max": "480G"}}; the causes are out_of_memory, time_limit, node_failure '
        "and preempted.",
    )
    chain: dict[str, Any] | None = Field(
        default=None,
        description="One piece of work in many jobs, each of which goes on from the checkpoint of the one before, such "
        'as {"max_jobs": 20, "signal": "USR1@120", "done": "train.done", "checkpoint": "ckpt/*"}; a flow may give a '
        "Chain. Of an array, each element is a chain of its own, and both paths hold %a for its index. With "
        '"ahead": true, the next job waits in the queue while one runs.',
    )
    alternatives: list[dict[str, Any]] | None = Field(
        default=None,
        description="Several shapes of the job, which wait in their queues at once, such as "
        '[{"partition": "normal"}, {"partition": "debug", "time_limit": 30}]. The first that begins runs, and the '
        'others are cancelled. One may run on another system: {"system": "eiger", "working_dir": "/scratch/me/run"}; '
        "then the inputs are sent to each place.",
    )
    metrics: str | None = Field(
        default=None,
        description="File to which the job writes its metrics, one JSON object a line, relative to the working "
        "directory or in its forms. It is read while the job runs.",
        examples=["metrics.jsonl"],
    )
    poll_interval: float = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds between two queries of the job's state at the most.",
    )
    exactly_once: bool = Field(
        default=True,
        description=(
            "Whether the jobs of one call decide by a link below the working directory which of them runs. It takes a "
            "file system that the compute nodes share with the login nodes; without it, each try submits a job."
        ),
    )

    _preset_summary: str | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _read_again(cls, values: Any) -> Any:
        return read_job_again(values, cls.get_block_type_slug()) if isinstance(values, Mapping) else values

    @field_validator("*", mode="before")
    @classmethod
    def _normalize(cls, value: Any, info: Any) -> Any:
        # A block is stored as JSON, which has no timedelta, and Prefect's UI leaves an empty text where nothing is.
        from firecrest_core.spec import validation
        from firecrest_core.spec.jobspec import given_fields

        name = info.field_name
        if name in _NOT_OF_SPEC:
            return _checked_jobs(name, value)
        if not given_fields({name: value}) and not cls.model_fields[name].is_required():
            return cls.model_fields[name].get_default(call_default_factory=True)
        if name == "environment" and isinstance(value, Mapping):
            return hide_values(value)
        if name in _LISTS:
            return list(validation.checked(name, value))
        return validation.checked(name, value) if name in _NUMBERS or isinstance(value, timedelta | Mapping) else value

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a misspelt name, and a policy, a chain or alternatives of a wrong form, where they are written.

        Whether fields fit each other is checked when a job is made or submitted: between two assignments, they may not.
        """
        if name not in type(self).model_fields and not is_block_metadata(name):
            self._check_names([name])
        super().__setattr__(name, _checked_jobs(name, value))

    @model_validator(mode="after")
    def _check_spec(self) -> Self:
        self._take_preset()
        self.environment = hide_values(self.environment, self.secret_variables)
        self.secret_variables = [name for name, value in self.environment.items() if isinstance(value, SecretStr)]
        self._check_following_jobs()
        if self.alternatives is not None:
            self._check_alternatives(self.alternatives)
        take_identity(self)
        return self

    def _check_names(self, names: Collection[str]) -> None:
        """Refuse names that are no fields: a misspelt one must not be lost without a word."""
        from firecrest_core.spec.jobspec import check_names

        if "dry_run" in names:  # a field of Airflow's operator
            raise InvalidJobSpec("dry_run", "a job has no such field; it is the method .dry_run()")
        check_names(names, beside=type(self).model_fields)

    def _take_preset(self) -> None:
        """Put the values of the preset into the fields that have none."""
        if not self.preset:
            return
        from firecrest_core.presets import Presets

        preset = Presets.find(current_flow_folder(), self.credentials.connection()).get(self.preset)
        fields = type(self).model_fields
        own = {
            name: value
            for name in preset.fields
            if (value := getattr(self, name)) != fields[name].get_default(call_default_factory=True)
        }
        for name, value in preset.with_fields(own).items():
            setattr(self, name, list(value) if isinstance(value, tuple) else value)
        self.system = self.system or preset.system
        self.escalate = self.escalate or preset.escalate
        self.chain = self.chain or preset.chain
        self.preset = None
        self._preset_summary = preset.summary()

    def _check_following_jobs(self) -> None:
        from firecrest_core.chain import Chain
        from firecrest_core.escalation import Escalation, check_claim

        spec = self.spec()
        if self.escalate is not None or self.chain is not None:
            check_claim(exactly_once=self.exactly_once, chain=self.chain)
        if self.escalate is not None:
            Escalation.parse(self.escalate).check(spec, script_is_known=spec.script_path is None)
        if self.chain is not None:
            Chain.parse(self.chain).check(spec)

    def _check_alternatives(self, alternatives: list[dict[str, Any]]) -> None:
        from firecrest_core.spec.alternatives import Alternatives, check_beside, check_places

        check_beside(exactly_once=self.exactly_once, escalate=self.escalate, chain=self.chain)
        shapes = Alternatives.parse(alternatives)
        shapes.of(self.spec())
        check_places(shapes, self.system, self.working_dir)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show of the environment the names alone."""
        return [
            (name, dict.fromkeys(value, "…") if name == "environment" else value)
            for name, value in super().__repr_args__()
        ]

    def spec(self) -> JobSpec:
        """Return what is asked of the scheduler.

        :raises InvalidJobSpec: naming the field that cannot be right
        """
        from firecrest_core.spec.jobspec import JobSpec

        self._check_names(unknown_fields(self))
        if self.preset:
            raise InvalidJobSpec("preset", "a copy of a job takes no preset; give it to FirecRESTJob(…)")
        given = {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_OF_SPEC}
        given["environment"] = hide_values(self.environment, self.secret_variables)  # a copy may have other variables
        return JobSpec.from_mapping(given)

    async def spec_on(self, system: System) -> JobSpec:
        """Return what is asked of a system's scheduler, with the paths that are meant there.

        :param system: the system, as the user
        :raises InvalidJobSpec: naming the field that cannot be right
        """
        from firecrest_core.paths import expand_spec
        from prefect_firecrest.identity import is_repeated

        return await expand_spec(system, self.spec(), is_retry=is_repeated())

    @property
    def job_name(self) -> str:
        """The job's name, from ``name`` or from the script's own lines; ``job`` where neither gives one."""
        return self.spec().job_name()

    def trigger(self, inputs: Mapping[str, str] | None = None) -> FirecRESTJobRun:  # type: ignore[override]
        """Submit the job and return as soon as the scheduler has taken it.

        In a flow run it is submitted once for each call: a task that is retried and a flow run that is run again get
        the job that is alive or ended well, and a new one only where that has failed. Outside of a flow run, each
        call submits.

        :param inputs: files and directories to send before the job is submitted, and not where it is adopted, as in
            ``run_job``
        :raises InvalidJobSpec: naming the field that cannot be right
        :raises RemotePathNotFound: the working directory does not exist
        :raises SubmissionRejected: the scheduler refused it, in its own words
        :raises JobWithdrawn: the flow run was cancelled
        """
        return runtime.run(self._submit(inputs))

    async def atrigger(self, inputs: Mapping[str, str] | None = None) -> FirecRESTJobRun:
        """Do what :meth:`trigger` does, in a coroutine."""
        return await runtime.arun(self._submit(inputs))

    def dry_run(self) -> DryRun:
        """Return the script that would be submitted, and why the site would refuse the job, without submitting it.

        The run's log shows the script.

        :raises InvalidJobSpec: naming the field that cannot be right
        :raises RemotePathNotFound: there is no file ``script_path``
        """
        return runtime.run(self._dry_run())

    async def adry_run(self) -> DryRun:
        """Do what :meth:`dry_run` does, in a coroutine."""
        return await runtime.arun(self._dry_run())

    async def _dry_run(self) -> DryRun:
        from firecrest_core.campaign import Campaign
        from firecrest_core.dry_run import dry_run
        from firecrest_core.paths import is_made
        from prefect_firecrest.clients import client_of

        async with client_of(self.credentials.connection(), self.credentials.saved_as) as client:
            system = client.system(self.system)
            spec = await self.spec_on(system)
            campaign = Campaign.parse(system, spec, self.escalate, self.chain, self.alternatives)
            found = await dry_run(campaign, makes_working_dir=is_made(self.spec(), self.make_working_dir))
        for line in found.lines():
            self.logger.info("%s", line)
        return found

    async def submit_function(self, script: LateScript) -> FirecRESTJobRun:
        """Do what :meth:`trigger` does for a script that is made when it is known for which submission.

        Called in the runtime's event loop.

        :param script: what makes the script; ``command`` stands for it until then
        """
        return await self._submit(None, script)

    async def _submit(self, inputs: Mapping[str, str] | None, script: LateScript | None = None) -> FirecRESTJobRun:
        from firecrest_core.campaign import Campaign
        from firecrest_core.job_metrics import metrics_path
        from firecrest_core.paths import is_made, make_directory
        from prefect_firecrest.clients import client_of
        from prefect_firecrest.identity import TaskIdentity, is_repeated
        from prefect_firecrest.observability.display import show_submitted
        from prefect_firecrest.submission import Submission

        connection = self.credentials.connection()
        async with client_of(connection, self.credentials.saved_as) as client:
            system = client.system(self.system)
            spec = await self.spec_on(system)
            metrics = await metrics_path(system, spec.working_dir, self.metrics) if self.metrics else None
            if self._preset_summary:
                self.logger.info(self._preset_summary)
            for problem in spec.ignored_lines():
                self.logger.warning("script, %s", problem)
            if makes := is_made(self.spec(), self.make_working_dir):
                await make_directory(system, spec.working_dir, is_retry=is_repeated())
            identity = await TaskIdentity.current(connection, system.name, spec)
            if script is not None:
                spec = script.complete(connection, spec, identity.claim_identity)
            campaign = Campaign.parse(system, spec, self.escalate, self.chain, self.alternatives)
            saved_as = self.credentials.saved_as
            submission = Submission(saved_as, identity, campaign, inputs, makes, script, self.logger)
            job = await (submission.once() if self.exactly_once else submission.anew())
        await show_submitted(job, connection.job_url, self.logger)
        return FirecRESTJobRun(
            self.credentials,
            job,
            spec,
            inputs=inputs,
            poll_interval=self.poll_interval,
            metrics=metrics,
            escalate=self.escalate,
            chain=self.chain,
            alternatives=self.alternatives,
        )


def _checked_jobs(name: str, value: Any) -> Any:
    """Return a field's value: if the field says which jobs there are, in JSON types, as a block is stored.

    :raises InvalidJobSpec: it has a wrong form
    """
    from firecrest_core.chain import Chain
    from firecrest_core.escalation import Escalation
    from firecrest_core.spec.alternatives import Alternatives

    if name == "escalate" and value is not None:
        Escalation.parse(value)
    if name == "chain" and value is not None:
        return Chain.parse(value).to_dict()
    if name == "alternatives" and value is not None:
        return Alternatives.parse(value).to_list()
    return value
