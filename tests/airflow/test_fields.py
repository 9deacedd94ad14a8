"""The fields of a job as arguments of the operator: what is refused while a DAG is parsed, and how they render."""

from __future__ import annotations

import dataclasses
import inspect
import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, literal, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec.jobspec import JobSpec

FIELDS: dict[str, Any] = {
    "name": "relax", "account": "p1", "partition": "debug", "nodes": 2, "ntasks": 4, "ntasks_per_node": 2,
    "cpus_per_task": 3, "gpus": 2, "gpus_per_node": 1, "memory": "4G", "time_limit": 5, "array": "0-3",
    "dependency": {"afterok": [12]}, "qos": "high", "constraint": "gpu", "reservation": "r", "environment": {"A": "1"},
    "uenv": "a/1:v1", "container": "c", "signal": "USR1@60", "directives": ["--exclusive"], "stdout": "o",
    "stderr": "e", "requeue": True, "usage": False, "launcher": "srun", "login_shell": True, "modules": ["gcc"],
    "setup": ["ulimit -s unlimited"], "container_runtime": "apptainer", "container_mounts": ["/data"],
}  # fmt: skip
# What another field needs beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "container_runtime": {"container": "c"},
    "container_mounts": {"container": "c", "container_runtime": "apptainer"},
}


def make(**given: Any) -> FirecRESTSubmitOperator:
    return FirecRESTSubmitOperator(**{"task_id": "t", "working_dir": "/w"} | given)


def rendered(native: bool = False, params: dict[str, Any] | None = None, **given: Any) -> JobSpec:
    with DAG("d", schedule=None, render_template_as_native_obj=native):
        operator = make(**given)
    operator.resolve_template_files()
    operator.render_template_fields({"ds": "2026-01-02", "params": params or {}})
    return operator.job_spec()


# --- arguments --------------------------------------------------------------------------------------


def test_the_operator_has_every_field_of_a_job() -> None:
    arguments = inspect.signature(FirecRESTSubmitOperator).parameters
    for field in dataclasses.fields(JobSpec):
        assert field.name in arguments
        assert field.name in FirecRESTSubmitOperator.template_fields
        assert f":param {field.name}:" in (FirecRESTSubmitOperator.__doc__ or "")


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_works_as_in_job(field: str) -> None:
    given = {"command": "true", **BESIDE.get(field, {})}
    assert rendered(**given, **{field: FIELDS[field]}) == rendered(job={**given, field: FIELDS[field]})
    assert set(FIELDS) | {"script", "script_path", "command", "working_dir"} == {
        each.name for each in dataclasses.fields(JobSpec)
    }


def test_what_is_given_twice() -> None:
    job = {"command": "true", "nodes": 1, "account": "of-job", "working_dir": "/job"}
    spec = rendered(job=job, nodes=2, account=None, partition="{{ none }}")
    assert (spec.nodes, spec.account, spec.working_dir, spec.partition) == (2, "of-job", "/w", None)


def test_a_template_that_yields_nothing_leaves_what_job_says() -> None:
    for blank in ("{{ none }}", "", "{{ params.nothing | default }}"):
        assert rendered(job={"command": "true", "nodes": 2}, nodes=blank).nodes == 2


def test_default_args() -> None:
    defaults = {"account": "all", "time_limit": 5, "working_dir": "/all", "retries": 2}
    with DAG("d", schedule=None, default_args=defaults):
        plain = FirecRESTSubmitOperator(task_id="a", command="true")
        own = FirecRESTSubmitOperator(task_id="b", command="true", account="mine")
        of_job = FirecRESTSubmitOperator(task_id="c", job={"command": "true", "account": "job"})
    assert (plain.job_spec().account, plain.job_spec().time_limit, plain.job_spec().working_dir) == (
        "all", "00:05:00", "/all",
    )  # fmt: skip
    assert own.job_spec().account == "mine"
    assert (of_job.job_spec().account, of_job.job_spec().time_limit) == ("job", "00:05:00")


def test_a_job_spec_without_a_working_directory() -> None:
    assert rendered(job=JobSpec(command="true", nodes=2)) == JobSpec(command="true", nodes=2, working_dir="/w")


@pytest.mark.parametrize(
    "given",
    [
        {"container": "{{ params.image }}", "container_runtime": "apptainer"},
        {"container": "image", "container_runtime": "pyxis", "launcher": "{{ params.launcher }}"},
        {"container": "image", "container_runtime": "{{ params.runtime }}", "container_mounts": ["/data"]},
    ],
)
def test_fields_that_depend_on_a_template_are_not_judged(given: dict[str, Any]) -> None:
    params = {"image": "p.sif", "launcher": "srun", "runtime": "apptainer"}
    assert rendered(command="true", params=params, **given).container in ("p.sif", "image")
    with pytest.raises(InvalidJobSpec, match=r"^container_mounts: "):
        make(command="true", container_mounts=["/data"])


def test_fields_survive_airflows_serialization() -> None:
    with DAG("d", schedule=None) as dag:
        make(command="true", **FIELDS | {"time_limit": timedelta(minutes=5)})
        FirecRESTSubmitOperator.partial(task_id="mapped", command="true", working_dir="/w").expand(nodes=[1, 2])
    read = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert read.get_task("t").nodes == 2
    assert "nodes" in read.get_task("mapped").template_fields


# --- while the DAG is parsed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"^script: nothing says what to run"),
        ({"job": {}}, r"^script: nothing says what to run"),
        ({"script": "#!/bin/sh\n", "command": "true"}, r"^command: given together with script"),
        ({"script": "#!/bin/sh\n", "job": {"command": "true"}}, r"^command: given together with script"),
        ({"command": "true", "working_dir": None}, r"^working_dir: missing"),
        ({"command": "true", "nodes": 0}, r"^nodes: "),
        ({"command": "true", "job": {"nodes": "many"}}, r"^nodes: "),
        ({"command": "{{ ds }}", "memory": "4X"}, r"^memory: "),
        ({"command": "true", "nodes": 2, "gpus": 3, "gpus_per_node": 1}, r"^gpus: "),
        ({"command": "true", "job": {"env": {}}}, r"^env: .*'environment'"),
        ({"command": "true", "env": {}}, r"^env: the operator has no such argument; .*'environment'"),
        ({"command": "true", "time": 5}, r"^time: .*'time_limit'"),
        ({"command": "true", "mem_per_cpu": "1G"}, r"^mem_per_cpu: .*directives=\['--mem-per-cpu=…'\]"),
        ({"job": '{"command": "true"}'}, r"^job: a mapping .* not a text"),
        ({"job": "{{ params.job }}"}, r"^job: a mapping .* not a text"),
        ({"job": 5}, r"^job: a mapping .* not int"),
        ({"job": [{"command": "true"}]}, r"^job: a mapping .* not list"),
        ({"script": "run.job"}, r"^script: 'run.job' is neither a batch script.*\.sbatch.*script_path"),
        ({"script": "hostname"}, r"^script: 'hostname' is neither"),
        ({"script": "echo\nhostname\n"}, r"^script: the first line must name an interpreter"),
    ],
)
def test_what_is_refused_while_the_dag_is_parsed(given: dict[str, Any], message: str) -> None:
    with DAG("d", schedule=None), pytest.raises(InvalidJobSpec, match=message) as refusal:
        make(**given)
    assert isinstance(refusal.value, AirflowFailException)  # for the operator that a mapped task is expanded to


def test_an_argument_of_airflows_is_known_too() -> None:
    with pytest.raises(InvalidJobSpec, match="retrys: .*did you mean 'retries'"):
        make(command="true", retrys=3)


def test_what_no_argument_is_like_is_airflows_to_refuse() -> None:
    with pytest.raises(TypeError, match="surprise"):
        make(command="true", surprise=3)


@pytest.mark.parametrize(
    "given",
    [
        {"script": "#!/bin/sh\n", "command": "{{ params.command }}"},
        {"command": "true", "nodes": "{{ params.nodes }}"},
        {"command": "true", "working_dir": "{{ params.where }}"},
        {"script": literal("#!/bin/sh\necho ${#a[@]}\n")},
        {"job": {"command": "{{ ds }}", "environment": {"A": "{{ ds }}"}}},
    ],
)
def test_what_only_a_run_can_know_is_not_refused(given: dict[str, Any]) -> None:
    make(**given)


def test_what_other_tasks_return_is_not_known() -> None:
    @task
    def pick() -> dict[str, Any]:
        return {}

    with DAG("d", schedule=None, render_template_as_native_obj=True):
        make(job=pick(), working_dir=None)
        make(task_id="u", command="true", nodes=pick()["nodes"], job="{{ params.job }}")


# --- rendering --------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [False, True])
def test_texts_that_look_like_numbers_stay_texts(native: bool) -> None:
    variables = {"VERSION": "3.10", "FROM_PARAMS": "{{ params.version }}", "LIST": "[1, 2]", "COMMENT": "1 # one"}
    spec = rendered(
        native,
        {"version": "3.10", "nodes": 2.0, "name": "007"},
        command="true",
        environment=variables,
        name="1e5",
        nodes="{{ params.nodes }}",
        array="1,5,9",
        account="{{ params.name }}",
        gpus="{{ none }}",
        job={"environment": {"NOT": "used"}, "stdout": "3.10"},
    )
    assert spec.environment == variables | {"FROM_PARAMS": "3.10"}
    assert (spec.name, spec.nodes, spec.array, spec.account, spec.gpus, spec.stdout) == (
        "1e5", 2, "1,5,9", "007", None, "3.10",
    )  # fmt: skip


def test_native_rendering_yields_containers() -> None:
    params = {"job": {"command": ["echo", "a b"], "nodes": 2}, "env": {"A": "3.10"}, "more": ["--exclusive"]}
    spec = rendered(
        True, params, job="{{ params.job }}", environment="{{ params.env }}", directives="{{ params.more }}"
    )
    assert (spec.command, spec.nodes) == (("echo", "a b"), 2)
    assert (spec.environment, spec.directives) == ({"A": "3.10"}, ("--exclusive",))


def test_a_text_for_job_is_refused_when_the_task_runs(connected: Any, run_task: Any) -> None:
    def make_task() -> Any:
        operator = make(job="{{ params.job }}")
        operator.render_template_fields({"params": {"job": {"command": "true"}}})
        return operator

    with pytest.raises(InvalidJobSpec, match=r"^job: a mapping .* not a text") as refusal:
        run_task(make_task)
    assert isinstance(refusal.value, AirflowException)


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("script", "#!/bin/bash\na=(1 2)\necho ${#a[@]}\n", ["line 3, 'echo ${#a[@]}'", "raw", "literal("]),
        ("script", "#!/bin/bash\nfor i in {{1..3}}; do echo; done\n", ["line 2", "raw", "literal("]),
        ("command", "awk '{{print $1}}'", ["raw"]),
        ("job", {"command": "true", "stdout": "{{ a"}, ["raw"]),
    ],
)
def test_what_jinja_cannot_read_is_told_while_the_dag_is_parsed(field: str, text: Any, words: list[str]) -> None:
    with DAG("d", schedule=None) as dag:
        make(**{field: text})
    with pytest.raises(InvalidJobSpec, match=f"^{field}: Jinja") as refusal:
        dag.resolve_template_files()
    for word in words:
        assert word in str(refusal.value)


def test_what_jinja_does_not_know_is_told_with_the_field() -> None:
    with DAG("d", schedule=None):
        operator = make(script="#!/bin/sh\necho {{ foo.bar }}\n")
    with pytest.raises(InvalidJobSpec, match=r"^script: Jinja .*'foo' is undefined") as refusal:
        operator.render_template_fields({"params": {}})
    assert isinstance(refusal.value, AirflowFailException)


@pytest.mark.parametrize(
    "protected", ["#!/bin/sh\n{% raw %}echo ${#a[@]}{% endraw %}\n", literal("#!/bin/sh\necho ${#a[@]}\n")]
)
def test_both_ways_out_of_jinja(protected: Any) -> None:
    assert rendered(script=protected).script.rstrip("\n") == "#!/bin/sh\necho ${#a[@]}"


@pytest.mark.parametrize("name", ["run.bash", "run.pbs", "run.slurm.j2", "run.sh.j2", "run.sbatch"])
def test_kinds_of_template_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("#!/bin/bash\necho {{ ds }}\n")
    with DAG("d", schedule=None, template_searchpath=str(tmp_path)) as dag:
        operator = make(script=name)
    dag.resolve_template_files()
    operator.render_template_fields({"ds": "today", "params": {}})
    assert operator.job_spec().script == "#!/bin/bash\necho today"


def test_a_template_file_that_is_missing_is_told_while_the_dag_is_parsed(tmp_path: Path) -> None:
    with DAG("d", schedule=None, template_searchpath=str(tmp_path)) as dag:
        make(script="nowhere.bash")
    with pytest.raises(InvalidJobSpec, match=r"^script: there is no template file 'nowhere.bash'"):
        dag.resolve_template_files()


# --- mapped tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapped", "expected"),
    [
        ({"nodes": [1, 2]}, {"nodes": 2}),
        ({"environment": [{"A": "1.10"}, {"A": "{{ ds }}"}]}, {"environment": {"A": "today"}}),
        ({"job": [{"nodes": 1}, {"nodes": "2.0", "account": "of-job"}]}, {"nodes": 2, "account": "of-job"}),
    ],
)
def test_fields_of_a_mapped_task(ti: Any, mapped: dict[str, Any], expected: dict[str, Any]) -> None:
    with DAG("d", schedule=None, default_args={"account": "all", "working_dir": "/w"}) as dag:
        operator = FirecRESTSubmitOperator.partial(task_id="t", command="true", time_limit="{{ 2 + 3 }}").expand(
            **mapped
        )
    ti.map_index, ti.task = 1, operator
    context: dict[str, Any] = {"ds": "today", "ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={})}
    operator.render_template_fields(context)
    spec = {"command": "true", "working_dir": "/w", "account": "all", "time_limit": 5} | expected
    assert context["task"].job_spec() == JobSpec(**spec)


def test_a_wrong_field_of_a_mapped_task_ends_it_without_a_retry(ti: Any) -> None:
    with DAG("d", schedule=None) as dag:
        operator = FirecRESTSubmitOperator.partial(task_id="t", command="true", working_dir="/w").expand(nodes=[1, 0])
    ti.map_index, ti.task = 1, operator
    with pytest.raises(InvalidJobSpec, match=r"^nodes: ") as refusal:
        operator.render_template_fields({"ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={})})
    assert isinstance(refusal.value, AirflowFailException)


def test_a_job_with_fields_as_arguments_runs(connected: Any, workdir: Path, run_task: Any) -> None:
    job = JobSpec(command="echo $SLURM_NTASKS $COLOUR", stdout="o.txt")
    run_task(lambda: make(working_dir=str(workdir), job=job, ntasks="2.0", environment={"COLOUR": "a,b"}, name="named"))
    assert (workdir / "o.txt").read_text() == "2 a,b\n"


def test_lines_that_the_scheduler_ignores_are_in_the_log(
    connected: Any, workdir: Path, run_task: Any, task_log: Any
) -> None:
    run_task(lambda: make(working_dir=str(workdir), script="#!/bin/bash\ntrue\n#SBATCH --nodes=2\n"))
    warning = "script, line 3, '#SBATCH --nodes=2': the scheduler ignores it"
    assert task_log().count(warning) == 1
    FirecRESTHook().submit_job(working_dir=str(workdir), script="#!/bin/bash\ntrue\n#SBATCH --nodes=2\n")
    assert task_log().count(warning) == 2
