"""The state of a task, as its worker or trigger asks for it: contract tests of ``airflow_internals``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import TaskDeleted, TaskStateUnknown
from tests.airflow.internals.contract import contract


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch, tables: Callable[[], Any]) -> Any:
    """Airflow's supervisor, which answers as the route of its API server does."""
    from airflow.api_fastapi.execution_api.routes.task_instances import get_task_instance_states
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

    class Supervisor:
        def send(self, question: GetTaskStates) -> TaskStatesResult:
            assert isinstance(question, GetTaskStates)
            asked = question.model_dump(exclude={"type"})
            with tables() as session:
                answer = get_task_instance_states(session=session, dag_bag=None, **asked)
            return TaskStatesResult(task_states=answer.task_states)

    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


@pytest.mark.parametrize("map_index", [-1, 3])
def test_get_task_state(supervisor, store_task, tables, ti, map_index) -> None:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import update

    ti.task_id, ti.map_index = "job", map_index
    with contract(
        airflow_internals.get_task_state,
        "RuntimeTaskInstance.get_task_states asks the supervisor for the states of task instances, and that the answer "
        "names a run's tasks by their ids, and elements of mapped tasks by id and index",
    ):
        with pytest.raises(TaskDeleted):
            airflow_internals.get_task_state(ti)
        store_task("failed")
        with tables() as session:
            session.execute(update(TaskInstance).values(map_index=map_index))
        assert airflow_internals.get_task_state(ti) == "failed"


def test_get_task_state_when_airflow_refuses_another_question(supervisor, ti, monkeypatch) -> None:
    from airflow.sdk.execution_time.comms import CommsDecoder

    class Busy(CommsDecoder):
        """What a signal handler finds when it has interrupted the event loop in a question."""

        _is_on_loop_thread = True

    with contract(
        airflow_internals.get_task_state,
        "a question during another one is refused by DeadlockImminentError, which is no Exception",
    ):
        busy = Busy(socket=None)
        busy._thread_lock.acquire()
        monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", busy)
        with pytest.raises(TaskStateUnknown, match="deadlock"):
            airflow_internals.get_task_state(ti)
