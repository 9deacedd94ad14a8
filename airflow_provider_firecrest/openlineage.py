"""What OpenLineage says of a job. Airflow's provider for it asks the operator; nothing else imports this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.openlineage.extractors import OperatorLineage
from attrs import define
from openlineage.client.facet_v2 import RunFacet

from firecrest_core.documentation import page_url

if TYPE_CHECKING:
    from collections.abc import Mapping

FACET = "firecrest_job"


@define
class FirecRESTJobRunFacet(RunFacet):
    """The job of a task's run.

    :param jobId: its id
    :param system: the system where it ran
    :param state: how it ended
    :param nodeHours: what it has cost, if the scheduler says it
    """

    jobId: str  # noqa: N815  # names of facets are written so
    system: str
    state: str
    nodeHours: float | None = None  # noqa: N815

    @staticmethod
    def _get_schema() -> str:
        return page_url("monitoring.html#assets-and-lineage")


def job_lineage(job: Mapping[str, Any] | None) -> OperatorLineage[Any, Any]:
    """Return the facets of a task. Its files are told by Airflow's lineage collector.

    :param job: as :func:`airflow_provider_firecrest.xcom.job_mapping` gives it; ``None`` if none has ended
    """
    if job is None:
        return OperatorLineage()
    facet = FirecRESTJobRunFacet(job["job_id"], job["system"], job["state"], job["node_hours"])
    return OperatorLineage(run_facets={FACET: facet})
