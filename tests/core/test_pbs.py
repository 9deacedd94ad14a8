"""What FirecREST says of PBS, played by a stub that is written from the sources.

- the form of a row, and which of qstat's words stand in it: FirecREST's ``lib/scheduler_clients/pbs/models.py``
  (``PbsJob``). The exit code is 0 until there is one, the start is null until there is one, nothing is said of
  elements, reasons or steps.
- ids: ``qsub_command.py`` keeps the digits before ``[].server``; ``qstat_command.py`` cuts at the dot, so an array is
  listed as ``57[]``; the routes take letters and digits alone.
- unknown ids: the commands' error texts come as a 500 (``PbsError``); their own words are those of OpenPBS,
  ``prt_job_err`` and ``msg_unkjobid``. OpenPBS knows an array by its id with brackets alone
  (``src/server/req_stat.c``, ``stat_a_jobidname``).
- states and exit statuses: OpenPBS, ``src/include/job.h``; how an array gets its own from its elements:
  ``src/server/array_func.c``, ``update_sj_parent``; that a job which never began has neither start nor exit status:
  ``src/server/req_runjob.c``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from firecrest_core import errors, lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.models import JobInfo
from firecrest_core.claims import protocol
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.spec.render import render, submit_request
from firecrest_core.states import JobState

NEVER_BEGAN = None


def row(
    job_id: str, state: str, exit_status: int = 0, *, start: int | None = 1795186580, **more: Any
) -> dict[str, Any]:
    return {
        "jobId": job_id,
        "name": "relax",
        "status": {"state": state, "stateReason": None, "exitCode": exit_status, "interruptSignal": None},
        "tasks": None,
        "time": {
            "elapsed": None if start is None else 7,
            "start": start,
            "end": None,
            "suspended": None,
            "limit": 300,
        },
        "account": "_pbs_project_default",
        "allocationNodes": 1,
        "cluster": "login",
        "group": None,
        "nodes": "None assigned",
        "partition": "workq",
        "killRequestUser": None,
        "user": "me",
        "workingDirectory": "/home/me",
        "priority": 0,
    } | more


class Pbs:
    """The jobs, by the id that PBS knows them under, and what was deleted."""

    def __init__(self) -> None:
        self.jobs: dict[str, Iterator[dict[str, Any]]] = {}
        self.now: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []

    def shows(self, *rows: dict[str, Any]) -> None:
        """Let a job go through these rows, one for each question; the last one stays."""
        self.now[rows[0]["jobId"]] = rows[0]
        self.jobs[rows[0]["jobId"]] = iter(rows)

    def read(self, job_id: str) -> dict[str, Any]:
        self.now[job_id] = next(self.jobs[job_id], self.now[job_id])
        return self.now[job_id]

    def answer(self, request: Request) -> Response:
        job_id = request.path.removesuffix("/metadata").rpartition("/")[2]
        if job_id == "jobs":
            return self._json({"jobs": [self.read(each) for each in self.jobs]})
        if request.method == "DELETE":
            if job_id not in self.jobs:
                return self._error("qdel", 153, f"Unknown Job Id {job_id}.pbs")
            if self.now[job_id]["status"]["state"] == "F":
                return self._error("qdel", 35, f"Job has finished {job_id}.pbs")
            self.deleted.append(job_id)
            return Response(status=204)
        if job_id not in self.jobs:
            return self._error("qstat", 153, f"Unknown Job Id {job_id}.pbs")
        return self._json({"jobs": [self.read(job_id)]})

    def _error(self, command: str, code: int, said: str) -> Response:
        message = f"Unexpected PBS {command} response. exit_status:{code} std_err:{command}: {said}\n"
        return self._json({"errorType": "error", "message": message, "data": None, "user": "me"}, 500)

    def _json(self, body: Any, status: int = 200) -> Response:
        return Response(json.dumps(body), status=status, content_type="application/json")


@pytest.fixture
def pbs(httpserver: HTTPServer) -> Pbs:
    site = Pbs()
    systems = [{"name": "rig", "scheduler": {"type": "pbs", "version": "23.06.06"}}]
    httpserver.expect_request("/status/systems").respond_with_json({"systems": systems})
    for path in ("/compute/rig/jobs", "/compute/rig/jobs/7", "/compute/rig/jobs/8", "/compute/rig/jobs/7/metadata"):
        for method in ("GET", "DELETE"):
            httpserver.expect_request(path, method=method).respond_with_handler(site.answer)
    return site


def job(**fields: Any) -> Job:
    return Job(system="rig", job_id="7", **fields)


ENDS = [
    (0, JobState.COMPLETED),
    (3, JobState.FAILED),
    (256 + 15, JobState.CANCELLED),  # qdel
    (256 + 11, JobState.FAILED),
    (-29, JobState.TIMEOUT),
    (-27, JobState.OUT_OF_MEMORY),
    (-1, JobState.FAILED),
    (-20, JobState.NODE_FAIL),
]


@pytest.mark.parametrize(("exit_status", "state"), ENDS)
def test_the_exit_status_tells_the_end(exit_status: int, state: JobState) -> None:
    assert JobInfo.model_validate(row("7", "F", exit_status)).state is state


@pytest.mark.parametrize("letter", "QHWTREBSU")
def test_exit_code_zero_is_no_end(letter: str) -> None:
    assert not JobInfo.model_validate(row("7", letter)).state.ended


def test_a_job_that_was_deleted_in_the_queue_did_not_complete() -> None:
    assert JobInfo.model_validate(row("7", "F", start=NEVER_BEGAN)).state is JobState.CANCELLED


async def test_a_job(client: FirecRESTClient, pbs: Pbs) -> None:
    pbs.shows(row("7", "Q", start=NEVER_BEGAN), row("7", "R"), row("7", "E"), row("7", "F", 3))
    result = await lifecycle.wait(client.system(), job(), poll_interval=0.1)
    assert (result.state, result.exit_code) == (JobState.FAILED, 3)


@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize(("exit_status", "state"), [(0, "COMPLETED"), (1, "FAILED"), (2, "FAILED")])
async def test_an_array_is_found_in_the_list(
    client: FirecRESTClient, pbs: Pbs, exit_status: int, state: str, others: int
) -> None:
    pbs.shows(row("7[]", "Q", start=NEVER_BEGAN), row("7[]", "B"), row("7[]", "B"), row("7[]", "F", exit_status))
    for number in range(others):
        pbs.shows(row(str(100 + number), "R"))
    messages: list[str] = []
    result = await lifecycle.wait(
        client.system(), job(array_indices=Indices.parse("0-2")), poll_interval=0.1, on_message=messages.append
    )
    assert (result.state, result.elements) == (state, ())
    assert [line.rpartition(": ")[2].partition(",")[0] for line in messages[:2]] == ["PENDING", "RUNNING"]


async def test_arrays_among_many_jobs(client: FirecRESTClient, pbs: Pbs) -> None:
    pbs.shows(row("7[]", "B"), row("7[]", "B"), row("7[]", "F"))
    pbs.shows(row("8", "R"), row("8", "R"), row("8", "F"))
    waits = [Job(system="rig", job_id="8")] * 3 + [job(array_indices=Indices.parse("0-1"))]
    for result in [await lifecycle.wait(client.system(), one, poll_interval=0.1) for one in waits]:
        assert result.succeeded


async def test_an_id_that_is_unknown_is_no_outage(client: FirecRESTClient, pbs: Pbs) -> None:
    with pytest.raises(errors.JobNotFound, match="Unknown Job Id"):
        await client.system().get_job("7")
    with pytest.raises(errors.JobNotFound):
        await client.system().get_job_metadata("7")


async def test_an_array_that_only_the_list_shows_is_found(client: FirecRESTClient, pbs: Pbs) -> None:
    pbs.shows(row("7[]", "B"))
    assert (await lifecycle.find(client.system(), "7")).name == "relax"


async def test_cancelling(client: FirecRESTClient, pbs: Pbs) -> None:
    assert not await client.system().cancel_job("7")
    pbs.shows(row("7", "F"))
    assert not await client.system().cancel_job("7")
    pbs.shows(row("7", "R"))
    assert await client.system().cancel_job("7")
    assert pbs.deleted == ["7"]


async def test_an_array_cannot_be_cancelled_and_that_is_said(client: FirecRESTClient, pbs: Pbs) -> None:
    pbs.shows(row("7[]", "B"))
    with pytest.raises(errors.RequestRejected, match=r"qdel '7\[\]'"):
        await client.system().cancel_job("7")
    pbs.shows(row("7[]", "F"))
    assert not await client.system().cancel_job("7")


async def test_a_retry_runs_a_failed_array_once_more(client: FirecRESTClient, pbs: Pbs, httpserver: HTTPServer) -> None:
    key = ClaimKey("task")
    pbs.shows(row("7[]", "F", 1))
    claim = {"name": "0.0/claim", "type": "l", "linkTarget": f"{key.directory('/wd')}/job-7", "size": "1"}
    httpserver.expect_request("/filesystem/rig/ops/ls").respond_with_json({"output": [claim]})
    httpserver.expect_request("/filesystem/rig/ops/stat").respond_with_json({"output": {"mode": 0o40755}})
    submitted: list[str] = []

    def submit(request: Request) -> Response:
        submitted.append(request.get_json()["job"]["script"])
        return Response('{"jobId": "8"}', status=201, content_type="application/json")

    httpserver.expect_request("/compute/rig/jobs", method="POST").respond_with_handler(submit)
    spec = JobSpec(working_dir="/wd", command="true", name="relax", array="0-3")
    job = await protocol.submit(client.system(), spec, key)
    assert (job.job_id, job.key) == ("8", key.next_generation())
    assert "#PBS -J 0-3" in submitted[0]
    assert "#PBS -r y" in submitted[0]  # qsub: cannot submit non-rerunable Array Job


def test_elements_of_an_array_may_run_again() -> None:
    with pytest.raises(errors.InvalidJobSpec, match="requeue: PBS"):
        render(JobSpec(working_dir="/wd", command="true", array="0-3", requeue=False), "pbs")
    own = JobSpec(working_dir="/wd", script="#!/bin/sh\n#PBS -J 0-3\ntrue\n")
    assert "#PBS -r y" in render(own, "pbs")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("qsub: Unknown queue\n stdout:", errors.SubmissionRejected),
        ("qsub: cannot connect to server pbs (errno=15010)\n stdout:", errors.SubmissionUnknown),
    ],
)
async def test_what_qsub_says(client: FirecRESTClient, httpserver: HTTPServer, said: str, error: Any) -> None:
    message = f"Unexpected PBS command response. exit_status:1 std_err:{said}"
    body = {"errorType": "error", "message": message, "data": None, "user": "me"}
    httpserver.expect_request("/compute/rig/jobs", method="POST").respond_with_json(body, status=500)
    with pytest.raises(error) as raised:
        await client.system().submit_job(submit_request(JobSpec(working_dir="/wd", command="true"), "pbs"))
    assert type(raised.value) is error
    if error is errors.SubmissionRejected:
        assert str(raised.value).endswith("was refused: Unknown queue")
