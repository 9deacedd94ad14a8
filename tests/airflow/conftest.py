"""An embedded FirecREST behind an Airflow connection, and a way to run tasks as Airflow does."""

from __future__ import annotations

import os
import tempfile

# Airflow reads these when it is imported first.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "INFO"
# These tests have no real workers whose end Airflow would have to notice.
os.environ["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] = "0"

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.module_loading import import_string

from firecrest_local import LocalFirecREST


@pytest.fixture(scope="session", autouse=True)
def airflow_home() -> Iterator[None]:
    yield
    shutil.rmtree(os.environ["AIRFLOW_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def masker() -> None:
    """Forget the secrets of the tests before: for each new one, Airflow's masker compiles all that it knows anew."""
    from airflow.sdk._shared.secrets_masker import reset_secrets_masker

    reset_secrets_masker()


@pytest.fixture
def stored(f7t: LocalFirecREST) -> dict[str, Any]:
    """The connection's fields, as Airflow's JSON form has them."""
    return {
        "conn_type": "firecrest",
        "host": f7t.url,
        "login": f7t.client_id,
        "password": f7t.client_secret,
        "extra": {"auth_url": f7t.token_url, "system": f7t.system},
    }


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Store a connection where Airflow looks for it."""

    def store(connection: dict[str, Any] | str, conn_id: str = "firecrest_default") -> None:
        text = connection if isinstance(connection, str) else json.dumps(connection)
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)

    return store


@pytest.fixture
def connected(f7t: LocalFirecREST, store: Callable[..., None], stored: dict[str, Any]) -> LocalFirecREST:
    """The server, with ``firecrest_default`` pointing at it."""
    store(stored)
    return f7t


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Airflow's tables of tasks, runs and task states, with nothing in them; returns what makes sessions."""
    from airflow import models
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.utils import session as airflow_session
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    engine = create_engine(f"sqlite:///{tmp_path}/airflow.db")
    models.import_all_models()
    for model in (models.TaskInstance, models.DagRun, TaskStateStoreModel):
        model.__table__.create(engine)

    @contextmanager
    def create_session() -> Iterator[Session]:
        with Session(engine) as session, session.begin():
            yield session

    monkeypatch.setattr(airflow_session, "create_session", create_session)
    return create_session


class StateStore(dict[str, str]):
    """Airflow's store for a task's state: it survives tries, and holds JSON."""

    def get(self, key: str, default: Any = None) -> Any:  # type: ignore[override]
        return json.loads(self[key]) if key in self else default

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class TaskInstance:
    """As much of a task instance as operators and triggers look at."""

    task_id: str = "task"
    dag_id: str = "dag"
    run_id: str = "run"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    start_date: datetime = field(default_factory=lambda: datetime.now(UTC))
    task: Any = None
    pushed: dict[str, Any] = field(default_factory=dict)
    pulled: dict[tuple[str, int | None], Any] = field(default_factory=dict)
    _ti_context_from_server: Any = None
    state_store: StateStore = field(default_factory=lambda: StateStore())

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, map_indexes: int | None = None) -> Any:
        return self.pulled.get((task_ids, map_indexes))


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What triggers have stored as XComs."""
    xcoms: dict[str, Any] = {}

    async def push(ti: Any, key: str, value: Any) -> None:
        xcoms[key] = value

    monkeypatch.setattr("airflow_provider_firecrest.triggers.job.push_xcom", push)
    return xcoms


@dataclass
class Run:
    """A task that was run: what it returned, and the deferrals on the way."""

    result: Any
    deferrals: list[TaskDeferred]
    events: list[dict[str, Any]]
    outlet_events: OutletEventAccessors


@pytest.fixture
def run_task(ti: TaskInstance) -> Callable[..., Run]:
    """Run a task to its end, as worker, triggerer and worker again do.

    What passes between them goes through JSON, and the second half runs on an operator of its own. ``when_deferred`` is
    called before the trigger runs.
    """

    def run_task(
        make: Callable[[], Any], ti: TaskInstance = ti, when_deferred: Callable[[], None] = lambda: None
    ) -> Run:
        outlet_events = OutletEventAccessors()
        context = {"ti": ti, "task_state_store": ti.state_store, "outlet_events": outlet_events}
        deferrals, events = [], []

        def resume(call: Callable[[], Any]) -> Any:
            try:
                return call()
            except TaskDeferred as deferral:
                deferred = deferral
            deferrals.append(deferred)
            when_deferred()
            path, arguments = json.loads(json.dumps(deferred.trigger.serialize()))
            trigger = import_string(path)(**arguments)
            trigger.task_instance = ti
            events.append(asyncio.run(fire(trigger)))
            kwargs = {"event": events[-1], **json.loads(json.dumps(deferred.kwargs or {}))}
            return resume(lambda: make().resume_execution(deferred.method_name, kwargs, context))

        return Run(resume(lambda: make().execute(context)), deferrals, events, outlet_events)

    return run_task


@pytest.fixture
def run_function(ti: TaskInstance) -> Callable[..., Any]:
    """Run a function as a TaskFlow task, as the task runner of a worker does."""
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk.execution_time.context import set_current_context
    from airflow.sdk.execution_time.task_runner import _execute_task

    def run_function(function: Callable[[], Any], ti: TaskInstance = ti, **arguments: Any) -> Any:
        ti.task = PythonOperator(task_id=ti.task_id, python_callable=function, **arguments)
        context: Any = {
            "ti": ti,
            "task_state_store": ti.state_store,
            "outlet_events": OutletEventAccessors(),
        }
        with set_current_context(context):
            return _execute_task(context, ti, structlog.get_logger("task"))

    return run_function


async def fire(trigger: Any) -> dict[str, Any]:
    """Run a trigger and return its one event."""
    fired = [event.payload async for event in trigger.run()]
    assert len(fired) == 1
    return json.loads(json.dumps(fired[0]))


@pytest.fixture
def first_event() -> Callable[[Any], Any]:
    return fire


@pytest.fixture
def task_log(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What the task's log says so far."""
    pieces: list[str] = []

    def task_log() -> str:
        pieces.append(capfd.readouterr().out)
        return "".join(pieces)

    return task_log
