"""``@task.firecrest``: what Airflow's engine makes of it, without one."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.bases.decorator import DecoratedOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.serialization.serialized_objects import DagSerialization
from pendulum import now

from airflow_provider_firecrest.decorators.firecrest import FirecRESTDecoratedOperator
from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core import errors
from firecrest_core.functions import script
from firecrest_core.functions.result_file import RemoteTraceback


def maker(function: Callable[..., Any], workdir: Path, *args: Any, **more: Any) -> Callable[[], DecoratedOperator]:
    """Return what makes the task of a function, as workers do."""
    op_kwargs = more.pop("op_kwargs", {})
    more = {"poll_interval": 0.2, "working_dir": str(workdir), **more}
    return lambda: FirecRESTDecoratedOperator(
        task_id="train", python_callable=function, op_args=args, op_kwargs=op_kwargs, **more
    )


def train(steps: int, rate: float = 0.1) -> dict[str, float]:
    print(f"training {steps} steps")
    return {"loss": 1 / steps, "rate": rate}


def fail(steps: int) -> None:
    with Path("runs").open("a") as file:
        file.write("run\n")
    print("printed before")
    raise ValueError(f"diverged after {steps} steps")


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_a_task_returns_what_its_function_returns(connected, workdir, run_task, ti, task_log, deferrable) -> None:
    run = run_task(maker(train, workdir, 4, op_kwargs={"rate": 0.5}, deferrable=deferrable))
    assert run.result == {"loss": 0.25, "rate": 0.5}
    assert ti.pushed["job"]["state"] == "COMPLETED"
    assert ti.pushed["job"]["name"] == "dag.task"
    assert "training 4 steps" in task_log()
    assert "return" not in ti.pushed


def test_a_small_call_costs_at_most_two_requests_more_than_a_submission_and_any_number_of_elements_seven(
    connected, workdir, run_task, ti, requests: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cost(make: Callable[[], Any], task_id: str) -> int:
        monkeypatch.setattr("firecrest_core.api.http._reached", set())
        requests.clear()
        run_task(make, replace(ti, task_id=task_id, state_store=type(ti.state_store)()))
        of_time = {
            name for name in requests if name in ("GET jobs", "GET tail") or name[4:].isdigit()
        }  # of one job, too
        return sum(count for name, count in requests.items() if name not in of_time)

    plain = {"task_id": "plain", "script": "#!/bin/bash\nsleep 1\n", "working_dir": str(workdir), "poll_interval": 0.2}
    cost(lambda: FirecRESTSubmitOperator(**plain), "first")  # it signs in
    submission = cost(lambda: FirecRESTSubmitOperator(**plain), "plain")
    assert cost(maker(train, workdir, 4), "train") <= submission + 2
    assert cost(maker(score, workdir, range(10, 20), 1.0, over="seed"), "score") <= submission + 7


def test_a_function_raises_what_it_raises_there(connected, workdir, run_task, ti, task_log) -> None:
    with pytest.raises(ValueError, match="diverged after 3 steps") as raised:
        run_task(maker(fail, workdir, 3))
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert 'raise ValueError(f"diverged after {steps} steps")' in str(raised.value.__cause__)
    assert ti.pushed["job"]["state"] == "FAILED"
    assert "printed before" in task_log()
    with pytest.raises(ValueError, match="diverged"):  # a retry runs it again
        run_task(maker(fail, workdir, 3))
    assert (workdir / "runs").read_text() == "run\nrun\n"


def test_a_job_that_fails_without_the_function(connected, workdir, run_task) -> None:
    with pytest.raises(errors.JobFailed, match="exit code 127"):
        run_task(maker(train, workdir, 3, python="no-such-python"))


def test_a_retry_returns_the_result_of_the_job_that_ended_well(connected, workdir, run_task, ti, requests) -> None:
    def count() -> int:
        with Path("runs").open("a") as file:
            return file.write("run\n")

    make = maker(count, workdir)
    with pytest.raises(TaskDeferred):
        make().execute({"ti": ti, "task_state_store": ti.state_store})
    assert run_task(make).result == 4
    assert requests["POST jobs"] == 1
    assert (workdir / "runs").read_text() == "run\n"


def test_arguments_and_results_of_any_size(connected, workdir, run_task, monkeypatch) -> None:
    monkeypatch.setattr(script, "LARGEST_IN_SCRIPT", 1000)
    content = random.Random(1).randbytes(200_000)  # more than goes in one request
    assert run_task(maker(lambda data: data * 2, workdir, content)).result == content * 2
    [call] = workdir.glob(".firecrest/*/call-*")
    assert call.parent.stat().st_mode & 0o777 == 0o700


def test_the_key_and_the_arguments_are_in_no_record_and_no_log(connected, workdir, run_task, ti, task_log) -> None:
    run_task(maker(train, workdir, 4))
    [result] = workdir.glob(".firecrest/*/result-*")
    assert result.stat().st_mode & 0o777 == 0o600
    shown = json.dumps([ti.pushed, ti.state_store]) + task_log()
    assert "main(Order" not in shown
    assert "END_OF_PROGRAM" not in shown


def test_what_it_asks_for_of_the_context(connected, workdir, run_task, ti, monkeypatch) -> None:
    def where(ds: str, params: dict[str, Any], **context: Any) -> Any:
        return ds, params, sorted(context)

    run = DecoratedOperator.determine_kwargs

    def determine(self: Any, context: Any) -> Any:
        return run(self, {**context, "ds": "2026-01-02", "params": {"n": 1}, "run_id": "r", "task": self})

    monkeypatch.setattr(DecoratedOperator, "determine_kwargs", determine)
    assert run_task(maker(where, workdir)).result == ("2026-01-02", {"n": 1}, ["run_id"])


def test_what_airflow_reads_late_goes_as_a_list(connected, workdir, run_task) -> None:
    class LateValues(list[int]):  # as the values of a mapped task are
        __module__ = "airflow.sdk.execution_time.lazy_sequence"

    values = LateValues([1, 2])
    assert run_task(
        maker(lambda *args, more: (args, more, type(more).__name__), workdir, values, op_kwargs={"more": values})
    ).result == (([1, 2],), [1, 2], "list")


# --- over many arguments, as one job array ---------------------------------------------------------------------


def score(seed: int, rate: float, scale: float = 1.0) -> float:
    with Path(f"tries-{seed}").open("a") as file:
        file.write("x")
    print(f"scoring {seed}")
    if seed in (2, 3) and not Path("mended").exists():
        raise ValueError(f"seed {seed} diverged")
    return seed * rate * scale


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_a_function_over_many_arguments_is_one_array(connected, workdir, run_task, ti, requests, deferrable) -> None:
    (workdir / "mended").touch()
    arguments = {"rate": (0.5, 2.0, 4.0), "scale": 10.0}
    run = run_task(
        maker(score, workdir, range(1, 4), op_kwargs=arguments, over=["rate", "seed"], deferrable=deferrable)
    )
    assert run.result == [5.0, 40.0, 120.0]
    assert requests["POST jobs"] == 1
    assert ti.pushed["job"]["element_counts"] == {"COMPLETED": 3}


def test_a_retry_runs_the_elements_that_raised_and_keeps_the_values_of_the_others(
    connected, workdir, run_task, ti, task_log
) -> None:
    make = maker(score, workdir, op_kwargs={"seed": [1, 2, 3, 4], "rate": 0.5}, over="seed", retries=1)
    with pytest.raises(
        errors.FunctionFailed, match=r"^score: 2 of 4 elements failed \(1-2\)\. Element 1 raised ValueError: seed 2 di"
    ) as raised:
        run_task(make)
    cause = raised.value.__cause__
    assert isinstance(cause, ValueError)
    assert "in score" in str(cause.__cause__)
    log = task_log()
    assert "2 of 4 array elements COMPLETED, 2 FAILED (1-2)" in log
    assert "scoring 2" in log
    (workdir / "mended").touch()
    ti.try_number = 2
    assert run_task(make).result == [0.5, 1.0, 1.5, 2.0]
    assert [(workdir / f"tries-{seed}").read_text() for seed in (1, 2, 3, 4)] == ["x", "xx", "xx", "x"]
    assert run_task(make).result == [0.5, 1.0, 1.5, 2.0]  # nothing runs
    assert (workdir / "tries-2").read_text() == "xx"


def test_elements_that_lack_memory_get_more_within_one_try(connected, workdir, run_task) -> None:
    def grow_once(number: int) -> int:
        with Path(f"tries-{number}").open("a") as file:
            file.write("x")
        if number == 1 and Path("tries-1").read_text() == "x":
            held = bytearray(300 << 20)
            time.sleep(60)
            del held
        return number

    escalate = {"out_of_memory": {"memory": "x4", "max": "512M"}}
    make = maker(grow_once, workdir, [0, 1, 2], over="number", memory="128M", time_limit=2, escalate=escalate)
    assert run_task(make).result == [0, 1, 2]
    assert [(workdir / f"tries-{number}").read_text() for number in range(3)] == ["x", "xx", "x"]


def test_times_of_airflow_go_as_pythons_own_in_lists_too(connected, workdir, run_task) -> None:
    assert run_task(maker(lambda day: type(day).__module__, workdir, [now()], over="day")).result == ["datetime"]


# --- bad input ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_pickled_fails_the_task_before_anything_is_submitted(connected, workdir, run_task, ti) -> None:
    held = threading.Lock()
    with pytest.raises(AirflowFailException, match="The function <lambda>, or what it uses, cannot be pickled"):
        run_task(maker(lambda: held.locked(), workdir))
    assert "job_id" not in ti.pushed


def test_another_python_fails_the_task_at_once(connected, workdir, run_task, mocker) -> None:
    mocker.patch("platform.python_version", return_value="3.6.8")
    with pytest.raises(AirflowFailException, match=r"train was pickled by Python 3\.6\.8, and .* is Python 3\."):
        run_task(maker(train, workdir, 3))


def test_a_result_that_somebody_else_has_written_is_not_unpickled(connected, workdir, run_task) -> None:
    def forge() -> None:
        while not (found := list(workdir.glob(".firecrest/*/result-*"))):
            time.sleep(0.05)
        found[0].write_bytes(b"0" + found[0].read_bytes())

    with pytest.raises(AirflowFailException, match="is not signed with this connection's secret"):
        run_task(maker(train, workdir, 3), when_deferred=forge)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"command": "true"}, "command: it is the function that runs"),
        ({"script": "#!/bin/bash\n"}, "script: it is the function that runs"),
        ({"array": "0-3"}, "array: a function is called once, and not by each element"),
        ({"packages": ["no-such-package"]}, "packages: no-such-package is not installed here"),
        ({"launcher": "srun"}, "launcher: a function is called in one process"),
        (
            {"container": "image.sif", "container_runtime": "apptainer"},
            "container_runtime: let python start the container",
        ),
        ({"exactly_once": False}, "exactly_once: the function's result is found by the job's claim"),
        ({"python": ""}, "python: '' does not start an interpreter"),
        ({"time_limit": "soon"}, "time_limit"),
        ({"job": {"nodse": 2}}, "nodse: .*did you mean 'nodes'"),
        ({"pyhton": "python3"}, "pyhton: .*did you mean 'python'"),
        ({"default_args": {"exactly_once": False}}, "exactly_once: the function's result"),
        ({"over": "step"}, "over: train has no parameter 'step'; did you mean 'steps'"),
        ({"over": "steps", "alternatives": [{}]}, "alternatives: the elements of an array begin one by one"),
        ({"over": "steps", "chain": {"max_jobs": 2}}, "chain: it is for one call; map the task"),
    ],
)
def test_what_cannot_be_right_is_refused_while_the_dag_is_parsed(
    workdir, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(AirflowException, match=words):
        maker(train, workdir, 3, **arguments)()


def test_values_that_cannot_be_those_of_an_array_fail_the_task_at_once(connected, workdir, run_task, ti) -> None:
    with pytest.raises(AirflowFailException, match="over: rate has 1 values, and steps has 2; each element gets one"):
        run_task(maker(train, workdir, [1, 2], [0.1], over=["steps", "rate"]))
    assert "job_id" not in ti.pushed


def test_functions_that_cannot_be_jobs_are_refused_while_the_dag_is_parsed(workdir) -> None:
    def asks(ti: Any) -> None: ...

    def generates() -> Any:
        yield 1

    with pytest.raises(AirflowFailException, match="asks asks for ti, which stays in Airflow"):
        maker(asks, workdir)()
    with pytest.raises(AirflowFailException, match="generates is a generator"):
        maker(generates, workdir)()


# --- in a DAG ----------------------------------------------------------------------------------------------------


def test_it_is_a_decorator_that_maps() -> None:
    with DAG("d", schedule=None) as dag:

        @task.firecrest(working_dir="/scratch/{{ run_id }}", time_limit=10, python="{{ params.python }}")
        def square(number: int, offset: int = 0) -> int:
            return number**2 + offset

        square.override(task_id="one")(3)
        square.partial(offset=1).expand(number=[1, 2, 3])
    stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    assert set(stored.task_ids) == {"one", "square"}
    one: Any = dag.get_task("one")
    one.render_template_fields({"run_id": "r", "params": {"python": "/opt/python"}})
    assert (one.working_dir, one.python, one.command) == (
        "/scratch/r",
        "/opt/python",
        "/opt/python  # the function square",
    )
    mapped: Any = dag.get_task("square")
    op = mapped.unmap({"op_kwargs": {"number": 2}})
    assert op.op_kwargs == {"offset": 1, "number": 2}


def test_its_list_may_be_what_another_task_returns_and_it_returns_a_list() -> None:
    with DAG("d", schedule=None) as dag:

        @task
        def seeds() -> list[int]:
            return [1, 2]

        once = task.firecrest(working_dir="/scratch")(train)
        once.override(over="steps")(steps=seeds(), rate=0.1)
    found: Any = dag.get_task("train")
    assert (found.upstream_task_ids, found.over, found.multiple_outputs) == ({"seeds"}, ("steps",), False)
