"""Operators that submit jobs, and that cancel them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.claim import Submission
from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.hooks.firecrest import spec_of
from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator, FirecRESTWaitingOperator
from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger
from airflow_provider_firecrest.xcom import mapping

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from firecrest_core.job import Job
    from firecrest_core.jobspec import JobSpec
    from firecrest_core.result import JobResult


class FirecRESTSubmitOperator(FirecRESTWaitingOperator):
    """Submit a job, wait for its end, and return how it ended.

    The task's log tells the job's story: its id, each change of state with reason, node and elapsed time, and the
    last lines of its output. A job that ended otherwise than COMPLETED fails the task, with its state, exit code
    and the last lines of its standard error; a script, partition or directory that cannot be right fails it at
    once, without a retry.

    However often the task is tried, its job runs once: a retry goes on with the job that is alive, returns the result
    of one that ended well, and submits again only when the job itself has failed. A task that is cleared first ends
    the job of its earlier run.

    ``script``, ``script_path`` and ``working_dir`` may be given here or in ``job``; given twice, those here count.

    :param script: the text of a batch script, or the name of a template file of it beside the DAG or in its
        ``template_searchpath`` (a line that ends in ``.sh``, ``.sbatch`` or ``.slurm``)
    :param script_path: absolute path of a batch script on the system
    :param working_dir: absolute path of the directory on the system where the job runs
    :param job: what else to ask for, as a ``JobSpec`` or a mapping of its fields: ``nodes``, ``time_limit``,
        ``account``, ``partition``, ``gpus``, ``array``, ``environment``, …, or ``command`` in place of a script
    :param exactly_once: let the jobs settle among themselves, by a link in ``working_dir/.firecrest``, which of them
        runs. It takes a file system that the compute nodes share with the login nodes; ``False`` submits once for
        each try.
    :param fail_if_stuck: cancel the job and fail, without a retry, when it can never start (its time limit is above
        the partition's, a job that it depends on has failed, …). The default is to warn at once, with the reason and
        what to do about it, and to wait on: an administrator may still change the limit.
    :returns: a mapping with ``job_id`` (and ``jobId``), ``system``, ``name``, ``state``, ``exit_code``, ``elapsed``
        (seconds), ``nodes``, ``working_directory``, ``stdout`` and ``stderr`` (paths on the system). The id is
        pushed as XCom ``job_id``, too, as soon as it is known.
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
        from firecrest_core.errors import FirecRESTError

        try:
            system = self.hook.connection().system_or_default(self.system)
            spec = spec_of(
                self.job, {"script": self.script, "script_path": self.script_path, "working_dir": self.working_dir}
            )
        except FirecRESTError as error:
            raise task_error(error) from None
        self.end_earlier_run(context)
        submission = Submission.of(context, system, spec) if self.exactly_once else None
        if submission is not None:  # its claim can be cancelled before the job has an id
            self._say_where(submission, system, spec)
            self.watch(context, [submission.unborn().to_dict()])
        job = self.hook.run(self._submit(system, spec, submission))
        self.log.info(job.arrival())
        context["ti"].xcom_push(key="job_id", value=job.job_id)
        trigger = FirecRESTJobTrigger(
            job=job.to_dict(),
            fail_if_stuck=self.fail_if_stuck,
            firecrest_conn_id=self.firecrest_conn_id,
            poll_interval=self.poll_interval,
        )
        result: dict[str, Any] = self.wait(context, trigger)
        return result

    async def _submit(self, system: str, spec: JobSpec, submission: Submission | None) -> Job:
        from firecrest_core import lifecycle

        async with self.hook.client() as client:
            if submission is None:
                return await lifecycle.submit(client, system, spec)
            return await submission.submit(client)

    def _say_where(self, submission: Submission, system: str, spec: JobSpec) -> None:
        if (submission.system, submission.spec.working_dir) != (system, spec.working_dir):
            self.log.warning(
                "This run began on %s, in %s, and goes on there. Clear the task to run it on %s, in %s.",
                submission.system,
                submission.spec.working_dir,
                system,
                spec.working_dir,
            )

    def finish(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Show the end of the job's output, and fail if the job did."""
        from firecrest_core import lifecycle
        from firecrest_core.errors import JobFailed
        from firecrest_core.result import JobResult

        result = JobResult.from_dict(event["result"])
        stdout, stderr = self.hook.run(self._tails(result))
        self._show(result.stdout, stdout)
        self._show(result.stderr, stderr)
        try:
            lifecycle.check(result, stderr, stdout)
        except JobFailed as error:
            raise task_error(error) from None
        return mapping(result)

    async def _tails(self, result: JobResult) -> tuple[str, str]:
        from firecrest_core import lifecycle

        async with self.hook.client() as client:
            return await lifecycle.output_tail(client, result)

    def _show(self, path: str | None, tail: str) -> None:
        if tail.strip():
            self.log.info("Last lines of %s:", path)
            for line in tail.rstrip().splitlines():
                self.log.info("  %s", line)

    # --- template files: `script` alone ---------------------------------------------------------------
    # Airflow would take every templated value that ends in ".sh" for a file of ours, but script_path, and names in
    # `job`, are files on the cluster.

    def resolve_template_files(self) -> None:
        """Put the template file's text in ``script`` while the DAG is parsed, so that Airflow versions it."""
        with suppress(AirflowFailException):  # a name that is itself a template is known only when the task runs
            self.script = self._text(self.script, self.get_template_env())

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        self.script = self._text(self.script, jinja_env)  # again: the script of a mapped task comes only now
        self.template_ext = ()
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    @classmethod
    def _text(cls, script: Any, jinja_env: jinja2.Environment) -> Any:
        """Return the text of the file that ``script`` names; a script itself has more than one line."""
        if not isinstance(script, str) or "\n" in script or not script.endswith(tuple(cls.template_ext)):
            return script
        from jinja2 import TemplateError

        if jinja_env.loader is not None:
            with suppress(TemplateError):
                return jinja_env.loader.get_source(jinja_env, script)[0]
        raise AirflowFailException(
            f"script: there is no template file {script!r} beside the DAG or in its template_searchpath. A file on "
            "the cluster goes into script_path."
        )


class FirecRESTCancelOperator(FirecRESTBaseOperator):
    """Cancel a job. Cancelling one that has ended succeeds.

    :param job_id: the job's id
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "job_id")

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def execute(self, context: Context) -> None:
        self.hook.cancel(str(self.job_id), system=self.system)
        self.log.info("Job %s was cancelled, unless it had ended.", self.job_id)
