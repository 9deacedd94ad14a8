"""Faults of the list of jobs, while questions for single jobs work, and rows of others that cannot be read."""

from __future__ import annotations

import re
from typing import Any, Literal

from starlette.responses import JSONResponse, Response

from firecrest_local.errors import CommandTimeout, OutputTooLarge, error_body
from firecrest_local.faults.replacement import Answer, Replacement, Rewriting, html_page
from firecrest_local.faults.request import RequestHead

_JOBS = re.compile(r"/compute/[^/]+/jobs", re.IGNORECASE)
_SYSTEMS = re.compile(r"/status/systems", re.IGNORECASE)


class ListError(Replacement):
    """The list of jobs fails. Questions for single jobs work.

    :param status: 500 for `Error executing Slurm command.`, 408 for a timeout, 413 for too much output, 502 for a page
        of the gateway.
    """

    fault: Literal["list_error"]
    done: Literal[False] = False
    status: Literal[408, 413, 500, 502] = 500

    @property
    def label(self) -> str:
        """The name under which the fault is counted."""
        return f"list_error_{self.status}"

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only the list of jobs matches."""
        return request.method == "GET" and bool(_JOBS.fullmatch(request.path)) and super().matches(request)

    def response(self, request: RequestHead, body: bytes, system: str) -> Response:
        """Make the error."""
        if self.status == 502:
            return html_page("502 Bad Gateway", 502)
        if self.status == 500:
            content = error_body("Error executing Slurm command.", None, caused_by=[CommandTimeout().message])
        else:
            error = CommandTimeout() if self.status == 408 else OutputTooLarge()
            content = error_body(error.message, None)
        return JSONResponse(content, self.status)


class UnreadableRows(Rewriting):
    """The lists of jobs and of systems begin with a row of somebody else that cannot be read."""

    fault: Literal["unreadable_rows"]

    def matches(self, request: RequestHead) -> bool:
        """Return whether the fault can apply to such a request. Only the lists of jobs and of systems match."""
        listed = _JOBS.fullmatch(request.path) or _SYSTEMS.fullmatch(request.path)
        return request.method == "GET" and bool(listed) and super().matches(request)

    def rewrite(self, answer: Answer, system: str) -> Answer:
        """Put the row before the others."""

        def change(body: Any) -> Any:
            if "jobs" in body:
                return {**body, "jobs": [_job(system), *(body["jobs"] or [])]}
            return {**body, "systems": [{"name": "other", "fileSystems": None}, *(body["systems"] or [])]}

        return answer.change_json(change) if answer.status == 200 else answer


def _job(system: str) -> dict[str, Any]:
    return {
        "jobId": "1",
        "name": "of-somebody-else",
        "status": {"state": "RUNNING", "stateReason": None, "exitCode": None, "interruptSignal": None},
        "tasks": None,
        "time": {"elapsed": "UNKNOWN", "start": "UNKNOWN", "end": "UNKNOWN", "suspended": None, "limit": "UNLIMITED"},
        "account": None,
        "allocationNodes": None,
        "cluster": system,
        "group": None,
        "nodes": None,
        "partition": None,
        "killRequestUser": None,
        "user": "somebody",
        "workingDirectory": None,
        "priority": None,
    }
