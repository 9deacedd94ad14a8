"""``@firecrest`` on tasks, flows and functions, in real flow runs."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from firecrest_core import errors
from firecrest_core.functions import script
from firecrest_core.functions.result_file import RemoteTraceback
from prefect_firecrest import FirecRESTCredentials, firecrest


class Diverged(Exception):
    """An exception of the flow's own module."""


def double(value: int) -> int:
    return 2 * value


@pytest.fixture
def run_as_job(credentials: FirecRESTCredentials, workdir: Path) -> Any:
    """The decorator, for this test's directory."""
    return lambda **more: firecrest(
        **{"credentials": credentials, "working_dir": str(workdir), "poll_interval": 0.2} | more
    )


def test_a_task_a_flow_and_a_function(run_as_job, workdir) -> None:
    @run_as_job(time_limit=5)
    @task(name="train it", retries=1)
    def train(steps: int, rate: float = 0.1) -> dict[str, float]:
        Path(f"trained-{steps}").touch()
        return {"loss": double(steps), "rate": rate}

    @task
    @run_as_job()
    async def later(value: str) -> str:
        return value.upper()

    @run_as_job()
    @flow
    def inner(numbers: list[int]) -> int:
        return sum(numbers)

    @flow
    async def outer() -> Any:
        mapped = train.map([1, 2], rate=0.5)
        return [future.result() for future in mapped], await later("x"), inner([1, 2, 3])

    assert asyncio.run(outer()) == ([{"loss": 2, "rate": 0.5}, {"loss": 4, "rate": 0.5}], "X", 6)
    assert (train.name, train.retries) == ("train it", 1)
    assert {file.name for file in workdir.glob("trained-*")} == {"trained-1", "trained-2"}
    assert not list(Path.cwd().glob("trained-*"))


def test_what_it_raises_is_raised_as_itself_and_a_retry_runs_it_again(run_as_job, workdir, caplog) -> None:
    @run_as_job()
    @task(retries=1, retry_delay_seconds=0)
    def diverge() -> str:
        with Path("runs").open("a") as file:
            file.write("run\n")
        if Path("runs").read_text().count("run") < 2:
            raise Diverged("at step 1")
        return "done"

    @run_as_job()
    @task
    def always() -> None:
        print("printed before")
        raise Diverged("at step 2")

    @flow
    def compute() -> str:
        with pytest.raises(Diverged, match="at step 2") as raised:
            always()
        assert isinstance(raised.value.__cause__, RemoteTraceback)
        assert 'raise Diverged("at step 2")' in str(raised.value.__cause__)
        return diverge()

    assert compute() == "done"
    assert "printed before" in caplog.text
    assert (workdir / "runs").read_text() == "run\nrun\n"


def test_a_flow_run_that_is_run_again_gets_the_result_of_its_job(run_as_job, workdir) -> None:
    broken = [True]

    @run_as_job()
    @task
    def count() -> int:
        with Path("runs").open("a") as file:
            return file.write("run\n")

    @flow(retries=1)
    def compute() -> int:
        value = count()
        if broken:
            raise ValueError(broken.pop())
        return value

    assert compute() == 4
    assert (workdir / "runs").read_text() == "run\n"


def test_over_many_arguments_it_is_one_array_and_a_retry_runs_those_that_raised(
    run_as_job, workdir, requests, caplog
) -> None:
    @run_as_job(over=["seed", "rate"])
    @task(retries=1, retry_delay_seconds=0)
    def score(seed: int, rate: float, scale: float = 1.0) -> float:
        with Path(f"tries-{seed}").open("a") as file:
            file.write("x")
        print(f"scoring {seed}")
        if seed == 2 and Path("tries-2").read_text() == "x":
            raise Diverged(f"seed {seed}")
        return seed * rate * scale

    @run_as_job(over="value")
    @task
    async def always(value: str) -> str:
        if value == "b":
            raise Diverged(value)
        return value

    @run_as_job(over="text")
    @flow(validate_parameters=False)
    def lengths(text: str) -> int:
        return len(text)

    @flow
    async def compute() -> list[float]:
        with pytest.raises(
            errors.FunctionFailed, match=r"1 of 3 elements failed \(1\)\. Element 1 raised .*D"
        ) as raised:
            await always(["a", "b", "c"])
        assert isinstance(raised.value.__cause__, Diverged)
        assert isinstance(raised.value.__cause__.__cause__, RemoteTraceback)
        assert lengths(["a", "bb"]) == [1, 2]
        return score([1, 2, 3], rate=(0.5, 1.0, 2.0), scale=10.0)

    assert asyncio.run(compute()) == [5.0, 20.0, 60.0]
    assert [(workdir / f"tries-{seed}").read_text() for seed in (1, 2, 3)] == ["x", "xx", "x"]
    assert requests["POST jobs"] == 4
    assert "Last lines of array element 1's output:\nscoring 2\n" in caplog.text


def test_arguments_and_results_of_any_size(run_as_job, monkeypatch) -> None:
    monkeypatch.setattr(script, "LARGEST_IN_SCRIPT", 1000)

    @run_as_job()
    @task
    def twice(data: bytes) -> bytes:
        return data * 2

    content = random.Random(1).randbytes(100_000)
    assert flow(lambda: twice(content), name="large")() == content * 2


def test_credentials_of_the_environment_and_by_name(credentials, f7t, workdir, monkeypatch) -> None:
    credentials.save("functions", overwrite=True)
    for name, value in f7t.environ.items():
        monkeypatch.setenv(name, value)
    for given in (None, "functions"):
        run = firecrest(credentials=given, working_dir=str(workdir), poll_interval=0.2)(lambda: 42)
        assert run() == 42


def test_what_cannot_be_pickled_submits_nothing(run_as_job, states_in, workdir) -> None:
    held = threading.Lock()

    @run_as_job()
    @task
    def locked() -> bool:
        return held.locked()

    with pytest.raises(errors.PickleFailed, match="The function locked, or what it uses, cannot be pickled"):
        locked()
    assert states_in(workdir) == []


def test_another_python_and_a_job_that_fails_without_the_function(run_as_job, mocker) -> None:
    with pytest.raises(errors.JobFailed, match="exit code 127"):
        run_as_job(python="no-such-python")(task(lambda: 1))()
    mocker.patch("platform.python_version", return_value="3.6.8")
    with pytest.raises(errors.VersionMismatch, match=r"was pickled by Python 3\.6\.8, and .* is Python 3\."):
        run_as_job()(task(lambda: 1))()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": "true"}, "command: it is the function that runs"),
        ({"script": "#!/bin/bash\n"}, "script: it is the function that runs"),
        ({"array": "0-3"}, "array: a function is called once, and not by each element"),
        ({"launcher": "srun"}, "launcher: a function is called in one process"),
        (
            {"container": "image.sif", "container_runtime": "apptainer"},
            "container_runtime: let python start the container",
        ),
        ({"exactly_once": False}, "exactly_once: the function's result is found by the job's claim"),
        ({"python": ""}, "python: '' does not start an interpreter"),
        ({"time_limit": "soon"}, "time_limit"),
        ({"nodse": 2}, "nodse: .*did you mean 'nodes'"),
        ({"pyhton": "python3"}, "pyhton: .*did you mean 'python'"),
        ({"over": "valu"}, "over: double has no parameter 'valu'; did you mean 'value'"),
        ({"over": "value", "alternatives": [{}]}, "alternatives: the elements of an array begin one by one"),
        ({"credentials": 3}, "credentials: give a FirecRESTCredentials block, or the name of one"),
    ],
)
def test_what_cannot_be_right_is_refused_when_the_flow_is_imported(run_as_job, fields, words) -> None:
    with pytest.raises(ValueError, match=words):
        run_as_job(**fields)(task(double))


def test_a_generator_is_refused_when_the_flow_is_imported(run_as_job) -> None:
    def numbers() -> Any:
        yield 1

    with pytest.raises(errors.InvalidJobSpec, match="numbers is a generator"):
        run_as_job()(task(numbers))
