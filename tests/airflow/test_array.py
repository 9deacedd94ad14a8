"""The points of a sweep as one job array."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_firecrest.operators import FirecRESTArrayOperator
from firecrest_core import Chain
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


CHAIN = Chain(max_jobs=5, signal="B:USR1@60", done="run-%a/done", checkpoint="run-%a/ckpt/*")
# Each element takes as many jobs as its point says. One of the number 9 leaves no checkpoint until it is mended.
LINK = """mkdir -p run-$SLURM_ARRAY_TASK_ID/ckpt; cd run-$SLURM_ARRAY_TASK_ID; echo >> jobs
[ $JOBS != 9 ] || [ -e ../mended ] || exit 0
touch ckpt/$(wc -l < jobs); [ $(wc -l < jobs) -lt $JOBS ] || touch done
[ ! -e ../mended ] || touch done
"""


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_each_element_is_a_chain(connected, workdir, run_task, ti, task_log, monkeypatch, deferrable) -> None:
    monkeypatch.setattr("firecrest_core.campaign.CACHED", 0.0)
    points = [{"JOBS": number} for number in (1, 2, 3, 9)]
    make = array(workdir, command=LINK, over=points, chain=CHAIN, deferrable=deferrable)
    with pytest.raises(JobFailed, match=r"3 of 4 array elements COMPLETED, 1 FAILED \(3\)") as failed:
        run_task(make)
    assert isinstance(failed.value, AirflowFailException)  # no retry would get further
    assert "Element 3 of job" in str(failed.value)
    log = task_log()
    assert "elements 1-2 go on, job 2 of at most 5; done: 0; stopped: 3." in log
    assert "element 2 goes on, job 3 of at most 5; done: 0-1; stopped: 3." in log
    (workdir / "mended").touch()
    ti.try_number = 2
    result = run_task(make).result
    assert result["element_counts"] == {"COMPLETED": 4}
    assert [job["cause"] for job in result["course"]["earlier_jobs"]] == ["chain", "chain", "retry"]
    assert [(workdir / f"run-{index}" / "jobs").read_text() for index in range(4)] == ["\n", "\n\n", "\n\n\n", "\n\n"]


def test_a_chain_needs_an_index_in_its_paths() -> None:
    chain = Chain(max_jobs=5, signal="B:USR1@60", done="done", checkpoint="ckpt/*")
    with pytest.raises(InvalidJobSpec, match="^chain: done is 'done', and each element of an array needs its own"):
        array("/wd", chain=chain)()


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
