"""Operators that move files and directories between our side and a system.

They go directly or through the site's staging store, as their size demands; what needs a transfer job is waited for
like any job. Our side is a local path, the URL of an object store (``s3://my_conn@bucket/key``), or an
``ObjectStoragePath``.
"""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator, FirecRESTWaitingOperator
from airflow_provider_firecrest.triggers.transfer import FirecRESTTransferTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from firecrest_core.client import FirecRESTClient
    from firecrest_core.transfer import PendingTransfer, Transferred

    OurPath = str | Path | ObjectStoragePath
    Move = tuple[Any, Any]


class FirecRESTTransferOperator(FirecRESTWaitingOperator):
    """Begins transfers, waits for those that need a transfer job, and finishes them.

    :param account: account to charge for transfer jobs, where the site asks for one
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "account")

    def __init__(self, *, account: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.account = account

    @abstractmethod
    def moves(self, context: Context) -> list[Move]:
        """Return sources and targets."""

    @abstractmethod
    async def begin(
        self, client: FirecRESTClient, system: str, source: Any, target: Any
    ) -> PendingTransfer | Transferred:
        """Begin one transfer."""

    @abstractmethod
    async def end(self, client: FirecRESTClient, pending: PendingTransfer, target: Any) -> Transferred:
        """Finish one transfer whose job has ended."""

    def execute(self, context: Context) -> Any:
        self.end_earlier_run(context)
        begun = self.hook.run(self._begin(self.moves(context)))
        trigger = FirecRESTTransferTrigger(
            begun=begun, firecrest_conn_id=self.firecrest_conn_id, poll_interval=self.poll_interval
        )
        return self.wait(context, trigger) if trigger.jobs else self.result(begun)

    def finish(self, context: Context, event: dict[str, Any]) -> Any:
        """Make sure that everything arrived."""
        return self.result(self.hook.run(self._end(self.moves(context), event["begun"])))

    def result(self, done: list[dict[str, Any]]) -> Any:
        """Return what goes into the XCom."""
        return done

    async def _begin(self, moves: list[Move]) -> list[dict[str, Any]]:
        from firecrest_core.transfer import Transferred

        begun = []
        async with self.hook.client() as client:
            system = client.connection.system_or_default(self.system)
            for source, target in moves:
                self.log.info("Transferring %s to %s (system %s).", source, target, system)
                one = await self.begin(client, system, source, target)
                begun.append(self._done(one) if isinstance(one, Transferred) else one.to_dict())
        return begun

    async def _end(self, moves: list[Move], begun: list[dict[str, Any]]) -> list[dict[str, Any]]:
        from firecrest_core.transfer import PendingTransfer

        done = []
        async with self.hook.client() as client:
            for (_, target), one in zip(moves, begun, strict=True):
                if "job" in one:
                    one = self._done(await self.end(client, PendingTransfer.from_dict(one), target))
                done.append(one)
        return done

    def _done(self, transferred: Transferred) -> dict[str, Any]:
        self.log.info(
            "%s (local) and %s (remote) are the same: %s bytes, SHA-256 %s.",
            transferred.local,
            transferred.remote,
            f"{transferred.size:,}",
            transferred.sha256 or "not compared",
        )
        return asdict(transferred)


class FirecRESTUploadOperator(FirecRESTTransferOperator):
    """Copy a file or a directory to a system.

    :param source_path: on our side, see :mod:`airflow_provider_firecrest.operators.transfer`
    :param target_path: absolute path on the system. A directory takes the source under its own name (so does a
        path that ends in ``/``), anything else is the new name.
    :returns: a mapping with ``local``, ``remote``, ``size`` (bytes) and ``sha256``
    """

    template_fields: Sequence[str] = (*FirecRESTTransferOperator.template_fields, "source_path", "target_path")

    def __init__(self, *, source_path: OurPath, target_path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_path = source_path
        self.target_path = target_path

    def moves(self, context: Context) -> list[Move]:
        return [(_our_side(self.source_path), self.target_path)]

    async def begin(
        self, client: FirecRESTClient, system: str, source: Any, target: Any
    ) -> PendingTransfer | Transferred:
        from firecrest_core import transfer

        return await transfer.begin_upload(client, system, source, target, account=self.account)

    async def end(self, client: FirecRESTClient, pending: PendingTransfer, target: Any) -> Transferred:
        from firecrest_core import transfer

        return await transfer.finish_upload(client, pending)

    def result(self, done: list[dict[str, Any]]) -> dict[str, Any]:
        return done[0]


class FirecRESTDownloadOperator(FirecRESTTransferOperator):
    """Copy files or directories from a system. A file appears under its name only when it is whole.

    :param remote_files: absolute paths on the system
    :param local_path: on our side, see :mod:`airflow_provider_firecrest.operators.transfer`. The directory for
        several files; for one file its new name, or the directory that takes it under its own name.
    :returns: for each file a mapping with ``local``, ``remote``, ``size`` (bytes) and ``sha256``
    """

    template_fields: Sequence[str] = (*FirecRESTTransferOperator.template_fields, "remote_files", "local_path")
    template_fields_renderers: ClassVar[dict[str, str]] = {"remote_files": "json"}

    def __init__(self, *, remote_files: str | Sequence[str], local_path: OurPath, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.remote_files = remote_files
        self.local_path = local_path

    def moves(self, context: Context) -> list[Move]:
        return self._into(self.local_path, self._sources())

    def _sources(self) -> list[str]:
        return [self.remote_files] if isinstance(self.remote_files, str) else list(self.remote_files)

    def _into(self, local_path: OurPath, sources: list[str]) -> list[Move]:
        target = _our_side(local_path)
        if len(sources) == 1:
            return [(sources[0], target)]
        if isinstance(target, str):
            return [(source, posixpath.join(target, "")) for source in sources]
        return [(source, target / posixpath.basename(source.rstrip("/"))) for source in sources]

    async def begin(
        self, client: FirecRESTClient, system: str, source: Any, target: Any
    ) -> PendingTransfer | Transferred:
        from firecrest_core import transfer

        return await transfer.begin_download(client, system, source, target, account=self.account)

    async def end(self, client: FirecRESTClient, pending: PendingTransfer, target: Any) -> Transferred:
        from firecrest_core import transfer

        return await transfer.finish_download(client, pending, target)


class FirecRESTDownloadFromJobOperator(FirecRESTDownloadOperator):
    """Copy files from the working directory of a job that another task submitted.

    ``{_jobid_}`` stands for the job's id in ``remote_files`` and in ``local_path``.

    :param remote_files: paths on the system, relative to the job's working directory or absolute
    :param local_path: as in :class:`FirecRESTDownloadOperator`
    :param target_task_id: the task that submitted the job. If both tasks are mapped, the one with the same index.
    """

    template_fields: Sequence[str] = (*FirecRESTDownloadOperator.template_fields, "target_task_id")

    def __init__(self, *, target_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_task_id = target_task_id

    def moves(self, context: Context) -> list[Move]:
        job = self._job(context)
        local_path = self.local_path
        if isinstance(local_path, str):
            local_path = local_path.replace("{_jobid_}", job["job_id"])
        sources = [
            posixpath.join(job["working_directory"], source.replace("{_jobid_}", job["job_id"]))
            for source in self._sources()
        ]
        return self._into(local_path, sources)

    def _job(self, context: Context) -> dict[str, Any]:
        ti = context["ti"]
        job = None
        if ti.map_index is not None and ti.map_index >= 0:
            job = ti.xcom_pull(task_ids=self.target_task_id, map_indexes=ti.map_index)
        if job is None:
            job = ti.xcom_pull(task_ids=self.target_task_id)
        if isinstance(job, dict) and "job_id" in job and "working_directory" in job:
            return job
        raise AirflowFailException(
            f"target_task_id: the task {self.target_task_id!r} left no single job in its XCom. Name a task of "
            "FirecRESTSubmitOperator; if it is mapped, map this one, too."
        )


def _our_side(path: OurPath) -> OurPath:
    """Return a URL as a path that Airflow can open with its connections."""
    if isinstance(path, str) and "://" in path:
        from airflow.sdk import ObjectStoragePath

        try:
            there = ObjectStoragePath(path)
            there.fs  # noqa: B018  # Airflow looks for the store's file system here
        except ValueError as error:
            raise AirflowFailException(f"{path}: {error}. Install the Airflow provider of that store.") from None
        return there
    return path
