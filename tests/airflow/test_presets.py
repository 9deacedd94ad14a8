"""A task's preset: beside the DAG, where it is checked while the DAG is parsed, or in the connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.decorators.firecrest import FirecRESTDecoratedOperator
from airflow_provider_firecrest.hooks import presets as hook_presets
from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.presets import FILE_NAME, VARIABLE

PRESETS = """
[base]
system = "daint"
account = "a123"
environment = {NCCL_DEBUG = "WARN"}

[train]
inherits = "base"
partition = "normal"
launcher = "torchrun"

[long]
inherits = "base"
memory = "8G"
escalate.out_of_memory = {memory = "x2", max = "32G"}

[boxed]
container = "p.sif"
container_runtime = "apptainer"
"""
STORED = {
    "small": {"time_limit": 5, "partition": "debug", "environment": {"GREETING": "hello", "API_TOKEN": "abcdefg"}}
}


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No FIRECREST_PRESETS (autouse)."""
    monkeypatch.delenv(VARIABLE, raising=False)


@contextmanager
def dag_in(folder: Path, **settings: Any) -> Iterator[DAG]:
    with DAG("d", schedule=None, **settings) as dag:
        dag.fileloc = str(folder / "dag.py")
        yield dag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / FILE_NAME).write_text(PRESETS)
    return tmp_path


def make(**given: Any) -> FirecRESTSubmitOperator:
    return FirecRESTSubmitOperator(**{"task_id": "t", "working_dir": "/w"} | given)


# --- beside the DAG ---------------------------------------------------------------------------------


def test_a_job_has_what_its_preset_says(folder: Path) -> None:
    with dag_in(folder, default_args={"account": "of-dag"}):
        spec = make(preset="train", command="train.py", nodes=2, environment={"SEED": "1"}).job_spec()
    assert (spec.partition, spec.launcher, spec.nodes, spec.account) == ("normal", "torchrun", 2, "of-dag")
    assert spec.environment == {"NCCL_DEBUG": "WARN", "SEED": "1"}


def test_a_preset_for_all_tasks_of_a_dag(folder: Path) -> None:
    with dag_in(folder, default_args={"preset": "train"}):
        assert make(job={"command": "true", "partition": "debug"}).job_spec().partition == "debug"
        assert make(task_id="plain", preset="", command="true").job_spec().partition is None


def test_a_preset_says_which_jobs_follow(folder: Path) -> None:
    with dag_in(folder):
        of_preset = make(preset="long", command="true")
        own = make(task_id="own", preset="long", command="true", escalate={"preempted": "wait"})
    assert of_preset.escalate == {"out_of_memory": {"memory": "x2", "max": "32G"}}
    assert own.escalate == {"preempted": "wait"}


def test_the_variable_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[train]\npartition = "other"\n')
    monkeypatch.setenv(VARIABLE, str(other))
    assert make(preset="train", command="true").job_spec().partition == "other"  # a task without a DAG, too


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "trian"}, r"^preset: there is no preset 'trian' in .*; did you mean 'train'\?"),
        ({"preset": 3}, r"^preset: the name of a preset is needed, not 3"),
        ({"preset": "{{ no end"}, r"^preset: Jinja cannot render it"),
        ({"preset": "train", "nodes": "many"}, r"^nodes: "),
        (
            {"preset": "train", "command": None, "script": "#!/bin/bash\ntrue"},
            r"^launcher: torchrun starts a command.*\(It comes from the preset 'train' of .*\)$",
        ),
        ({"preset": "long", "memory": "32G"}, r"^escalate: out_of_memory: max is 32G.*\(It comes from the preset"),
        (
            {"preset": "long", "alternatives": [{}]},
            r"^escalate: .*alternatives are several.*\(It comes from the preset",
        ),
        ({"preset": "long", "exactly_once": False}, r"^escalate: .*leave exactly_once on.*\(It comes from the preset"),
        ({"preset": "boxed", "container_runtime": "pyxis"}, r"^launcher: srun alone starts containers of Pyxis"),
        ({"preset": "boxed", "container_runtime": "edf", "container_mounts": ["/x"]}, r"^container_mounts: an EDF"),
    ],
)
def test_what_cannot_be_right_is_refused_while_the_dag_is_parsed(
    folder: Path, given: dict[str, Any], message: str
) -> None:
    with dag_in(folder), pytest.raises(InvalidJobSpec, match=message):
        make(**{"command": "true"} | given).resolve_template_files()


def test_a_broken_file_is_named_while_the_dag_is_parsed(folder: Path) -> None:
    (folder / FILE_NAME).write_text("[train\n")
    with dag_in(folder), pytest.raises(InvalidJobSpec, match=f"{re.escape(str(folder / FILE_NAME))} is no TOML"):
        make(preset="train", command="true")


@pytest.mark.parametrize(
    "given",
    [
        {"preset": "{{ params.preset }}", "container_runtime": "edf"},
        {"preset": "train", "launcher": "{{ params.launcher }}", "command": None, "script": "#!/bin/bash\ntrue"},
        {"preset": "boxed", "container": "{{ params.image }}"},
    ],
)
def test_what_a_template_decides_is_not_judged(folder: Path, given: dict[str, Any]) -> None:
    with dag_in(folder):
        make(**{"command": "true"} | given)


def test_a_function_takes_a_preset_but_no_launcher(folder: Path) -> None:
    with (
        dag_in(folder),
        pytest.raises(InvalidJobSpec, match=r"^launcher: a function .*It comes from the preset .train."),
    ):
        FirecRESTDecoratedOperator(task_id="t", python_callable=make, working_dir="/w", preset="train")
    with dag_in(folder):
        operator = FirecRESTDecoratedOperator(task_id="t", python_callable=make, working_dir="/w", preset="base")
    assert operator.job_spec().account == "a123"


def test_a_preset_is_a_template(folder: Path) -> None:
    with dag_in(folder):
        operator = make(preset="{{ params.preset }}", command="true")
    operator.render_template_fields({"params": {"preset": "train"}})
    assert operator.job_spec().partition == "normal"


def test_a_preset_of_the_connection_is_not_looked_for_while_the_dag_is_parsed(tmp_path: Path) -> None:
    with dag_in(tmp_path):
        make(preset="of-connection", command="true", container_runtime="pyxis")


# --- when the task runs -----------------------------------------------------------------------------


@pytest.fixture
def small(connected: Any, stored: dict[str, Any], store: Callable[..., None]) -> None:
    """A connection with the preset ``small``."""
    store({**stored, "extra": {**stored["extra"], "presets": STORED}})


def test_a_task_runs_with_a_preset_of_the_connection(
    small: None, workdir: Path, run_task: Callable[..., Any], task_log: Callable[[], str]
) -> None:
    command = "echo $GREETING $SLURM_JOB_PARTITION > out"
    run = run_task(lambda: make(preset="small", command=command, working_dir=str(workdir), poll_interval=0.2))
    assert run.result["state"] == "COMPLETED"
    assert (workdir / "out").read_text() == "hello debug\n"
    log = task_log()
    assert "Preset 'small' of the connection: " in log
    assert "partition=debug" in log
    assert "environment=[API_TOKEN, GREETING]" in log
    assert "abcdefg" not in log


def test_the_system_of_a_preset(connected: Any, folder: Path, run_task: Callable[..., Any]) -> None:
    def task() -> FirecRESTSubmitOperator:
        with dag_in(folder):
            return make(preset="base", command="true")

    with pytest.raises(AirflowFailException, match="daint"):
        run_task(task)


@pytest.mark.parametrize("exactly_once", [True, False])
def test_the_jobs_that_follow_by_a_preset_of_the_connection(
    connected: Any,
    stored: dict[str, Any],
    store: Callable[..., None],
    workdir: Path,
    run_task: Callable[..., Any],
    exactly_once: bool,
) -> None:
    tries = {"time_limit": 30, "escalate": {"time_limit": {"time_limit": "x2", "max": 60}}}
    store({**stored, "extra": {**stored["extra"], "presets": {"tries": tries}}})
    given = {"working_dir": str(workdir), "poll_interval": 0.2, "exactly_once": exactly_once}
    if exactly_once:
        assert (
            run_task(lambda: make(preset="tries", command="true", **given)).result["course"]["time_limit"] == "00:30:00"
        )
    else:
        with pytest.raises(AirflowFailException, match="^escalate: .*leave exactly_once on"):
            run_task(lambda: make(preset="tries", command="true", **given))


def test_a_preset_that_the_connection_does_not_have(small: None, run_task: Callable[..., Any]) -> None:
    message = "preset: there is no preset 'smal' in the connection; did you mean 'small'"
    with pytest.raises(AirflowFailException, match=message):
        run_task(lambda: make(preset="smal", command="true"))


def test_the_hook_takes_a_preset(
    small: None, workdir: Path, run_function: Callable[..., Any], task_log: Callable[[], str]
) -> None:
    def function() -> str:
        hook = FirecRESTHook()
        job = hook.submit_job(
            preset="small", command="echo $GREETING > out", working_dir=str(workdir), environment={"GREETING": "bye"}
        )
        return hook.wait_for_job(job, poll_interval=0.2).state.value

    assert run_function(function) == "COMPLETED"
    assert (workdir / "out").read_text() == "bye\n"
    assert "Preset 'small' of the connection: " in task_log()


def test_the_hook_looks_beside_the_dag_of_its_task(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hook_presets.current_folder() is None
    dag = SimpleNamespace(fileloc=str(folder / "dag.py"))
    monkeypatch.setattr(hook_presets, "get_current_context", lambda: {"dag": dag})
    assert hook_presets.current_folder() == folder
