"""Which failures of a job are retried in a real Airflow."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness.airflow.stack import AirflowStack


def wait_for_end(stack: AirflowStack) -> dict[str, Any]:
    deadline = time.monotonic() + 300  # a node failure is final when the job is not requeued within a minute
    while stack.api.run_state("fails", "one") not in ("success", "failed"):
        assert time.monotonic() < deadline, stack.api.task_instances("fails", "one")
        time.sleep(0.5)
    return {task["task_id"]: task for task in stack.api.task_instances("fails", "one")}


def test_a_node_failure_is_retried_and_a_failing_script_is_not(stack: AirflowStack) -> None:
    stack.api.trigger("fails", "one")
    tasks = wait_for_end(stack)
    outcomes = {name: (task["state"], task["try_number"]) for name, task in tasks.items()}
    assert outcomes == {
        "node": ("success", 2),
        "node_in_worker": ("success", 2),
        "script": ("failed", 1),
        "script_in_worker": ("failed", 1),
    }
    folder = Path(stack.firecrest.variables["FIRECREST_WORKDIR"])
    runs = {file.name: len(file.read_text().split()) for file in folder.glob("*.runs")}
    assert runs == {"node.runs": 2, "worker.runs": 2, "script.runs": 2}  # the last one is written by two tasks
    for name in ("script", "script_in_worker"):
        log = stack.api.log("fails", "one", tasks[name])
        assert "Retry policy decision" in log
        assert "exit code 3" in log
