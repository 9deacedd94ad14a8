"""The links from a task to its job, as Airflow's own code stores, serializes and reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from airflow.sdk import DAG

from airflow_provider_firecrest.airflow_internals import xcoms
from airflow_provider_firecrest.job_snapshots import SNAPSHOT_KEY
from airflow_provider_firecrest.links import job as links
from airflow_provider_firecrest.links.job import CentreJobLink, HPCJobLink
from airflow_provider_firecrest.operators.job import FirecRESTCancelOperator, FirecRESTSubmitOperator
from airflow_provider_firecrest.sensors.job import FirecRESTJobSensor
from firecrest_core.jobs.snapshot import JobSnapshot
from firecrest_core.states import JobState

TEMPLATE = "https://ui.example.org/{system}/jobs/{job_id}?from={start}&to={end}&var-nodes={nodes}"
HPC_JOB, CENTRE = HPCJobLink().xcom_key, CentreJobLink().xcom_key


@pytest.fixture
def xcoms_of(ti: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The task instance, whose XComs its worker reads as they were pushed."""
    monkeypatch.setattr(links.airflow_internals, "read_xcom", lambda ti, key: ti.pushed.get(key))
    return ti


@pytest.fixture
def with_page(store: Callable[..., None], stored: dict[str, Any]) -> None:
    store(stored | {"extra": stored["extra"] | {"job_url": TEMPLATE}})


def submit(**arguments: Any) -> FirecRESTSubmitOperator:
    return FirecRESTSubmitOperator(task_id="job", command="true", working_dir="/w", **arguments)


def link(kind: Any, operator: Any, ti: Any) -> str:
    url = kind.get_link(operator=operator, ti_key=ti)
    assert isinstance(url, str)
    return url


def test_links_of_a_job(xcoms_of, with_page) -> None:
    ti = xcoms_of
    ti.run_id, ti.map_index = "manual__2026-01-01T00:00:00+00:00/x", 3
    job = JobSnapshot(job_id="57", system="daint", submitted_at=10.5, started_at=20, nodes="nid[001-002]")
    ti.xcom_push(SNAPSHOT_KEY, job.to_dict())
    page = "/firecrest/jobs/dag/manual__2026-01-01T00%3A00%3A00%2B00%3A00%2Fx/task/3/57"
    assert link(HPCJobLink(), submit(), ti).endswith(page)
    running = "https://ui.example.org/daint/jobs/57?from=20000&to=now&var-nodes=nid%5B001-002%5D"
    assert link(CentreJobLink(), submit(), ti) == running
    ended = JobSnapshot(job_id="57", system="daint", submitted_at=10.5, ended_at=30, state=JobState.CANCELLED)
    ti.xcom_push(SNAPSHOT_KEY, ended.to_dict())
    assert link(CentreJobLink(), submit(), ti) == "https://ui.example.org/daint/jobs/57?from=10500&to=30000&var-nodes="


def test_the_page_is_below_airflows_own_address(xcoms_of, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/team/")
    assert links.page_url(xcoms_of, "57") == "https://airflow.example.org/team/firecrest/jobs/dag/run/task/-1/57"


@pytest.mark.parametrize("stored_value", [None, "text", {}, {"job_id": "57"}])
def test_there_are_no_links_without_a_job(xcoms_of, with_page, stored_value) -> None:
    xcoms_of.pushed[SNAPSHOT_KEY] = stored_value
    assert [link(kind, submit(), xcoms_of) for kind in (HPCJobLink(), CentreJobLink())] == ["", ""]


def test_there_is_no_link_to_the_centre_without_a_template_or_a_connection(xcoms_of, connected, store) -> None:
    xcoms_of.xcom_push(SNAPSHOT_KEY, JobSnapshot(job_id="57", system="daint").to_dict())
    assert link(CentreJobLink(), submit(), xcoms_of) == ""
    assert link(CentreJobLink(), submit(firecrest_conn_id="gone"), xcoms_of) == ""


@pytest.mark.parametrize("make", [FirecRESTJobSensor, FirecRESTCancelOperator])
def test_jobs_of_others_are_linked_by_their_ids(xcoms_of, with_page, f7t, make) -> None:
    [kind] = make(task_id="job", job_id="12").operator_extra_links
    assert link(kind, make(task_id="job", job_id="12", system="eiger"), xcoms_of).startswith(
        "https://ui.example.org/eiger/jobs/12?from=&to=now"
    )
    assert f"/{f7t.system}/jobs/12?" in link(kind, make(task_id="job", job_id=12), xcoms_of)


def test_airflow_reads_the_links_from_these_xcoms() -> None:
    """Of a DAG as the API server has it, also for mapped tasks."""
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("dag", schedule=None) as dag:
        submit()
        FirecRESTSubmitOperator.partial(task_id="mapped", working_dir="/w").expand(command=["a", "b"])
    serialized = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    for task_id in ("job", "mapped"):
        task = serialized.get_task(task_id)
        assert sorted(task.extra_links) == ["HPC job", "Job at the centre"]
        assert {one.name: one.xcom_key for one in task.operator_extra_links} == {
            "HPC job": HPC_JOB,
            "Job at the centre": CENTRE,
        }


def test_airflow_stores_the_links_when_a_task_defers(xcoms_of, with_page, monkeypatch) -> None:
    """A contract test: the task runner stores them at each end of its process, and a deferral is one."""
    from airflow.sdk import TaskInstanceState
    from airflow.sdk.execution_time import task_runner

    pushed: dict[str, str] = {}
    monkeypatch.setattr(task_runner, "_xcom_push_to_db", lambda ti, key, value: pushed.update({key: value}))
    xcoms_of.task, xcoms_of.end_date = submit(), None
    xcoms_of.xcom_push(SNAPSHOT_KEY, JobSnapshot(job_id="57", system="daint").to_dict())
    task_runner.finalize(xcoms_of, TaskInstanceState.DEFERRED, {}, structlog.get_logger("task"))
    assert pushed[HPC_JOB].endswith("/firecrest/jobs/dag/run/task/-1/57")
    assert pushed[CENTRE].startswith("https://ui.example.org/daint/jobs/57?")


def test_a_worker_that_waits_stores_the_links_at_the_submission(xcoms_of, with_page, run_task, workdir) -> None:
    ran = run_task(
        lambda: FirecRESTSubmitOperator(
            task_id="job", command="true", working_dir=str(workdir), deferrable=False, poll_interval=0.1
        )
    )
    assert ran.result["state"] == "COMPLETED"
    job_id = ran.result["job_id"]
    assert xcoms_of.pushed[HPC_JOB].endswith(f"/firecrest/jobs/dag/run/task/-1/{job_id}")
    assert f"/jobs/{job_id}?from=" in xcoms_of.pushed[CENTRE]


async def test_a_trigger_stores_the_links_of_the_job_that_it_submits(ti, monkeypatch) -> None:
    pushed: dict[str, str] = {}

    async def push(ti: Any, key: str, value: str) -> None:
        pushed[key] = value

    async def refuse(ti: Any, key: str, value: str) -> None:
        raise OSError("Airflow does not answer")

    job = JobSnapshot(job_id="57", system="daint")
    monkeypatch.setattr(links.airflow_internals, "push_xcom", push)
    await links.apush_links(ti, job, "https://x.example/{job_id}")
    assert pushed[CENTRE] == "https://x.example/57"
    pushed.clear()
    await links.apush_links(ti, job, "")
    assert list(pushed) == [HPC_JOB]
    monkeypatch.setattr(links.airflow_internals, "push_xcom", refuse)
    await links.apush_links(ti, job, "")
    await links.apush_links(None, job, "")  # dag.test() gives a trigger no task instance


def test_read_xcom(ti, monkeypatch) -> None:
    """A contract test: ``XCom.get_value`` asks the supervisor for the XCom of this very task instance."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetXCom, XComResult

    asked: list[GetXCom] = []

    class Supervisor:
        def send(self, question: GetXCom) -> XComResult:
            asked.append(question)
            return XComResult(key=question.key, value={"job_id": "57"})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    assert xcoms.read_xcom(ti, "firecrest_job") == {"job_id": "57"}
    [question] = asked
    assert (question.key, question.dag_id, question.run_id, question.task_id, question.map_index) == (
        "firecrest_job",
        "dag",
        "run",
        "task",
        -1,
    )
