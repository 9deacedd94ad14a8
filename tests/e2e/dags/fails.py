"""Jobs that fail: by their node, and by their script."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from airflow_provider_firecrest.retry_policy import FirecRESTRetryPolicy

# The script's parent supervises the job: when it dies, the embedded scheduler reports NODE_FAIL.
NODE = """#!/bin/bash
echo $SLURM_JOB_ID >> node.runs
[ $(wc -l < node.runs) -gt 1 ] || kill -9 $PPID
"""
SCRIPT = """#!/bin/bash
echo $SLURM_JOB_ID >> script.runs
exit 3
"""

with DAG(
    "fails",
    schedule=None,
    default_args={
        "working_dir": os.environ["FIRECREST_WORKDIR"],
        "poll_interval": 1,
        "retries": 3,
        "retry_delay": timedelta(0),
        "retry_policy": FirecRESTRetryPolicy(delay=timedelta(seconds=1)),
    },
):
    FirecRESTSubmitOperator(task_id="node", script=NODE)
    FirecRESTSubmitOperator(task_id="node_in_worker", script=NODE.replace("node.", "worker."), deferrable=False)
    FirecRESTSubmitOperator(task_id="script", script=SCRIPT)
    FirecRESTSubmitOperator(task_id="script_in_worker", script=SCRIPT, deferrable=False)
