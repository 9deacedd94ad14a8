"""What Airflow does not promise, and this provider stands on: a test for each function of ``airflow_internals``.

When Airflow changes one of these things, the test says which function is to be changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowTaskTimeout

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import BeforeRendering, StoredValue, TaskDeleted, TaskStateUnknown

TASK = {"dag_id": "dag", "task_id": "job", "run_id": "run", "map_index": -1}


@contextmanager
def contract(function: object, assumption: str) -> Iterator[None]:
    """Say which function no longer works, and what Airflow has changed, where the body fails."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        name = getattr(function, "__name__", function)
        pytest.fail(f"airflow_internals.{name} assumes that {assumption}. This Airflow differs: {error!r}")


@pytest.fixture
def stored(tables: Callable[[], Any]) -> Callable[..., None]:
    """Store a run, a task instance and its values in Airflow's own tables."""

    def store(state: str | None = "running", **values: Any) -> None:
        from airflow.models.dagrun import DagRun
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import insert

        now = datetime.now(UTC)
        run = {"id": 1, "run_id": "run", "dag_id": "dag", "run_type": "manual", "run_after": now, "log_template_id": 1}
        row = {"id": uuid.uuid4(), "state": state, "max_tries": 2, "pool_slots": 1, "pool": "default_pool"}
        with tables() as session:
            session.execute(insert(DagRun).values(**run))
            session.execute(insert(TaskInstance).values(**TASK, **row))
            for key, value in values.items():
                session.add(TaskStateStoreModel(**TASK, dag_run_id=1, key=key, value=json.dumps(value)))

    return store


def values(tables: Callable[[], Any]) -> dict[str, Any]:
    from airflow.models.task_state_store import TaskStateStoreModel
    from sqlalchemy import select

    query = select(TaskStateStoreModel.key, TaskStateStoreModel.value)
    with tables() as session:
        return {key: json.loads(value) for key, value in session.execute(query)}


# --- get_task_state ----------------------------------------------------------------------------------


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
def test_get_task_state(supervisor, stored, tables, ti, map_index) -> None:
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
        stored("failed")
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


# --- the database ------------------------------------------------------------------------------------


def test_read_stored_values(stored, tables) -> None:
    with contract(
        airflow_internals.read_stored_values,
        "TaskStateStoreModel holds the values of tasks as JSON, and has the columns of TaskInstance that name a task",
    ):
        stored("deferred", firecrest_jobs={"jobs": []}, other=1)
        [one] = airflow_internals.read_stored_values("firecrest_jobs")
        assert (one.dag_run, one.dag_id, one.task_id, one.map_index) == ((1, "run"), "dag", "job", -1)
        assert (json.loads(one.value), one.state, one.max_tries) == ({"jobs": []}, "deferred", 2)
        assert one.has_task


def test_read_stored_values_below_a_key(stored) -> None:
    with contract(airflow_internals.read_stored_values, "TaskStateStoreModel.key is a text that SQL can compare"):
        stored(**{"firecrest_jobs.a": 1, "firecrest_jobs": 1, "firecrest_jobsb": 1, "firecrestAjobs.a": 1})
        assert {one.key for one in airflow_internals.read_stored_values("firecrest_jobs")} == {
            "firecrest_jobs",
            "firecrest_jobs.a",
        }


def test_read_stored_values_of_some(stored) -> None:
    with contract(
        airflow_internals.read_stored_values,
        "TaskStateStoreModel has the columns id and dag_run_id, and TaskInstance has a state",
    ):
        stored("deferred", firecrest_jobs=1)
        [one] = airflow_internals.read_stored_values("firecrest_jobs")
        assert airflow_internals.last_stored_row() == one.row
        for some in ({"rows": [one.row]}, {"above": one.row - 1}, {"dag_runs": [1]}, {"state": "deferred"}):
            assert airflow_internals.read_stored_values("firecrest_jobs", **some) == [one]
        for none in ({"rows": [one.row + 1]}, {"rows": []}, {"above": one.row}, {"dag_runs": [2]}, {"state": "failed"}):
            assert airflow_internals.read_stored_values("firecrest_jobs", **none) == []


def test_is_reference(monkeypatch) -> None:
    from airflow.sdk.execution_time import context, task_runner

    sent: list[Any] = []
    backend = SimpleNamespace(serialize_task_state_store_to_ref=lambda **_: "elsewhere")
    with contract(
        airflow_internals.is_reference,
        "a worker with a state store backend of its own stores a mapping with the key __airflow_state_ref__ alone",
    ):
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=sent.append), raising=False)
        monkeypatch.setattr(context, "_get_worker_state_store_backend", lambda: backend)
        context.TaskStateStoreAccessor(uuid.uuid4(), None).set("key", {"jobs": []}, retention=context.NEVER_EXPIRE)
        [message] = sent
        assert airflow_internals.is_reference(message.value)
        assert not airflow_internals.is_reference({"jobs": []})
        assert not airflow_internals.is_reference(None)


def test_what_a_task_stores_is_what_is_read(monkeypatch) -> None:
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import SetTaskStateStore
    from airflow.sdk.execution_time.context import NEVER_EXPIRE, TaskStateStoreAccessor

    sent: list[SetTaskStateStore] = []

    class Supervisor:
        def send(self, message: SetTaskStateStore) -> None:
            sent.append(message)

    with contract(
        airflow_internals.read_stored_values,
        "context['task_state_store'] sends values as they are, with no expiry for NEVER_EXPIRE",
    ):
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
        TaskStateStoreAccessor(uuid.uuid4(), None).set("firecrest_jobs", {"jobs": []}, retention=NEVER_EXPIRE)
        [message] = sent
        assert (message.key, message.value, message.expires_at) == ("firecrest_jobs", {"jobs": []}, None)


@pytest.mark.parametrize(("state", "changed"), [("restarting", True), ("running", False)])
def test_change_stored_values(stored, tables, state, changed) -> None:
    with contract(
        airflow_internals.change_stored_values,
        "rows of TaskStateStoreModel can be changed while the row of their TaskInstance is locked",
    ):
        stored(state, firecrest=1, firecrest_jobs=1, other=1)
        [one] = airflow_internals.read_stored_values("firecrest_jobs")
        done = airflow_internals.change_stored_values(
            one, ["firecrest", "firecrest_jobs"], lambda value: f"{value}0", only_while="restarting"
        )
        assert done is changed
        number = 10 if changed else 1
        assert values(tables) == {"firecrest": number, "firecrest_jobs": number, "other": 1}


def test_delete_stored_values(stored, tables) -> None:
    with contract(airflow_internals.delete_stored_values, "rows of TaskStateStoreModel can be deleted"):
        stored(firecrest_jobs=1, other=1)
        [one] = airflow_internals.read_stored_values("firecrest_jobs")
        airflow_internals.delete_stored_values([StoredValue(**{**vars(one), "value": "2"})])
        assert values(tables) == {"firecrest_jobs": 1, "other": 1}
        airflow_internals.delete_stored_values([one])
        assert values(tables) == {"other": 1}


def test_existing_dag_runs(stored) -> None:
    with contract(airflow_internals.existing_dag_runs, "DagRun has the columns id and run_id"):
        stored()
        asked = {(1, "run"), (1, "another run of the same number"), (2, "run")}
        assert airflow_internals.existing_dag_runs(asked) == {(1, "run")}


# --- teams -------------------------------------------------------------------------------------------


@pytest.fixture
def teams(tmp_path, monkeypatch) -> None:
    """A database with a DAG and a connection of the team physics."""
    from airflow import models
    from airflow.models.connection import Connection
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.team import Team, dag_bundle_team_association_table
    from airflow.utils import session as airflow_session
    from sqlalchemy import create_engine, insert
    from sqlalchemy.orm import Session

    engine = create_engine(f"sqlite:///{tmp_path}/teams.db")
    models.import_all_models()
    tables = [model.__table__ for model in (Connection, DagModel, DagBundleModel, Team)]
    for table in (*tables, dag_bundle_team_association_table):
        table.create(engine)
    with Session(engine) as session, session.begin():
        session.execute(insert(Team).values(name="physics"))
        session.execute(insert(DagBundleModel).values(name="bundle"))
        session.execute(insert(dag_bundle_team_association_table).values(dag_bundle_name="bundle", team_name="physics"))
        row = {"is_paused": False, "bundle_name": "bundle", "max_active_tasks": 1, "max_active_runs": 1}
        row |= {"max_consecutive_failed_dag_runs": 0, "has_task_concurrency_limits": False, "fileloc": "x"}
        session.execute(insert(DagModel).values(dag_id="dag", **row))
        row = {"conn_type": "firecrest", "is_encrypted": False, "is_extra_encrypted": False}
        session.execute(insert(Connection).values(conn_id="daint", team_name="physics", **row))

    @contextmanager
    def create_session(scoped: bool = True) -> Iterator[Session]:
        with Session(engine) as session, session.begin():
            yield session

    monkeypatch.setattr(airflow_session, "create_session", create_session)
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")


def test_teams_of(teams, monkeypatch) -> None:
    with contract(
        airflow_internals.teams_of, "DagModel.get_dag_id_to_team_name_mapping gives the team of a DAG's bundle"
    ):
        assert airflow_internals.teams_of(["dag", "another"]) == {"dag": "physics"}
        monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "False")
        assert airflow_internals.teams_of(["dag"]) == {}


def test_get_connection_of_team(teams) -> None:
    with contract(
        airflow_internals.get_connection_of_team,
        "Connection.get_connection_from_secrets reads the connection of a team from the database",
    ):
        assert airflow_internals.get_connection_of_team("daint", "physics").conn_type == "firecrest"
        for conn_id, team in [("daint", "chemistry"), ("another", "physics")]:
            with pytest.raises(AirflowNotFoundException):
                airflow_internals.get_connection_of_team(conn_id, team)


# --- processes ---------------------------------------------------------------------------------------


class Listener:
    """A listener that keeps with what it was called, and what was known then."""

    def __init__(self) -> None:
        self.component: Any = None
        self.was_component = False
        self.was_triggerer = False

    def on_starting(self, component: Any) -> None:
        self.component = component
        self.was_component = airflow_internals.is_component(component)
        self.was_triggerer = airflow_internals.is_triggerer(component)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    """Receive what Airflow calls listeners with when a component starts."""
    from airflow.jobs import job

    listener = Listener()
    monkeypatch.setattr(job, "get_listener_manager", lambda: SimpleNamespace(hook=listener))
    return listener


def test_is_component(listener) -> None:
    from airflow.jobs.job import Job
    from airflow.sdk.execution_time.task_runner import TaskRunnerMarker

    with contract(
        airflow_internals.is_component,
        "the listeners of components are called with an airflow.jobs.job.Job, those of tasks with something else",
    ):
        Job()
        assert listener.was_component
        assert not airflow_internals.is_component(TaskRunnerMarker())


def test_is_triggerer(listener) -> None:
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.jobs.triggerer_job_runner import TriggererJobRunner

    with contract(
        airflow_internals.is_triggerer,
        "a triggerer's Job has the job_type 'TriggererJob', which is set after on_starting and before the fork",
    ):
        TriggererJobRunner(Job(), capacity=1)
        assert not listener.was_triggerer
        assert airflow_internals.is_triggerer(listener.component)
        SchedulerJobRunner(Job())
        assert not airflow_internals.is_triggerer(listener.component)


def test_a_triggerer_forks(listener, monkeypatch) -> None:
    from airflow.jobs.job import Job
    from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

    class Forked(Exception):
        pass

    def fork() -> None:
        raise Forked

    with contract(
        "is_triggerer and plugins.listener",
        "a triggerer runs its triggers in a process that it forks, so that hooks of os.register_at_fork are called",
    ):
        monkeypatch.setattr(os, "fork", fork)
        with pytest.raises(Forked):
            TriggerRunnerSupervisor.start(job=Job(), capacity=1)


@pytest.mark.parametrize(("component", "may_be"), [("triggerer", True), ("scheduler", False), ("dag_processor", False)])
def test_may_be_triggerer(component, may_be) -> None:
    with contract(
        airflow_internals.may_be_triggerer,
        "of all components the triggerer alone imports airflow.jobs.triggerer_job_runner",
    ):
        code = (
            f"import airflow.cli.commands.{component}_command;"
            "from airflow_provider_firecrest import airflow_internals;"
            "print(airflow_internals.may_be_triggerer())"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout.split()[-1] == str(may_be)


def test_hostname() -> None:
    with contract(airflow_internals.hostname, "airflow.utils.net.get_hostname names this host"):
        assert airflow_internals.hostname()


@pytest.mark.parametrize("component", ["triggerer", "worker"])
def test_metrics_of_this_process(component, monkeypatch) -> None:
    from airflow.jobs import triggerer_job_runner
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
    from airflow.sdk.execution_time import task_runner

    names = []

    class Backend(NoStatsLogger):
        def incr(self, stat, *_, **__):
            names.append(stat)

        gauge = timing = incr

    runner = triggerer_job_runner if component == "triggerer" else task_runner
    if component == "worker":
        monkeypatch.delitem(sys.modules, "airflow.jobs.triggerer_job_runner")
    with contract(
        airflow_internals.metrics_of_this_process,
        "a triggerer sets up the metrics of Airflow's core, and a task those of its Task SDK",
    ):
        try:
            runner.stats.initialize(factory=Backend, export_legacy_names=True)
            metrics = airflow_internals.metrics_of_this_process()
            metrics.incr("firecrest.requests", tags={"status": "200"})
            metrics.gauge("firecrest.jobs.waiting", 1, tags={"system": "here"})
            metrics.timing("firecrest.poll", timedelta(seconds=1), tags={"system": "here"})
        finally:
            runner.stats.initialize(factory=NoStatsLogger, export_legacy_names=True)
        assert names == ["firecrest.requests", "firecrest.jobs.waiting", "firecrest.poll"]


IMPORTS = """
import sys
from airflow.api_fastapi.execution_api import app
from airflow.dag_processing import manager
from airflow.jobs import scheduler_job_runner, triggerer_job_runner
from airflow.sdk.definitions import dag
from airflow.sdk.execution_time import supervisor, task_runner
from airflow_provider_firecrest.airflow_internals import is_api_server
assert not is_api_server()
"""


def test_is_api_server() -> None:
    def source(module: str) -> str:
        return Path(importlib.util.find_spec(module).origin).read_text()  # it is not imported: it may need gunicorn

    with contract(
        airflow_internals.is_api_server,
        "each way to start the API server imports airflow.api_fastapi.main, and no other component or dag.test() does",
    ):
        assert '"airflow.api_fastapi.main:app"' in source("airflow.cli.commands.api_server_command")
        assert "from airflow.api_fastapi.main import app" in source("airflow.api_fastapi.gunicorn_app")
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)


# --- rendering ---------------------------------------------------------------------------------------


class Changed(BeforeRendering, BaseOperator):
    template_fields = ("field",)

    def __init__(self, *, field: str, **more: Any) -> None:
        super().__init__(**more)
        self.field = field

    def before_rendering(self, jinja_env: Any) -> None:
        assert jinja_env.from_string("{{ 1 }}").render() == "1"
        self.field += " of {{ ds }}"


def test_before_rendering() -> None:
    with contract(
        BeforeRendering, "BaseOperator.render_template_fields calls _do_render_template_fields of the operator"
    ):
        task = Changed(task_id="t", field="file")
        task.render_template_fields({"ds": "today"})
        assert task.field == "file of today"


def test_before_rendering_of_a_mapped_task(ti) -> None:
    with contract(
        BeforeRendering,
        "MappedOperator.render_template_fields calls _do_render_template_fields of the operator that it expands to",
    ):
        with DAG("d", schedule=None) as dag:
            mapped = Changed.partial(task_id="t").expand(field=["one", "two"])
        ti.map_index, ti.task = 1, mapped
        context: dict[str, Any] = {"ds": "today", "ti": ti, "dag": dag, "dag_run": SimpleNamespace(conf={})}
        mapped.render_template_fields(context)
        assert context["task"].field == "two of today"


def test_syntax_error() -> None:
    with contract(airflow_internals.syntax_error, "an operator's get_template_env returns an environment of Jinja"):
        jinja_env = BaseOperator(task_id="t").get_template_env()
        assert airflow_internals.syntax_error("{{ ds }}\n{{ fine }}", jinja_env) is None
        assert airflow_internals.syntax_error("first\n${#a[@]}", jinja_env) == (2, "Missing end of comment tag")


def test_get_xcom(monkeypatch, ti) -> None:
    import inspect

    from airflow.sdk.execution_time.xcom import XCom

    explanation = (
        "airflow_internals.get_xcom asks XCom.aget_one(key, dag_id, task_id, run_id, map_index): it has changed"
    )
    parameters = inspect.signature(XCom.aget_one).parameters
    assert {"key", "dag_id", "task_id", "run_id", "map_index"} <= parameters.keys(), explanation
    assert inspect.iscoroutinefunction(XCom.aget_one), explanation

    async def refuses(**asked: Any) -> None:
        raise RuntimeError("no supervisor")

    monkeypatch.setattr(XCom, "aget_one", refuses)
    with pytest.raises(airflow_internals.TaskStateUnknown, match="no supervisor"):
        asyncio.run(airflow_internals.get_xcom(ti, "job_id"))


# --- the task that a worker executes -------------------------------------------------------------------


@pytest.mark.parametrize(("error", "called"), [(None, ["success"]), (AirflowTaskTimeout, ["kill"]), (ValueError, [])])
def test_attach(run_function, ti, error, called) -> None:
    calls: list[str] = []

    def function() -> None:
        for attached in (["replaced"], calls):
            airflow_internals.attach(
                ti.task,
                on_kill=lambda to=attached: to.append("kill"),
                on_success=lambda to=attached: to.append("success"),
            )
        if error is not None:
            raise error

    with contract(
        airflow_internals.attach,
        "the task runner calls on_kill at AirflowTaskTimeout, and post_execute when execute has returned",
    ):
        with contextlib.suppress(AirflowTaskTimeout, ValueError):
            run_function(function, execution_timeout=timedelta(hours=1))
        assert calls == called


# --- XComs ---------------------------------------------------------------------------------------------


def test_allow_in_xcoms(monkeypatch) -> None:
    from airflow.sdk import serde

    from firecrest_core.jobs.job import Job

    monkeypatch.setattr(serde, "_extra_allowed", set())
    job = Job(system="daint", job_id="1")
    stored = json.loads(json.dumps(serde.serialize(job)))
    with contract(
        airflow_internals.allow_in_xcoms,
        "airflow.sdk.serde reads objects of the classes in _extra_allowed, by their serialize() and deserialize()",
    ):
        with pytest.raises(ImportError, match="allow list"):
            serde.deserialize(stored)
        airflow_internals.allow_in_xcoms(["firecrest_core.jobs.job.Job"])
        assert serde.deserialize(stored) == job
