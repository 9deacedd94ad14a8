"""The suite for Airflow: an operator runs as in the worker, the triggerer and the worker again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_firecrest.operators import FirecRESTSubmitOperator
from firecrest_core.connection import Connection
from tests.airflow.conftest import TaskInstance, airflow_home, fire
from tests.conformance.suite import Conformance, Engine, Outcome

__all__ = ["airflow_home"]


class Airflow(Engine):
    """The parts of Airflow that a task uses. tests/e2e run a whole Airflow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.task_instances: dict[str, TaskInstance] = {}
        self.triggers: dict[str, Any] = {}

    def run(self, task: str, job: dict[str, Any]) -> Outcome:
        operator, context = self._operator(task, job), self._context(task)
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(context)
        event = asyncio.run(fire(deferred.value.trigger))
        kwargs = json.loads(json.dumps(deferred.value.kwargs))
        result = self._operator(task, job).resume_execution(
            deferred.value.method_name, {"event": event, **kwargs}, context
        )
        return Outcome(result["job_id"], result["name"], result["state"], result["exit_code"])

    def crash_after_submission(self, task: str, job: dict[str, Any]) -> str:
        with pytest.raises(TaskDeferred) as deferred:
            self._operator(task, job).execute(self._context(task))
        self.triggers[task] = deferred.value.trigger
        job_id: str = self.task_instances[task].pushed["job_id"]
        return job_id

    def cancel(self, task: str) -> None:
        """Mark the task failed; Airflow calls `on_kill` of its trigger."""
        trigger, ti = self.triggers[task], self.task_instances[task]
        trigger.task_instance = ti
        self.monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {ti.run_id: {task: "failed"}})
        asyncio.run(trigger.on_kill())

    def _operator(self, task: str, job: dict[str, Any]) -> FirecRESTSubmitOperator:
        return FirecRESTSubmitOperator(task_id=task, job=job, poll_interval=0.2)

    def _context(self, task: str) -> dict[str, Any]:
        ti = self.task_instances.setdefault(task, TaskInstance(task_id=task))
        return {"ti": ti, "task_state_store": ti.state_store}


class TestAirflow(Conformance):
    @pytest.fixture
    def engine(self, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Engine:
        stored = {
            "conn_type": "firecrest",
            "host": connection.url,
            "login": connection.client_id,
            "password": connection.secret.get_secret_value(),
            "extra": {"auth_url": connection.token_url, "system": connection.system},
        }
        monkeypatch.setenv("AIRFLOW_CONN_FIRECREST_DEFAULT", json.dumps(stored))
        return Airflow(monkeypatch)
