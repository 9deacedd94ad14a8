"""A function over many arguments as one job array, on an embedded FirecREST."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from firecrest_core import errors, lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.campaign import Campaign
from firecrest_core.connection import Connection
from firecrest_core.elements import ElementGroup
from firecrest_core.functions import array_outcome, script
from firecrest_core.functions.array_outcome import array_result
from firecrest_core.functions.over import SplitCall, read_over
from firecrest_core.functions.pickled_call import pickle_call
from firecrest_core.functions.result_place import ResultPlace
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState
from firecrest_local import LocalFirecREST

KEY = ClaimKey("task")


def power(base: int, /, exponent: int = 2, *more: int, offset: int = 0, **others: int) -> int:
    return base**exponent + sum(more) + offset + sum(others.values())


def odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"{number} is even")
    return number


def odd_or_killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return odd(number)


def grow_once(number: int) -> int:
    with Path(f"tries-{number}").open("a") as file:
        file.write("x")
    if number == 1 and not Path("grown").exists():
        Path("grown").touch()
        held = bytearray(300 << 20)
        time.sleep(60)
        del held
    return number


@pytest.fixture
def connection(f7t: LocalFirecREST) -> Connection:
    return Connection.from_environment(f7t.environ)


@pytest.fixture
async def system(connection: Connection) -> AsyncIterator[System]:
    async with FirecRESTClient(connection) as client:
        yield client.system()


@pytest.fixture
def place(connection: Connection, workdir: Path) -> ResultPlace:
    return ResultPlace.of(connection, str(workdir), KEY.identity)


@pytest.fixture
def run(system: System, place: ResultPlace, workdir: Path) -> Callable[..., Any]:
    """Run a function as an engine does, and return its values or raise its error."""

    async def run(
        function: Callable[..., Any],
        over: Any,
        *args: Any,
        fields: dict[str, Any] | None = None,
        escalate: Any = None,
        before_reading: Callable[[Job], None] = lambda job: None,
        **kwargs: Any,
    ) -> Any:
        call = pickle_call(function, args, kwargs, over=read_over(function, over))
        given = JobSpec(command="true", working_dir=str(workdir), **fields or {})
        spec = script.function_spec(given, call, place, sys.executable)
        campaign = Campaign.parse(system, spec, escalate, None)

        async def send() -> None:
            await script.send_call(system, spec, call, place)

        following: Job | JobResult = await campaign.submit(KEY, before_post=send)
        while isinstance(following, Job):
            job = following
            result = await lifecycle.wait(system, job, poll_interval=0.2)
            following = await campaign.follow(job, result)
        failure = None
        if not following.succeeded:
            failure = errors.JobFailed.kind(following.state)(following)
        before_reading(job)
        return await array_result(system, following, job, place, call.name, failure)

    return run


# --- values ----------------------------------------------------------------------------------------------------


async def test_the_values_come_in_the_order_of_the_arguments(run, place) -> None:
    assert await run(power, ["exponent", "offset"], 2, [1, 2, 3], 10, offset=(5, 6, 7), other=100) == [117, 120, 125]
    assert Path(place.results).stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in Path(place.results).iterdir()] == [0o600] * 3


async def test_an_array_of_one_element_is_a_plain_job(run, place) -> None:
    assert await run(odd, "number", [3]) == [3]
    assert [path.name.partition("_")[2] for path in Path(place.results).iterdir()] == ["0"]


async def test_arguments_and_results_of_any_size(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "LARGEST_IN_SCRIPT", 1000)
    contents = [random.Random(number).randbytes(50_000) for number in range(3)]
    assert await run(lambda data: data * 2, "data", contents) == [content * 2 for content in contents]


@pytest.mark.parametrize("variables", [{"PBS_JOBID": "57[2].server", "PBS_ARRAY_INDEX": "2"}, {"SLURM_JOB_ID": "57"}])
def test_an_element_of_pbs_and_a_job_without_an_index(place: ResultPlace, workdir: Path, variables) -> None:
    Path(place.directory).mkdir(parents=True)
    call = pickle_call(odd, ([1, 3, 5],), {}, over=["number"])
    spec = script.function_spec(JobSpec(command="true", working_dir=str(workdir)), call, place, sys.executable)
    assert (spec.array, call.elements) == ("0-2", 3)
    environment = {"PATH": os.environ["PATH"], **variables}
    subprocess.run(["bash", "-c", spec.script or ""], env=environment, cwd=workdir, check=True)
    index = variables.get("PBS_ARRAY_INDEX", "0")
    assert [path.name for path in Path(place.results).iterdir()] == [f"57_{index}"]


# --- failures --------------------------------------------------------------------------------------------------


async def test_elements_that_raise_are_told_in_one_error_and_run_again_alone(run, place) -> None:
    with pytest.raises(
        errors.FunctionFailed, match=r"^odd: 2 of 4 elements failed \(0, 2\)\. Element 0 raised ValueError: 2 is even$"
    ) as raised:
        await run(odd, "number", [2, 3, 4, 5])
    assert str(raised.value.__cause__) == "2 is even"
    assert 'raise ValueError(f"{number} is even")' in str(raised.value.__cause__.__cause__)
    first = {path.name for path in Path(place.results).iterdir()}
    assert len(first) == 4
    with pytest.raises(errors.FunctionFailed, match=r"odd: 2 of 4 elements failed \(0, 2\)"):
        await run(odd, "number", [2, 3, 4, 5])
    assert {path.name.partition("_")[2] for path in Path(place.results).iterdir() if path.name not in first} == {
        "0",
        "2",
    }


async def test_what_is_raised_counts_more_than_a_process_that_was_killed(run) -> None:
    with pytest.raises(
        errors.FunctionFailed, match=r": 3 of 4 elements failed \(0-2\)\. Element 0 raised ValueError: 2 is"
    ):
        await run(odd_or_killed, "number", [2, 1, 4, 3])


async def test_without_an_exception_the_end_of_the_job_is_told(run) -> None:
    with pytest.raises(errors.JobFailed, match=r"1 of 2 array elements COMPLETED, 1 FAILED \(0\)"):
        await run(odd_or_killed, "number", [1, 3])


async def test_a_process_that_ends_before_the_function(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_outcome, "CACHED", 0.0)
    with pytest.raises(errors.FunctionFailed, match=r": 2 of 2 elements failed \(0-1\)\. Job .* have left nothing in"):
        await run(lambda number: os._exit(0), "number", [1, 3])


async def test_another_python_is_told_once(run, mocker: MockerFixture) -> None:
    mocker.patch("platform.python_version", return_value="3.6.8")
    with pytest.raises(
        errors.VersionMismatch,
        match=r"^odd: 2 of 2 elements failed \(0-1\)\. Element 0: odd was pickled by Python 3\.6\.8",
    ):
        await run(odd, "number", [1, 3])


async def test_elements_that_lack_memory_get_more_and_the_values_of_the_others_stay(run, workdir) -> None:
    escalate = {"out_of_memory": {"memory": "x4", "max": "512M"}}
    fields = {"memory": "128M", "time_limit": 2}
    assert await run(grow_once, "number", [0, 1, 2], fields=fields, escalate=escalate) == [0, 1, 2]
    assert [(workdir / f"tries-{number}").read_text() for number in range(3)] == ["x", "xx", "x"]


# --- whose result it is ----------------------------------------------------------------------------------------


async def test_no_result_stands_for_that_of_another_element(run, place) -> None:
    def exchange(job: Job) -> None:
        first, second = (Path(place.results, f"{job.job_id}_{index}") for index in (0, 1))
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)

    with pytest.raises(errors.ResultRefused, match="odd: .* is not signed with this connection's secret"):
        await run(odd, "number", [1, 3], before_reading=exchange)


async def test_a_result_that_shows_late_is_waited_for(run, place, mocker: MockerFixture) -> None:
    hidden = Path(place.directory, "hidden")

    def hide(job: Job) -> None:
        Path(place.results, f"{job.job_id}_1").rename(hidden)

    def show(_: float) -> Iterator[float]:
        [file] = Path(place.results).iterdir()
        hidden.rename(file.with_name(file.name.replace("_0", "_1")))
        yield 0.0

    mocker.patch.object(array_outcome, "delays", show)
    assert await run(odd, "number", [1, 3], before_reading=hide) == [1, 3]


@pytest.mark.parametrize(
    ("groups", "failed", "certain"),
    [
        ([("0,2", JobState.COMPLETED, 0), ("1", JobState.FAILED, 1)], True, "0-2"),
        ([("0", JobState.COMPLETED, 0), ("1-2", JobState.FAILED, 137)], True, "0"),
        ([], False, "0-2"),
        ([], True, ""),  # on PBS
    ],
)
def test_which_elements_must_have_left_something(groups, failed, certain) -> None:
    made = tuple(ElementGroup.of(Indices.parse(indices), state, code) for indices, state, code in groups)
    result = JobResult(job_id="1", system="rig", state=JobState.FAILED, groups=made)
    assert str(array_outcome._certain(result, Indices.parse("0-2"), failed=failed)) == certain


# --- what cannot be right --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ("bas", "power has no parameter 'bas'; did you mean 'base'?"),
        (["base", "more"], "power has no parameter 'more'; "),
        (["base", "x"], "power has no parameter 'x'; there are base, exponent, offset"),
        ([], r"\[\] names no parameter of power; give a name, or a list"),
        (3, "3 names no parameter of power"),
    ],
)
def test_a_parameter_that_there_is_not(over: Any, words: str) -> None:
    with pytest.raises(errors.InvalidJobSpec, match=f"^over: {words}"):
        read_over(power, over)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((3,), {"offset": [1]}, "base is of type int; give a list"),
        (("123",), {"offset": [1]}, "base is of type str; give a list"),
        (({"a": 1},), {"offset": [1]}, "base is of type dict; give a list"),
        (([1],), {}, "offset is missing; give a list with its value for each element"),
        (([1, 2, 3],), {"offset": [1, 2]}, "offset has 2 values, and base has 3; each element gets one of each"),
        (([],), {"offset": []}, "base is empty, so there is nothing to run"),
        ((range(1001),), {"offset": range(1001)}, "base has 1001 values, and one array has 1000 elements at most; "),
    ],
)
def test_values_that_are_not_those_of_an_array(args: Any, kwargs: Any, words: str) -> None:
    with pytest.raises(errors.InvalidJobSpec, match=f"^over: {words}"):
        SplitCall.of(power, args, kwargs, ["base", "offset"])


def test_a_value_of_one_element_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(errors.PickleFailed, match="The arguments of element 1 of odd cannot be pickled"):
        pickle_call(odd, ([1, (each for each in "x")],), {}, over=["number"])


def test_other_values_make_another_digest() -> None:
    calls = [pickle_call(odd, (values,), {}, over=["number"]) for values in ([1, 3], [3, 1], [1, 3])]
    assert calls[0].digest == calls[2].digest != calls[1].digest


@pytest.mark.parametrize("field", ["chain", "alternatives", "array"])
def test_what_an_array_cannot_have(field: str) -> None:
    with pytest.raises(errors.InvalidJobSpec, match=f"^{field}: "):
        script.check_fields({field: [{}]}, over=True)
