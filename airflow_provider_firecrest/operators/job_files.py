"""The files of a job in the task that submits it: inputs, outputs, and the value that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.assets import Copied, report_job_lineage, tell_outlets
from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.operators.local_paths import open_path
from airflow_provider_firecrest.operators.templates import is_template

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.operators.local_paths import LocalPath
    from firecrest_core.api.client import System
    from firecrest_core.result import JobResult
    from firecrest_core.spec.jobspec import JobSpec
    from firecrest_core.transfer import Transferred


class JobFiles:
    """The inputs and outputs that a task was given, as pairs of a source and a target.

    Airflow renders no keys of a mapping, so the operator keeps pairs. A mapping that another task returns is known only
    when this one runs.
    """

    inputs: Any
    outputs: Any
    outlets: Any
    hook: Any

    def keep_files(self, inputs: Any, outputs: Any) -> None:
        """Keep the arguments in the form that Airflow renders.

        :param inputs: the operator's argument
        :param outputs: the operator's argument
        :raises InvalidJobSpec: one of both can be no mapping
        """
        self.inputs = inputs if _is_of_a_task(inputs) else _as_pairs("inputs", inputs)
        self.outputs = outputs if _is_of_a_task(outputs) else _as_pairs("outputs", outputs)

    def check_files(self) -> None:
        """Refuse what cannot be right, before anything is sent.

        :raises InvalidJobSpec: one of both is no mapping
        :raises FirecRESTError: as :func:`firecrest_core.job_files.check_files`
        """
        from firecrest_core import job_files

        job_files.check_files(self._opened_inputs(), self._opened_outputs())

    async def send_inputs(self, system: System, spec: JobSpec) -> None:
        """Send the inputs.

        :param system: where the job will run
        :param spec: the job
        """
        from firecrest_core import job_files

        if inputs := self._opened_inputs():
            await job_files.upload_inputs(system, spec.working_dir, inputs, account=spec.account)

    async def begin_outputs(self, system: System, result: JobResult, account: str | None) -> list[dict[str, Any]]:
        """Fetch the outputs that need no transfer job, and begin the others.

        :param system: where the job ran
        :param result: how it ended
        :param account: the account to charge for transfer jobs
        :returns: what was fetched or begun, in JSON types
        """
        from firecrest_core import job_files
        from firecrest_core.transfer import Transferred

        outputs = self._opened_outputs(result.job_id)
        begun = await job_files.begin_outputs(system, result, outputs, account=account)
        return [asdict(one) if isinstance(one, Transferred) else one.to_dict() for _, one in begun]

    async def finish_outputs(
        self, system: System, result: JobResult, transfers: list[dict[str, Any]]
    ) -> list[Transferred]:
        """Fetch the outputs whose transfer jobs have ended.

        :param system: where the job ran
        :param result: how it ended
        :param transfers: what :meth:`begin_outputs` returned
        :returns: all that was fetched
        """
        from firecrest_core import job_files
        from firecrest_core.transfer import PendingTransfer, Transferred

        begun = [PendingTransfer.from_dict(one) if "job" in one else Transferred(**one) for one in transfers]
        places = [open_path(one.plan.local if isinstance(one, PendingTransfer) else one.local) for one in begun]
        return await job_files.finish_outputs(system, result, zip(places, begun, strict=True))

    def report_files(self, context: Context, result: JobResult, fetched: list[Transferred]) -> None:
        """Tell Airflow of the files of a job that has ended well: in the events of the outlets, and as lineage.

        :param context: the task's
        :param result: how the job ended
        :param fetched: its outputs
        """
        copied = [Copied(result.system, one, fetched=True) for one in fetched]
        sources = [str(source) for source, _ in self._opened_inputs()]
        report_job_lineage(self.hook, sources, copied)
        job = {"job_id": result.job_id, "system": result.system, "state": result.state.value}
        tell_outlets(self.outlets, context, copied, job)

    def _opened_inputs(self) -> list[tuple[LocalPath, str]]:
        return [(open_path(source), target) for source, target in _as_pairs("inputs", self.inputs)]

    def _opened_outputs(self, job_id: str = "{job_id}") -> list[tuple[str, LocalPath]]:
        pairs = _as_pairs("outputs", self.outputs)
        return [(source, open_path(_of_job(target, job_id))) for source, target in pairs]


def _as_pairs(argument: str, files: Any) -> list[tuple[Any, Any]]:
    """Return sources and targets as pairs; they may be pairs already."""
    from firecrest_core.errors import InvalidJobSpec

    if isinstance(files, Mapping):
        return list(files.items())
    if files is None:
        return []
    if isinstance(files, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in files):
        return [(source, target) for source, target in files]
    form = {"inputs": "{path here: path on the system}", "outputs": "{path on the system: path here}"}[argument]
    raise task_error(InvalidJobSpec(argument, f"a mapping {form} is needed, not {type(files).__name__}"))


def _is_of_a_task(files: Any) -> bool:
    return not isinstance(files, Mapping) and is_template(files)


def _of_job(path: Any, job_id: str) -> Any:
    return path.replace("{job_id}", job_id) if isinstance(path, str) else path
