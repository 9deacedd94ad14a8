"""What Prefect shows of jobs: artifacts, events, the output in the log, assets; and that it costs little."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.context import FlowRunContext
from prefect.states import Cancelling
from prefect.task_runners import ThreadPoolTaskRunner
from pytest_mock import MockerFixture

from firecrest_core.api.client import System
from firecrest_core.errors import FirecRESTError, JobFailed
from prefect_firecrest import (
    FirecRESTCredentials,
    FirecRESTJob,
    cancel_job,
    download_files,
    find_job,
    run_job,
    submit_job,
    wait_for_job,
)
from prefect_firecrest.cancellation.monitor import JobMonitor
from prefect_firecrest.observability.display import ActiveDisplays
from prefect_firecrest.runtime import runtime
from tests.prefect.real import until

Make = Callable[..., FirecRESTJob]


@flow
def run(job: FirecRESTJob) -> UUID:
    wait_for_job(submit_job(job))
    return FlowRunContext.get().flow_run.id


def artifacts(flow_run_id: UUID) -> dict[str, list[Artifact]]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        )
    by_key: dict[str, list[Artifact]] = {}
    for one in found:
        by_key.setdefault(one.key, []).append(one)
    return by_key


def log(flow_run_id: UUID, *words: str) -> str:
    """The flow run's log, when it holds these words: Prefect sends it in batches."""
    with get_client(sync_client=True) as client:

        def text() -> str | None:
            lines = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))
            text = "\n".join(line.message for line in lines)
            return text if all(word in text for word in words) else None

        return until(text, f"the words {words} in the log")


def events(flow_run_id: UUID, last: str) -> list[dict[str, Any]]:
    """The events that name the flow run, when one of this name is among them: Prefect sends them in the background."""
    query = {"filter": {"any_resource": {"id": [f"prefect.flow-run.{flow_run_id}"]}, "order": "ASC"}, "limit": 50}
    with get_client(sync_client=True) as client:

        def found() -> list[dict[str, Any]] | None:
            found = client._client.post("/events/filter", json=query).raise_for_status().json()["events"]
            return found if any(one["event"] == last for one in found) else None

        return until(found, f"the event {last}")


def test_a_table_and_a_progress_artifact(make: Make) -> None:
    flow_run_id = run(make("sleep 2", name="Relax Si_8", time_limit=10))
    found = artifacts(flow_run_id)
    [table] = found["firecrest-jobs"]
    [row] = json.loads(table.data)
    assert (row["Name"], row["State"]) == ("Relax Si_8", "COMPLETED")
    assert row["Elapsed"] >= "0:00:02"
    assert row["Nodes"]
    assert "core" in row["Used"]
    assert float(row["Node hours"]) >= 2 / 3600 - 1e-4
    assert "/runs/task-run/" in row["Log"]
    assert table.description.startswith("1 job: 1 COMPLETED; 0.00")
    [progress] = found["firecrest-relax-si-8"]
    assert (progress.type, progress.data) == ("progress", 100.0)
    assert "ended COMPLETED" in progress.description
    assert progress.task_run_id


def test_an_array_in_the_table(make: Make) -> None:
    [table] = artifacts(run(make("sleep 2", array="0-1", time_limit=10)))["firecrest-jobs"]
    [row] = json.loads(table.data)
    assert row["State"] == "COMPLETED (2 COMPLETED)"
    assert float(row["Node hours"]) >= 4 / 3600 - 1e-4


def test_the_page_of_a_job_at_the_centre(make: Make, credentials: FirecRESTCredentials) -> None:
    template = "https://ui.example.org/{system}/{job_id}?nodes={nodes}&to={end}&name={name}"
    linked = credentials.model_copy(update={"job_url": template})
    flow_run_id = run(make("true", name="a job & [more]", credentials=linked))
    [row] = json.loads(artifacts(flow_run_id)["firecrest-jobs"][0].data)
    begin = f"https://ui.example.org/{row['System']}/{row['Job']}?nodes="
    assert re.fullmatch(rf"\[page\]\({re.escape(begin)}\S+&to=\d{{13}}&name=a%20job%20%26%20%5Bmore%5D\)", row["Page"])
    assert f" Its page: {begin}&to=now" in log(flow_run_id, "was submitted to")


def test_the_progress_of_a_job_that_fails_stays_where_it_is(make: Make) -> None:
    @flow
    def fails() -> UUID:
        flow_run_id = FlowRunContext.get().flow_run.id
        job = submit_job(make("until [ -e go ]; do sleep 0.2; done; exit 3", name="bad", time_limit=5))
        waiting = wait_for_job.submit(job)
        until(lambda: "firecrest-bad" in artifacts(flow_run_id), "the progress of the job")
        (Path(job.job.working_dir) / "go").touch()
        with pytest.raises(JobFailed):
            waiting.result()
        return flow_run_id

    found = artifacts(fails())
    assert 0 <= found["firecrest-bad"][0].data < 100
    assert "FAILED, exit code 3" in found["firecrest-bad"][0].description
    assert json.loads(found["firecrest-jobs"][0].data)[0]["State"] == "FAILED"


def test_a_flow_that_calls_another_one_shows_its_jobs(make: Make) -> None:
    @flow
    def caller() -> UUID:
        run_job(make("true", name="of another"))
        return FlowRunContext.get().flow_run.id

    flow_run_id = caller()
    [row] = json.loads(artifacts(flow_run_id)["firecrest-jobs"][0].data)
    assert (row["Name"], row["State"]) == ("of another", "COMPLETED")
    lines = log(flow_run_id, "was submitted to", "ended COMPLETED").splitlines()
    for words in ("was submitted to", "ended COMPLETED"):
        [line] = [line for line in lines if words in line]
        assert "(of another)" in line
        assert "/runs/task-run/" in line


def test_a_job_that_is_cancelled_before_any_list_has_it(make: Make) -> None:
    """The queue has forgotten it before the accounting knows of it."""

    @flow
    def cancelled() -> UUID:
        flow_run_id = FlowRunContext.get().flow_run.id
        submit_job(make("sleep 600", name="short-lived"))
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run_id, Cancelling(), force=True)
        runtime.run(runtime.state(JobMonitor).scan())
        return flow_run_id

    flow_run_id = cancelled()
    [row] = json.loads(artifacts(flow_run_id)["firecrest-jobs"][0].data)
    assert (row["Name"], row["State"]) == ("short-lived", "CANCELLED")
    assert [one["event"] for one in events(flow_run_id, "firecrest.job.ended")].count("firecrest.job.ended") == 1
    assert "The flow run was cancelled, so job " in log(flow_run_id, "short-lived", "was cancelled.")


@pytest.mark.parametrize("how", ["task", "coroutine", "method", "found"])
def test_a_job_that_a_call_cancels_and_nobody_waits_for(make: Make, how: str) -> None:
    @flow
    def cancelled() -> UUID:
        run = submit_job(make("sleep 600", name="short-lived", exactly_once=how != "method"))
        if how == "task":
            cancel_job(run)
        elif how == "method":
            run.cancel()
        elif how == "coroutine":
            asyncio.run(run.acancel())
        else:
            cancel_job(find_job(run._credentials, run.job_id))
        return FlowRunContext.get().flow_run.id

    flow_run_id = cancelled()
    [row] = json.loads(artifacts(flow_run_id)["firecrest-jobs"][0].data)
    assert (row["Name"], row["State"]) == ("short-lived", "CANCELLED")
    assert [one["event"] for one in events(flow_run_id, "firecrest.job.ended")].count("firecrest.job.ended") == 1
    assert f"The flow run asked for it, so job {row['Job']} (short-lived) on " in log(flow_run_id, "was cancelled.")


def test_a_job_that_had_ended_is_cancelled_to_no_effect(make: Make) -> None:
    @flow
    def ended() -> UUID:
        job_run = submit_job(make("true"))
        wait_for_job(job_run)
        cancel_job(job_run)
        return FlowRunContext.get().flow_run.id

    flow_run_id = ended()
    [row] = json.loads(artifacts(flow_run_id)["firecrest-jobs"][0].data)
    assert row["State"] == "COMPLETED"
    assert "asked for it" not in log(flow_run_id, "COMPLETED")


def test_the_output_is_in_the_log_while_the_job_runs(make: Make, workdir: Path) -> None:
    @flow
    def watched() -> UUID:
        flow_run_id = FlowRunContext.get().flow_run.id
        job = make("echo begun; until [ -e go ]; do sleep 0.1; done; printf 'no newline'", name="speaks")
        waiting = wait_for_job.submit(submit_job(job))
        log(flow_run_id, "(speaks) writes:\nbegun")
        (workdir / "go").touch()
        waiting.result()
        return flow_run_id

    text = log(watched(), "no newline", "ended COMPLETED")
    assert text.count("begun") == 1
    assert text.count("no newline") == 1


def test_of_much_output_the_end_is_shown(make: Make) -> None:
    text = log(run(make("seq 1 100000")), "ended COMPLETED", "100000")
    lines = text[text.index("writes:") :].splitlines()
    assert re.search(r"… [\d,]+ (lines|bytes) of \S+ are left out", text)
    assert "99999" in lines
    assert "90000" not in lines
    assert len(lines) < 150


def test_a_secret_in_the_output_is_masked(make: Make) -> None:
    assert "token=***" in log(run(make("echo token=abcdefgh12345678")), "writes:")


def test_many_jobs_have_one_table_and_cost_no_requests(make: Make, workdir: Path, mocker: MockerFixture) -> None:
    reads, lists = mocker.spy(System, "read_from"), mocker.spy(System, "list_files")
    jobs = [make(f"echo {n}; until [ -e go ]; do sleep 0.2; done", name="point", time_limit=1) for n in range(20)]

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=20))
    def sweep() -> tuple[UUID, int]:
        flow_run_id = FlowRunContext.get().flow_run.id
        waiting = wait_for_job.map(submit_job.map(jobs))
        until(lambda: log(flow_run_id, "RUNNING").count(": RUNNING") >= 20, "the start of all jobs")
        # The output of a job that ran while few others had come was read; from now on, none is.
        before = reads.call_count + lists.call_count
        until(lambda: len(json.loads(artifacts(flow_run_id)["firecrest-jobs"][0].data)) >= 20, "the table")
        after = reads.call_count + lists.call_count
        (workdir / "go").touch()
        waiting.result()
        return flow_run_id, after - before

    flow_run_id, more = sweep()
    [table] = artifacts(flow_run_id)["firecrest-jobs"]
    assert [row["State"] for row in json.loads(table.data)] == ["COMPLETED"] * 20
    assert more == 0
    assert not runtime.state(ActiveDisplays).displays


def test_events_name_a_job_and_its_run(make: Make, workdir: Path) -> None:
    @flow
    def eventful() -> UUID:
        flow_run_id = FlowRunContext.get().flow_run.id
        waiting = wait_for_job.submit(submit_job(make("until [ -e go ]; do sleep 0.1; done", name="eventful")))
        log(flow_run_id, ": RUNNING")
        (workdir / "go").touch()
        waiting.result()
        return flow_run_id

    run_id = eventful()
    found = [one for one in events(run_id, "firecrest.job.ended") if one["event"].startswith("firecrest.")]
    assert [one["event"] for one in found] == [f"firecrest.job.{kind}" for kind in ("submitted", "running", "ended")]
    assert [one["resource"]["firecrest.job.state"] for one in found] == ["PENDING", "RUNNING", "COMPLETED"]
    assert {one["resource"]["prefect.resource.id"] for one in found} == {
        f"firecrest.job.{found[0]['resource']['firecrest.system']}.{found[0]['payload']['job_id']}"
    }
    for one in found:
        assert {"flow-run", "task-run", "system"} <= {about["prefect.resource.role"] for about in one["related"]}


def test_fetched_files_are_assets_with_a_checksum(make: Make, credentials, workdir: Path, tmp_path: Path) -> None:
    (workdir / "energy.out").write_text("-37.03 eV")

    @flow
    def fetch() -> Any:
        [file] = download_files(credentials, str(workdir / "energy.out"), tmp_path)
        return FlowRunContext.get().flow_run.id, file

    flow_run_id, file = fetch()
    happened = events(flow_run_id, "prefect.asset.materialization.succeeded")
    [made] = [one for one in happened if one["event"] == "prefect.asset.materialization.succeeded"]
    assert made["resource"]["prefect.resource.id"] == f"file://{tmp_path}/energy.out"
    assert made["payload"] == {"size": 9, "sha256": file.sha256, "from": f"{workdir}/energy.out"}
    assert f"firecrest://{credentials.system}{workdir}/energy.out" in {
        one["prefect.resource.id"] for one in made["related"]
    }


def test_nothing_is_shown_outside_of_a_flow_run(make: Make, mocker) -> None:
    emit = mocker.patch("prefect.events.emit_event")
    make("true").trigger().wait_for_completion()

    @task
    def alone() -> None:
        make("true").trigger().wait_for_completion()

    alone()
    emit.assert_not_called()


def test_a_prefect_that_takes_nothing_does_not_matter(make: Make, mocker) -> None:
    mocker.patch("prefect_firecrest.observability.artifacts.Artifact._send", side_effect=OSError("the API is away"))
    mocker.patch("firecrest_core.follow.output_file.OutputFile.read", side_effect=FirecRESTError("no answer"))
    run(make("sleep 1"))


def test_no_secret_is_in_what_prefect_keeps(make: Make, credentials) -> None:
    flow_run_id = run(make("sleep 1", name="discreet"))
    kept = json.dumps(events(flow_run_id, "firecrest.job.ended")) + log(flow_run_id, "ended COMPLETED")
    kept += str(artifacts(flow_run_id))
    assert credentials.client_secret.get_secret_value() not in kept
