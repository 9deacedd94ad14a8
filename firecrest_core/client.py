"""The API, endpoint by endpoint: pyfirecrest's asynchronous client with typed answers and one tree of errors.

What pyfirecrest sends is kept; :mod:`firecrest_core.sending` replaces how. A client belongs to one event loop::

    async with FirecRESTClient(connection) as client:
        rows = await client.get_job("daint", "57")
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from firecrest_core.auth import ATTEMPTS
from firecrest_core.connection import Connection
from firecrest_core.errors import (
    InvalidFileName,
    JobNotFound,
    RemotePathNotFound,
    RequestRejected,
    RequestTimedOut,
    ServerFault,
    ServerUnreachable,
    SubmissionRejected,
    SubmissionUnknown,
    SystemNotFound,
)
from firecrest_core.jobspec import SubmitRequest
from firecrest_core.models import (
    DownloadTicket,
    FileInfo,
    JobInfo,
    JobMetadata,
    JobRows,
    SystemInfo,
    TransferJob,
    UploadTicket,
    UserInfo,
)
from firecrest_core.sending import Sender

# What PBS's commands say of an id that they do not know (msg_unkjobid in OpenPBS's pbs_messages.c).
_PBS_UNKNOWN = "Unknown Job Id"
# What scancel and qdel say of a job that is over or never was: then the wish to cancel is met.
_NOTHING_TO_CANCEL = ("Invalid job id specified", "already completing or completed", "has finished", _PBS_UNKNOWN)

_LARGE_ANSWER = 256 * 1024


class FirecRESTClient(Sender):
    """A FirecREST v2 deployment, as one user.

    Requests that change nothing are repeated a few times with backoff and jitter when a
    :class:`~firecrest_core.errors.TransientError` comes back; others only where the server certainly did nothing.
    Every method may raise the errors that :mod:`firecrest_core.errors` lists.

    :param connection: where, and as whom
    :param attempts: how often a request is sent at the most; 1 for a caller who asks again by itself
    """

    def __init__(self, connection: Connection, *, attempts: int = ATTEMPTS) -> None:
        super().__init__(connection, attempts=attempts)
        self._systems: dict[str, SystemInfo] = {}
        self._directories: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"FirecRESTClient({self.connection!r})"

    # --- status ---------------------------------------------------------------------------------

    async def get_systems(self) -> list[SystemInfo]:
        """Return the systems behind this FirecREST, with their health and limits."""
        systems = self._read(list[SystemInfo], await self.systems(), "GET /status/systems")
        self._systems = {system.name: system for system in systems}
        return systems

    async def system(self, name: str) -> SystemInfo:
        """Return one system, as this client first saw it.

        :raises SystemNotFound: with the names that exist
        """
        if name not in self._systems:
            await self.get_systems()
        if name not in self._systems:
            known = ", ".join(sorted(self._systems)) or "none"
            raise SystemNotFound(f"No system {name!r} at {self._host}. It has: {known}.")
        return self._systems[name]

    async def get_userinfo(self, system: str) -> UserInfo:
        """Return as whom the server runs commands on ``system``, and the accounts that may be charged."""
        return UserInfo.from_answer(await self.userinfo(system))

    # --- jobs -----------------------------------------------------------------------------------

    async def submit_job(self, system: str, request: SubmitRequest) -> str:
        """Submit a job, at most once.

        :returns: its id
        :raises SubmissionRejected: the scheduler refused it, in its own words
        :raises SubmissionUnknown: the answer was lost; the job may exist
        """
        what = f"Submission of {request.name or 'a job'} to {system}"
        try:
            response = await self._post_request(f"/compute/{system}/jobs", json_data=request.to_json())
        except RequestRejected as error:
            raise SubmissionRejected(str(error)) from None
        except (ServerFault, RequestTimedOut, ServerUnreachable) as error:
            rejected = _rejection(str(error))
            if rejected:
                raise SubmissionRejected(f"{what} was refused: {rejected}") from None
            if error.nothing_done:
                raise
            raise SubmissionUnknown(
                f"{what}: the answer was lost ({error}). The job may be in the queue all the same: look with "
                "`squeue` or in the list of jobs before submitting it again."
            ) from None
        return str(self._check_response(response, 201)["jobId"])

    async def get_job(self, system: str, job_id: str) -> list[JobInfo]:
        """Return the rows that the scheduler has for a job: one, or several for an array.

        :raises JobNotFound: also for some seconds right after a submission
        """
        try:
            return await self._job_rows(f"/compute/{system}/jobs/{_segment(job_id)}", f"Job {job_id} on {system}")
        except JobNotFound as error:
            # PBS knows an array as 57[] alone, and FirecREST takes no brackets: only the list tells of it.
            rows = await self._pbs_array(system, job_id) if _PBS_UNKNOWN in str(error) else []
            if not rows:
                raise
            return rows

    async def _pbs_array(self, system: str, job_id: str) -> list[JobInfo]:
        return [row for row in await self.get_jobs(system) if row.job_id == f"{job_id}[]"]

    async def get_jobs(
        self, system: str, *, name: str | None = None, time_window: str | None = None, account: str | None = None
    ) -> list[JobInfo]:
        """Return the user's jobs of the last 24 hours. **Absent is not gone**: ask for the job itself.

        :param name: only jobs of this name; filtered here too, since older servers ignore it
        :param time_window: ``1h``, ``8h``, ``24h``, ``3d`` or ``7d``
        """
        params = {"name": name, "time_window": time_window, "account": account}
        rows = await self._job_rows(f"/compute/{system}/jobs", f"Jobs on {system}", params)
        return [row for row in rows if name is None or row.name == name]

    async def _job_rows(self, endpoint: str, what: str, params: Mapping[str, Any] | None = None) -> list[JobInfo]:
        response = await self._get_request(endpoint, params=params)

        def read() -> list[JobInfo]:
            return list(self._read(JobRows, self._check_response(response, 200), what).jobs)

        # Ten thousand jobs take up to a second to read, in which an event loop would do nothing else.
        return await asyncio.to_thread(read) if len(response.content) > _LARGE_ANSWER else read()

    async def get_job_metadata(self, system: str, job_id: str) -> JobMetadata:
        """Return a job's script and output paths while the scheduler still has them."""
        rows = self._read(
            list[JobMetadata], await self.job_metadata(system, _segment(job_id)), f"Metadata of job {job_id}"
        )
        if not rows:
            return JobMetadata()
        found = rows[0]
        if (await self.system(system)).scheduler_type == "pbs":  # the server swaps the two on PBS
            found = found.model_copy(update={"stdout": found.stderr, "stderr": found.stdout})
        return found

    async def cancel(self, system: str, job_id: str) -> bool:
        """Cancel a job. One that has ended, was cancelled or never was is no error: the wish is met.

        :raises RequestRejected: for a live array of PBS, which FirecREST cannot name to ``qdel``
        :returns: whether there was something to cancel. Unlike the status of a job, which comes from accounting as
            well, this is never behind: the scheduler itself knows all that is alive.
        """
        try:
            await self.cancel_job(system, _segment(job_id))
        except ServerFault as error:
            if not any(words in str(error) for words in _NOTHING_TO_CANCEL):
                raise
            if _PBS_UNKNOWN in str(error):
                await self._refuse_to_leave_alive(system, job_id)
            return False
        return True

    async def _refuse_to_leave_alive(self, system: str, job_id: str) -> None:
        if any(not row.state.ended for row in await self._pbs_array(system, job_id)):
            raise RequestRejected(
                f"Job {job_id} on {system} is an array of PBS, which FirecREST cannot cancel. "
                f"Run `qdel '{job_id}[]'` there."
            )

    # --- files ----------------------------------------------------------------------------------

    async def ls(
        self, system: str, path: str, *, hidden: bool = False, recursive: bool = False, dereference: bool = False
    ) -> list[FileInfo]:
        """List a directory, or a file alone.

        :param hidden: names that begin with a dot, too
        :param dereference: tell of what a symbolic link points to
        """
        answer = await self.list_files(system, path, show_hidden=hidden, recursive=recursive, dereference=dereference)
        return self._read(list[FileInfo], answer, f"Listing of {path} on {system}")

    async def file_size(self, system: str, path: str) -> int:
        """Return the size in bytes; symbolic links are followed."""
        return int((await self.stat(system, path, dereference=True))["size"])

    async def is_directory(self, system: str, path: str) -> bool:
        """Tell whether ``path`` is a directory; ``False`` where nothing is."""
        try:
            return int((await self.stat(system, path, dereference=True))["mode"]) & 0o170000 == 0o040000
        except RemotePathNotFound:
            return False

    async def has_directory(self, system: str, path: str) -> bool:
        """Tell whether ``path`` is a directory; one that was seen once by this client is not asked for again."""
        if (system, path) not in self._directories and await self.is_directory(system, path):
            self._directories.add((system, path))
        return (system, path) in self._directories

    async def sha256(self, system: str, path: str) -> str:
        """Return the SHA-256 in hexadecimal. It runs inside the server's command timeout (5 s by default).

        :raises RequestTimedOut: for a file too large for that
        """
        return str((await self.checksum(system, path))["checksum"])

    async def tail_text(self, system: str, path: str, *, lines: int | None = None, num_bytes: int | None = None) -> str:
        """Return the end of a text file: so many lines, or so many bytes."""
        answer = await self.tail(system, path, num_bytes=num_bytes, num_lines=lines)
        return str(answer["content"])

    async def make_directory(self, system: str, path: str, *, parents: bool = True) -> None:
        """Create a directory; with ``parents`` one that exists is no error."""
        await self.mkdir(system, path, create_parents=parents)

    async def make_link(self, system: str, target: str, link: str) -> None:
        """Create a symbolic link in one atomic step.

        :param target: the absolute path that it points to; nothing needs to be there
        :raises RemotePathExists: there is one already; its target must not be a directory, in which the link
            would be created then
        """
        await self.symlink(system, target, link)

    async def remove(self, system: str, path: str, *, missing_ok: bool = False) -> None:
        """Remove a file or a directory tree."""
        try:
            self._check_response(await self._delete_request(f"/filesystem/{system}/ops/rm", params={"path": path}), 204)
        except RemotePathNotFound:
            if not missing_ok:
                raise

    async def put_small(self, system: str, directory: str, name: str, content: bytes) -> None:
        """Write a small file in one request. Limits and empty files are the caller's business.

        :raises InvalidFileName: a quote in a name breaks the server's shell line
        """
        if "'" in name or "'" in directory:
            raise InvalidFileName(f"{posixpath.join(directory, name)}: FirecREST cannot write names with a quote (').")
        response = await self._post_request(
            f"/filesystem/{system}/ops/upload", params={"path": directory}, files={"file": (name, content)}
        )
        self._check_response(response, 204)

    async def get_small(self, system: str, path: str) -> bytes:
        """Read a small file in one request."""
        response = await self._get_request(f"/filesystem/{system}/ops/download", params={"path": path})
        return response.content

    # --- transfers that run as jobs ----------------------------------------------------------------

    async def start_upload(self, system: str, path: str, size: int, *, account: str | None = None) -> UploadTicket:
        """Ask for places to send a large file to; the job that fetches it from there is queued at once.

        :param path: the file's path on the system
        :param size: bytes; the server gives one place for each ``maxPartSize`` of it
        """
        body = {
            "path": path,
            "transferDirectives": {"transferMethod": "s3", "fileSize": size},
            "account": account,
        }
        answer = await self._post_request(f"/filesystem/{system}/transfer/upload", json_data=body)
        return self._read(UploadTicket, self._check_response(answer, 201), f"Upload to {path} on {system}")

    async def start_download(self, system: str, path: str, *, account: str | None = None) -> DownloadTicket:
        """Ask for a large file; a job copies it to where the answer's URL points."""
        body = {"path": path, "transferDirectives": {"transferMethod": "s3"}, "account": account}
        answer = await self._post_request(f"/filesystem/{system}/transfer/download", json_data=body)
        return self._read(DownloadTicket, self._check_response(answer, 201), f"Download of {path} on {system}")

    async def start_transfer(self, system: str, operation: str, body: Mapping[str, Any]) -> TransferJob:
        """Start ``mv``, ``cp``, ``compress`` or ``extract`` as a job of the scheduler.

        :param body: as the endpoint ``transfer/<operation>`` documents it, for example ``path`` and ``targetPath``
        """
        answer = await self._post_request(f"/filesystem/{system}/transfer/{operation}", json_data=dict(body))
        job = self._check_response(answer, 201)["transferJob"]
        return self._read(TransferJob, job, f"transfer/{operation} on {system}")


def _rejection(message: str) -> str:
    """What sbatch or qsub said, without the server's wrapping; '' where neither refused the job.

    It is the user's when the command read the job and said no; a controller that cannot be reached is not.
    """
    _, found, said = message.partition("std_err:")
    if not found or any(words in said for words in ("Unable to contact", "cannot connect to server", "timed out")):
        return ""
    said = (said.rpartition(" (HTTP")[0] or said).partition(" stdout:")[0]  # qsub's, which is empty
    lines = [line.removeprefix("sbatch: error: ").removeprefix("qsub: ").strip() for line in said.splitlines()]
    return " ".join(line for line in lines if line)


def _segment(text: str) -> str:
    return quote(text, safe="")
