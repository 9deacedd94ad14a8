"""Operators that copy files and directories between Airflow's side and a system.

Small files go directly, large ones through the site's staging store. A transfer job of the site is waited for like any
job. On Airflow's side a path is a local path, the URL of an object store (``s3://my_conn@bucket/key``), or an
``ObjectStoragePath``.
"""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.assets import Copied, report_lineage, tell_outlets
from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator, FirecRESTWaitingOperator
from airflow_provider_firecrest.operators.local_paths import open_path
from airflow_provider_firecrest.triggers.transfer import FirecRESTTransferTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.operators.local_paths import LocalPath
    from firecrest_core.api.client import System
    from firecrest_core.transfer import PendingTransfer, RemoteFile, Transferred

    # A source, a target, and whether the target is the new name itself, also where a directory is there.
    SourceAndTarget = tuple[Any, Any, bool]


class FirecRESTTransferOperator(FirecRESTWaitingOperator):
    """Begins transfers, waits for those that need a transfer job, and finishes them.

    :param account: account to charge for transfer jobs, where the site asks for one
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "account")
    fetches: ClassVar[bool] = False
    """Whether the files come from the system."""

    def __init__(self, *, account: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.account = account

    @abstractmethod
    def files(self, context: Context) -> list[SourceAndTarget]:
        """Return what to copy: sources and targets. It is asked once, when the transfers begin.

        :param context: the task's
        """

    @abstractmethod
    async def begin_transfer(
        self, system: System, source: Any, target: Any, *, exact: bool
    ) -> PendingTransfer | Transferred:
        """Begin one transfer.

        :param system: the system
        :param source: what to copy
        :param target: where to
        :param exact: the target is the new name itself
        """

    @abstractmethod
    async def finish_transfer(self, system: System, pending: PendingTransfer) -> Transferred:
        """Finish one transfer whose job has ended.

        :param system: the system
        :param pending: what was begun
        """

    def execute(self, context: Context) -> Any:
        """Begin the transfers, and wait for those that have jobs.

        :param context: the task's
        """
        self.cancel_earlier_run(context)
        transfers = self.hook.run(self._begin(self.files(context)))
        trigger = FirecRESTTransferTrigger(
            transfers=transfers, firecrest_conn_id=self.firecrest_conn_id, poll_interval=self.poll_interval
        )
        return self.wait(context, trigger) if trigger.transfer_jobs else self._end(context, transfers)

    def finish(self, context: Context, event: dict[str, Any]) -> Any:
        """Make sure that everything arrived.

        :param context: the task's
        :param event: the trigger's
        """
        return self._end(context, self.hook.run(self._finish(event["transfers"])))

    def _end(self, context: Context, transferred: list[dict[str, Any]]) -> Any:
        from firecrest_core.transfer import Transferred

        system = self.hook.connection().system_or_default(self.system)
        copied = [Copied(system, Transferred(**one), self.fetches) for one in transferred]
        report_lineage(self.hook, copied)
        if self.outlets:
            tell_outlets(self.outlets, context, copied, self.about_job(context))
        return self.result(transferred)

    def about_job(self, context: Context) -> dict[str, Any]:
        """Return what the events of outlets say of the job whose files these are.

        :param context: the task's
        """
        return {}

    def result(self, transferred: list[dict[str, Any]]) -> Any:
        """Return what goes into the XCom.

        :param transferred: what arrived, file by file
        """
        return transferred

    async def _begin(self, files: list[SourceAndTarget]) -> list[dict[str, Any]]:
        from firecrest_core.transfer import Transferred

        transfers = []
        async with self.hook.client() as client:
            system = client.system(self.system)
            for source, target, exact in files:
                self.log.info("Transferring %s to %s (system %s).", source, target, system)
                one = await self.begin_transfer(system, source, target, exact=exact)
                transfers.append(self._log_end(one) if isinstance(one, Transferred) else one.to_dict())
        return transfers

    async def _finish(self, transfers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        from firecrest_core.transfer import PendingTransfer

        transferred = []
        async with self.hook.client() as client:
            for one in transfers:
                if "job" in one:
                    pending = PendingTransfer.from_dict(one)
                    one = self._log_end(await self.finish_transfer(client.system(pending.job.system), pending))
                transferred.append(one)
        return transferred

    def _log_end(self, transferred: Transferred) -> dict[str, Any]:
        self.log.info(
            "%s (local) and %s (remote) are the same: %s bytes, %s.",
            transferred.local,
            transferred.remote,
            f"{transferred.size:,}",
            f"SHA-256 {transferred.sha256}" if transferred.sha256 else "a directory, compared as one archive",
        )
        return asdict(transferred)


class FirecRESTUploadOperator(FirecRESTTransferOperator):
    """Copy a file or a directory to a system.

    :param source_path: path on Airflow's side, see :mod:`airflow_provider_firecrest.operators.transfer`
    :param target_path: path on the system: absolute, from ``~`` or a variable such as ``$SCRATCH``, or relative to the
        connection's base directory. If it ends in ``/`` or is a directory, the source keeps its name;
        otherwise it is the new name
    :returns: a mapping with ``local``, ``remote``, ``size`` (bytes) and ``sha256``
    """

    template_fields: Sequence[str] = (*FirecRESTTransferOperator.template_fields, "source_path", "target_path")

    def __init__(self, *, source_path: LocalPath, target_path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_path = source_path
        self.target_path = target_path

    def files(self, context: Context) -> list[SourceAndTarget]:
        """Return what to copy: sources and targets.

        :param context: the task's
        """
        return [(open_path(self.source_path), self.hook.run(self._expanded_target()), False)]

    async def _expanded_target(self) -> str:
        from firecrest_core.paths import expand

        async with self.hook.client() as client:
            return await expand(client.system(self.system), self.target_path)

    async def begin_transfer(
        self, system: System, source: Any, target: Any, *, exact: bool
    ) -> PendingTransfer | Transferred:
        """Begin one upload.

        :param system: the system
        :param source: what to copy
        :param target: where to
        :param exact: the target is the new name itself
        """
        from firecrest_core import transfer

        return await transfer.begin_upload(system, source, target, exact=exact, account=self.account)

    async def finish_transfer(self, system: System, pending: PendingTransfer) -> Transferred:
        """Finish one upload whose job has ended.

        :param system: the system
        :param pending: what was begun
        """
        from firecrest_core import transfer

        return await transfer.finish_upload(system, pending)

    def result(self, transferred: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what goes into the XCom.

        :param transferred: what arrived
        """
        return transferred[0]


class FirecRESTDownloadOperator(FirecRESTTransferOperator):
    """Copy files or directories from a system. A file appears under its name only when it is whole.

    :param remote_files: paths on the system: absolute, from ``~`` or a variable such as ``$SCRATCH``, or relative to
        the connection's base directory, also with wildcards: ``*.out``, ``results/**/*.json``
    :param local_path: path on Airflow's side, see :mod:`airflow_provider_firecrest.operators.transfer`. For several
        files, and for what wildcards match, it is their directory. For one file it is the new name, or the directory in
        which the file keeps its name
    :param max_unpacked_size: bytes that a directory may have in all; nine tenths of the free disk unless given
    :param max_unpacked_files: how many files a directory may have in all; a million unless given
    :returns: for each file a mapping with ``local``, ``remote``, ``size`` (bytes) and ``sha256``
    """

    template_fields: Sequence[str] = (*FirecRESTTransferOperator.template_fields, "remote_files", "local_path")
    template_fields_renderers: ClassVar[dict[str, str]] = {"remote_files": "json"}
    fetches: ClassVar[bool] = True

    def __init__(
        self,
        *,
        remote_files: str | Sequence[str],
        local_path: LocalPath,
        max_unpacked_size: int | None = None,
        max_unpacked_files: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remote_files = remote_files
        self.local_path = local_path
        self.max_unpacked_size = max_unpacked_size
        self.max_unpacked_files = max_unpacked_files

    def files(self, context: Context) -> list[SourceAndTarget]:
        """Return what to copy: sources and targets.

        :param context: the task's
        """
        return self._into(self.local_path, self._find(self._sources()))

    def _sources(self) -> list[str]:
        return [self.remote_files] if isinstance(self.remote_files, str) else list(self.remote_files)

    def _find(self, sources: list[str]) -> list[RemoteFile]:
        from firecrest_core import paths, transfer

        async def find() -> list[RemoteFile]:
            async with self.hook.client() as client:
                system = client.system(self.system)
                return await transfer.find_files(system, [await paths.expand(system, source) for source in sources])

        return self.hook.run(find())

    def _into(self, local_path: LocalPath, files: list[RemoteFile]) -> list[SourceAndTarget]:
        from firecrest_core import transfer
        from firecrest_core.errors import InvalidFileName

        target = open_path(local_path)
        if len(files) == 1 and not files[0].matched:
            return [(files[0].path, target, False)]
        try:
            transfer.check_downloads(files, local_path)
        except InvalidFileName as error:
            raise task_error(error) from None
        if isinstance(target, str):
            return [(file.path, posixpath.join(target, file.name), True) for file in files]
        return [(file.path, target / file.name, True) for file in files]

    async def begin_transfer(
        self, system: System, source: Any, target: Any, *, exact: bool
    ) -> PendingTransfer | Transferred:
        """Begin one download.

        :param system: the system
        :param source: what to copy
        :param target: where to
        :param exact: the target is the new name itself
        """
        from firecrest_core import transfer

        return await transfer.begin_download(
            system,
            source,
            target,
            exact=exact,
            account=self.account,
            max_unpacked_size=self.max_unpacked_size,
            max_unpacked_files=self.max_unpacked_files,
        )

    async def finish_transfer(self, system: System, pending: PendingTransfer) -> Transferred:
        """Finish one download whose job has ended.

        :param system: the system
        :param pending: what was begun
        """
        from firecrest_core import transfer

        return await transfer.finish_download(system, pending, open_path(pending.plan.local))


def _of_job(path: str, job_id: str) -> str:
    # The second form is that of CSCS's tutorial operators.
    return path.replace("{job_id}", job_id).replace("{_jobid_}", job_id)


class FirecRESTDownloadFromJobOperator(FirecRESTDownloadOperator):
    """Copy files from the working directory of a job that another task submitted.

    ``{job_id}`` stands for the job's id (``{_jobid_}`` too) in ``remote_files`` and in ``local_path``.

    :param remote_files: paths on the system, relative to the job's working directory, or absolute, or from ``~`` or a
        variable, also with wildcards
    :param local_path: as in :class:`FirecRESTDownloadOperator`, like the other parameters
    :param target_task_id: the task that submitted the job. If both tasks are mapped, the one with the same index is
        meant
    """

    template_fields: Sequence[str] = (*FirecRESTDownloadOperator.template_fields, "target_task_id")

    def __init__(self, *, target_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_task_id = target_task_id

    def files(self, context: Context) -> list[SourceAndTarget]:
        """Return what to copy: sources and targets.

        :param context: the task's
        """
        from firecrest_core import paths

        job = self._job(context)
        local_path = self.local_path
        if isinstance(local_path, str):
            local_path = _of_job(local_path, job["job_id"])
        working_dir = paths.escaped(job["working_directory"])
        sources = [paths.join(working_dir, _of_job(source, job["job_id"])) for source in self._sources()]
        return self._into(local_path, self._find(sources))

    def about_job(self, context: Context) -> dict[str, Any]:
        """Return the job's id.

        :param context: the task's
        """
        return {"job_id": self._job(context)["job_id"]}

    def _job(self, context: Context) -> dict[str, Any]:
        ti = context["ti"]
        job = None
        if ti.map_index is not None and ti.map_index >= 0:
            job = ti.xcom_pull(task_ids=self.target_task_id, map_indexes=ti.map_index)
        if job is None:
            job = ti.xcom_pull(task_ids=self.target_task_id)
        if isinstance(job, dict) and "job_id" in job and "working_directory" in job:
            return job
        raise AirflowFailException(f"target_task_id: {self._problem_with_target()}")

    def _problem_with_target(self) -> str:
        target = self.target_task_id
        tasks = self.dag.task_ids
        if target not in tasks:
            alike = [one for one in tasks if one.rpartition(".")[2] == target.rpartition(".")[2]]
            known = f"Did you mean {' or '.join(map(repr, alike))}?" if alike else f"It has {', '.join(sorted(tasks))}."
            return f"this DAG has no task {target!r}. {known} The id of a task in a group begins with the group's id."
        if target not in self.get_flat_relative_ids(upstream=True):
            return f"the task {target!r} need not end before this one begins. Write `{target} >> {self.task_id}`."
        return (
            f"the task {target!r} left no single job in its XCom. Name a task of FirecRESTSubmitOperator; if it is "
            "mapped, map this one, too."
        )
