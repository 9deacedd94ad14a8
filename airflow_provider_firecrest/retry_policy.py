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

    The task's ``retries`` says how often::

        FirecRESTSubmitOperator(..., retries=3, retry_policy=FirecRESTRetryPolicy())

    These are tried again: a node that failed or did not boot, preemption, a server or network that was away, and a file
    that did not arrive whole. These are not: a script that failed, too little memory or time, a job that was cancelled,
    ``execution_timeout``, and what the user has to mend. Every other exception is left to ``retries`` alone.

    :param delay: how long to wait before a job that lost its node is submitted once more. It is short, because the job
        then waits in the queue anyway. All others wait for the task's ``retry_delay``.
    """

    def __init__(self, delay: timedelta = timedelta(minutes=1)) -> None:
        self.delay = delay

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide whether the task is tried again.

        :param exception: what ended the try
        :param try_number: which try it was
        :param max_tries: how many may be made
        :param context: the task's
        """
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
        if isinstance(exception, JobFailed) or exception.user_error:
            return RetryDecision.fail(f"{kind}: another try would end in the same way")
        return RetryDecision.default()
