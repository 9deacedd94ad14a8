"""The metrics that a task has stored of its job, which users may edit in Airflow's API."""

from __future__ import annotations

import json

from airflow_provider_firecrest.airflow_internals import jobs as tables
from airflow_provider_firecrest.job_metrics import METRICS_KEY
from airflow_provider_firecrest.monitoring.rows import JobRow
from firecrest_core.metrics import Metrics


def metrics_of(row: JobRow) -> Metrics | None:
    """Return the metrics of a job; ``None`` if its task has stored none, or what is no metrics of this job.

    :param row: the job
    """
    run = None if row.ended_earlier else tables.run_by_name(row.dag_id, row.run_id)
    if run is None:
        return None
    key = f"{METRICS_KEY}.{row.snapshot.job_id}"
    stored = tables.stored_jobs([run.number], key, key, task=(row.task_id, row.map_index))
    for one in stored:
        try:
            found = json.loads(one.value or "null")
            if one.is_xcom and found["job_id"] == row.snapshot.job_id:
                return Metrics.from_dict(found)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError, OverflowError):
            continue
    return None
