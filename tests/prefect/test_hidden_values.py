"""Secrets among a job's variables, where Prefect shows a job."""

from __future__ import annotations

import pickle

import pytest
from prefect import flow, get_client
from prefect.blocks.system import Secret
from prefect.client.schemas.actions import BlockDocumentUpdate
from pydantic import SecretStr, ValidationError

from firecrest_core.jobs.job import Job
from firecrest_core.spec.sealing import unseal
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, FirecRESTJobRun

VALUE = "the-value-of-a-variable"


@pytest.fixture
def job(credentials: FirecRESTCredentials) -> FirecRESTJob:
    return FirecRESTJob(
        credentials=credentials,
        command="date",
        working_dir="/home/me",
        environment={
            "API_TOKEN": VALUE,
            "aws_secret_access_key": VALUE,
            "DB_PASSWORD": VALUE,
            "GOOGLE_CREDENTIALS": VALUE,
            "HIDDEN": SecretStr(VALUE),
            "OF_A_BLOCK": Secret(value=VALUE),
            "OMP_NUM_THREADS": 8,
            "KEYBOARD": "us",
        },
    )


def test_the_job_gets_every_value(job: FirecRESTJob) -> None:
    shown = {"OMP_NUM_THREADS": "8", "KEYBOARD": "us"}
    assert job.spec().plain_environment == shown
    assert job.spec().secrets == {name: VALUE for name in job.environment if name not in shown}


def test_a_copy_with_other_variables_hides_the_same(job: FirecRESTJob) -> None:
    copy = job.model_copy(
        update={"environment": {"HIDDEN": "another", "POINT": "8", "OF_A_BLOCK": Secret(value=VALUE)}}
    )
    assert copy.spec().secrets == {"HIDDEN": "another", "OF_A_BLOCK": VALUE}
    assert copy.spec().plain_environment == {"POINT": "8"}


def test_variables_that_a_form_names_as_secrets(credentials: FirecRESTCredentials) -> None:
    """Prefect's form takes texts alone."""
    job = FirecRESTJob(
        credentials=credentials,
        command="date",
        working_dir="/home/me",
        environment={"SETTINGS": VALUE, "A": "b"},
        secret_variables=["SETTINGS"],
    )
    assert VALUE not in repr(job) + job.model_dump_json()
    assert (job.spec().secrets, job.spec().plain_environment) == ({"SETTINGS": VALUE}, {"A": "b"})


def test_a_run_that_is_kept_as_a_result(job: FirecRESTJob) -> None:
    spec = job.spec()
    stored = pickle.dumps(FirecRESTJobRun(job.credentials, Job(system="local", job_id="57"), spec))
    assert VALUE.encode() not in stored
    run = pickle.loads(stored)
    assert run.spec.plain_environment == spec.plain_environment
    assert unseal(run._sealed_spec, job.credentials.connection().secret) == spec
    assert pickle.loads(pickle.dumps(run))._sealed_spec == run._sealed_spec


def test_no_value_is_shown(job: FirecRESTJob) -> None:
    for shown in (repr(job), str(job), repr(job.spec()), job.model_dump_json()):
        assert VALUE not in shown
        assert "API_TOKEN" in shown
    assert "us" in job.model_dump_json()


async def test_parameters_of_a_flow_run(job: FirecRESTJob) -> None:
    @flow
    async def use(job: FirecRESTJob) -> dict[str, str]:
        return dict(job.spec().secrets)

    state = await use(job, return_state=True)
    assert (await state.aresult())["API_TOKEN"] == VALUE
    async with get_client() as client:
        run = await client.read_flow_run(state.state_details.flow_run_id)
    assert VALUE not in str(run.parameters)
    assert "OMP_NUM_THREADS" in str(run.parameters)


def test_a_saved_job_has_them(job: FirecRESTJob) -> None:
    job.save("with-variables", overwrite=True)
    assert FirecRESTJob.load("with-variables").spec() == job.spec()


async def test_the_page_of_a_saved_job(job: FirecRESTJob) -> None:
    await job.asave("shown", overwrite=True)
    async with get_client() as client:
        document = await client.read_block_document_by_name("shown", "firecrest-job", include_secrets=False)
        assert VALUE not in str(document.data)
        assert set(document.data["environment"]) == set(job.environment)
        # Who edits another field there sends the masks back.
        edited = BlockDocumentUpdate(data=document.data | {"partition": "debug"}, merge_existing_data=False)
        await client.update_block_document(document.id, edited)
    loaded = await FirecRESTJob.aload("shown")
    assert (loaded.partition, loaded.spec().environment) == ("debug", job.spec().environment)


def test_a_mask_is_no_value(job: FirecRESTJob) -> None:
    arrived = job.model_dump(mode="json")["environment"]
    with pytest.raises(ValidationError, match="API_TOKEN is the mask of a secret"):
        FirecRESTJob(credentials=job.credentials, command="date", working_dir="/home/me", environment=arrived)


def test_an_error_repeats_no_value(job: FirecRESTJob) -> None:
    with pytest.raises(ValidationError) as raised:
        FirecRESTJob(
            credentials=job.credentials,
            command="date",
            working_dir="it's no path",
            environment={"API_TOKEN": VALUE, "A B": VALUE},
        )
    assert VALUE not in str(raised.value)
