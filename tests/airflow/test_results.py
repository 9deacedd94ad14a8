"""What a job leaves in Airflow: the result, also of a job that failed, its name and the label of a mapped task."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.xcom import job_mapping
from firecrest_core.elements import ElementGroup, shorten
from firecrest_core.errors import JobFailed
from firecrest_core.indices import Indices
from firecrest_core.result import JobResult
from firecrest_core.states import JobState


def submit(script: str, workdir: Path, **more: Any) -> Callable[[], FirecRESTSubmitOperator]:
    more = {"poll_interval": 0.2, "deferrable": False, **more}
    return lambda: FirecRESTSubmitOperator(task_id="job", script=script, working_dir=str(workdir), **more)


def test_times_and_cost(connected, workdir, run_task, ti) -> None:
    job = run_task(submit("#!/bin/bash\nsleep 1\n", workdir)).result
    submitted, started, ended = (datetime.fromisoformat(job[f"{name}_time"]) for name in ("submit", "start", "end"))
    assert (ended - started).total_seconds() >= 1
    assert abs((started - submitted).total_seconds()) < 60
    assert job["node_count"] == 1
    assert job["node_hours"] == pytest.approx(job["elapsed"] / 3600, abs=1e-4)
    assert ti.pushed["job"] == job


def test_a_failed_job_leaves_its_result(connected, workdir, run_task, ti) -> None:
    with pytest.raises(JobFailed):
        run_task(submit("#!/bin/bash\nexit 7\n", workdir))
    job = ti.pushed["job"]
    assert (job["job_id"], job["state"], job["exit_code"]) == (ti.pushed["job_id"], "FAILED", 7)
    assert "reason" in job
    assert job["working_directory"] == str(workdir)


def test_an_array_is_counted(connected, workdir, run_task, ti) -> None:
    script = "#!/bin/bash\n#SBATCH --array=0-2\n[ $SLURM_ARRAY_TASK_ID != 1 ]\n"
    with pytest.raises(JobFailed):
        run_task(submit(script, workdir))
    assert ti.pushed["job"]["element_counts"] == {"COMPLETED": 2, "FAILED": 1}
    assert ti.pushed["job"]["failed_indices"] == "1"


def test_of_a_large_array_it_is_small() -> None:
    groups = shorten(
        [ElementGroup.of(Indices.of(range(start, 200_000, 40)), JobState.FAILED, start) for start in range(0, 40, 2)]
    )
    job = job_mapping(JobResult(job_id="1", system="s", state=JobState.FAILED, groups=groups))
    assert job["element_counts"] == {"FAILED": 100_000}
    assert len(json.dumps(job)) < 10_000


def test_a_time_that_is_none() -> None:
    mapping = job_mapping(JobResult(job_id="1", system="s", state=JobState.COMPLETED, ended_at=2**60))
    assert mapping["end_time"] is None


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "map_index", "name"),
    [
        ({}, -1, "dag.task"),
        ({}, 3, "dag.task[3]"),
        ({"job": {"name": "relax"}}, 3, "relax"),
        ({"script": "#!/bin/bash\n#SBATCH -J own\ntrue\n"}, 3, "own"),
    ],
)
def test_the_name_of_a_job(connected, workdir, run_task, ti, fields, map_index, name) -> None:
    ti.map_index = map_index
    fields = {"script": "#!/bin/bash\ntrue\n", **fields}
    assert run_task(submit(workdir=workdir, **fields)).result["name"] == name


def test_the_name_of_a_long_task(connected, workdir, run_task, ti) -> None:
    ti.dag_id, ti.map_index = "d" * 250, 12
    name = run_task(submit("#!/bin/bash\ntrue\n", workdir)).result["name"]
    assert len(name) == 230
    assert name.endswith("ddd[12]")


def test_a_script_on_the_cluster_names_itself(connected, workdir, run_task) -> None:
    (workdir / "job.sh").write_text("#!/bin/bash\n#SBATCH --job-name=own\ntrue\n")
    make = submit(None, workdir, script_path=str(workdir / "job.sh"))  # type: ignore[arg-type]
    assert run_task(make).result["name"] == "own"


@pytest.mark.parametrize(
    ("name", "template", "label"),
    [
        ("relax-{{ ds }}-1", None, "relax-today-1"),
        ("relax", None, "relax[1]"),
        (None, None, None),
        ("relax", "{{ ds }}", "today"),
    ],
)
def test_the_label_of_a_mapped_task(ti, name, template, label) -> None:
    with DAG("d", schedule=None) as dag:
        mapped = FirecRESTSubmitOperator.partial(
            task_id="t", working_dir="/wd", map_index_template=template, job={"name": name} if name else {}
        ).expand(script=["#!/bin/sh\none\n", "#!/bin/sh\ntwo\n"])
    ti.map_index, ti.task = 1, mapped
    context: dict[str, Any] = {"ds": "today", "ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={})}
    context["map_index_template"] = mapped.map_index_template
    mapped.render_template_fields(context)
    shown = context["map_index_template"]
    assert (shown and dag.get_template_env().from_string(shown).render(context)) == label


def test_the_xcom_is_json(connected, workdir, run_task) -> None:
    job = run_task(submit("#!/bin/bash\ntrue\n", workdir)).result
    assert json.loads(json.dumps(job)) == job
