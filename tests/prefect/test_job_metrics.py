"""The metrics of a training in Prefect: while it runs and at its end, and whatever stands in the file."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.context import FlowRunContext

from firecrest_core.errors import JobFailed
from firecrest_core.metrics import Metrics
from prefect_firecrest import FirecRESTJob, run_job, submit_job, wait_for_job
from prefect_firecrest.observability.job_metrics import cell, page

Make = Callable[..., FirecRESTJob]

TRAINING = """echo '{"step": 1, "loss": 0.5}' > metrics.jsonl
until [ -e go ]; do sleep 0.1; done
echo '{"step": 2, "loss": 0.25, "note": "<b>"}' >> metrics.jsonl"""


def shown(flow_run_id: UUID) -> dict[str, Any]:
    """The data of a flow run's artifacts, by their keys."""
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return {one.key: one.data for one in client.read_artifacts(artifact_filter=wanted)}


def drawn(markdown: str) -> ElementTree.Element:
    """The picture that a page shows."""
    [data] = re.findall(r"!\[curves\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    return ElementTree.fromstring(base64.b64decode(data))


def titles(markdown: str) -> list[str]:
    """What the picture says of each curve."""
    return [one.text or "" for one in drawn(markdown).iter("{http://www.w3.org/2000/svg}title")]


def read(*lines: str) -> Metrics:
    metrics = Metrics()
    metrics.add_lines(lines)
    return metrics


# --- what is shown of them ----------------------------------------------------------------------------------


def test_a_cell_of_the_table() -> None:
    metrics = read(*(json.dumps({"step": step, "loss": 1 / step, "acc": step}) for step in range(1, 5)))
    assert cell(metrics) == "loss 0.25 █▃▂▁, acc 4 ▁▃▆█ (step 4)"
    assert cell(read('{"loss": "NaN"}')) == "loss nan"
    assert cell(read(json.dumps({f"n{number}": 1 for number in range(9)}))).endswith("n3 1 ▄ and 5 more (step 1)")
    assert cell(Metrics()) == ""


def test_a_page_of_curves() -> None:
    markdown = page("Job 57 (train) on daint", read('{"loss": 0.5, "acc": 0.1}', '{"loss": 0.25, "acc": 0.9}'))
    lines = markdown.splitlines()
    assert lines[0] == "## Job 57 (train) on daint"
    assert "| loss | 0.25 | 0.25 | 0.5 |" in lines
    assert titles(markdown) == ["loss: 0.25 at 2", "acc: 0.9 at 2"]


def test_what_others_have_written_is_text() -> None:
    hostile = "<script>alert(1)</script> ![x](https://evil.example/x.png) | `"
    markdown = page(f"Job 57 ({hostile})", read(json.dumps({hostile: 1}), "<script>", '{"loss": NaN}'))
    text = markdown.replace("\n![curves](", "")
    plain = re.sub(r"\\.", "", text)
    assert not set("<>![]`") & set(plain)
    assert plain.count("|") == 5 * 4
    assert hostile in titles(markdown)[0]
    assert drawn(markdown).find(".//{http://www.w3.org/2000/svg}script") is None
    assert "1 of the values of loss are NaN or infinite." in text
    assert "1 of 3 lines are no JSON objects." in text


# --- jobs ---------------------------------------------------------------------------------------------------


def test_metrics_come_while_the_job_runs(make: Make, workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def train() -> tuple[UUID, dict[str, Any]]:
        flow_run_id = FlowRunContext.get().flow_run.id
        waiting = wait_for_job.submit(submit_job(make(TRAINING, name="train", metrics="metrics.jsonl")))
        while "firecrest-train-metrics" not in (live := shown(flow_run_id)):
            pass
        (workdir / "go").touch()
        waiting.result()
        return flow_run_id, live

    flow_run_id, live = train()
    assert titles(live["firecrest-train-metrics"]) == ["loss: 0.5 at 1"]
    ended = shown(flow_run_id)
    assert titles(ended["firecrest-train-metrics"]) == ["loss: 0.25 at 2"]
    assert json.loads(ended["firecrest-jobs"])[0]["Metrics"] == "loss 0.25 █▁ (step 2)"
    assert "(train) metrics: loss 0.5 (step 1)" in caplog.text
    assert "(train) metrics: loss 0.25 (step 2)" in caplog.text


def test_a_job_that_fails_keeps_its_metrics(make: Make, workdir: Path) -> None:
    (workdir / "go").touch()

    @flow
    def train() -> UUID:
        with pytest.raises(JobFailed):
            run_job(make(f"{TRAINING}; exit 3", name="bad", metrics=str(workdir / "metrics.jsonl")))
        return FlowRunContext.get().flow_run.id

    [row] = json.loads(shown(train())["firecrest-jobs"])
    assert (row["State"], row["Metrics"]) == ("FAILED", "loss 0.25 █▁ (step 2)")


@pytest.mark.parametrize(
    ("command", "metrics", "said"),
    [
        ("true", None, "there is no "),
        ("printf '' > metrics.jsonl", None, "holds no numbers"),
        ("echo 'epoch 1' > metrics.jsonl", None, "holds no numbers"),
        ("""echo '{"loss": "NaN"}' > metrics.jsonl""", "loss nan", "metrics: loss nan"),
        ("""echo '{"[x](js:y)<b>": 1}' > metrics.jsonl""", "[x]\u2060(js:y)<\u2060b> 1 ▄ (step 1)", "<b> 1"),
    ],
    ids=["no file", "empty", "no JSON", "NaN", "hostile"],
)  # fmt: skip
def test_whatever_stands_in_the_file(
    make: Make, caplog: pytest.LogCaptureFixture, command: str, metrics: str | None, said: str
) -> None:
    @flow
    def train() -> UUID:
        wait_for_job(submit_job(make(command, name="odd", metrics="metrics.jsonl")))
        return FlowRunContext.get().flow_run.id

    found = shown(train())
    [row] = json.loads(found["firecrest-jobs"])
    assert (row["State"], row.get("Metrics")) == ("COMPLETED", metrics)
    assert ("firecrest-odd-metrics" in found) == (metrics is not None)
    assert said in caplog.text


def test_a_file_that_is_written_anew(make: Make, workdir: Path) -> None:
    command = TRAINING.replace('echo \'{"step": 2', 'rm metrics.jsonl; echo \'{"step": 1')

    @flow
    def train() -> UUID:
        flow_run_id = FlowRunContext.get().flow_run.id
        waiting = wait_for_job.submit(submit_job(make(command, name="anew", metrics="metrics.jsonl")))
        while "firecrest-anew-metrics" not in shown(flow_run_id):
            pass
        (workdir / "go").touch()
        waiting.result()
        return flow_run_id

    found = shown(train())
    assert titles(found["firecrest-anew-metrics"]) == ["loss: 0.25 at 1"]
    assert json.loads(found["firecrest-jobs"])[0]["Metrics"] == "loss 0.25 ▄ (step 1)"


def test_outside_of_a_flow_run_the_log_has_them(make: Make, workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    (workdir / "go").touch()
    job = make(TRAINING, name="alone", metrics="metrics.jsonl")
    job.trigger().wait_for_completion()
    assert "(alone) metrics: loss 0.25 (step 2)" in caplog.text


def test_mlflow_gets_each_value_once(
    make: Make, workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/store")
    (workdir / "go").touch()

    @flow(name="digits")
    def train() -> UUID:
        run_job(make(TRAINING, name="train", metrics="metrics.jsonl"))
        return FlowRunContext.get().flow_run.id

    [row] = json.loads(shown(train())["firecrest-jobs"])
    client = mlflow.MlflowClient(f"file://{tmp_path}/store")
    [run] = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert (run.info.status, run.data.tags["firecrest.job"]) == ("FINISHED", f"{row['System']}/{row['Job']}")
    assert {"prefect.flow_run_id", "prefect.flow_run_name", "prefect.task_run_id"} <= set(run.data.tags)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(1, 0.5), (2, 0.25)]
