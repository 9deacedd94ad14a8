"""The endpoints ``/compute/{system}``: jobs of the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from firecrest_core.api.answers import parse, parse_each
from firecrest_core.api.endpoints import SystemEndpoints
from firecrest_core.api.job_ids import read_job_id
from firecrest_core.api.models import JobInfo, JobMetadata, JobRows, SubmittedJob
from firecrest_core.api.scheduler_words import refusal
from firecrest_core.api.submit_limits import advice
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.api.tracebacks import without_frames
from firecrest_core.errors import (
    AccessDenied,
    JobNotFound,
    RequestRejected,
    RequestTimedOut,
    ServerFault,
    ServerUnreachable,
    SubmissionRejected,
    SubmissionUnknown,
)

# What PBS's commands print for an unknown id (msg_unkjobid in OpenPBS's pbs_messages.c).
_PBS_UNKNOWN = "Unknown Job Id"
# What scancel and qdel print for a job that has ended or never existed. Then there is nothing to cancel.
_NOTHING_TO_CANCEL = ("Invalid job id specified", "already completing or completed", "has finished", _PBS_UNKNOWN)

# Bytes. Ten thousand jobs take up to a second to parse, and the event loop would be blocked for that time.
_LARGE_ANSWER = 256 * 1024


class ComputeEndpoints(SystemEndpoints):
    """Submit, list and cancel jobs."""

    @without_frames
    async def submit_job(self, request: SubmitRequest, *, name: str = "") -> str:
        """Submit a job, at most once.

        :param request: the job
        :param name: what an error is to call the job; its name in the request unless given
        :returns: the job's id
        :raises SubmissionRejected: the scheduler refused the job; the message has the scheduler's text
        :raises SubmissionLimitReached: the job was not taken because a limit on submitted jobs is reached
        :raises SubmissionUnknown: no answer says whether the job was taken; it may exist
        """
        what = f"Submission of {name or request.name or 'a job'} to {self.name}"
        try:
            response = await self._requests.session.post(self._path("compute", "jobs"), json=request.to_json())
            return parse(SubmittedJob, self._requests.session.read_json(response, 201, what), what).job_id
        except RequestRejected as error:
            raise SubmissionRejected(str(error)) from None
        except (AccessDenied, ServerFault, RequestTimedOut, ServerUnreachable) as error:
            refused = refusal(error.server_message)
            if refused:
                raise SubmissionRejected(
                    " ".join([f"{what} was refused: {refused}", advice(refused)]).strip()
                ) from None
            if isinstance(error, AccessDenied) or error.not_processed:
                raise
            raise SubmissionUnknown(
                f"{what}: no answer says whether the job was taken, so it may be in the queue ({error})."
            ) from None

    async def get_job(self, job_id: str) -> list[JobInfo]:
        """Return the scheduler's rows for a job: one, or several for an array.

        :param job_id: the job's id, for example ``57``
        :raises JobNotFound: the scheduler does not know the job; this also happens for some seconds after a submission
        :raises InvalidJobId: it cannot be the id of a job
        """
        job_id = read_job_id(job_id)
        try:
            return await self._rows(
                self._path("compute", "jobs", job_id), f"Job {job_id} on {self.name}", all_readable=True
            )
        except JobNotFound as error:
            # PBS knows an array only as 57[], and FirecREST accepts no brackets. So only the list shows it.
            rows = await self._pbs_array(job_id) if _PBS_UNKNOWN in str(error) else []
            if not rows:
                raise
            return rows

    async def get_jobs(
        self,
        *,
        name: str | None = None,
        time_window: str | None = None,
        account: str | None = None,
        all_readable: bool = False,
    ) -> list[JobInfo]:
        """Return the list of the user's jobs.

        A job that is not in the list may still exist: query it with :meth:`get_job`.

        :param name: only jobs of this name; filtered here too, because older servers ignore it
        :param time_window: ``1h``, ``8h``, ``24h``, ``3d`` or ``7d``; the last 24 hours unless given
        :param account: only jobs of this account
        :param all_readable: a row that cannot be read is an error; otherwise it is left out
        :returns: one row for each job, several for an array
        """
        params = {"name": name, "time_window": time_window, "account": account}
        given = {key: value for key, value in params.items() if value is not None}
        rows = await self._rows(self._path("compute", "jobs"), f"Jobs on {self.name}", given, all_readable=all_readable)
        return [row for row in rows if name is None or row.name == name]

    async def get_job_metadata(self, job_id: str) -> JobMetadata:
        """Return a job's script and output paths, as long as the scheduler keeps them.

        :param job_id: the job's id, for example ``57``
        :raises JobNotFound: the scheduler does not know the job, or not any more
        :raises InvalidJobId: it cannot be the id of a job
        """
        job_id = read_job_id(job_id)
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
        """Cancel a job. A job that has ended, was cancelled or never existed is no error.

        :param job_id: the job's id, for example ``57``
        :returns: whether the job was alive. This comes from the scheduler itself and is up to date, while the status of
            a job also comes from accounting and may be late.
        :raises RequestRejected: the job is a live array of PBS, which FirecREST cannot pass to ``qdel``
        :raises InvalidJobId: it cannot be the id of a job
        """
        job_id = read_job_id(job_id)
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

    async def _rows(
        self, path: str, what: str, params: Mapping[str, Any] | None = None, *, all_readable: bool
    ) -> list[JobInfo]:
        response = await self._requests.session.get(path, params=params)

        def read() -> list[JobInfo]:
            rows = parse(JobRows, self._requests.session.read_json(response, 200, what), what).jobs
            return parse(list[JobInfo], rows, what) if all_readable else parse_each(JobInfo, rows, what)

        return await asyncio.to_thread(read) if len(response.content) > _LARGE_ANSWER else read()

    async def _pbs_array(self, job_id: str) -> list[JobInfo]:
        return [row for row in await self.get_jobs() if row.job_id == f"{job_id}[]"]

    async def _refuse_to_leave_alive(self, job_id: str) -> None:
        if any(not row.state.ended for row in await self._pbs_array(job_id)):
            raise RequestRejected(
                f"Job {job_id} on {self.name} is an array of PBS, which FirecREST cannot cancel. "
                f"Run `qdel '{job_id}[]'` there."
            )
