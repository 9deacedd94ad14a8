"""``@firecrest``: the function of a task or a flow as a job."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from prefect import Flow, Task
from pydantic import SecretStr

from firecrest_core.errors import ConfigurationError, FunctionFailed, JobFailed
from firecrest_core.functions.over import read_over
from firecrest_core.functions.pickled_call import check_function, check_packages, pickle_call
from firecrest_core.functions.script import check_fields, check_python, placeholder_command
from firecrest_core.spec.jobspec import check_names
from prefect_firecrest.credentials import FirecRESTCredentials
from prefect_firecrest.jobs import FirecRESTJob
from prefect_firecrest.runtime import runtime

if TYPE_CHECKING:
    from firecrest_core.api.client import System
    from firecrest_core.connection import Connection
    from firecrest_core.functions.pickled_call import PickledCall
    from firecrest_core.functions.result_place import ResultPlace
    from firecrest_core.spec.jobspec import JobSpec

F = TypeVar("F", bound=Callable[..., Any])


def firecrest(
    *,
    credentials: FirecRESTCredentials | str | None = None,
    python: str = "python3",
    packages: Sequence[str] = (),
    over: str | Sequence[str] | None = None,
    **fields: Any,
) -> Callable[[F], F]:
    """Let the function of a task or a flow run as a job, and return or raise what it does there.

    Put it above ``@task`` or ``@flow``. The task or flow keeps all else: its parameters, retries, ``submit`` and
    ``map``. On the node there is no Prefect: the function of a flow calls no tasks.

    The function, its arguments and what it uses of its own module are pickled. What it prints is in the run's log. What
    it raises has the traceback on the node as its cause; if it cannot be pickled, ``FunctionFailed`` is raised with its
    text. A retry, and a flow run that is run again, get the job that is alive or ended well; one that failed is
    submitted once more.

    :param credentials: a block, or the name of a saved one, which is loaded when the function is called; the
        ``FIRECREST_*`` variables if left out
    :param python: the line of shell that starts Python on the node, such as ``$HOME/venv/bin/python``. Its minor
        version has to be the one of this Python. It needs neither Prefect nor this package, but the modules that the
        function uses
    :param packages: names of packages, such as ``["numpy"]``, whose versions there have to be those here. Of other
        packages, the job's output tells how they differ
    :param over: run the function over many arguments as one job array: the name of the parameter, or a list of names,
        of which each element gets its own value. The call gives a list for each of them, and returns a list; all other
        arguments are the same for all elements. At most 1000 elements. If some fail, the others still run, the call
        raises ``FunctionFailed``, and its retry runs those that failed. Not with ``chain`` and ``alternatives``
    :param fields: those of :class:`~prefect_firecrest.FirecRESTJob`, but for those that say what runs and how often:
        ``script``, ``command``, ``launcher``, ``array`` and the like. Without ``name``, the job has the function's name
    :raises InvalidJobSpec: a field, or the function, cannot be right
    :raises ConfigurationError: a package is not installed here
    """
    known = (*FirecRESTJob.model_fields, "python", "packages", "over")
    check_names(fields.keys() - {*known}, beside=known)
    check_fields(fields, over=over is not None)
    check_python(python)
    check_packages(packages)
    if not isinstance(credentials, FirecRESTCredentials | str | None):
        raise ConfigurationError("credentials: give a FirecRESTCredentials block, or the name of one.")

    def decorate(target: F) -> F:
        if not isinstance(target, Task | Flow):
            return cast("F", _wrapped(target))
        decorated = copy(target)
        decorated.fn = _wrapped(target.fn)
        return cast("F", decorated)

    def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        check_function(function)
        known = {"name": function.__name__, "command": placeholder_command(python, function.__name__)}
        # The preset may be that of credentials, or beside a flow, which are known when the function is called.
        FirecRESTJob(credentials=_known(credentials), **known | fields | {"preset": None})
        names = read_over(function, over)
        bound = _FunctionJob(function, known | fields, credentials, python, tuple(packages), names)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def acall(*args: Any, **kwargs: Any) -> Any:
                return await runtime.arun(bound.run(bound.pickled(args, kwargs)))

            return acall

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return runtime.run(bound.run(bound.pickled(args, kwargs)))

        return call

    return decorate


def _known(credentials: FirecRESTCredentials | str | None) -> FirecRESTCredentials:
    """Return the block, or what stands for one that is loaded when the function is called."""
    if isinstance(credentials, FirecRESTCredentials):
        return credentials
    nowhere = "https://firecrest.invalid"
    return FirecRESTCredentials(url=nowhere, token_url=nowhere, client_id="-", client_secret=SecretStr("-"))


@dataclass(frozen=True)
class _FunctionJob:
    """A function with what is asked of the scheduler for it."""

    function: Callable[..., Any]
    fields: Mapping[str, Any]
    credentials: FirecRESTCredentials | str | None
    python: str
    packages: tuple[str, ...]
    over: tuple[str, ...]

    def pickled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PickledCall:
        return pickle_call(self.function, args, kwargs, self.packages, self.over)

    async def run(self, call: PickledCall) -> Any:
        """Submit the job of a call, wait for it, and return or raise what the function did."""
        from firecrest_core.functions.array_outcome import array_result
        from firecrest_core.functions.outcome import function_result
        from firecrest_core.functions.result_place import ResultPlace
        from prefect_firecrest.clients import client_of

        credentials = await self._load_credentials()
        command = placeholder_command(self.python, call.name, call.digest)
        job = FirecRESTJob(credentials=credentials, **{**self.fields, "command": command})
        run = await job.submit_function(_FunctionScript(call, self.python))
        failure = None
        try:
            await run.await_for_completion()
            result = await run.afetch_result()
        except JobFailed as error:
            failure, result = error, error.result
        connection = credentials.connection()
        assert run.job.key is not None, "exactly_once is not to be switched off"
        place = ResultPlace.of(connection, run.job.working_dir, run.job.key.identity)
        async with client_of(connection, credentials.saved_as) as client:
            system = client.system(result.system)
            if not self.over:
                return await function_result(system, result, place, call.name, failure)
            try:
                return await array_result(system, result, run.job, place, call.name, failure)
            except FunctionFailed:
                if failure is not None:
                    run.logger.error("%s", failure)  # it shows what an element has printed: no array is followed
                raise

    async def _load_credentials(self) -> FirecRESTCredentials:
        if self.credentials is None:
            return FirecRESTCredentials.from_environment()
        if isinstance(self.credentials, str):
            return await FirecRESTCredentials.aload(self.credentials)
        return self.credentials


@dataclass(frozen=True)
class _FunctionScript:
    """The script of one call; see :class:`~prefect_firecrest.late_script.LateScript`."""

    call: PickledCall
    python: str

    def complete(self, connection: Connection, spec: JobSpec, identity: str) -> JobSpec:
        from firecrest_core.functions.script import function_spec

        place = self._place(connection, spec, identity)
        return function_spec(spec, self.call, place, self.python)

    async def send(self, system: System, spec: JobSpec, identity: str) -> None:
        from firecrest_core.functions.script import send_call

        await send_call(system, spec, self.call, self._place(system.connection, spec, identity))

    def _place(self, connection: Connection, spec: JobSpec, identity: str) -> ResultPlace:
        from firecrest_core.functions.result_place import ResultPlace

        return ResultPlace.of(connection, spec.working_dir, identity)
