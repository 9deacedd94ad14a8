"""The points of a sweep as one job array."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.operators import FirecRESTArrayOperator
from firecrest_core.errors import InvalidJobSpec, JobFailed

POINTS = [{"SEED": number, "NOTE": "it's"} for number in range(4)]
COMMAND = 'echo "$SEED $NOTE" > "seed-$SLURM_ARRAY_TASK_ID"; [ "$SEED" != 2 ] || [ -z "${BAD-}" ]'


def array(workdir: Any, **more: Any) -> Any:
    fields = {"command": COMMAND, "working_dir": str(workdir), "over": POINTS, "poll_interval": 0.2} | more
    return lambda: FirecRESTArrayOperator(task_id="job", **fields)


def test_each_element_gets_its_point(connected, workdir, run_task, requests) -> None:
    run = run_task(array(workdir))
    assert run.result["element_counts"] == {"COMPLETED": 4}
    assert [(workdir / f"seed-{index}").read_text() for index in range(4)] == [f"{index} it's\n" for index in range(4)]
    assert requests["POST jobs"] == 1


def test_the_points_that_failed_are_named(connected, workdir, run_task) -> None:
    with pytest.raises(JobFailed, match=r"3 of 4 array elements COMPLETED, 1 FAILED \(2\)"):
        run_task(array(workdir, environment={"BAD": "1"}))


def test_a_retry_runs_the_failed_points_alone(connected, workdir, run_task, ti) -> None:
    make = array(workdir, command='echo >> "tries-$SEED"; [ "$SEED" != 2 ] || [ -e mended ]')
    with pytest.raises(JobFailed, match=r"1 FAILED \(2\)"):
        run_task(make)
    (workdir / "mended").touch()
    ti.try_number = 2
    assert run_task(make).result["element_counts"] == {"COMPLETED": 4}
    assert [(workdir / f"tries-{index}").read_text() for index in range(4)] == ["\n", "\n", "\n\n", "\n"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"over": []}, "over: give a list"),
        ({"over": {"SEED": [1, 2]}}, "over: give a list"),
        ({"over": [{"SEED": 1}, {"a b": 1}]}, "over: point 1: 'a b' cannot be the name"),
        ({"over": [{"SEED": 1}] * 1001}, "over: 1001 points are too many"),
        ({"array": "0-3"}, "array: each point is an element"),
        ({"command": None, "script_path": "/wd/job.sh"}, "script_path: nothing can be added"),
    ],
)
def test_what_cannot_be_right_is_refused_while_the_dag_is_parsed(fields, problem) -> None:
    with pytest.raises(InvalidJobSpec, match=f"^{problem}"):
        array("/wd", **fields)()


def test_points_of_a_task_are_checked_when_the_task_runs(connected, workdir, run_task) -> None:
    with DAG("sweep", schedule=None):

        @task
        def points() -> list[dict[str, int]]:
            return []

        operator = array(workdir, over=points())()
    assert operator.upstream_task_ids == {"points"}

    def rendered() -> FirecRESTArrayOperator:
        operator = array(workdir)()
        operator.over = [{"SEED": {1}}]
        return operator

    with pytest.raises(AirflowFailException, match="SEED is .1., which is no JSON"):
        run_task(rendered)
