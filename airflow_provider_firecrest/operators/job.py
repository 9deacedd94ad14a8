"""Operators that submit jobs, and that cancel them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.airflow_internals import BeforeRendering
from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.hooks.firecrest import build_spec
from airflow_provider_firecrest.identity import TaskIdentity, default_job_name
from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator, FirecRESTWaitingOperator
from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger
from airflow_provider_firecrest.xcom import job_mapping

if TYPE_CHECKING:
    from airflow.sdk import Context

    from firecrest_core.jobs.job import Job
    from firecrest_core.result import JobResult
    from firecrest_core.spec.jobspec import JobSpec


class FirecRESTSubmitOperator(BeforeRendering, FirecRESTWaitingOperator):
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

    ``script``, ``script_path`` and ``working_dir`` may be given here or in ``job``. If one is given twice, the one here
    counts.

    :param script: the text of a batch script, or the name of a template file of it beside the DAG or in its
        ``template_searchpath`` (a line that ends in ``.sh``, ``.sbatch`` or ``.slurm``)
    :param script_path: absolute path of a batch script on the system
    :param working_dir: absolute path of the directory on the system where the job runs
    :param job: what else to ask for, as a ``JobSpec`` or a mapping of its fields: ``nodes``, ``time_limit``,
        ``account``, ``partition``, ``gpus``, ``array``, ``environment``, …, or ``command`` in place of a script
    :param exactly_once: the jobs of all tries agree on which of them runs, by a link in ``working_dir/.firecrest``.
        This needs a file system that the compute nodes share with the login nodes; ``False`` submits once for each try
    :param fail_if_stuck: cancel the job and fail, without a retry, when it can never start (its time limit is above
        the partition's, a job that it depends on has failed, …). The default is to warn at once, with the reason and
        what to do about it, and to wait on: an administrator may still change the limit
    :returns: a mapping with ``job_id`` (and ``jobId``), ``system``, ``name``, ``state``, ``reason``, ``exit_code``,
        ``submit_time``, ``start_time``, ``end_time`` (ISO 8601, UTC), ``elapsed`` (seconds), ``nodes``, ``node_count``,
        ``node_hours``, ``element_counts`` and ``failed_indices`` (of an array), ``working_directory``, ``stdout`` and
        ``stderr`` (paths on the system). It is the XCom ``job``, too, also if the job and with it the task has failed.
        The id is pushed as XCom ``job_id`` as soon as it is known.
    """

    template_fields: Sequence[str] = (
        *FirecRESTBaseOperator.template_fields,
        "script",
        "script_path",
        "working_dir",
        "job",
    )
    template_ext: Sequence[str] = (".sh", ".sbatch", ".slurm")
    template_fields_renderers: ClassVar[dict[str, str]] = {"script": "bash", "job": "json"}

    def __init__(
        self,
        *,
        script: str | None = None,
        script_path: str | None = None,
        working_dir: str | None = None,
        job: JobSpec | Mapping[str, Any] | None = None,
        exactly_once: bool = True,
        fail_if_stuck: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.exactly_once = exactly_once
        self.fail_if_stuck = fail_if_stuck
        self.script = script
        self.script_path = script_path
        self.working_dir = working_dir
        # Airflow renders the strings of a mapping, and shows them; a JobSpec cannot be changed.
        to_mapping = getattr(job, "to_mapping", None)
        self.job = to_mapping() if to_mapping else job

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit the job, or find the one that an earlier try has submitted, and wait for it.

        :param context: the task's
        """
        from airflow.sdk.log import mask_secret

        from firecrest_core.errors import FirecRESTError, SubmissionLimitReached

        try:
            connection = self.hook.connection()
            system = connection.system_or_default(self.system)
            spec = _named(self._spec(), context)
        except FirecRESTError as error:
            raise task_error(error) from None
        mask_secret(dict(spec.environment))  # the values whose names Airflow takes for those of secrets
        earlier_ended = self.cancel_earlier_run(context)
        identity = TaskIdentity.load(context, connection, system, spec) if self.exactly_once else None
        if identity is not None and not earlier_ended:
            # Then it looks for jobs with its own key, and ends those of earlier epochs before it submits.
            identity = replace(identity, first_attempt=False)
        if identity is not None:  # its claim can be cancelled before the job has an id
            self._warn_of_another_place(identity, system, spec)
            self.own_jobs(context, [identity.placeholder_job().to_dict()])
        submission = None
        try:
            job = self.hook.run(self._submit(context, system, spec, identity))
            self.log.info(job.submission_message())
            context["ti"].xcom_push(key="job_id", value=job.job_id)
        except SubmissionLimitReached as error:
            if identity is None:
                raise
            self.log.info("%s The triggerer waits for room and submits it.", error)
            job, submission = identity.placeholder_job(), identity.spec.to_mapping()
        trigger = FirecRESTJobTrigger(
            job=job.to_dict(),
            submission=submission,
            fail_if_stuck=self.fail_if_stuck,
            firecrest_conn_id=self.firecrest_conn_id,
            poll_interval=self.poll_interval,
        )
        result: dict[str, Any] = self.wait(context, trigger)
        return result

    def _spec(self) -> JobSpec:
        return build_spec(
            self.job, {"script": self.script, "script_path": self.script_path, "working_dir": self.working_dir}
        )

    async def _submit(self, context: Context, system: str, spec: JobSpec, identity: TaskIdentity | None) -> Job:
        from firecrest_core import lifecycle

        async def record() -> None:
            assert identity is not None
            self.record_jobs(context, [identity.placeholder_job().to_dict()])

        async with self.hook.client() as client:
            if identity is None:
                # A triggerer that is restarted could not find this job again, so the worker submits it.
                return await lifecycle.submit(client.system(system), spec)
            return await lifecycle.submit(
                client.system(identity.system),
                identity.spec,
                identity.key,
                first_attempt=identity.first_attempt,
                wait_for_room=not self.deferrable,
                before_post=record,
            )

    def _warn_of_another_place(self, identity: TaskIdentity, system: str, spec: JobSpec) -> None:
        if (identity.system, identity.spec.working_dir) != (system, spec.working_dir):
            self.log.warning(
                "This run began on %s, in %s, and goes on there. Clear the task to run it on %s, in %s.",
                identity.system,
                identity.spec.working_dir,
                system,
                spec.working_dir,
            )

    def finish(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Log the end of the job's output, and fail if the job did.

        :param context: the task's
        :param event: the trigger's
        """
        from firecrest_core.errors import FirecRESTError
        from firecrest_core.result import JobResult

        with suppress(FirecRESTError):  # the DAG was edited meanwhile
            self._spec()  # another worker may have submitted: this one learns here which values not to show
        result = JobResult.from_dict(event["result"])
        job = job_mapping(result)
        context["ti"].xcom_push(key="job", value=job)
        self.hook.run(self._check(result))
        return job

    async def _check(self, result: JobResult) -> None:
        from firecrest_core import lifecycle

        async with self.hook.client() as client:
            await lifecycle.raise_for_state(client.system(result.system), result, on_output=self._log_output)

    def _log_output(self, path: str, tail: str) -> None:
        self.log.info("Last lines of %s:", path)
        for line in tail.splitlines():
            self.log.info("  %s", line)

    # --- template files: `script` alone ---------------------------------------------------------------
    # Airflow would take every templated value that ends in ".sh" for a file on its side, but script_path, and names in
    # `job`, are files on the cluster.

    def resolve_template_files(self) -> None:
        """Put the template file's text in ``script`` while the DAG is parsed, so that Airflow versions it."""
        with suppress(AirflowFailException):  # a name that is itself a template is known only when the task runs
            self.script = self._script_text(self.script, self.get_template_env())

    def before_rendering(self, jinja_env: Any) -> None:
        """Do what :meth:`resolve_template_files` does, for the script of a mapped task, which is known only now.

        :param jinja_env: Jinja's environment
        :raises AirflowFailException: there is no such file
        """
        self.script = self._script_text(self.script, jinja_env)
        self.template_ext = ()

    def after_rendering(self, context: Any) -> None:
        """Label a mapped task with its job's name, unless the DAG says how. The index stays, as names may be equal.

        :param context: the task's
        """
        from firecrest_core.errors import FirecRESTError

        index = context["ti"].map_index if "ti" in context else None
        if index is None or index < 0 or context.get("map_index_template") is not None:
            return
        with suppress(FirecRESTError):  # execute() says what is wrong with it
            if name := _own_name(self._spec()):
                label = name if str(index) in name else f"{name}[{index}]"
                context["map_index_template"] = f"{{% raw %}}{label}{{% endraw %}}"

    @classmethod
    def _script_text(cls, script: Any, jinja_env: Any) -> Any:
        """Return the text of the file that ``script`` names; a script itself has more than one line."""
        if not isinstance(script, str) or "\n" in script or not script.endswith(tuple(cls.template_ext)):
            return script
        if jinja_env.loader is not None:
            with suppress(LookupError):  # jinja2.TemplateNotFound
                return jinja_env.loader.get_source(jinja_env, script)[0]
        raise AirflowFailException(
            f"script: there is no template file {script!r} beside the DAG or in its template_searchpath. A file on "
            "the cluster goes into script_path."
        )


def _own_name(spec: JobSpec) -> str | None:
    """Return the name that the user has given a job; which scheduler will read its script is not known here."""
    return spec.own_name("slurm") or spec.own_name("pbs")


def _named(spec: JobSpec, context: Context) -> JobSpec:
    """Return the job with a name. A script on the cluster has not been read yet, and may name itself."""
    if spec.script_path is not None or _own_name(spec):
        return spec
    return replace(spec, name=default_job_name(context["ti"]))


class FirecRESTCancelOperator(FirecRESTBaseOperator):
    """Cancel a job. Cancelling one that has ended succeeds.

    :param job_id: the job's id
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "job_id")

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def execute(self, context: Context) -> None:
        """Cancel the job.

        :param context: the task's
        """
        self.hook.cancel_job(str(self.job_id), system=self.system)
        self.log.info("Job %s was cancelled, unless it had ended.", self.job_id)
