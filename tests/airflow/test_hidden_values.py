"""Secrets among a job's variables, where Airflow shows a task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk._shared.secrets_masker import SecretsMasker, _secrets_masker
from airflow.sdk.execution_time.task_runner import _serialize_rendered_fields
from airflow.serialization.serialized_objects import DagSerialization
from pydantic import SecretStr

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.errors import JobFailed
from firecrest_core.hidden_values import _hidden

VALUE = "the-value-of-a-variable"


def make(workdir: Path | str = "/home/me", **environment: Any) -> FirecRESTSubmitOperator:
    command = 'echo "the token is $API_TOKEN" | tee token'
    return FirecRESTSubmitOperator(task_id="submit", working_dir=str(workdir), command=command, environment=environment)


def make_in_job(workdir: Path | str = "/home/me", **environment: Any) -> FirecRESTSubmitOperator:
    job = {"command": "true", "environment": environment}
    return FirecRESTSubmitOperator(task_id="submit", working_dir=str(workdir), job=job)


in_both_places = pytest.mark.parametrize("make", [make, make_in_job], ids=["argument", "job"])


@in_both_places
@pytest.mark.parametrize("name", ["API_TOKEN", "aws_secret_access_key", "DB_PASSWORD"])
def test_rendered_fields(make: Callable[..., FirecRESTSubmitOperator], name: str) -> None:
    shown = json.dumps(_serialize_rendered_fields(make(**{name: VALUE, "OMP_NUM_THREADS": "8"})))
    assert VALUE not in shown
    assert '"OMP_NUM_THREADS": "8"' in shown


@in_both_places
def test_a_value_that_is_hidden_whatever_its_name(make: Callable[..., FirecRESTSubmitOperator]) -> None:
    with DAG("dag", schedule=None) as dag:
        operator = make(INNOCENT=SecretStr(VALUE))
    assert VALUE not in json.dumps(_serialize_rendered_fields(operator))
    assert VALUE not in json.dumps(DagSerialization.to_dict(dag))
    assert operator.job_spec().secrets == {"INNOCENT": VALUE}


@in_both_places
def test_a_secret_that_is_a_template(make: Callable[..., FirecRESTSubmitOperator]) -> None:
    """Airflow's masker does not know it: neither the variable of the job nor that of Airflow has a telling name."""
    with DAG("dag", schedule=None) as dag:
        operator = make(INNOCENT=SecretStr("{{ var.value.seed }}"), PLAIN="{{ 1 + 1 }}")
    assert VALUE not in json.dumps(DagSerialization.to_dict(dag))
    operator.render_template_fields({"var": {"value": {"seed": VALUE}}}, operator.get_template_env(dag))
    assert operator.job_spec().secrets == {"INNOCENT": VALUE}
    assert operator.job_spec().plain_environment == {"PLAIN": "2"}
    assert VALUE not in json.dumps(_serialize_rendered_fields(operator))


def test_a_secret_of_a_mapped_task() -> None:
    with DAG("dag", schedule=None) as dag:
        mapped = FirecRESTSubmitOperator.partial(task_id="one", working_dir="/home/me", command="true")
        mapped.expand(environment=[{"INNOCENT": SecretStr(VALUE)}])
    assert VALUE not in json.dumps(DagSerialization.to_dict(dag))


def test_the_job_has_it_and_airflow_masks_it(connected: Any, workdir: Path, run_task: Callable[..., Any]) -> None:
    run_task(lambda: make(workdir, API_TOKEN=VALUE))
    assert (workdir / "token").read_text() == f"the token is {VALUE}\n"
    assert _secrets_masker().redact(f"so {VALUE} it is") == "so *** it is"


@pytest.mark.parametrize("exit_code", [0, 4])
def test_what_the_job_prints(
    connected: Any, workdir: Path, run_task: Callable[..., Any], task_log: Callable[[], str], exit_code: int
) -> None:
    """The worker that resumes a deferred task is another process, which has not submitted the job."""
    script = f"#!/bin/bash\necho raw $API_TOKEN, neutral $NEUTRAL\nexit {exit_code}\n"
    environment = {"API_TOKEN": VALUE, "NEUTRAL": SecretStr("another-value")}

    def task() -> FirecRESTSubmitOperator:
        job = {"environment": environment}
        return FirecRESTSubmitOperator(task_id="job", script=script, working_dir=str(workdir), job=job)

    said = ""
    try:
        run_task(task, when_deferred=_hidden.clear)
    except JobFailed as error:
        said = str(error)
    shown = task_log() + said
    assert "raw ***, neutral ***" in shown
    assert VALUE not in shown
    assert "another-value" not in shown
    assert bool(said) == (exit_code == 4)


def test_a_secret_that_a_function_submits(
    connected: Any, workdir: Path, run_function: Callable[..., Any], task_log: Callable[[], str]
) -> None:
    def function() -> None:
        hook = FirecRESTHook()
        job = hook.submit_job(
            command="echo so $INNOCENT it is | tee token",
            working_dir=str(workdir),
            environment={"INNOCENT": SecretStr(VALUE)},
        )
        hook.wait_for_job(job)

    run_function(function)
    assert (workdir / "token").read_text() == f"so {VALUE} it is\n"
    log = task_log()
    assert "so *** it is" in log
    assert VALUE not in log
    assert not list(workdir.rglob("secrets-*"))


def test_airflow_does_not_warn_of_short_values(connected, workdir, run_task, caplog, mocker) -> None:
    """It warns of each text of one to four characters that it is to mask, once in each process."""
    mocker.patch.object(SecretsMasker, "_has_warned_short_secret", False)
    run_task(lambda: make(workdir, OMP_NUM_THREADS="8", SEED=SecretStr("abc"), API_TOKEN=VALUE))
    assert "Skipping masking" not in caplog.text
    assert VALUE not in _secrets_masker().redact(f"it is {VALUE}")
