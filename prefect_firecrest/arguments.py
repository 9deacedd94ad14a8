"""What tasks refuse before they do anything: a name, or anything else, in the place of a block or a run."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

from firecrest_core.errors import ConfigurationError
from firecrest_core.result import JobResult
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.job_runs import FirecRESTJobRun
from prefect_firecrest.jobs import FirecRESTJob

F = TypeVar("F", bound=Callable[..., Any])

_TYPES: dict[str, type] = {
    "credentials": FirecRESTCredentials,
    "job": FirecRESTJob,
    "run": FirecRESTJobRun,
    "result": JobResult,
}
_GIVERS = {"run": "submit_job or find_job", "result": "wait_for_job"}
# Prefect's rule for the names of blocks; the ids of jobs are among them. Other texts may be secrets.
_NAME = re.compile(r"[a-z0-9-]{1,60}")


def checked(function: F) -> F:
    """Let a task's function refuse what is no block, run or result where it takes one: by the parameter's name.

    :raises ConfigurationError: one is none; so it is not tried again
    """
    signature = inspect.signature(function)

    def check(*args: Any, **kwargs: Any) -> None:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in _TYPES and not isinstance(value, _TYPES[name]):
                _refuse(name, value)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def acall(*args: Any, **kwargs: Any) -> Any:
            check(*args, **kwargs)
            return await function(*args, **kwargs)

        return cast("F", acall)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check(*args, **kwargs)
        return function(*args, **kwargs)

    return cast("F", call)


def _refuse(name: str, value: Any) -> NoReturn:
    wanted = _TYPES[name].__name__
    is_name = isinstance(value, str) and _NAME.fullmatch(value) is not None
    shown = repr(value) if is_name or isinstance(value, int) or value is None else f"a {type(value).__name__}"
    if inspect.isawaitable(value):
        advice = "put await before the call that gives it"
    elif name in _GIVERS:
        advice = f"give what {_GIVERS[name]} has returned"
    else:
        block = f'"{value}"' if is_name else "…"
        advice = f"give {wanted}.load({block})"
    raise ConfigurationError(f"{name}: {shown} is no {wanted}{'' if name in _GIVERS else ' block'}: {advice}.")
