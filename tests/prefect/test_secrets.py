"""Secrets that are handed over, rotated and never saved: what reaches another process, and what is said if not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ParameterTypeError
from prefect.task_runners import ProcessPoolTaskRunner
from pydantic import SecretStr

from firecrest_core.errors import ConfigurationError
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, run_job, submit_job, wait_for_job
from tests.prefect.real import until

Make = Callable[..., FirecRESTJob]

NAME = "handed-over"


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def hand_over(client: SyncPrefectClient) -> Callable[..., FirecRESTJob]:
    """Give a job to a flow run of a deployment, and return it as the flow gets it there."""

    def hand_over(job: FirecRESTJob) -> FirecRESTJob:
        deployment = client.create_deployment(flow_id=client.create_flow(run_job), name="handed-over")
        flow_run = client.create_flow_run_from_deployment(deployment, parameters={"job": job})
        return run_job.validate_parameters(client.read_flow_run(flow_run.id).parameters)["job"]

    return hand_over


@pytest.fixture
def saved(credentials: FirecRESTCredentials) -> FirecRESTCredentials:
    credentials.save(NAME, overwrite=True)
    return credentials


def test_a_job_that_is_given_to_a_deployment_has_its_secret(make: Make, saved: FirecRESTCredentials, hand_over) -> None:
    saved.system = "another"
    job = hand_over(make("true"))
    assert job.credentials.client_secret.get_secret_value() == saved.client_secret.get_secret_value()
    assert job.credentials.saved_as == NAME
    assert job.credentials.system == "another"


def test_a_job_that_was_saved_has_its_variables_too(make: Make, saved: FirecRESTCredentials, hand_over) -> None:
    job = make("true", environment={"HF_TOKEN": "not-to-be-seen", "POINT": "1"})
    job.save("with-a-token", overwrite=True)
    handed = hand_over(FirecRESTJob.load("with-a-token").model_copy(update={"nodes": 2}))
    assert handed.environment == {"HF_TOKEN": SecretStr("not-to-be-seen"), "POINT": "1"}
    assert handed.nodes == 2
    assert handed.credentials.saved_as == NAME


def test_credentials_that_were_saved_with_their_job_alone(make: Make, credentials, hand_over) -> None:
    make("true").save("with-its-own", overwrite=True)
    handed = hand_over(FirecRESTJob.load("with-its-own"))
    assert handed.credentials.client_secret.get_secret_value() == credentials.client_secret.get_secret_value()


def test_a_secret_goes_to_no_other_server(saved: FirecRESTCredentials) -> None:
    handed = saved.model_dump(mode="json") | {"url": "https://example.org", "token_url": "https://example.org/token"}
    assert FirecRESTCredentials(**handed).connection() == saved.connection()


@pytest.mark.parametrize(
    ("gone", "words"), [(False, "were never saved. Save them"), (True, "is gone. Save them again")]
)
def test_a_secret_that_is_lost_says_what_happened(make: Make, credentials, hand_over, gone: bool, words: str) -> None:
    job = make("true")
    if gone:
        credentials.save("soon-gone", overwrite=True)
        FirecRESTCredentials.delete("soon-gone")
    with pytest.raises(ParameterTypeError, match=words) as refusal:
        hand_over(job)
    assert "client_secret arrived as asterisks" in str(refusal.value)


@pytest.fixture
def rotate(f7t: LocalFirecREST, credentials: FirecRESTCredentials) -> Iterator[Callable[[], None]]:
    """Change the client's secret, and that in its block."""
    first = f7t.client_secret

    def rotate() -> None:
        f7t.issuer.rotate()
        newest = credentials.model_copy(update={"client_secret": SecretStr(f7t.client_secret)})
        newest.save(NAME, overwrite=True)

    yield rotate
    f7t.issuer.client_secret = first


def test_a_secret_that_is_rotated_during_a_wait(make: Make, saved, rotate, workdir: Path) -> None:
    @flow
    def waits() -> JobState:
        run = submit_job(make("touch began; until [ -e go ]; do sleep 0.1; done"))
        waiting = wait_for_job.submit(run)
        until((workdir / "began").exists, "the start of the job")
        rotate()
        (workdir / "go").touch()
        return waiting.result().state

    assert waits() is JobState.COMPLETED


def test_a_secret_that_is_rotated_before_a_cancel(make: Make, saved, rotate, workdir: Path) -> None:
    run = make("touch began; sleep 600").trigger()
    until((workdir / "began").exists, "the start of the job")
    rotate()
    run.cancel()
    until(lambda: run.status().state is JobState.CANCELLED, "the end of the job")


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def in_processes(job: FirecRESTJob, directly: bool) -> Any:
    run = submit_job(job) if directly else submit_job.submit(job).result()
    return wait_for_job.submit(run).result()


@pytest.mark.parametrize("directly", [True, False])
def test_unsaved_credentials_and_tasks_in_other_processes(make: Make, states_in, workdir: Path, directly: bool) -> None:
    with pytest.raises(ConfigurationError, match=r"FirecRESTCredentials\.save"):
        in_processes(make("true"), directly)
    assert states_in(workdir) == []
