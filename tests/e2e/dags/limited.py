"""Jobs that take slots of the pool `rig`."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator

with DAG("limited", schedule=None, max_active_tasks=5):
    FirecRESTSubmitOperator.partial(
        task_id="point",
        command="echo +1 $(date +%s.%N) >> moments; sleep 3; echo -1 $(date +%s.%N) >> moments",
        working_dir=os.environ["FIRECREST_WORKDIR"],
        poll_interval=1,
        pool="rig",
    ).expand(job=[{"environment": {"POINT": str(number)}} for number in range(5)])
