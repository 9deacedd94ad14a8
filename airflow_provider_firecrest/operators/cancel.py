"""The operator that cancels a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_firecrest.links.job import CentreJobLink
from airflow_provider_firecrest.operators.base import FirecRESTBaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class FirecRESTCancelOperator(FirecRESTBaseOperator):
    """Cancel a job. Cancelling one that has ended succeeds.

    :param job_id: the job's id
    """

    template_fields: Sequence[str] = (*FirecRESTBaseOperator.template_fields, "job_id")
    operator_extra_links = (CentreJobLink(),)

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def execute(self, context: Context) -> None:
        """Cancel the job.

        :param context: the task's
        """
        self.hook.cancel_job(str(self.job_id), system=self.system)
        self.log.info("Job %s was cancelled, unless it had ended.", self.job_id)
