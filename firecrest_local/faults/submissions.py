"""Faults of submissions: sbatch without words or with those of the site, and an answer without a job id."""

from __future__ import annotations

import re
from typing import Any, Literal

from starlette.responses import JSONResponse, Response

from firecrest_local.errors import SchedulerError, error_body
from firecrest_local.faults.replacement import Answer, Replacement, Rewriting
from firecrest_local.faults.request import RequestHead

_JOBS = re.compile(r"/compute/[^/]+/jobs", re.IGNORECASE)
_TRANSFERS = re.compile(r"/filesystem/[^/]+/transfer/.+", re.IGNORECASE)


class SbatchError(Replacement):
    """sbatch fails for a reason that does not concern the job: 500 with its words, or with none.

    :param words: the reason that sbatch gives, e.g. `Zero Bytes were transmitted or received`; empty for no word at
        all, as when sbatch or its connection was killed.
    :param exit_status: the exit status, or the text `None`; by default 1 with words and -1 without.
    """

    fault: Literal["sbatch_error"]
    words: str = ""
    exit_status: int | Literal["None"] | None = None

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only submissions match, those of transfers included."""
        submits = request.method == "POST" and _JOBS.fullmatch(request.path)
        transfers = request.method in ("POST", "DELETE") and _TRANSFERS.fullmatch(request.path)
        return bool(submits or transfers) and super().matches(request)

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the error."""
        lines = [f"sbatch: error: Batch job submission failed: {self.words}"] if self.words else []
        default = 1 if self.words else -1
        error = SchedulerError(*lines, exit_status=default if self.exit_status is None else self.exit_status)
        return JSONResponse(error_body(error.message, None), error.status)


class MissingJobId(Rewriting):
    """The job is submitted, and the answer 201 has no job id.

    :param job_id: what is in its place: the key is `absent`, or its value is `null` or `empty`.
    """

    fault: Literal["missing_job_id"]
    job_id: Literal["absent", "null", "empty"] = "null"

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only submissions of jobs match."""
        return request.method == "POST" and bool(_JOBS.fullmatch(request.path)) and super().matches(request)

    def rewrite(self, answer: Answer, system: str) -> Answer:
        """Take the job id out of an answer."""

        def change(body: Any) -> Any:
            rest = {name: value for name, value in body.items() if name != "jobId"}
            return rest if self.job_id == "absent" else {**rest, "jobId": None if self.job_id == "null" else ""}

        return answer.change_json(change) if answer.status == 201 else answer
