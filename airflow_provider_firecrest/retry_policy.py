"""Which failures of a FirecREST task are worth another try."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowTaskTimeout

from firecrest_core.errors import FirecRESTError, JobFailed, SubmissionUnknown

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTRetryPolicy(RetryPolicy):
    """Retry what may go well as it is; fail at once where another try would end in the same way.

    ``retries`` of the task is how often::

        FirecRESTSubmitOperator(..., retries=3, retry_policy=FirecRESTRetryPolicy())

    Tried again are a node that failed or did not boot, preemption, a server or network that was away, and a file that
    did not arrive whole. Not tried again are a script that failed, too little memory or time, a job that was
    cancelled, ``execution_timeout``, and what the user has to mend. Every other exception is left to ``retries``
    alone.

    :param delay: before a job that lost its node is submitted once more: short, because it then waits in the queue
        anyway. All others wait for the task's ``retry_delay``.
    """

    def __init__(self, delay: timedelta = timedelta(minutes=1)) -> None:
        self.delay = delay

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        if isinstance(exception, AirflowTaskTimeout):
            return RetryDecision.fail("execution_timeout would pass again")
        if not isinstance(exception, FirecRESTError):
            return RetryDecision.default()
        kind = type(exception).__name__
        if exception.retryable:
            return RetryDecision.retry(
                self.delay if isinstance(exception, JobFailed) else None, f"{kind}: another try may go well"
            )
        if isinstance(exception, SubmissionUnknown):
            return RetryDecision.fail(f"{kind}: the job may exist, and another try would submit it twice")
        if isinstance(exception, JobFailed) or exception.users:
            return RetryDecision.fail(f"{kind}: another try would end in the same way")
        return RetryDecision.default()
