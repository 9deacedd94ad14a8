"""How a worker cancels the jobs of the task that it executes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_firecrest.cancel_policy import ask_cancel_reason
from airflow_provider_firecrest.job_records import describe_jobs

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_firecrest.hooks.firecrest import FirecRESTHook
    from firecrest_core.api.client import System
    from firecrest_core.jobs.job import Job

    Cancel = Callable[[System, Job], Coroutine[Any, Any, None]]
    Jobs = list[dict[str, Any]]


def end_with_task(hook: FirecRESTHook, context: Context, jobs: Jobs, *, forget: Callable[[], None]) -> None:
    """Cancel the jobs of a task that Airflow stops, if a person or ``execution_timeout`` has ended the task.

    Airflow also stops a task because its worker is stopped. Then the jobs go on, even if no try is left to adopt them.

    :param hook: with the connection that they were submitted with
    :param context: the task's
    :param jobs: as ``Job.to_dict`` gives them
    :param forget: deletes their records, if they go on and no try is left
    """
    if isinstance(sys.exception(), AirflowTaskTimeout):
        cancel_at_limit(hook, context, jobs)
        return
    try:
        reason = ask_cancel_reason(context["ti"])
    except Exception as error:
        # A signal handler calls this while the worker may be asking Airflow something else. Then Airflow refuses
        # another question.
        hook.log.warning("Airflow does not say whether this task was ended: %s", error)
        hook.log.info("If it was, the triggerer cancels this: %s", describe_jobs(jobs))
        return
    if reason is None:
        hook.log.info("Nobody ended this task, so this goes on: %s", describe_jobs(jobs))
        if is_last_try(context):
            forget()
    elif reason.final:
        cancel_jobs(hook, jobs)
    else:
        hook.log.info("The task was cleared: its new try, or the triggerer, cancels this: %s", describe_jobs(jobs))


def cancel_at_limit(hook: FirecRESTHook, context: Context, jobs: Jobs) -> None:
    """Cancel jobs whose try has taken too long. The limit is for one try: the next one, if any, runs them anew.

    :param hook: with the connection that they were submitted with
    :param context: the task's
    :param jobs: as ``Job.to_dict`` gives them
    """
    cancel_jobs(hook, jobs, attempt_alone=not is_last_try(context))


def cancel_jobs(hook: FirecRESTHook, jobs: Jobs, *, attempt_alone: bool = False) -> None:
    """Cancel jobs.

    :param hook: with the connection that they were submitted with
    :param jobs: as ``Job.to_dict`` gives them
    :param attempt_alone: a later try of the task may submit them again
    """
    from firecrest_core import lifecycle

    hook.run(cancel_each(hook, jobs, lifecycle.cancel_attempt if attempt_alone else lifecycle.cancel))
    hook.log.info("Cancelled %s.", describe_jobs(jobs))


async def cancel_each(hook: FirecRESTHook, jobs: Iterable[dict[str, Any]], cancel: Cancel) -> None:
    """Cancel jobs one after the other, and raise the first error when all were tried.

    :param hook: with the connection that they were submitted with
    :param jobs: as ``Job.to_dict`` gives them
    :param cancel: one of those of :mod:`firecrest_core.lifecycle`
    """
    from firecrest_core.errors import FirecRESTError
    from firecrest_core.jobs.job import Job

    problems = []
    async with hook.client() as client:
        for job in map(Job.from_dict, jobs):
            try:
                await cancel(client.system(job.system), job)
            except FirecRESTError as problem:
                problems.append(problem)
        if problems:
            raise problems[0]


def is_last_try(context: Context) -> bool:
    """Tell whether no automatic retry can follow.

    :param context: the task's
    """
    return context["ti"].try_number > context["ti"].max_tries
