"""The last lines of a job's output, read from FirecREST while somebody looks at the job's page."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import rights
from airflow_provider_firecrest.cancellation.accounts import Account
from airflow_provider_firecrest.job_snapshots import is_signed
from airflow_provider_firecrest.monitoring.rows import JobRow
from airflow_provider_firecrest.web.clients import Clients
from airflow_provider_firecrest.web.found_job import JOB, FoundJob
from airflow_provider_firecrest.web.job_view import JobView
from airflow_provider_firecrest.web.shared_reads import SharedReads
from airflow_provider_firecrest.web.templating import page
from airflow_provider_firecrest.web.viewers import Viewer

routes = APIRouter()

LINES = 200
SECONDS = 4.0
"""How long what was read holds for all viewers of a job."""


_NOT_SIGNED = (
    "The output is not read: what Airflow keeps of this job is not signed with the present secret of its connection. "
    "The secret was changed since, or somebody has edited it."
)


@dataclass(frozen=True)
class Stream:
    """The end of one output file.

    :param title: what it is
    :param path: where it is on the system
    :param text: its last lines, printable and without secrets
    :param error: why it cannot be read, in a sentence
    """

    title: str
    path: str
    text: str = ""
    error: str = ""


@routes.get(f"{JOB}/output")
async def show_output(request: Request, viewer: Viewer, job: FoundJob) -> HTMLResponse:
    """Show the end of a job's output.

    :param request: the request
    :param viewer: the user
    :param job: the job
    """
    if not await asyncio.to_thread(rights.may_read_output, viewer, job.row.dag_id):
        raise HTTPException(403, "You may not read the logs of this DAG, and so not the output of its jobs.")
    streams = []
    message = _nothing_to_read(job)
    if not message:
        seen = job.job
        names = dict.fromkeys(path for path in (seen.stdout, seen.stderr) if path)
        titles = ["Standard output", "Standard error"] if len(names) == 2 else ["Output"]
        team = (await asyncio.to_thread(airflow_internals.teams_of, [job.row.dag_id])).get(job.row.dag_id)
        account = Account(seen.connection_id, team)
        clients: Clients = request.app.state.clients
        reads: SharedReads[Stream] = request.app.state.output
        reading = [
            reads.get((account, job.address, path), partial(read_stream, clients, account, job.row, title, path))
            for title, path in zip(titles, names, strict=False)
        ]
        streams = list(await asyncio.gather(*reading))
    return page(request, "output.html", {"streams": streams, "message": message})


def _nothing_to_read(job: JobView) -> str:
    seen = job.job
    if not seen.connection_id or not (seen.stdout or seen.stderr):
        return "It is not known where this job's output is."
    if job.waits:
        return "The job waits. Its output appears here when it runs."
    if "%a" in f"{seen.stdout}{seen.stderr}":
        return "Each element of this array has an output file of its own: see the paths above."
    return ""


async def read_stream(clients: Clients, account: Account, row: JobRow, title: str, path: str) -> Stream:
    """Read the end of an output file, if the job's own task has said that it is one.

    :param clients: the clients of this process
    :param account: the connection
    :param row: the job
    :param title: what the file is called on the page
    :param path: its absolute path
    """
    from firecrest_core import errors
    from firecrest_core.jobs.logs import read_tail

    try:
        client = await clients.get(account)
        if not is_signed(row.snapshot, client.connection, (row.dag_id, row.run_id, row.task_id, row.map_index)):
            return Stream(title, path, error=_NOT_SIGNED)
        return Stream(title, path, text=await read_tail(client.system(row.snapshot.system), path, LINES))
    except errors.RemotePathNotFound:
        return Stream(title, path, error="The file is not there: not written yet, or removed with its directory.")
    except errors.ConfigurationError as error:
        return Stream(title, path, error=f"The output cannot be read: {_first_line(error)}")
    except errors.FirecRESTError as error:
        clients.forget(account)
        return Stream(title, path, error=f"The output cannot be read now: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
