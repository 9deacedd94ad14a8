"""The operator that submits a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.hooks.masking import values_to_mask
from airflow_provider_firecrest.identity import TaskIdentity, named, own_job_name
from airflow_provider_firecrest.job_metrics import MLflowSettings, push_metrics
from airflow_provider_firecrest.job_snapshots import push, push_followed
from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator, checked_live_output
from airflow_provider_firecrest.operators.cancel import FirecRESTCancelOperator
from airflow_provider_firecrest.operators.dry_run import show_dry_run
from airflow_provider_firecrest.operators.job_fields import JOB_FIELDS, refuse_unknown
from airflow_provider_firecrest.operators.job_outcome import JobOutcome
from airflow_provider_firecrest.operators.templates import TEMPLATE_FILES
from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context

    from firecrest_core.api.client import System
    from firecrest_core.chain import Chain
    from firecrest_core.connection import Connection
    from firecrest_core.jobs.job import Job
    from firecrest_core.spec.jobspec import JobSpec

__all__ = ["FirecRESTCancelOperator", "FirecRESTSubmitOperator"]  # DAGs import both from here


class FirecRESTSubmitOperator(JobOutcome):
    """Submit a job, wait for its end, and return how it ended.

    The task's log shows the job's id, each change of its state with reason, node and elapsed time, and the last lines
    of its output. If the job ends otherwise than COMPLETED, the task fails with the job's state, its exit code and the
    last lines of its standard error. If a script, partition or directory cannot be right, the task fails at once,
    without a retry.

    However often the task is tried, its job runs once: a retry goes on with the job that is alive, returns the result
    of one that ended well, and submits again only when the job itself has failed. A task that is cleared first cancels
    the job of its earlier run. Where a limit on submitted jobs is reached, the task waits for room: in the triggerer if
    it is deferrable, else in its worker.

    A job without a name is called ``dag.task``, that of a mapped task ``dag.task[index]``. Of a mapped task whose jobs
    have names, Airflow's UI shows these, unless there is a ``map_index_template``.

    Each field of a :class:`~firecrest_core.spec.jobspec.JobSpec` is an argument, and may be given in ``job`` as well.
    If one is given twice, the one here counts; ``default_args`` count less than ``job``. All are templates. What cannot
    be right is refused while the DAG is parsed, as far as it holds no template. Airflow's own ``queue`` is the queue of
    its workers, and the job's is ``partition``.

    :param script: the text of a batch script, or the name of a template file of it beside the DAG or in its
        ``template_searchpath`` (a line that ends in ``.sh``, ``.bash``, ``.sbatch``, ``.slurm``, ``.pbs`` or ``.j2``)
    :param script_path: path of a batch script on the system
    :param command: in place of a script, a line of shell or the words of one command; run by bash
    :param working_dir: the directory on the system where the job runs. Like ``script_path``, it is an absolute path, or
        begins with ``~`` or a variable such as ``$SCRATCH``, or is relative to the connection's base directory
    :param launcher: what starts the ``command`` as many processes on all nodes: ``"srun"``, ``"torchrun"``,
        ``"mpirun"`` or ``"ray"``
    :param login_shell: whether the script's shell is a login shell (``bash -l``)
    :param modules: environment modules to load
    :param setup: lines of shell that run before the script
    :param name: the job's name
    :param account: account or project to charge
    :param partition: Slurm's partition, PBS's queue; ``"auto"`` is all of Slurm's that can run the job
    :param nodes: number of nodes, or ``"2-4"``
    :param ntasks: number of tasks (MPI ranks) in all
    :param ntasks_per_node: number of tasks on each node
    :param cpus_per_task: cores for each task
    :param gpus: GPUs of the whole job: a number, or ``"a100:4"``
    :param gpus_per_node: GPUs on each node, in the same forms
    :param memory: memory on each node: ``"4G"``, or a number of mebibytes
    :param time_limit: minutes, a :class:`~datetime.timedelta`, or a text such as ``"1:30:00"``
    :param array: ``"0-3"``, ``"1,5,9"``, ``"0-99%10"``
    :param dependency: ``"afterok:12"``, or a mapping such as ``{"afterok": [12, 13]}``
    :param qos: quality of service (Slurm)
    :param constraint: features that the nodes must have (Slurm)
    :param reservation: a reservation's name
    :param environment: variables for the job. A value whose name looks like that of a secret (``HF_TOKEN``), or that
        is a ``SecretStr`` of pydantic, reaches the job by a file that only its owner may read, and is shown nowhere. A
        ``SecretStr`` is a template as well: ``SecretStr("{{ conn.hf.password }}")``
    :param uenv: CSCS's user environment, ``"name/version:tag"``
    :param container: name or path of an environment definition file (EDF) of CSCS's container engine, or an image for
        another ``container_runtime``
    :param container_runtime: ``"edf"`` (unless given), ``"pyxis"`` or ``"apptainer"``
    :param container_mounts: further directories in a container of Pyxis or Apptainer, ``"$SCRATCH/data:/data:ro"``
    :param signal: signal before the time limit, ``"B:USR1@60"``
    :param directives: further options of the scheduler, ``["--exclusive"]``
    :param stdout: file for the standard output
    :param stderr: file for the standard error
    :param requeue: whether the scheduler may run the job a second time after a node failure or a preemption
    :param usage: whether the job writes down what it uses of its cores, memory and GPUs (true unless given)
    :param make_working_dir: make ``working_dir`` if it is missing; unless given, only if it is relative
    :param job: the same fields in one object, as a ``JobSpec`` or a mapping
    :param preset: name of a preset, which has the fields that neither gives, and ``system``, ``escalate`` and ``chain``
        if they are left out; from ``firecrest-presets.toml`` beside the DAG, or else the connection, see
        :mod:`firecrest_core.presets`
    :param exactly_once: the jobs of all tries agree on which of them runs, by a link in ``working_dir/.firecrest``.
        This needs a file system that the compute nodes share with the login nodes; ``False`` submits once for each try
    :param escalate: which job follows one that ended for want of memory, time or a node, by itself and without a try of
        the task: ``{"out_of_memory": {"memory": "x2", "max": "480G"}, "time_limit": {"time_limit": "x2", "max":
        "24:00:00"}, "node_failure": {"exclude": "node", "max": 3}, "preempted": "wait"}``, each of them if wanted. A
        step is a factor (``"x1.5"``) or what is added (``"+16G"``). See :mod:`firecrest_core.escalation`
    :param chain: one piece of work in many jobs: ``Chain(max_jobs=20, signal="USR1@120", done="train.done",
        checkpoint="ckpt/*")``, or a mapping of these. Each job goes on from the checkpoint of the one before, until the
        marker ``done`` is there, a job has left no newer checkpoint, or there were ``max_jobs``; all of that is one try
        of the task. Of an array, each element is a chain of its own, and both paths hold ``%a`` for its index. With
        ``ahead=True``, the next job waits in the queue while one runs. See
        :mod:`firecrest_core.chain`
    :param alternatives: several shapes of the job, which wait in their queues at once:
        ``[{"partition": "normal"}, {"partition": "debug", "time_limit": 30}]``. Each has what it says, and else what
        the job does. The first that begins runs, and the others are cancelled. One may run on another system of the
        connection: ``{"system": "eiger", "working_dir": "/capstor/scratch/me/run"}``; then the inputs are sent to each
        place, and the outputs come from the one that ran. Not with ``escalate``, ``chain`` or an array. See
        :mod:`firecrest_core.race`
    :param inputs: files and directories to send before the job is submitted: for each path on Airflow's side, the path
        on the system. They are not sent again when a retry finds the job that exists
    :param outputs: files and directories to fetch when the job has ended: for each path on the system, also with
        wildcards (``results/**/*.json``), the path on Airflow's side; ``{job_id}`` stands for the job's id. Of a job
        that failed, those are fetched that are there. If only fetching fails, the retry fetches, and the job does not
        run again. In both, paths on the system are relative to ``working_dir``, or in its forms, and paths on Airflow's
        side are as in :mod:`airflow_provider_firecrest.operators.transfer`. A target that ends in ``/`` or is a
        directory takes a file under its own name; a directory becomes the target itself, and is merged into one that is
        there. A task that is deferrable waits for large outputs in the triggerer; while inputs travel, it holds its
        worker
    :param fail_if_stuck: cancel the job and fail, without a retry, when it can never start (its time limit is above
        the partition's, a job that it depends on has failed, …). The default is to warn at once, with the reason and
        what to do about it, and to wait on: an administrator may still change the limit
    :param live_output: show in the task's log what the job prints while it runs, each line behind ``out |`` or
        ``err |``; of an array, the element with this index: ``live_output=3``. With ``True``, no array is followed
    :param metrics: file to which the job writes its metrics, one JSON object a line (``{"step": 1, "loss": 0.5}``),
        relative to ``working_dir`` or in its forms. It is read while the job runs: the last values are in the task's
        log and in the table of *HPC Jobs*, the job's page there shows their curves
    :param mlflow_conn_id: an Airflow connection of the type ``http`` with the URL of an MLflow that gets the metrics;
        without it, the one that ``MLFLOW_TRACKING_URI`` names in triggerer and worker. Needs the extra ``mlflow``
    :param dry_run: submit nothing. The log shows the script, and the task fails if the site would refuse the job. It
        returns a mapping with ``dry_run``, ``system``, ``name`` and ``script``
    :returns: a mapping with ``job_id`` (and ``jobId``), ``system``, ``name``, ``state``, ``reason``, ``exit_code``,
        ``submit_time``, ``start_time``, ``end_time`` (ISO 8601, UTC), ``elapsed`` (seconds), ``partition``, ``nodes``,
        ``node_count``, ``node_hours``, ``usage`` (a mapping), ``element_counts`` and ``failed_indices`` (of an array),
        ``course`` (with ``escalate`` or ``chain``: what the last job was given, and the jobs before it),
        ``working_directory``, ``stdout`` and ``stderr`` (paths on the system). It is the XCom ``job``, too, also if the
        job and with it the task has failed. The id is pushed as XCom ``job_id`` as soon as it is known. If the job
        succeeded and has written a ``return.json`` in its working directory (at most 64 KiB), what it holds is the XCom
        ``return``.
    """

    template_fields: Sequence[str] = (
        *FirecRESTBaseOperator.template_fields,
        *JOB_FIELDS,
        "job",
        "preset",
        "alternatives",
        "inputs",
        "outputs",
        "metrics",
        "mlflow_conn_id",
    )
    template_ext: Sequence[str] = TEMPLATE_FILES
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "script": "bash",
        "command": "bash",
        "setup": "bash",
        "environment": "json",
        "job": "json",
        "alternatives": "json",
        "inputs": "json",
        "outputs": "json",
    }

    def __init__(
        self,
        *,
        script: str | None = None,
        script_path: str | None = None,
        command: str | Sequence[str] | None = None,
        launcher: str | None = None,
        login_shell: bool | str | None = None,
        modules: Sequence[str] | str | None = None,
        setup: Sequence[str] | str | None = None,
        working_dir: str | None = None,
        name: str | None = None,
        account: str | None = None,
        partition: str | None = None,
        nodes: int | str | None = None,
        ntasks: int | str | None = None,
        ntasks_per_node: int | str | None = None,
        cpus_per_task: int | str | None = None,
        gpus: int | str | None = None,
        gpus_per_node: int | str | None = None,
        memory: int | str | None = None,
        time_limit: float | str | timedelta | None = None,
        array: int | str | None = None,
        dependency: str | Mapping[str, Any] | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        reservation: str | None = None,
        environment: Mapping[str, Any] | str | None = None,
        uenv: str | None = None,
        container: str | None = None,
        container_runtime: str | None = None,
        container_mounts: Sequence[str] | str | None = None,
        signal: str | None = None,
        directives: Sequence[str] | str | None = None,
        stdout: str | None = None,
        stderr: str | None = None,
        requeue: bool | str | None = None,
        usage: bool | str | None = None,
        make_working_dir: bool | None = None,
        job: JobSpec | Mapping[str, Any] | str | None = None,
        preset: str | None = None,
        escalate: Mapping[str, Any] | None = None,
        chain: Chain | Mapping[str, Any] | None = None,
        alternatives: Sequence[Mapping[str, Any]] | str | None = None,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        exactly_once: bool = True,
        fail_if_stuck: bool = False,
        live_output: bool | int = True,
        metrics: str | None = None,
        mlflow_conn_id: str | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        refuse_unknown(type(self), kwargs)
        super().__init__(**kwargs)
        self.exactly_once = exactly_once
        self.escalate = escalate
        self.chain = chain
        self.alternatives = alternatives
        self.fail_if_stuck = fail_if_stuck
        self.live_output = checked_live_output(live_output)
        self.metrics = metrics
        self.mlflow_conn_id = mlflow_conn_id
        self.is_dry_run = dry_run  # each operator of Airflow has a method `dry_run`
        self.script = script
        self.script_path = script_path
        self.command = command
        self.launcher = launcher
        self.login_shell = login_shell
        self.modules = modules
        self.setup = setup
        self.working_dir = working_dir
        self.name = name
        self.account = account
        self.partition = partition
        self.nodes = nodes
        self.ntasks = ntasks
        self.ntasks_per_node = ntasks_per_node
        self.cpus_per_task = cpus_per_task
        self.gpus = gpus
        self.gpus_per_node = gpus_per_node
        self.memory = memory
        self.time_limit = time_limit
        self.array = array
        self.dependency = dependency
        self.qos = qos
        self.constraint = constraint
        self.reservation = reservation
        self.environment = environment
        self.uenv = uenv
        self.container = container
        self.container_runtime = container_runtime
        self.container_mounts = container_mounts
        self.signal = signal
        self.directives = directives
        self.stdout = stdout
        self.stderr = stderr
        self.requeue = requeue
        self.usage = usage
        self.make_working_dir = make_working_dir
        self.keep_files(inputs, outputs)
        # Airflow renders the strings of a mapping, and shows them; a JobSpec cannot be changed.
        to_mapping = getattr(job, "to_mapping", None)
        self.job = to_mapping() if to_mapping else job
        self.preset = preset
        self.check_fields(kwargs.get("default_args") or {})

    def execute(self, context: Context) -> Any:
        """Submit the job, or find the one that an earlier try has submitted, and wait for it.

        :param context: the task's
        """
        from airflow.sdk.log import mask_secret

        from firecrest_core.chain import Chain
        from firecrest_core.errors import FirecRESTError, SubmissionLimitReached
        from firecrest_core.paths import is_made
        from firecrest_core.spec.alternatives import Alternatives
        from firecrest_core.spec.sealing import seal, seal_secrets

        try:
            connection = self.hook.connection()
            preset = self.find_preset()
            if preset is not None:
                self.take_following_jobs(preset)
            system = connection.system_or_default(self.system or (preset.system if preset else None))
            given = named(self.job_spec(), context["ti"])
            self.check_files()
        except FirecRESTError as error:
            raise task_error(error) from None
        if preset is not None:
            self.log.info(preset.summary())
        for problem in given.ignored_lines():
            self.log.warning("script, %s", problem)
        mask_secret(values_to_mask(given))
        is_retry = context["ti"].try_number > 1
        spec = self.hook.run(self._expand(system, given, is_retry))
        if self.is_dry_run:
            made = is_made(given, self.make_working_dir)
            more = self.escalate, self.chain, self.alternatives
            tried = show_dry_run(self.hook, system, spec, *more, makes_working_dir=made)
            shown: dict[str, Any] = self.hook.run(tried)
            return shown
        earlier_ended = self.cancel_earlier_run(context)
        identity = TaskIdentity.load(context, connection, system, spec) if self.exactly_once else None
        if identity is not None and not earlier_ended:
            # Then it looks for jobs with its own key, and ends those of earlier epochs before it submits.
            identity = replace(identity, first_attempt=False)
        if identity is not None:  # its claim can be cancelled before the job has an id
            self._warn_of_another_place(identity, system, spec)
            try:
                identity = replace(identity, spec=self.complete(identity, connection))
            except FirecRESTError as error:
                raise task_error(error) from None
            self.own_jobs(context, [identity.placeholder_job().to_dict()])
        try:
            if is_made(given, self.make_working_dir):
                self.hook.run(self._make_working_dir(system, spec, identity, is_retry))
            job = self.hook.run(
                self._submit(context, system, spec, identity, made=is_made(given, self.make_working_dir))
            )
            self.log.info(job.submission_message())
            context["ti"].xcom_push(key="job_id", value=job.job_id)
            self.show_submitted(context, job, spec)
        except SubmissionLimitReached as error:
            if identity is None:
                raise
            self.log.info("%s The triggerer waits for room and submits it.", error)
            job = identity.placeholder_job()
        submits = identity is not None and (self.has_many_jobs or not job.job_id or job.home is not None)
        trigger = FirecRESTJobTrigger(
            job=job.to_dict(),
            submission=seal(identity.spec, connection.secret) if identity is not None and submits else None,
            escalate=self.escalate,
            chain=None if self.chain is None else Chain.parse(self.chain).to_dict(),
            alternatives=None if self.alternatives is None else Alternatives.parse(self.alternatives).to_list(),
            fail_if_stuck=self.fail_if_stuck,
            live_output=self.live_output,
            secrets=seal_secrets(spec, connection.secret),
            metrics=None if self.metrics is None else self.hook.run(self._metrics_path(job, self.metrics)),
            mlflow=asdict(MLflowSettings.of_task(context["ti"], self.mlflow_conn_id)) if self.metrics else None,
            firecrest_conn_id=self.firecrest_conn_id,
            poll_interval=self.poll_interval,
        )
        if not self.deferrable:
            trigger.on_snapshot = partial(push, context["ti"], connection=connection)
            trigger.on_metrics = partial(push_metrics, context["ti"])
            trigger.on_followed = partial(push_followed, context["ti"], connection=connection)
            trigger.on_next_job = partial(self.show_next_job, context)
        return self.wait(context, trigger)

    async def _expand(self, system: str, spec: JobSpec, is_retry: bool) -> JobSpec:
        from firecrest_core.paths import expand_spec

        async with self.hook.client() as client:
            return await expand_spec(client.system(system), spec, is_retry=is_retry)

    async def _metrics_path(self, job: Job, path: str) -> str:
        from firecrest_core.job_metrics import metrics_path

        async with self.hook.client() as client:
            return await metrics_path(client.system(job.origin.system), job.origin.working_dir, path)

    async def _make_working_dir(
        self, system: str, spec: JobSpec, identity: TaskIdentity | None, is_retry: bool
    ) -> None:
        from firecrest_core.paths import make_directory

        if identity is not None:  # where the epoch's first try has begun
            system, spec = identity.system, identity.spec
        async with self.hook.client() as client:
            await make_directory(client.system(system), spec.working_dir, is_retry=is_retry)

    async def _submit(
        self, context: Context, system: str, spec: JobSpec, identity: TaskIdentity | None, *, made: bool
    ) -> Job:
        from firecrest_core import lifecycle
        from firecrest_core.campaign import Campaign
        from firecrest_core.paths import make_directory

        async def prepare() -> None:
            assert identity is not None
            await self.send_inputs(client.system(identity.system), identity.spec)
            self.record_jobs(context, [identity.placeholder_job().to_dict()])

        async def prepare_place(place: System, at: JobSpec) -> None:
            if made:
                await make_directory(place, at.working_dir)
            await self.send_inputs(place, at)

        async with self.hook.client() as client:
            if identity is None:
                await self.send_inputs(client.system(system), spec)
                # A triggerer that is restarted could not find this job again, so the worker submits it.
                return await lifecycle.submit(client.system(system), spec)
            on = client.system(identity.system)
            campaign = Campaign.parse(on, identity.spec, self.escalate, self.chain, self.alternatives)
            # The triggerer has no inputs to send to the other places.
            is_sent_later = campaign.alternatives is not None and campaign.alternatives.are_elsewhere
            return await campaign.submit(
                identity.key,
                first_attempt=identity.first_attempt,
                wait_for_room=not self.deferrable or is_sent_later,
                before_post=prepare,
                prepare_place=prepare_place,
                on_message=self.log.info,
            )

    def complete(self, identity: TaskIdentity, connection: Connection) -> JobSpec:
        """Return what is submitted, now that it is known for whom: the task's job, unless an operator says more.

        :param identity: the task's, with its job
        :param connection: what the job is submitted with
        """
        return identity.spec

    def _warn_of_another_place(self, identity: TaskIdentity, system: str, spec: JobSpec) -> None:
        if (identity.system, identity.spec.working_dir) != (system, spec.working_dir):
            self.log.warning(
                "This run began on %s, in %s, and goes on there. Clear the task to run it on %s, in %s.",
                identity.system,
                identity.spec.working_dir,
                system,
                spec.working_dir,
            )

    def after_rendering(self, context: Any) -> None:
        """Label a mapped task with its job's name, unless the DAG says how. The index stays, as names may be equal.

        :param context: the task's
        """
        from firecrest_core.errors import FirecRESTError

        index = context["ti"].map_index if "ti" in context else None
        if index is None or index < 0 or context.get("map_index_template") is not None:
            return
        with suppress(FirecRESTError):  # execute() says what is wrong with it
            if name := own_job_name(self.job_spec()):
                label = name if str(index) in name else f"{name}[{index}]"
                context["map_index_template"] = f"{{% raw %}}{label}{{% endraw %}}"
