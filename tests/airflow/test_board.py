"""What the page of HPC jobs knows: the jobs of the last month, read from Airflow's own tables."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_firecrest.job_metrics import METRICS_KEY
from airflow_provider_firecrest.job_snapshots import ENDED_KEY, FOLLOWED_KEY, SNAPSHOT_KEY
from airflow_provider_firecrest.monitoring import board as board_module
from airflow_provider_firecrest.monitoring import known_runs
from airflow_provider_firecrest.monitoring.board import JobBoard
from airflow_provider_firecrest.monitoring.metrics import metrics_of
from airflow_provider_firecrest.monitoring.query import JobQuery, SortKey, select
from firecrest_core.jobs.snapshot import HistoryLine, JobSnapshot
from firecrest_core.metrics import Metrics
from firecrest_core.states import JobState, Phase

NOW = datetime.now(UTC)


def job(job_id: str = "57", **fields: Any) -> JobSnapshot:
    usual = {"system": "daint", "name": "relax", "submitted_at": NOW.timestamp() - 600, "seen_at": NOW.timestamp()}
    return JobSnapshot(job_id=job_id, **usual | fields)


class Database:
    """Airflow's tables, with what a test needs in them."""

    def __init__(self, sessions: Callable[[], Any]) -> None:
        self.sessions = sessions
        from airflow.models.xcom import XComModel

        with sessions() as session:
            XComModel.__table__.create(session.connection())

    def run(self, number: int, dag_id: str = "dag", *, state: str = "running", age: timedelta = timedelta()) -> None:
        from airflow.models.dagrun import DagRun
        from sqlalchemy import insert

        row = {"id": number, "dag_id": dag_id, "run_id": f"run-{number}", "run_type": "manual", "_state": state}
        dates = {"run_after": NOW - age, "created_at": NOW - age, "updated_at": NOW - age, "log_template_id": 1}
        with self.sessions() as session:
            session.execute(insert(DagRun).values(**row, **dates))

    def task(self, number: int, dag_id: str = "dag", *, task_id: str = "job", map_index: int = -1) -> dict[str, Any]:
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import insert

        task = {"dag_id": dag_id, "run_id": f"run-{number}", "task_id": task_id, "map_index": map_index}
        row = {"id": uuid.uuid4(), "state": "deferred", "try_number": 1, "max_tries": 2}
        with self.sessions() as session:
            session.execute(insert(TaskInstance).values(**task, **row, pool="default_pool", pool_slots=1))
        return task

    def xcom(self, number: int, task: dict[str, Any], value: Any, key: str = SNAPSHOT_KEY) -> None:
        from airflow.models.xcom import XComModel
        from sqlalchemy import delete, insert

        value = value.to_dict() if isinstance(value, JobSnapshot) else value
        row = {**task, "dag_run_id": number, "key": key}
        with self.sessions() as session:
            session.execute(delete(XComModel).filter_by(**row))
            session.execute(insert(XComModel).values(**row, value=value, timestamp=datetime.now(UTC)))

    def ended(self, number: int, task: dict[str, Any], *jobs: JobSnapshot) -> None:
        from airflow.models.task_state_store import TaskStateStoreModel as Stored

        value = json.dumps([one.to_dict() for one in jobs])
        with self.sessions() as session:
            session.add(Stored(**task, dag_run_id=number, key=ENDED_KEY, value=value))

    def add(self, number: int, *jobs: JobSnapshot, dag_id: str = "dag", **run: Any) -> None:
        """Add a run, with a task for each job."""
        self.run(number, dag_id, **run)
        for index, one in enumerate(jobs):
            self.xcom(number, self.task(number, dag_id, map_index=index), one)

    def execute(self, statement: Any) -> None:
        with self.sessions() as session:
            session.execute(statement)


@pytest.fixture
def database(tables: Callable[[], Any]) -> Database:
    return Database(tables)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> JobBoard:
    """A board that each view refreshes."""
    monkeypatch.setattr(board_module, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(board_module, "_TIMES", 0.0)
    return JobBoard()


def ids(board: JobBoard, readable: tuple[str, ...] = ("dag",), **query: Any) -> list[str]:
    return [row.snapshot.job_id for row in board.find(JobQuery(**query), readable).rows]


# --- what is read -------------------------------------------------------------------------------------


def test_a_job_appears_changes_and_is_deleted_with_its_run(database, board) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel
    from sqlalchemy import delete

    page = board.find(JobQuery(), ["dag"])
    assert (page.rows, page.total, page.pages, page.complete) == ((), 0, 1, True)
    database.run(1)
    task = database.task(1, map_index=3)
    database.xcom(1, task, job())
    [row] = board.find(JobQuery(), ["dag"]).rows
    assert (row.dag_id, row.run_id, row.task_id, row.map_index) == ("dag", "run-1", "job", 3)
    assert (row.task_state, row.try_number, row.ended_earlier, row.is_watched) == ("deferred", 1, False, True)
    assert row.snapshot == job()
    database.xcom(1, task, job(state=JobState.RUNNING))
    assert [row.snapshot.state for row in board.find(JobQuery(), ["dag"]).rows] == [JobState.RUNNING]
    database.execute(delete(XComModel))
    database.execute(delete(DagRun))
    assert ids(board) == []
    assert board.dag_ids() == frozenset()


def test_each_change_of_a_task_is_seen_while_its_run_is_active(database, board) -> None:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import update

    database.add(1, job(state=JobState.RUNNING))
    assert ids(board) == ["57"]
    database.execute(update(TaskInstance).values(state="failed"))
    [row] = board.find(JobQuery(), ["dag"]).rows
    assert (row.task_state, row.is_watched) == ("failed", False)


def test_jobs_of_earlier_tries_are_shown_once(database, board) -> None:
    database.run(1)
    task = database.task(1)
    failed, again = job("1", state=JobState.FAILED), job("2")
    database.ended(1, task, failed)
    database.xcom(1, task, again)
    rows = board.find(JobQuery(sort=SortKey.JOB_ID, descending=False), ["dag"]).rows
    assert [(row.snapshot.job_id, row.ended_earlier) for row in rows] == [("1", True), ("2", False)]
    database.xcom(1, task, failed)
    assert [row.ended_earlier for row in board.find(JobQuery(), ["dag"]).rows] == [False]


def test_a_job_that_another_one_follows_is_no_earlier_try(database, board) -> None:
    database.run(1)
    task = database.task(1)
    followed = job("1", state=JobState.TIMEOUT, history=(HistoryLine(1.0, "the next job follows"),))
    database.ended(1, task, replace(followed, history=()))
    database.xcom(1, task, followed, key=f"{FOLLOWED_KEY}1")
    database.xcom(1, task, job("2"))
    rows = board.find(JobQuery(sort=SortKey.JOB_ID, descending=False), ["dag"]).rows
    found = [(row.snapshot.job_id, row.ended_earlier, row.is_followed) for row in rows]
    assert found == [("1", False, True), ("2", False, False)]
    assert board.get("dag", "run-1", "job", -1, "1").snapshot == followed


def test_several_jobs_of_one_task_have_keys_below(database, board) -> None:
    database.run(1)
    task = database.task(1)
    for key, one in {"": "1", ".a": "2", "s": "3", "_x": "4"}.items():
        database.xcom(1, task, job(one), key=f"{SNAPSHOT_KEY}{key}")
    assert sorted(ids(board)) == ["1", "2"]


def test_an_ended_run_is_read_again_when_it_is_cleared(database, board, monkeypatch) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel
    from sqlalchemy import delete, update

    database.add(1, job(), state="success", age=timedelta(days=2))
    assert ids(board) == ["57"]
    database.execute(delete(XComModel))
    database.execute(update(DagRun).values(updated_at=datetime.now(UTC)))
    assert ids(board) == []


def test_the_window_is_filled_in_slices_and_ends_after_a_month(database, board, monkeypatch) -> None:
    monkeypatch.setattr(known_runs, "_SLICES", (1, 2))
    monkeypatch.setattr(known_runs, "_SECONDS_OF_READING", (0.0, 0.0))
    for number in range(1, 6):
        database.add(number, job(str(number)), state="success", age=timedelta(days=9 * (5 - number)))
    database.add(9, job("9"), age=timedelta(days=90))
    board = JobBoard()
    seen = []
    while not seen or not seen[-1].complete:
        board._due = 0.0
        seen.append(board.find(JobQuery(sort=SortKey.JOB_ID, descending=False), ["dag"]))
        assert len(seen) < 20
    found = [[row.snapshot.job_id for row in page.rows] for page in seen]
    assert "9" in found[0]  # it is old, but it still runs
    assert "2" not in found[0]
    assert found[-1] == ["2", "3", "4", "5", "9"]  # 1 is too old


def test_there_are_only_so_many_jobs_and_the_newest_stay(database, board, monkeypatch) -> None:
    monkeypatch.setattr(known_runs, "MOST_JOBS", 3)
    for number in range(1, 6):
        database.add(number, job(str(number)), state="success", age=timedelta(days=6 - number))
    page = board.find(JobQuery(), ["dag"])
    assert page.truncated
    assert page.complete
    database.add(6, job("6"))
    assert sorted(ids(board)) == ["4", "5", "6"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        17,
        {"__airflow_xcom_ref__": "s3://bucket/key"},
        {"job_id": "57"},
        {"job_id": "", "system": "daint", "state": "RUNNING"},
        {"job_id": 57, "system": "daint", "state": "RUNNING"},
        {"job_id": "57", "system": "daint", "state": "<b>"},
        {"job_id": "57", "system": "daint", "state": ["RUNNING"]},
        {"job_id": "57", "system": "x" * 70_000, "state": "RUNNING"},
    ],
)
def test_what_is_no_snapshot_is_left_out(database, board, value) -> None:
    database.add(1, job())
    database.xcom(1, database.task(1, task_id="other"), value)
    assert ids(board) == ["57"]


def test_a_hostile_snapshot_breaks_nothing(database, board) -> None:
    hostile = job().to_dict() | {
        "name": "<script>alert(1)</script>" + "x" * 5_000,
        "reason": {"a": 1},
        "account": "half \ud800",
        "node_count": True,
        "elapsed": "forever",
        "time_limit": 10**300,
        "submitted_at": "yesterday",
        "stdout": 17,
        "history": [["x", "y"], 1, [1.0, "z" * 5_000]],
        "from_a_later_version": {},
    }
    database.add(1)
    task = database.task(1)
    database.xcom(1, task, hostile)
    nan = json.dumps(hostile | {"node_hours": float("nan"), "seen_at": float("inf")})
    database.xcom(1, task, nan, key=f"{SNAPSHOT_KEY}.nan")
    for row in board.find(JobQuery(sort=SortKey.USED), ["dag"]).rows:
        shown = row.snapshot
        assert len(shown.name) == 300
        assert shown.name.startswith("<script>")
        assert (shown.reason, shown.node_count, shown.elapsed, shown.time_limit) == (None, None, None, None)
        assert (shown.submitted_at, shown.stdout, shown.node_hours) == (None, None, None)
        assert shown.account.encode() == b"half ?"
        found = board.get("dag", "run-1", "job", -1, "57")
        assert found is not None
        assert [len(line.text) for line in found.snapshot.history] == [300]
    assert board.find(JobQuery(), ["dag"]).total == 1  # the same job twice


def test_a_job_is_got_with_its_history_as_it_is_now(database, board) -> None:
    told = job(history=(HistoryLine(1.0, "submitted"), HistoryLine(2.0, "RUNNING on nid001")))
    database.run(1)
    task = database.task(1)
    database.xcom(1, task, told)
    database.ended(1, task, job("56"))
    assert [row.snapshot.history for row in board.find(JobQuery(), ["dag"]).rows] == [(), ()]
    row = board.get("dag", "run-1", "job", -1, "57")
    assert row is not None
    assert row.snapshot == told
    earlier = board.get("dag", "run-1", "job", -1, "56")
    assert earlier is not None
    assert earlier.ended_earlier
    for other in [
        ("dag", "run-1", "job", 0, "57"),
        ("dag", "run-2", "job", -1, "57"),
        ("dag", "run-1", "job", -1, "5"),
    ]:
        assert board.get(*other) is None


def test_views_in_a_short_time_read_the_database_once(database, mocker) -> None:
    from airflow_provider_firecrest.airflow_internals import jobs

    database.add(1, job())
    reads = mocker.spy(jobs, "active_runs")
    board = JobBoard()
    for _ in range(50):
        assert ids(board) == ["57"]
        assert board.dag_ids() == {"dag"}
    assert reads.call_count == 1


# --- what is found ------------------------------------------------------------------------------------


@pytest.fixture
def several(database: Database, board: JobBoard) -> JobBoard:
    start = int(NOW.timestamp())
    running = job("101", state=JobState.RUNNING, name="Train", started_at=start - 300, elapsed=300, time_limit=600)
    database.add(1, job("9", account="s1"), replace(running, system="eiger", partition="debug"))
    done = {"state": JobState.COMPLETED, "account": "s1", "started_at": start - 90, "ended_at": start - 30}
    paid = [job("11", node_hours=2.0, **done), job("12", node_hours=0.5, **done), job("13", **done)]
    database.add(2, *paid, dag_id="other", state="success")
    return board


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["101", "13", "12", "11", "9"]),
        ({"states": frozenset({JobState.RUNNING, JobState.PENDING})}, ["101", "9"]),
        ({"phases": frozenset({Phase.ENDED})}, ["13", "12", "11"]),
        ({"system": "eiger"}, ["101"]),
        ({"account": "s1", "dag_id": "dag"}, ["9"]),
        ({"partition": "debug"}, ["101"]),
        ({"run_id": "run-2", "map_index": 0}, ["11"]),
        ({"task_id": "nothing"}, []),
        ({"text": "TRAIN 10"}, ["101"]),
        ({"text": "run-2 12"}, ["12"]),
        ({"since": NOW.timestamp() + 9}, []),
    ],
)
def test_filters(several, query, found) -> None:
    assert ids(several, ("dag", "other"), sort=SortKey.JOB_ID, **query) == found


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SortKey)
def test_sorting_leaves_no_job_out(several, sort, descending) -> None:
    found = ids(several, ("dag", "other"), sort=sort, descending=descending)
    assert sorted(found) == ["101", "11", "12", "13", "9"]
    if sort is SortKey.NODE_HOURS:
        assert found[:2] == (["11", "12"] if descending else ["12", "11"])


def test_pages(several) -> None:
    readable = ["dag", "other"]
    pages = [several.find(JobQuery(sort=SortKey.JOB_ID, page=page, page_size=2), readable) for page in (1, 2, 3, 9, -1)]
    assert [[row.snapshot.job_id for row in page.rows] for page in pages] == [
        ["101", "13"],
        ["12", "11"],
        ["9"],
        ["9"],
        ["101", "13"],
    ]
    assert [(page.page, page.pages, page.total) for page in pages[:1]] == [(1, 3, 5)]
    assert len(several.find(JobQuery(page_size=10_000), readable).rows) == 5


def test_a_viewer_sees_nothing_of_other_dags(several) -> None:
    page = several.find(JobQuery(), {"dag"})
    assert {row.dag_id for row in page.rows} == {"dag"}
    assert page.total == 2
    assert page.choices.dag_ids == ("dag",)
    assert JobState.COMPLETED not in page.choices.states
    assert page.sums.node_hours == page.month.node_hours == ()
    assert several.find(JobQuery(dag_id="other"), {"dag"}).total == 0
    assert several.find(JobQuery(), ()).rows == ()


def test_sums_of_dag_run_and_month(several) -> None:
    page = several.find(JobQuery(run_id="run-2"), ["dag", "other"])
    assert page.sums.by_state == {JobState.COMPLETED: 3}
    [paid] = page.sums.node_hours
    assert (paid.account, paid.system, paid.jobs, paid.hours) == ("s1", "daint", 2, 2.5)
    assert several.find(JobQuery(dag_id="dag"), ["dag", "other"]).sums.hours == 0.0


def test_the_month_is_the_one_in_which_jobs_ended(several) -> None:
    now = datetime(2026, 3, 5, tzinfo=UTC).timestamp()
    [row] = several.find(JobQuery(run_id="run-2", map_index=0), ["other"]).rows
    rows = [
        replace(row, snapshot=job(node_hours=hours, submitted_at=now - 40 * 86400, ended_at=int(now - days * 86400)))
        for hours, days in [(1.0, 1), (2.0, 3), (4.0, 5)]  # the last one ended in February
    ]
    assert select(rows, JobQuery(run_id="another"), {"other"}, now).month.hours == 3.0
    assert select(rows, JobQuery(dag_id="dag"), {"other", "dag"}, now).month.hours == 0.0


# --- a row --------------------------------------------------------------------------------------------


def row_of(database: Database, board: JobBoard, snapshot: JobSnapshot) -> Any:
    database.add(1, snapshot)
    return board.find(JobQuery(), ["dag"]).rows[0]


@pytest.mark.parametrize(
    ("fields", "waited", "used", "fraction"),
    [
        ({"submitted_at": 100.0}, 900.0, None, None),
        ({"submitted_at": None}, None, None, None),
        ({"submitted_at": 100.0, "started_at": 400, "state": "RUNNING", "time_limit": 1200}, 300.0, 600.0, 0.5),
        ({"started_at": 400, "elapsed": 50, "seen_at": 990.0, "state": "RUNNING", "time_limit": 60}, None, 60.0, 1.0),
        ({"state": "COMPLETED", "started_at": 400, "ended_at": 430, "time_limit": 60}, None, 30, 0.5),
        ({"state": "COMPLETED", "elapsed": 15, "time_limit": 0}, None, 15, None),
        ({"state": "CANCELLED", "submitted_at": 100.0, "ended_at": 150}, 50.0, None, None),
        ({"submitted_at": 2000.0}, 0.0, None, None),
    ],
)
def test_time_waited_and_used(database, board, fields, waited, used, fraction) -> None:
    state = JobState(fields.pop("state", "PENDING"))
    row = row_of(database, board, JobSnapshot(job_id="1", system="daint", **{"seen_at": 1000.0} | fields, state=state))
    assert (row.waited(1000.0), row.used(1000.0), row.used_fraction(1000.0)) == (waited, used, fraction)


def test_time_stands_still_where_nobody_watches(database, board) -> None:
    running = job(state=JobState.RUNNING, started_at=400, submitted_at=100.0, elapsed=50, seen_at=1000.0)
    row = replace(row_of(database, board, running), task_state="failed")
    assert (row.used(9000.0), row.waited(9000.0)) == (50, 300.0)
    waiting = replace(row, snapshot=job(submitted_at=100.0, seen_at=1000.0))
    assert waiting.waited(9000.0) == 900.0


# --- metrics of a training ----------------------------------------------------------------------------


def test_the_metrics_of_a_job(database, board) -> None:
    database.add(1, job())
    metrics = Metrics()
    metrics.add_lines(['{"step": 1, "loss": 0.5}'])
    task = {"dag_id": "dag", "run_id": "run-1", "task_id": "job", "map_index": 0}
    row = board.get("dag", "run-1", "job", 0, "57")
    assert metrics_of(row) is None
    database.xcom(1, task, {"job_id": "57", **metrics.to_dict()}, f"{METRICS_KEY}.57")
    assert metrics_of(row).series["loss"].points == [(1, 0.5)]
    database.xcom(1, task, {"job_id": "56", **metrics.to_dict()}, f"{METRICS_KEY}.57")
    assert metrics_of(row) is None


@pytest.mark.parametrize(
    "value", ["words", 7, None, [], {"job_id": "57"}, {"job_id": "57", "series": {"loss": {"points": [[1, "<b>"]]}}}]
)
def test_metrics_that_somebody_has_edited_are_left_out(database, board, value) -> None:
    database.add(1, job())
    task = {"dag_id": "dag", "run_id": "run-1", "task_id": "job", "map_index": 0}
    database.xcom(1, task, value, f"{METRICS_KEY}.57")
    assert metrics_of(board.get("dag", "run-1", "job", 0, "57")) is None
