"""Making tasks: cheap, without the network, and the same after Airflow has stored and read them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.module_loading import import_string
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_firecrest import operators, sensors
from airflow_provider_firecrest.triggers.file import FirecRESTFileTrigger
from airflow_provider_firecrest.triggers.job import FirecRESTJobTrigger
from airflow_provider_firecrest.triggers.transfer import FirecRESTTransferTrigger
from firecrest_core import JobSpec

JOB = {"system": "daint", "job_id": "12", "name": "si", "working_dir": "/scratch", "array_indices": "0-1"}

TASKS: dict[str, dict[str, Any]] = {
    "FirecRESTSubmitOperator": {
        "script": "#!/bin/bash\necho {{ ds }}\n",
        "working_dir": "/scratch/{{ ds }}",
        "job": {"nodes": "{{ params.nodes }}", "environment": {"DAY": "{{ ds }}"}},
    },
    "FirecRESTArrayOperator": {
        "command": "score --seed $SEED",
        "working_dir": "/scratch/{{ ds }}",
        "over": [{"SEED": 1}, {"SEED": "{{ ds }}"}],
    },
    "FirecRESTCancelOperator": {"job_id": "{{ ds }}"},
    "FirecRESTUploadOperator": {"source_path": "/data/{{ ds }}", "target_path": "/scratch/{{ ds }}"},
    "FirecRESTDownloadOperator": {"remote_files": ["/scratch/{{ ds }}"], "local_path": "/data/{{ ds }}"},
    "FirecRESTDownloadFromJobOperator": {
        "remote_files": ["{{ ds }}.out"],
        "local_path": "/data/{{ ds }}",
        "target_task_id": "submit",
    },
    "FirecRESTMakeDirectoryOperator": {"path": "/scratch/{{ ds }}"},
    "FirecRESTDeleteOperator": {"path": "/scratch/{{ ds }}"},
    "FirecRESTJobSensor": {"job_id": "{{ ds }}"},
    "FirecRESTFileSensor": {"path": "/scratch/{{ ds }}"},
}

TRIGGERS = [
    FirecRESTJobTrigger(job=JOB, owned=False, firecrest_conn_id="c", poll_interval=3.0, deadline=1.5, not_before=1.0),
    FirecRESTTransferTrigger(transfers=[{"job": JOB}], firecrest_conn_id="c", poll_interval=3.0, deadline=None),
    FirecRESTFileTrigger(system=None, path="/p", firecrest_conn_id="c", poll_interval=3.0, deadline=1.5),
]


def kind(name: str) -> type:
    return getattr(operators, name, None) or getattr(sensors, name)


def make(name: str, **more: Any) -> Any:
    return kind(name)(task_id=name, system="{{ params.system }}", **TASKS[name], **more)


def test_every_name_is_covered() -> None:
    assert set(TASKS) == {*operators.__all__, *sensors.__all__}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", TASKS)
def test_making_a_task_needs_neither_network_nor_connection(name: str, offline: None) -> None:
    task = make(name, firecrest_conn_id="not_there")
    assert (task.system, task.firecrest_conn_id) == ("{{ params.system }}", "not_there")


@pytest.mark.parametrize("name", TASKS)
def test_template_fields_are_parameters_and_are_rendered(name: str) -> None:
    task = make(name, params={"system": "daint", "nodes": 4})
    for field in task.template_fields:
        assert hasattr(task, field)
    task.render_template_fields({"ds": "2026-01-02", "params": {"system": "daint", "nodes": 4}})
    shown = json.dumps([getattr(task, field) for field in task.template_fields])
    assert "{{" not in shown
    assert task.system == "daint"
    assert "2026-01-02" in shown


@pytest.mark.parametrize("name", TASKS)
def test_everything_that_is_text_can_be_templated(name: str) -> None:
    task = make(name)
    texts = {field for field in TASKS[name] if isinstance(getattr(task, field), str | list | dict)}
    assert texts <= set(task.template_fields)


@pytest.mark.parametrize("deferrable", [True, False])
def test_dags_survive_airflows_serialization(deferrable: bool) -> None:
    with DAG("all", schedule=None) as dag:
        for name in TASKS:
            waits = {"deferrable": deferrable} if "deferrable" in kind(name).__init__.__annotations__ else {}
            make(name, **waits)
        operators.FirecRESTSubmitOperator.partial(task_id="mapped", working_dir="/scratch").expand(
            job=[{"command": "true", "nodes": 1}, {"command": "true", "nodes": 2}]
        )
    stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    read = DagSerialization.from_dict(stored)
    assert set(read.task_ids) == {*TASKS, "mapped"}
    for name in TASKS:
        assert list(read.get_task(name).template_fields) == list(dag.get_task(name).template_fields)
    assert read.get_task("FirecRESTSubmitOperator").job["nodes"] == "{{ params.nodes }}"


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
def test_triggers_survive_their_storage(trigger: Any) -> None:
    path, arguments = json.loads(json.dumps(trigger.serialize()))
    again = import_string(path)(**arguments)
    assert type(again) is type(trigger)
    assert again.serialize() == trigger.serialize()


def test_deferring_is_the_default_whatever_airflows_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "False")
    for name in TASKS:
        assert getattr(make(name), "deferrable", True)


def test_a_job_spec_is_kept_as_a_mapping_that_airflow_can_render() -> None:
    spec = JobSpec(working_dir="/scratch/{{ ds }}", command="echo {{ ds }}", nodes=2, environment={"A": "{{ ds }}"})
    task = operators.FirecRESTSubmitOperator(task_id="t", job=spec)
    task.render_template_fields({"ds": "today"})
    assert JobSpec.from_mapping(task.job) == JobSpec(
        working_dir="/scratch/today", command="echo today", nodes=2, environment={"A": "today"}
    )


def test_importing_everything_loads_no_client() -> None:
    code = (
        "import sys; from airflow.sdk import DAG; before = set(sys.modules);"
        "import airflow_provider_firecrest.operators, airflow_provider_firecrest.sensors, firecrest_core.spec.jobspec;"
        "heavy = {'firecrest', 'httpx', 'tenacity', 'cryptography', 'firecrest_core.api.client'};"
        "assert not heavy & (set(sys.modules) - before), heavy & (set(sys.modules) - before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["FirecRESTSubmitOperator", "FirecRESTJobSensor"])
@pytest.mark.parametrize("wrong", ["5", None, -1, True, float("nan")])
def test_a_poll_interval_that_is_no_time(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match="poll_interval is .*: give a number of seconds"):
        make(name, poll_interval=wrong)
