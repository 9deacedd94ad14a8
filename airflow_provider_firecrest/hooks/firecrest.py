"""The hook: an Airflow connection, and what can be done with it from a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.hooks.files import FileMethods
from airflow_provider_firecrest.hooks.presets import current_folder
from airflow_provider_firecrest.hooks.task_jobs import TaskJobs
from firecrest_core.errors import FirecRESTError, SystemNotFound

if TYPE_CHECKING:
    from firecrest_core.api.client import FirecRESTClient, System
    from firecrest_core.api.models import SystemInfo
    from firecrest_core.claims.submission import PreparePlace
    from firecrest_core.jobs.history import JobHistory
    from firecrest_core.jobs.job import Job
    from firecrest_core.jobs.status import JobStatus
    from firecrest_core.presets import Preset
    from firecrest_core.result import JobResult
    from firecrest_core.spec.alternatives import Alternatives
    from firecrest_core.spec.jobspec import JobSpec


class FirecRESTHook(FileMethods):
    """Run jobs and move files on HPC systems behind a FirecREST v2.

    Every method exists twice: ``submit_job`` for a function, which waits for the answer, and ``asubmit_job`` for a
    coroutine. If ``system`` is left out, the connection's default system is meant.

    A path on a system is absolute, begins with ``~`` or a variable such as ``$SCRATCH``, or is relative to the
    connection's base directory.

    All errors are of the types of :mod:`firecrest_core.errors`. If the user has to mend something (a path, a script, a
    partition, a credential), the exception also ends the task without a retry::

        @task
        def energy() -> float:
            hook = FirecRESTHook()
            job = hook.submit_job(script=SCRIPT, working_dir="~/si", make_working_dir=True)
            hook.wait_for_job(job)
            return float(hook.read_text("~/si/energy.txt"))

    :param firecrest_conn_id: an Airflow connection of the type ``firecrest``
    """

    def test_connection(self) -> tuple[bool, str]:
        """Say which systems answer, and as whom."""
        try:
            return True, self.run(self._describe_systems())
        except FirecRESTError as error:
            return False, str(error)

    async def _describe_systems(self) -> str:
        async with self.client() as client:
            systems = []
            found = await client.list_systems()
            default = client.connection.system
            if default and default.casefold() not in [info.name.casefold() for info in found]:
                raise SystemNotFound(
                    f"{client.connection.url} has no system {default!r}. It has "
                    f"{', '.join(info.name for info in found) or 'none'}."
                )
            for info in found:
                try:
                    state = f"answers as {(await client.system(info.name).get_userinfo()).name!r}"
                except FirecRESTError as error:
                    state = f"does not answer: {error}"
                if info.unhealthy:
                    state += f" (unhealthy: {', '.join(service.service_type for service in info.unhealthy)})"
                systems.append(f"{info.name} {state}")
            return f"{client.connection.url}: {'; '.join(systems) or 'no system is configured'}"

    # --- jobs -----------------------------------------------------------------------------------------

    def submit_job(
        self,
        job: JobSpec | Mapping[str, Any] | None = None,
        *,
        preset: str | None = None,
        system: str | None = None,
        make_working_dir: bool | None = None,
        alternatives: Sequence[Mapping[str, Any]] | None = None,
        exactly_once: bool = True,
        **fields: Any,
    ) -> Job:
        """Submit a job and return as soon as the scheduler has taken it.

        In a task, the job is tied to it as that of ``FirecRESTSubmitOperator`` is: a retry that asks for the same goes
        on with it, and it is cancelled when a person, or a limit that a person set, ends the task. It is the task's
        until it was waited for; if the function returns before, it goes on.

        :param job: a ``JobSpec``, or its fields as a mapping
        :param preset: name of a preset, whose fields count where neither ``job`` nor ``fields`` gives them; see
            :mod:`firecrest_core.presets`
        :param system: the system; that of the preset, or else the connection's default system, if left out
        :param make_working_dir: make ``working_dir`` if it is missing; unless given, only if it is relative
        :param fields: fields of a ``JobSpec``, instead of ``job`` or to change it: ``script``, ``working_dir``,
            ``nodes``, ``time_limit``, …
        :param alternatives: several shapes of the job, which wait in their queues at once, as for
            ``FirecRESTSubmitOperator``. ``wait_for_job`` waits for the first that begins, and cancels the others
        :param exactly_once: in a task, the jobs of all tries agree on which of them runs, by a link in
            ``working_dir/.firecrest``. This needs a file system that the compute nodes share with the login nodes;
            ``False`` submits anew in each try
        :raises SubmissionRejected: the scheduler refused it, in its own words
        :raises InvalidJobSpec: naming the field that cannot be right
        """
        return self.run(
            self.asubmit_job(
                job,
                preset=preset,
                system=system,
                make_working_dir=make_working_dir,
                alternatives=alternatives,
                exactly_once=exactly_once,
                **fields,
            )
        )

    async def asubmit_job(
        self,
        job: JobSpec | Mapping[str, Any] | None = None,
        *,
        preset: str | None = None,
        system: str | None = None,
        make_working_dir: bool | None = None,
        alternatives: Sequence[Mapping[str, Any]] | None = None,
        exactly_once: bool = True,
        **fields: Any,
    ) -> Job:
        """Do what :meth:`submit_job` does."""
        from firecrest_core import paths
        from firecrest_core.presets import Presets
        from firecrest_core.spec.alternatives import Alternatives, check_beside, check_places

        found = shapes = None
        if preset is not None:
            found = Presets.find(current_folder(), await self.aconnection()).get(preset)
            self.log.info(found.summary())
            if found.escalate or found.chain:
                self.log.warning("No job follows this one: escalate and chain of a preset are for operators.")
            system = system or found.system
        given, task = build_spec(job, fields, found), TaskJobs.current()
        if alternatives is not None:
            check_beside(exactly_once=exactly_once, escalate=None, chain=None)
            shapes = Alternatives.parse(alternatives)
            shapes.of(given)  # they fit the job
            check_places(shapes, system, given.working_dir)
        for problem in given.ignored_lines():
            self.log.warning("script, %s", problem)
        is_retry = task is not None and task.is_retry
        async with self.client() as client:
            where = client.system(system)
            spec = await paths.expand_spec(where, given, is_retry=is_retry)
            if paths.is_made(given, make_working_dir):
                await paths.make_directory(where, spec.working_dir, is_retry=is_retry)

            async def prepare(place: System, at: JobSpec) -> None:
                if paths.is_made(given, make_working_dir):
                    await paths.make_directory(place, at.working_dir, is_retry=is_retry)

            if task is None:
                submitted = await _submit_outside_of_a_task(where, spec, shapes, prepare)
            else:
                submitted = await task.submit(
                    self, where, spec, exactly_once=exactly_once, alternatives=shapes, prepare_place=prepare
                )
        self.log.info(submitted.submission_message())
        return submitted

    def get_job(self, job: Job | str, *, system: str | None = None) -> JobStatus:
        """Return where a job is: its state, reason, nodes, elapsed seconds and, of an array, its elements.

        :param job: what ``submit_job`` returned, or the id of any job
        :param system: the system of a job that is given by its id; the connection's default system if left out
        :raises JobNotFound: the scheduler does not know it
        """
        return self.run(self.aget_job(job, system=system))

    async def aget_job(self, job: Job | str, *, system: str | None = None) -> JobStatus:
        """Do what :meth:`get_job` does."""
        from firecrest_core.jobs.status import read_status

        async with self.client() as client:
            return await read_status(*await _find(client, job, system))

    def wait_for_job(
        self,
        job: Job | str,
        *,
        system: str | None = None,
        poll_interval: float = 10.0,
        timeout: float | None = None,
        check: bool = True,
        fail_if_stuck: bool = False,
    ) -> JobResult:
        """Wait for a job's end, and log each change of its state.

        :param job: what ``submit_job`` returned, or the id of any job
        :param system: the system of a job that is given by its id; the connection's default system if left out
        :param poll_interval: seconds between two questions at the most
        :param timeout: seconds to wait; the job is left alone after that
        :param check: raise when the job ended otherwise than COMPLETED; ``False`` returns the result whatever it is
        :param fail_if_stuck: give up when the job can never start, instead of only warning; it stays in the queue
        :raises JobFailed: with state, exit code and the last lines of standard error
        :raises WaitTimedOut: after ``timeout``
        :raises JobStuck: if wanted
        """
        return self.run(
            self.await_for_job(
                job,
                system=system,
                poll_interval=poll_interval,
                timeout=timeout,
                check=check,
                fail_if_stuck=fail_if_stuck,
            )
        )

    async def await_for_job(
        self,
        job: Job | str,
        *,
        system: str | None = None,
        poll_interval: float = 10.0,
        timeout: float | None = None,
        check: bool = True,
        fail_if_stuck: bool = False,
    ) -> JobResult:
        """Do what :meth:`wait_for_job` does."""
        from firecrest_core import lifecycle

        task = TaskJobs.current()
        async with self.client() as client:
            where, found = await _find(client, job, system)
            shown = None if task is None else task.shown(found)
            async with nullcontext() if shown is None else shown.waited_for() as history:
                result = await lifecycle.wait(
                    where,
                    found,
                    poll_interval=poll_interval,
                    timeout=timeout,
                    on_message=_to_both(self.log.info, history),
                    on_warning=_to_both(self.log.warning, history),
                    on_status=None if history is None else history.on_status,
                    on_winner=None if history is None else history.on_winner,
                    fail_if_stuck=fail_if_stuck,
                )
                if history is not None:
                    history.on_end(result)
            if task is not None:
                await task.note_end(found)
            where = client.system(result.system)
            return await lifecycle.raise_for_state(where, result, on_output=self.log_output) if check else result

    def cancel_job(self, job: Job | str, *, system: str | None = None) -> None:
        """Cancel a job. Cancelling one that has ended succeeds.

        :param job: what ``submit_job`` returned, or the id of any job
        :param system: the system of a job that is given by its id; the connection's default system if left out
        """
        self.run(self.acancel_job(job, system=system))

    async def acancel_job(self, job: Job | str, *, system: str | None = None) -> None:
        """Do what :meth:`cancel_job` does."""
        from firecrest_core import lifecycle
        from firecrest_core.jobs.job import Job

        async with self.client() as client:
            if not isinstance(job, Job):
                job = Job(system=client.system(system).name, job_id=job)
            task = TaskJobs.current()
            cancel = lifecycle.cancel_attempt if task and task.may_submit_again(job) else lifecycle.cancel
            await cancel(client.system(job.system), job)

    def log_output(self, path: str, tail: str) -> None:
        """Log the last lines of an output file.

        :param path: the file on the system
        :param tail: its last lines
        """
        self.log.info("Last lines of %s:", path)
        for line in tail.splitlines():
            self.log.info("  %s", line)

    # --- systems ------------------------------------------------------------------------------------------

    def list_systems(self) -> list[SystemInfo]:
        """Return the systems behind this FirecREST, with their health and limits."""
        return self.run(self.alist_systems())

    async def alist_systems(self) -> list[SystemInfo]:
        """Do what :meth:`list_systems` does."""
        async with self.client() as client:
            return await client.list_systems()


async def _submit_outside_of_a_task(
    system: System, spec: JobSpec, alternatives: Alternatives | None, prepare_place: PreparePlace
) -> Job:
    """Submit a job of which nobody knows in another call, so that only alternatives need a claim."""
    from uuid import uuid4

    from firecrest_core import lifecycle
    from firecrest_core.jobs.key import ClaimKey, claim_identity

    key = None if alternatives is None else ClaimKey(claim_identity(uuid4(), spec.job_name()))
    return await lifecycle.submit(
        system, spec, key, first_attempt=True, alternatives=alternatives, prepare_place=prepare_place
    )


async def _find(client: FirecRESTClient, job: Job | str, system: str | None) -> tuple[System, Job]:
    """Return a job that may be given by its id alone, and the system that it is on."""
    from firecrest_core import lifecycle
    from firecrest_core.jobs.job import Job

    if isinstance(job, Job):
        return client.system(job.system), job
    where = client.system(system)
    return where, await lifecycle.find(where, job)


def _to_both(log: Callable[[str], None], history: JobHistory | None) -> Callable[[str], None]:
    def tell(line: str) -> None:
        log(line)
        if history is not None:
            history.on_message(line)

    return tell


def build_spec(
    job: JobSpec | Mapping[str, Any] | str | None, fields: Mapping[str, Any], preset: Preset | None = None
) -> JobSpec:
    """Return a job's specification.

    :param job: a specification, or its fields as a mapping; anything else is refused
    :param fields: fields that replace those of ``job``, unless they are ``None`` or a template has left them blank
    :param preset: has the fields that neither gives
    :raises InvalidJobSpec: naming the field that cannot be right
    """
    from firecrest_core.errors import InvalidJobSpec
    from firecrest_core.spec.jobspec import JobSpec, given_fields

    if not isinstance(job, JobSpec | Mapping | None):
        kind = "a text" if isinstance(job, str) else type(job).__name__
        raise InvalidJobSpec(
            "job",
            f"a mapping of fields or a JobSpec is needed, not {kind}. A command goes into command=, a script into "
            "script=. The values of a mapping may be templates; with render_template_as_native_obj=True, a template "
            "yields a mapping",
        )
    given = job.to_mapping() if isinstance(job, JobSpec) else dict(job or {})
    given = given_fields(given) | given_fields(fields)
    if preset is None:
        return JobSpec.from_mapping(given)
    with preset.named_in_errors(given):
        return JobSpec.from_mapping(preset.with_fields(given))
