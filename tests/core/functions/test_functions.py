"""A Python function as a job: what a real Python on the node makes of it, and what comes back."""

from __future__ import annotations

import ast
import asyncio
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from pytest_mock import MockerFixture

from firecrest_core import JobState, System, errors
from firecrest_core.connection import Connection
from firecrest_core.functions import outcome, pickled_call, runner, script
from firecrest_core.functions.outcome import function_result
from firecrest_core.functions.pickled_call import check_function, pickle_call
from firecrest_core.functions.result_file import RemoteTraceback
from firecrest_core.functions.result_place import ResultPlace
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec

LIMIT = 3


class Unstable(Exception):
    """An exception of the function's own module."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.step = 1


class Picky(Exception):
    """It can be pickled, and not unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__("picky")


def helper(step: int) -> int:
    return 2 * step


def add(first: int, second: int = 1) -> int:
    print("adding", first, second)
    return first + helper(second)


async def later(value: str) -> str:
    await asyncio.sleep(0)
    return value


def diverge(step: int) -> None:
    if step > LIMIT:
        raise ValueError(f"diverged at {step}")


def own_exception() -> None:
    raise Unstable("unstable at step 1") from KeyError("cause")


def picky() -> None:
    raise Picky(1, 2)


def stop() -> None:
    sys.exit("enough")


def vanish() -> None:
    os._exit(0)


def lock() -> Any:
    return threading.Lock()


def pid() -> int:
    return os.getpid()


def in_processes(numbers: list[int], start: str) -> list[int]:
    with multiprocessing.get_context(start).Pool(2) as pool:
        return pool.map(helper if start == "fork" else abs, numbers)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/nonexistent/evil",)


@pytest.fixture
def place(tmp_path: Path) -> ResultPlace:
    place = ResultPlace.of(connection(), str(tmp_path), "task")
    Path(place.directory).mkdir(parents=True)
    return place


def connection(secret: str = "s3cret") -> Connection:
    return Connection(url="https://f7t.example", token_url="https://t.example", client_id="me", client_secret=secret)


@pytest.fixture
def system(tmp_path: Path) -> Any:
    """A system whose files are those of this machine."""

    async def download_small(path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            raise errors.RemotePathNotFound(f"{path}: no such file") from None

    system = AsyncMock(spec=System)
    system.download_small.side_effect = download_small
    system.__str__ = lambda _: "daint"  # type: ignore[method-assign]
    return system


@pytest.fixture
def run(system: Any, place: ResultPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a function as the script of job 57 does, and return its value or raise its error."""
    monkeypatch.setattr(outcome, "CACHED", 0.0)

    def run(
        function: Callable[..., Any],
        *args: Any,
        python: str = sys.executable,
        packages: tuple[str, ...] = (),
        job_id: str = "57",
        variable: tuple[str, str] = ("SLURM_JOB_ID", "57"),
        edit: Callable[[str], str] = str,
        **kwargs: Any,
    ) -> Any:
        call = pickle_call(function, args, kwargs, packages)
        spec = script.function_spec(JobSpec(command="true", working_dir=str(tmp_path)), call, place, python)
        order = script._order(call, place)
        if order.call is None:
            Path(order.call_file).write_bytes(call.content)
        run.done = subprocess.run(  # type: ignore[attr-defined]
            ["bash", "-c", edit(spec.script or "")],
            env={"PATH": os.environ["PATH"], variable[0]: variable[1]},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        code = run.done.returncode  # type: ignore[attr-defined]
        state = JobState.COMPLETED if code == 0 else JobState.FAILED
        result = JobResult(job_id=job_id, system="daint", state=state, exit_code=code, working_dir=str(tmp_path))
        failure = errors.JobFailed(result) if code else None
        return asyncio.run(function_result(system, result, place, call.name, failure))

    return run


# --- what it returns -------------------------------------------------------------------------------------------


def test_a_function_with_what_it_uses_of_its_module(run, system) -> None:
    assert run(add, 3, second=4) == 11
    assert run.done.stdout == "adding 3 4\n"
    assert run.done.stderr == ""
    assert system.download_small.await_count == 1


def test_it_runs_in_another_process(run) -> None:
    assert run(pid) != os.getpid()


def test_python_needs_no_package_there(run) -> None:
    assert run(add, 1, python=f"{sys.executable} -I -S") == 3


def test_a_lambda_with_a_closure(run) -> None:
    factor = 3
    assert run(lambda value: factor * value, 4) == 12


def test_a_job_of_pbs(run) -> None:
    assert run(add, 1, variable=("PBS_JOBID", "57.server")) == 3


@pytest.mark.parametrize(("start", "values"), [("fork", [2, 4]), ("spawn", [1, 2])])
def test_a_function_that_starts_processes(run, start, values) -> None:
    assert run(in_processes, [1, 2], start=start) == values


def test_a_coroutine(run) -> None:
    assert run(later, "x") == "x"


def test_a_call_that_is_too_large_for_the_script_is_read_from_its_file(run, monkeypatch, place) -> None:
    monkeypatch.setattr(script, "LARGEST_IN_SCRIPT", 100)
    assert run(lambda text: len(text), "x" * 5000) == 5000
    assert len(list(Path(place.directory).glob("call-*"))) == 1


def test_a_call_that_somebody_else_has_replaced_does_not_run(run, monkeypatch, place, tmp_path) -> None:
    monkeypatch.setattr(script, "LARGEST_IN_SCRIPT", 100)

    def replace(text: str) -> str:
        [file] = Path(place.directory).glob("call-*")
        file.write_bytes(pickle_call(add, (1, 1), {}).content)
        return text

    with pytest.raises(errors.PickleFailed, match="is not what was sent, so <lambda> did not run"):
        run(lambda: 1, edit=replace)


def test_the_result_is_for_its_owner_alone(run, place) -> None:
    run(add, 1)
    assert Path(place.result_file("57")).stat().st_mode & 0o777 == 0o600
    assert not list(Path(place.directory).parent.glob(".result-*"))


def test_a_job_that_runs_again_replaces_its_result(run, place) -> None:
    assert (run(add, 1), run(add, 2)) == (3, 4)


# --- what it raises --------------------------------------------------------------------------------------------


def test_an_exception_is_raised_as_itself_with_the_traceback_of_the_node(run) -> None:
    with pytest.raises(ValueError, match="diverged at 5") as raised:
        run(diverge, 5)
    cause = raised.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert f'File "{__file__}", line ' in str(cause)
    assert 'raise ValueError(f"diverged at {step}")' in str(cause)
    assert "_call" not in str(cause)
    assert run.done.returncode == 1
    assert "ValueError: diverged at 5" in run.done.stderr


def test_an_exception_of_its_own_module_keeps_its_type_and_its_attributes(run) -> None:
    with pytest.raises(Unstable, match="unstable at step 1") as raised:
        run(own_exception)
    assert raised.value.step == 1
    assert "KeyError: 'cause'" in str(raised.value.__cause__)


def test_an_exception_that_cannot_be_unpickled_is_told_as_text(run) -> None:
    with pytest.raises(errors.FunctionFailed, match="picky raised .*Picky: picky") as raised:
        run(picky)
    assert "raise Picky(1, 2)" in str(raised.value.__cause__)


def test_what_ends_a_process_ends_none_here(run) -> None:
    with pytest.raises(errors.FunctionFailed, match="stop raised SystemExit: enough"):
        run(stop)


def test_a_process_that_ends_before_the_function(run) -> None:
    with pytest.raises(
        errors.FunctionFailed, match=r"vanish: job 57 on daint ended COMPLETED, but has not left .*/result"
    ):
        run(vanish)


def test_a_job_that_failed_without_the_function_tells_how_it_ended(run) -> None:
    with pytest.raises(errors.JobFailed, match="exit code 127"):
        run(add, 1, python="no-such-python")


# --- what cannot be pickled ------------------------------------------------------------------------------------


def test_an_argument_that_cannot_be_pickled() -> None:
    with pytest.raises(errors.PickleFailed, match=r"The arguments of add cannot be pickled: TypeError: .*lock"):
        pickle_call(add, (threading.Lock(),), {})


def test_a_function_that_cannot_be_pickled() -> None:
    held = threading.Lock()
    with pytest.raises(errors.PickleFailed, match=r"The function <lambda>, or what it uses, cannot be pickled: .*lock"):
        pickle_call(lambda: held, (), {})


def test_a_result_that_cannot_be_pickled(run) -> None:
    with pytest.raises(errors.PickleFailed, match="lock returned a lock that cannot be pickled"):
        run(lock)
    assert run.done.returncode == 1


def test_a_result_that_cannot_be_unpickled_here(run) -> None:
    def evil() -> Any:
        return Evil()

    with pytest.raises(errors.PickleFailed, match="evil: its result cannot be unpickled here: FileNotFoundError"):
        run(evil)


def test_a_call_that_cannot_be_unpickled_there(run) -> None:
    with pytest.raises(errors.PickleFailed, match=r"<lambda> cannot be unpickled by .*: FileNotFoundError"):
        run(lambda value: 1, Evil())


@pytest.mark.parametrize("function", [len, int, "f", lambda: (yield)])
def test_what_is_no_function_that_returns_a_value(function: Any) -> None:
    with pytest.raises(errors.InvalidJobSpec, match="function: .* is (no function|a generator)"):
        check_function(function)


# --- versions --------------------------------------------------------------------------------------------------


def test_another_python_is_told_before_the_function_is_unpickled(run, mocker: MockerFixture) -> None:
    mocker.patch("platform.python_version", return_value="3.6.8")
    with pytest.raises(
        errors.VersionMismatch,
        match=rf"add was pickled by Python 3\.6\.8, and .* is Python {sys.version_info[0]}\.\d+\.",
    ):
        run(add, 1)
    assert "adding" not in run.done.stdout


def test_the_program_can_be_read_by_an_old_python() -> None:
    ast.parse(script._program(), feature_version=(3, 6))
    assert "from __future__" not in script._program()


def test_a_package_of_another_version_that_was_named(run, mocker: MockerFixture) -> None:
    mocker.patch.object(pickled_call.metadata, "version", return_value="0.1")
    with pytest.raises(
        errors.VersionMismatch, match=r"pydantic is 0\.1 where add was pickled, and \d.* for .*, so it did"
    ):
        run(add, 1, packages=("pydantic",))
    assert "adding" not in run.done.stdout


def test_a_package_of_another_version_that_is_used_is_told_in_the_output(run, mocker: MockerFixture) -> None:
    mocker.patch.object(pickled_call.metadata, "version", return_value="0.1")
    assert run(lambda: pytest.__name__) == "pytest"
    assert re.match(r"firecrest: pytest is 0\.1 where <lambda> was pickled, and \d", run.done.stderr)


def test_packages_of_equal_versions(run) -> None:
    assert run(add, 1, packages=("pydantic", "PyJWT")) == 3
    assert run.done.stderr == ""


def test_a_module_that_is_missing_there(run, tmp_path, monkeypatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "only_here.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    import only_here

    with pytest.raises(errors.VersionMismatch, match="<lambda> uses the module only_here, which .* does not have"):
        run(lambda: only_here.twice(2))


@pytest.mark.parametrize(
    ("packages", "words"),
    [("numpy", "give a list of names"), (["no-such-package"], "no-such-package is not installed here")],
)
def test_packages_that_cannot_be_compared(packages: Any, words: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=words):
        pickle_call(add, (), {}, packages)


# --- whose result it is ----------------------------------------------------------------------------------------


def test_what_somebody_else_has_written_is_not_unpickled(run, place, system) -> None:
    run(add, 1)
    path = Path(place.result_file("57"))
    signature, header, body = path.read_bytes().split(b"\n", 2)
    result = JobResult(job_id="57", system="daint", state=JobState.COMPLETED, working_dir="/")
    for changed in (b"", b"\n", b"\xff\n" + body, signature + b"\n" + header + b"\n" + b"evil"):
        path.write_bytes(changed)
        with pytest.raises(
            errors.ResultRefused, match="is not signed with this connection's secret, so it is not unpick"
        ):
            asyncio.run(function_result(system, result, place, "add"))


def test_the_result_of_another_job_is_not_taken(run, place, system) -> None:
    run(add, 1)
    Path(place.result_file("57")).rename(place.result_file("58"))
    result = JobResult(job_id="58", system="daint", state=JobState.COMPLETED, working_dir="/")
    with pytest.raises(errors.ResultRefused):
        asyncio.run(function_result(system, result, place, "add"))


def test_a_key_belongs_to_one_task_and_one_secret(tmp_path: Path) -> None:
    keys = {
        ResultPlace.of(connection(secret), str(tmp_path), identity).key
        for secret in ("one", "two")
        for identity in ("a", "b")
    }
    assert len(keys) == 4
    assert connection().secret.get_secret_value().encode().hex() not in str(keys)


def test_the_key_is_not_shown(place) -> None:
    assert place.key.hex() not in repr(place)


# --- which call it is ------------------------------------------------------------------------------------------


def test_equal_calls_have_equal_digests() -> None:
    assert pickle_call(add, (1,), {}).digest == pickle_call(add, (1,), {}).digest
    digests = {pickle_call(add, (1,), {}).digest, pickle_call(add, (2,), {}).digest, pickle_call(pid, (), {}).digest}
    assert len(digests) == 3


def test_pickling_leaves_the_process_as_it_was() -> None:
    import cloudpickle

    pickle_call(add, (1,), {})
    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_without_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle.cloudpickle", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'firecrest-workflows\[functions\]'"):
        pickle_call(add, (1,), {})


@pytest.mark.parametrize("python", ["", " ", "python3\nrm x", None])
def test_an_interpreter_that_is_no_line_of_shell(python: Any) -> None:
    with pytest.raises(errors.InvalidJobSpec, match="python: .* does not start an interpreter"):
        script.check_python(python)


def test_the_order_is_of_json_types(place) -> None:
    order = script._order(pickle_call(add, (1,), {}), place)
    assert runner.Order(**json.loads(json.dumps(order._asdict()))).name == "add"
