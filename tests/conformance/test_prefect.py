"""The suite for Prefect: each task is a flow run, and its next try runs the same flow run again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from prefect import Flow, flow, get_client
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry

from firecrest_core.connection import Connection
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob, FirecRESTJobRun, cancel_job, submit_job, wait_for_job
from tests.conformance.suite import Conformance, Engine, Outcome
from tests.prefect.conftest import prefect_api

__all__ = ["prefect_api"]


class Crash(Exception):
    """Ends a flow run after its submission."""


class Prefect(Engine):
    """A Prefect server, and flows that run in this process."""

    def __init__(self, credentials: FirecRESTCredentials) -> None:
        self.credentials = credentials
        self.flow_runs: dict[str, UUID] = {}
        self.submitted: dict[str, FirecRESTJobRun] = {}

    def run(self, task: str, job: dict[str, Any]) -> Outcome:
        block = self._block(job)

        @flow(name=task)
        def to_the_end() -> Outcome:
            result = wait_for_job(submit_job(block))
            return Outcome(result.job_id, result.name, result.state.value, result.exit_code)

        outcome: Outcome = self._run(task, to_the_end)
        return outcome

    def crash_after_submission(self, task: str, job: dict[str, Any]) -> str:
        block = self._block(job)

        @flow(name=task)
        def crash() -> None:
            self.submitted[task] = submit_job(block)
            raise Crash

        with pytest.raises(Crash):
            self._run(task, crash)
        return self.submitted[task].job_id

    def cancel(self, task: str) -> None:
        cancel_job(self.submitted[task])

    def _block(self, job: dict[str, Any]) -> FirecRESTJob:
        return FirecRESTJob(credentials=self.credentials, poll_interval=0.2, **job)

    def _run(self, task: str, flow: Flow[..., Any]) -> Any:
        with get_client(sync_client=True) as client:
            if task not in self.flow_runs:
                self.flow_runs[task] = client.create_flow_run(flow).id
            else:
                client.set_flow_run_state(self.flow_runs[task], AwaitingRetry(), force=True)
            flow_run = client.read_flow_run(self.flow_runs[task])
        return run_flow(flow, flow_run=flow_run)


class TestPrefect(Conformance):
    @pytest.fixture
    def engine(self, connection: Connection) -> Engine:
        return Prefect(
            FirecRESTCredentials(
                url=connection.url,
                token_url=connection.token_url,
                client_id=connection.client_id,
                client_secret=connection.client_secret,
                system=connection.system,
            )
        )
