"""The endpoints ``/compute/{system}``: jobs of the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from firecrest_core.api.endpoints import SystemEndpoints
from firecrest_core.api.http import read_json
from firecrest_core.api.models import JobInfo, JobMetadata, JobRows, parse
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.errors import (
    JobNotFound,
    RequestRejected,
    RequestTimedOut,
    ServerFault,
    ServerUnreachable,
    SubmissionRejected,
    SubmissionUnknown,
)

# What PBS's commands say of an id that they do not know (msg_unkjobid in OpenPBS's pbs_messages.c).
_PBS_UNKNOWN = "Unknown Job Id"
# What scancel and qdel say of a job that is over or never was: then there is nothing to cancel.
_NOTHING_TO_CANCEL = ("Invalid job id specified", "already completing or completed", "has finished", _PBS_UNKNOWN)

_LARGE_ANSWER = 256 * 1024


class ComputeEndpoints(SystemEndpoints):
    """Submit, list and cancel jobs."""

    async def submit_job(self, request: SubmitRequest) -> str:
        """Submit a job, at most once.

        :returns: its id
        :raises SubmissionRejected: the scheduler refused it, in its own words
        :raises SubmissionUnknown: the answer was lost; the job may exist
        """
        what = f"Submission of {request.name or 'a job'} to {self.name}"
        try:
            response = await self._requests.session.post(self._job_path("jobs"), json=request.to_json())
        except RequestRejected as error:
            raise SubmissionRejected(str(error)) from None
        except (ServerFault, RequestTimedOut, ServerUnreachable) as error:
            rejected = _rejection(str(error))
            if rejected:
                raise SubmissionRejected(f"{what} was refused: {rejected}") from None
            if error.not_processed:
                raise
            raise SubmissionUnknown(
                f"{what}: the answer was lost ({error}). The job may be in the queue all the same: look with "
                "`squeue` or in the list of jobs before submitting it again."
            ) from None
        return str(read_json(response, 201, what)["jobId"])

    async def get_job(self, job_id: str) -> list[JobInfo]:
        """Return the rows that the scheduler has for a job: one, or several for an array.

        :raises JobNotFound: also for some seconds right after a submission
        """
        try:
            return await self._rows(self._job_path("jobs", job_id), f"Job {job_id} on {self.name}")
        except JobNotFound as error:
            # PBS knows an array as 57[] alone, and FirecREST takes no brackets: only the list shows it.
            rows = await self._pbs_array(job_id) if _PBS_UNKNOWN in str(error) else []
            if not rows:
                raise
            return rows

    async def get_jobs(
        self, *, name: str | None = None, time_window: str | None = None, account: str | None = None
    ) -> list[JobInfo]:
        """Return the user's jobs of the last 24 hours. **Absent is not gone**: ask for the job itself.

        :param name: only jobs of this name; filtered here too, since older servers ignore it
        :param time_window: ``1h``, ``8h``, ``24h``, ``3d`` or ``7d``
        """
        params = {"name": name, "time_window": time_window, "account": account}
        given = {key: value for key, value in params.items() if value is not None}
        rows = await self._rows(self._job_path("jobs"), f"Jobs on {self.name}", given)
        return [row for row in rows if name is None or row.name == name]

    async def get_job_metadata(self, job_id: str) -> JobMetadata:
        """Return a job's script and output paths while the scheduler still has them."""
        what = f"Metadata of job {job_id} on {self.name}"
        answer = await self._requests.answer(
            self._requests.pyfirecrest.job_metadata(self.name, quote(job_id, safe="")), what
        )
        rows = parse(list[JobMetadata], answer, what)
        if not rows:
            return JobMetadata()
        found = rows[0]
        if await self.scheduler() == "pbs":  # the server swaps the two on PBS
            found = found.model_copy(update={"stdout": found.stderr, "stderr": found.stdout})
        return found

    async def cancel_job(self, job_id: str) -> bool:
        """Cancel a job. One that has ended, was cancelled or never existed is no error.

        :raises RequestRejected: for a live array of PBS, which FirecREST cannot name to ``qdel``
        :returns: whether there was something to cancel. The status of a job comes from accounting as well and may be
            late; this is not, because the scheduler itself knows all jobs that are alive.
        """
        what = f"Cancelling job {job_id} on {self.name}"
        try:
            await self._requests.answer(self._requests.pyfirecrest.cancel_job(self.name, quote(job_id, safe="")), what)
        except ServerFault as error:
            if not any(words in str(error) for words in _NOTHING_TO_CANCEL):
                raise
            if _PBS_UNKNOWN in str(error):
                await self._refuse_to_leave_alive(job_id)
            return False
        return True

    async def _rows(self, path: str, what: str, params: Mapping[str, Any] | None = None) -> list[JobInfo]:
        response = await self._requests.session.get(path, params=params)

        def read() -> list[JobInfo]:
            return list(parse(JobRows, read_json(response, 200, what), what).jobs)

        # Ten thousand jobs take up to a second to read, in which an event loop would do nothing else.
        return await asyncio.to_thread(read) if len(response.content) > _LARGE_ANSWER else read()

    async def _pbs_array(self, job_id: str) -> list[JobInfo]:
        return [row for row in await self.get_jobs() if row.job_id == f"{job_id}[]"]

    async def _refuse_to_leave_alive(self, job_id: str) -> None:
        if any(not row.state.ended for row in await self._pbs_array(job_id)):
            raise RequestRejected(
                f"Job {job_id} on {self.name} is an array of PBS, which FirecREST cannot cancel. "
                f"Run `qdel '{job_id}[]'` there."
            )

    def _job_path(self, *segments: str) -> str:
        return "/".join([f"/compute/{self.name}", *(quote(segment, safe="") for segment in segments)])


def _rejection(message: str) -> str:
    """Return what sbatch or qsub said, without the server's wrapping; an empty text where neither refused the job.

    The job was refused when the command read it and said no. A controller that cannot be reached refuses nothing.
    """
    _, found, said = message.partition("std_err:")
    if not found or any(words in said for words in ("Unable to contact", "cannot connect to server", "timed out")):
        return ""
    said = (said.rpartition(" (HTTP")[0] or said).partition(" stdout:")[0]  # qsub's, which is empty
    lines = [line.removeprefix("sbatch: error: ").removeprefix("qsub: ").strip() for line in said.splitlines()]
    return " ".join(line for line in lines if line)
