"""A job's preset: from a file beside its flow, or from its credentials."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from pydantic import ValidationError

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.presets import FILE_NAME, VARIABLE
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, firecrest
from prefect_firecrest import jobs as jobs_module

PRESETS = {
    "base": {"system": "daint", "account": "a123", "environment": {"GREETING": "hello", "NCCL_DEBUG": "WARN"}},
    "train": {"inherits": "base", "partition": "debug", "modules": ["pytorch"], "usage": False, "login_shell": True},
    "quiet": {"environment": {"GREETING": "hello"}, "time_limit": 5},
}


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No FIRECREST_PRESETS (autouse)."""
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def credentials(credentials: FirecRESTCredentials) -> FirecRESTCredentials:
    """The credentials, with presets."""
    return FirecRESTCredentials(**{**dict(credentials), "presets": PRESETS})


def test_a_job_has_what_its_preset_says(make: Callable[..., FirecRESTJob]) -> None:
    job = make("true", preset="train", partition="normal", environment={"GREETING": "bye"}, usage=True)
    assert (job.system, job.account, job.partition, job.modules) == ("daint", "a123", "normal", ["pytorch"])
    assert (job.usage, job.login_shell) == (True, True)
    assert job.environment == {"GREETING": "bye", "NCCL_DEBUG": "WARN"}
    assert job.spec().partition == "normal"


def test_a_job_is_followed_as_its_preset_says(
    credentials: FirecRESTCredentials, make: Callable[..., FirecRESTJob]
) -> None:
    credentials.presets["long"] = {"memory": "8G", "escalate": {"out_of_memory": {"memory": "x2", "max": "32G"}}}
    assert make("true", preset="long").escalate == {"out_of_memory": {"memory": "x2", "max": "32G"}}
    assert make("true", preset="long", escalate={"preempted": "wait"}).escalate == {"preempted": "wait"}
    with pytest.raises(ValidationError, match="escalate: out_of_memory: max is 32G, and the job"):
        make("true", preset="long", memory="32G")


def test_a_job_that_was_made_keeps_its_fields(make: Callable[..., FirecRESTJob]) -> None:
    job = make("true", preset="train")
    assert job.preset is None
    read = FirecRESTJob(**{**job.model_dump(), "credentials": job.credentials})
    assert read.spec() == job.spec()
    with pytest.raises(InvalidJobSpec, match="preset: a copy of a job takes no preset"):
        job.model_copy(update={"preset": "base"}).spec()


def test_a_file_beside_the_flow_comes_first(
    make: Callable[..., FirecRESTJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE_NAME).write_text('[train]\npartition = "of-file"\n')
    monkeypatch.setattr(jobs_module, "current_flow_folder", lambda: tmp_path)
    assert make("true", preset="train").partition == "of-file"
    with pytest.raises(ValidationError, match="there is no preset 'base' in .*; there are train"):
        make("true", preset="base")


def test_the_variable_names_another_file(
    make: Callable[..., FirecRESTJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.toml").write_text('[train]\npartition = "other"\n')
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other.toml"))
    assert make("true", preset="train").partition == "other"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "trian"}, r"there is no preset 'trian' in the credentials block; did you mean 'train'\?"),
        ({"preset": "train", "nodes": "many"}, "nodes: "),
    ],
)
def test_what_cannot_be_right_is_refused(
    make: Callable[..., FirecRESTJob], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        make("true", **given)


def test_a_launcher_of_a_preset_needs_a_command(credentials: FirecRESTCredentials, workdir: Path) -> None:
    credentials.presets["ranks"] = {"launcher": "srun"}
    with pytest.raises(ValidationError, match="launcher: srun starts a command"):
        FirecRESTJob(credentials=credentials, working_dir=str(workdir), script="#!/bin/sh\ntrue", preset="ranks")


def test_presets_of_credentials_are_tables(credentials: FirecRESTCredentials) -> None:
    with pytest.raises(ValidationError, match="presets"):
        FirecRESTCredentials(**{**dict(credentials), "presets": {"train": "gpu"}})
    assert "pytorch" not in repr(credentials)


def test_a_function_takes_the_preset_of_its_credentials(credentials: FirecRESTCredentials, workdir: Path) -> None:
    @firecrest(credentials=credentials, preset="quiet", working_dir=str(workdir), poll_interval=0.2)
    def greet() -> str:
        import os

        return os.environ["GREETING"]

    assert flow(greet)() == "hello"


def test_a_flow_runs_a_job_with_a_preset(
    make: Callable[..., FirecRESTJob], workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @flow
    def run() -> str:
        job_run = make("echo $GREETING > out", preset="quiet").trigger()
        job_run.wait_for_completion()
        return job_run.fetch_result().state.value

    with caplog.at_level(logging.INFO):
        assert run() == "COMPLETED"
    assert (workdir / "out").read_text() == "hello\n"
    assert "Preset 'quiet' of the credentials block: environment=[GREETING], time_limit=00:05:00." in caplog.text
