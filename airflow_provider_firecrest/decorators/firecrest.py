"""``@task.firecrest``: a Python function as a job."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS
from pendulum import DateTime

from airflow_provider_firecrest.exceptions import task_error
from airflow_provider_firecrest.operators.job import FirecRESTSubmitOperator
from firecrest_core.errors import FirecRESTError, InvalidJobSpec, JobFailed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.identity import TaskIdentity
    from firecrest_core.api.client import System
    from firecrest_core.connection import Connection
    from firecrest_core.functions.pickled_call import PickledCall
    from firecrest_core.functions.result_place import ResultPlace
    from firecrest_core.jobs.job import Job
    from firecrest_core.result import JobResult
    from firecrest_core.spec.jobspec import JobSpec

# What Airflow has for a function that does not belong to the process in which the task runs.
_SENDABLE = frozenset(
    {
        "data_interval_end", "data_interval_start", "ds", "ds_nodash", "logical_date", "params", "partition_key",
        "prev_data_interval_end_success", "prev_data_interval_start_success", "prev_end_date_success",
        "prev_start_date_success", "run_id", "task_instance_key_str", "test_mode", "try_number", "ts", "ts_nodash",
        "ts_nodash_with_tz",
    }
)  # fmt: skip


class FirecRESTDecoratedOperator(DecoratedOperator, FirecRESTSubmitOperator):
    """Run a Python function as a job, and return what it returns.

    All parameters of :class:`~airflow_provider_firecrest.operators.job.FirecRESTSubmitOperator` are those of the
    decorator, but for those that say what runs and how often: ``script``, ``command``, ``launcher``, ``array`` and the
    like.

    The function, its arguments and what it uses of its own module are pickled. What it prints is in the task's log. The
    task raises what the function raises, with the traceback on the node as its cause; if that cannot be pickled, the
    task raises ``FunctionFailed`` with its text. A retry runs the function again only if the job has failed.

    :param python_callable: the function; an ``async def`` runs in an event loop of its own
    :param python: the line of shell that starts Python on the node, such as ``$HOME/venv/bin/python``. Its minor
        version has to be the one of Airflow's Python. It needs neither Airflow nor this package, but the modules that
        the function uses
    :param packages: names of packages, such as ``["numpy"]``, whose versions there have to be those here. Of other
        packages, the job's output tells how they differ
    :param over: run the function over many arguments as one job array: the name of the parameter, or a list of names,
        of which each element gets its own value. The call gives a list for each of them, or the output of a task that
        returns one; all other arguments are the same for all elements. At most 1000 elements. If some fail, the others
        still run, the task fails, and its retry runs those that failed. Not with ``chain`` and ``alternatives``
    :returns: what the function returns; with ``over`` a list of that, in the order of the arguments
    """

    custom_operator_name = "@task.firecrest"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *FirecRESTSubmitOperator.template_fields,
        "python",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **FirecRESTSubmitOperator.template_fields_renderers,
    }

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        python: str = "python3",
        packages: Sequence[str] = (),
        over: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        from firecrest_core.functions.over import read_over
        from firecrest_core.functions.pickled_call import check_packages
        from firecrest_core.functions.script import check_fields, check_python, placeholder_command

        try:
            _check_parameters(python_callable, {*(kwargs.get("op_kwargs") or {})})
            check_python(python)
            check_packages(packages)
            check_fields({**(kwargs.get("default_args") or {}), **kwargs}, over=over is not None)
            self.over = read_over(python_callable, over)
        except FirecRESTError as error:
            raise task_error(error) from None
        if self.over:  # Airflow infers it from the function's annotation, and the task returns a list
            kwargs["multiple_outputs"] = False
        command = placeholder_command(python, python_callable.__name__)
        super().__init__(python_callable=python_callable, **kwargs | {"command": command})
        self.python = python
        self.packages = packages
        self._call: PickledCall | None = None
        self._place: ResultPlace | None = None

    def check_known_spec(self, spec: JobSpec) -> None:
        """Refuse what a job cannot have that runs a function, and that comes from a preset.

        :param spec: the job, as far as it is known
        """
        from firecrest_core.functions.script import check_spec

        check_spec(spec)

    def execute(self, context: Context) -> Any:
        """Pickle the function, submit the job, and wait for it.

        :param context: the task's
        """
        from firecrest_core.functions.pickled_call import pickle_call

        args, kwargs = [_plain(value) for value in self.op_args], self._keywords(context)
        try:
            self._call = pickle_call(self.python_callable, args, kwargs, self.packages, self.over)
        except FirecRESTError as error:
            raise task_error(error) from None
        return super().execute(context)

    def _keywords(self, context: Context) -> dict[str, Any]:
        """Return the keyword arguments: those that were given, and what the function asks for of the context."""
        wanted = self.determine_kwargs({**context, **self.op_kwargs})
        return {name: _plain(value) for name, value in wanted.items() if name in self.op_kwargs or name in _SENDABLE}

    def complete(self, identity: TaskIdentity, connection: Connection) -> JobSpec:
        """Return the job that runs the function and leaves the result where this task looks for it.

        :param identity: the task's, with its job
        :param connection: what the job is submitted with
        """
        from airflow.sdk.log import mask_secret

        from firecrest_core.functions.result_place import ResultPlace
        from firecrest_core.functions.script import check_fields, function_spec

        check_fields({"alternatives": self.alternatives})
        assert self._call is not None, "execute() has pickled it"
        self._place = ResultPlace.of(connection, identity.spec.working_dir, identity.key.identity)
        mask_secret(self._place.key.hex())
        return function_spec(identity.spec, self._call, self._place, self.python)

    async def send_inputs(self, system: System, spec: JobSpec) -> None:
        """Send the inputs, and a call that is too large for the script.

        :param system: where the job will run
        :param spec: the job
        """
        from firecrest_core.functions.script import send_call

        await super().send_inputs(system, spec)
        assert self._call is not None, "execute() has pickled it"
        assert self._place is not None, "complete() comes before"
        await send_call(system, spec, self._call, self._place)

    async def push_return_value(self, context: Context, system: System, result: JobResult) -> None:
        """Push nothing: the function's own value is what the task returns.

        :param context: the task's
        :param system: where the job ran
        :param result: how it ended
        """

    async def task_result(self, system: System, result: JobResult, job: Job) -> Any:
        """Return what the function returned, or raise what it raised.

        :param system: where the job ran
        :param result: how it ended
        :param job: the job that was submitted
        :raises JobFailed: it did not end well, and the function has raised nothing
        """
        from firecrest_core.functions.array_outcome import array_result
        from firecrest_core.functions.outcome import function_result
        from firecrest_core.functions.result_place import ResultPlace

        failure = None
        try:
            await super().task_result(system, result, job)
        except JobFailed as error:
            failure = error
        assert job.key is not None, "exactly_once is not to be switched off"
        place = ResultPlace.of(system.connection, job.working_dir, job.key.identity)
        name = self.python_callable.__name__
        try:
            if self.over:
                return await array_result(system, result, job, place, name, failure)
            return await function_result(system, result, place, name, failure)
        except Exception as error:
            if failure is not None and error is not failure:
                self.log.error("%s", failure)  # it shows what the function has printed
            raise


def _check_parameters(function: Callable[..., Any], given: set[str]) -> None:
    """Refuse a function that cannot be a job, or that asks for what stays in Airflow."""
    from firecrest_core.functions.pickled_call import check_function

    check_function(function)
    for name in inspect.signature(function).parameters.keys() & KNOWN_CONTEXT_KEYS - _SENDABLE - given:
        raise InvalidJobSpec(
            "function",
            f"{function.__name__} asks for {name}, which stays in Airflow: no job calls the engine. Pass what it needs "
            "of it as an argument.",
        )


def _plain(value: Any) -> Any:
    """Return a value in Python's own types if it is of Airflow's, which the job does not have.

    Of these are the parameters of a run, and the values of mapped tasks, which are read when they are asked for.
    """
    if isinstance(value, DateTime):
        return datetime.fromisoformat(value.isoformat())
    if type(value) is list:
        return [_plain(one) for one in value]
    if not type(value).__module__.startswith("airflow."):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(one) for one in value] if isinstance(value, Sequence) else value


def firecrest_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Make a task of a function that runs it as a job. Airflow calls this for ``@task.firecrest``.

    :param python_callable: the function, where the decorator has no arguments
    :param multiple_outputs: push each entry of the mapping that the function returns as an XCom of its own
    :param kwargs: arguments of :class:`FirecRESTDecoratedOperator`
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=FirecRESTDecoratedOperator,
        **kwargs,
    )
