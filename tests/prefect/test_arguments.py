"""What is no block, no run and no result in the place of one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from prefect import Task, flow
from pydantic import SecretStr

from firecrest_core.errors import ConfigurationError
from prefect_firecrest import tasks

TASKS = [one for one in vars(tasks).values() if isinstance(one, Task)]
CASES = [
    (one, parameter)
    for one in TASKS
    for parameter in ("credentials", "job", "run", "result")
    if parameter in inspect.signature(one.fn).parameters
]
WORDS = {
    "credentials": "credentials: 'mine' is no FirecRESTCredentials block: give FirecRESTCredentials.load(\"mine\").",
    "job": "job: 'mine' is no FirecRESTJob block: give FirecRESTJob.load(\"mine\").",
    "run": "run: 'mine' is no FirecRESTJobRun: give what submit_job or find_job has returned.",
    "result": "result: 'mine' is no JobResult: give what wait_for_job has returned.",
}


@pytest.fixture
def given(credentials) -> Callable[[Task[..., Any], str, Any], dict[str, Any]]:
    """Return the arguments of a task with a value in the place of one of them, all others being right or harmless."""

    def given(one: Task[..., Any], parameter: str, value: Any) -> dict[str, Any]:
        names = inspect.signature(one.fn).parameters.values()
        needed = {name.name: "7" for name in names if name.default is inspect.Parameter.empty}
        return needed | ({"credentials": credentials} if "credentials" in needed else {}) | {parameter: value}

    return given


@pytest.mark.parametrize(("one", "parameter"), CASES, ids=[f"{one.name}-{parameter}" for one, parameter in CASES])
async def test_a_name_in_the_place_of_a_block(given, one, parameter) -> None:
    assert inspect.iscoroutinefunction(one.fn) == one.isasync
    with pytest.raises(ConfigurationError, match=f"^{re.escape(WORDS[parameter])}$") as refusal:
        answer = one.fn(**given(one, parameter, "mine"))
        if one.isasync:
            await answer
    assert not refusal.value.retryable


@pytest.mark.parametrize("one", [one for one in TASKS if not one.isasync], ids=lambda one: one.name)
def test_a_flow_run_hears_it_at_once(given, one) -> None:
    [parameter] = [name for task, name in CASES if task is one][:1]

    @flow
    def mistaken() -> None:
        one(**given(one, parameter, "mine"))

    with pytest.raises(ConfigurationError, match=f"^{parameter}: 'mine' is no "):
        mistaken()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"client_secret": "hunter2"}, "credentials: a dict is no FirecRESTCredentials block"),
        (SecretStr("hunter2"), "credentials: a SecretStr is no"),
        ("Hunter2/hunter2", "credentials: a str is no FirecRESTCredentials block: give FirecRESTCredentials.load(…)."),
        (None, "credentials: None is no"),
    ],
)
def test_no_value_is_repeated_that_is_no_name(given, value, words) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(words)}") as refusal:
        tasks.list_files.fn(**given(tasks.list_files, "credentials", value))
    assert "unter2" not in str(refusal.value)


async def test_a_coroutine_that_was_not_awaited(given) -> None:
    async def load() -> None: ...

    coroutine = load()
    with pytest.raises(
        ConfigurationError, match=r"^credentials: a coroutine is no FirecREST.* block: put await before"
    ):
        await tasks.alist_files.fn(**given(tasks.alist_files, "credentials", coroutine))
    coroutine.close()
