"""The routes of the page *HPC Jobs*: who gets an answer, and what is in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from airflow.api_fastapi import app as airflow_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import MarkRefused
from airflow_provider_firecrest.job_snapshots import signed
from airflow_provider_firecrest.monitoring.query import JobPage, JobQuery, page_of, select
from airflow_provider_firecrest.monitoring.rows import JobRow
from airflow_provider_firecrest.web import WebApp, cancelling, found_job, job_page, jobs_table
from airflow_provider_firecrest.web.app import create_app
from firecrest_core.connection import Connection
from firecrest_core.jobs.snapshot import HistoryLine, JobSnapshot
from firecrest_core.metrics import Metrics
from firecrest_core.states import JobState

NOW = time.time()
EVIL = '<img src=x onerror="alert(1)"><script>alert(1)</script>\x1b[31m\u202e'
JOB = "/firecrest/jobs/relax/run-1/job/-1/57"
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


def row(job_id: str = "57", dag_id: str = "relax", task_state: str = "deferred", **fields: Any) -> JobRow:
    usual = {
        "system": "daint",
        "connection_id": "firecrest_default",
        "name": "relax-si",
        "state": JobState.RUNNING,
        "submitted_at": NOW - 900,
        "started_at": int(NOW - 600),
        "time_limit": 1200,
        "seen_at": NOW,
    }
    return JobRow(
        dag_id=dag_id,
        run_id="run-1",
        task_id="job",
        map_index=-1,
        try_number=1,
        task_state=task_state,
        ended_earlier=False,
        snapshot=JobSnapshot(job_id=job_id, **usual | fields),
    )


def signed_row(connection: Connection, **fields: Any) -> JobRow:
    """A job whose task has said where its output is."""
    one = row(**fields)
    return replace(one, snapshot=signed(one.snapshot, connection, (one.dag_id, one.run_id, one.task_id, one.map_index)))


class Rows:
    """A board that holds what a test gives it."""

    def __init__(self) -> None:
        self.rows: list[JobRow] = []

    def dag_ids(self) -> frozenset[str]:
        return frozenset(one.dag_id for one in self.rows)

    def find(self, query: JobQuery, readable: Collection[str]) -> JobPage:
        return page_of(select(self.rows, query, readable, NOW), query, complete=True, truncated=False, now=NOW)

    def get(self, dag_id: str, run_id: str, task_id: str, map_index: int, job_id: str) -> JobRow | None:
        asked = (dag_id, run_id, task_id, map_index, job_id)
        found = ((one.dag_id, one.run_id, one.task_id, one.map_index, one.snapshot.job_id) for one in self.rows)
        return next((one for one, name in zip(self.rows, found, strict=True) if name == asked), None)


class PerDag(SimpleAuthManager):
    """An auth manager that hides one DAG from everybody."""

    def is_authorized_dag(self, *, details: Any = None, **asked: Any) -> bool:
        return getattr(details, "id", None) != "theirs" and super().is_authorized_dag(details=details, **asked)


@pytest.fixture(autouse=True)
def auth(monkeypatch: pytest.MonkeyPatch, tables: Callable[[], Any]) -> PerDag:
    """Airflow's own way to know users."""
    from airflow.models.revoked_token import RevokedToken

    with tables() as session:
        RevokedToken.__table__.create(session.connection())
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret of the tests, long enough for HMAC with SHA-512" * 2)
    monkeypatch.setenv("AIRFLOW__API__SECRET_KEY", "another secret")
    manager = PerDag()
    monkeypatch.setattr(airflow_app._AuthManagerState, "instance", manager)
    return manager


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Rows:
    rows = Rows()
    for module in (jobs_table, found_job):
        monkeypatch.setattr(module, "board", lambda: rows)
    monkeypatch.setattr(job_page, "metrics_of", lambda row: None)
    return rows


@pytest.fixture
def browser(board: Rows, auth: PerDag) -> Iterator[Callable[..., TestClient]]:
    """Open a browser in which somebody is logged in, or nobody."""
    opened: list[TestClient] = []

    def browser(role: str | None = "ADMIN", name: str = "ada") -> TestClient:
        airflow = FastAPI()
        airflow.mount("/firecrest", WebApp())
        client = TestClient(airflow, follow_redirects=False).__enter__()
        opened.append(client)
        if role:
            client.cookies.set("_token", auth.generate_jwt(SimpleAuthManagerUser(username=name, role=role)))
        return client

    yield browser
    for client in opened:
        client.__exit__()


# --- who gets an answer -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/firecrest/jobs", "/firecrest/systems", JOB, f"{JOB}/output", f"{JOB}/cancel"])
def test_nobody_is_answered_without_a_login(browser, board, path) -> None:
    board.rows = [row()]
    nobody = browser(None)
    assert nobody.get(path).status_code == 401
    nobody.cookies.set("_token", "forged")
    assert nobody.get(path).status_code == 403
    assert nobody.post(f"{JOB}/cancel", headers=SAME_ORIGIN).status_code == 403


def test_a_person_is_sent_to_the_login_and_comes_back(browser) -> None:
    answer = browser(None).get("/firecrest/jobs?text=si", headers={"sec-fetch-dest": "document"})
    assert answer.status_code == 303
    assert answer.headers["location"] == (
        "/api/v2/auth/login?next=http%3A%2F%2Ftestserver%2Ffirecrest%2Fjobs%3Ftext%3Dsi"
    )


def test_a_program_may_use_a_token(browser, board, auth) -> None:
    board.rows = [row()]
    token = auth.generate_jwt(SimpleAuthManagerUser(username="ada", role="VIEWER"))
    assert browser(None).get(JOB, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_no_route_answers_without_asking_for_the_user() -> None:
    from airflow_provider_firecrest.web.viewers import get_viewer

    def asks(dependant: Any) -> bool:
        return dependant.call is get_viewer or any(asks(one) for one in dependant.dependencies)

    # The beginning redirects; styles and scripts are no secret.
    routes = [one for one in create_app().routes if getattr(one, "path", "") not in {"/", "/static"}]
    assert len(routes) >= 6
    assert [one.path for one in routes if not asks(one.dependant)] == []


def test_a_viewer_sees_nothing_of_a_dag_that_is_not_theirs(browser, board) -> None:
    board.rows = [row("57"), row("58", "theirs", name="their-job", account="secret-account")]
    ada = browser()
    table = ada.get("/firecrest/jobs").text
    assert "relax-si" in table
    assert "their-job" not in table
    assert "theirs" not in table
    assert "secret-account" not in table
    path = "/firecrest/jobs/theirs/run-1/job/-1/58"
    for hidden in (path, f"{path}/output", f"{path}/cancel"):
        answer = ada.get(hidden)
        assert answer.status_code == 404
        assert "their-job" not in answer.text
        # It tells no more than a job that does not exist.
        assert answer.text == ada.get(hidden.replace("/theirs/", "/nothing/")).text


# --- what is shown ------------------------------------------------------------------------------------


def test_what_comes_from_jobs_is_escaped(browser, board) -> None:
    evil = dict.fromkeys(("name", "reason", "account", "partition", "system", "nodes", "working_dir"), EVIL)
    board.rows = [row(**evil, stdout=EVIL, stderr=EVIL, history=(HistoryLine(NOW, EVIL),))]
    ada = browser()
    for path in ("/firecrest/jobs", JOB, f"{JOB}/cancel", f"/firecrest/jobs?text={quote(EVIL)}", f"{JOB}/output"):
        text = ada.get(path).text
        assert "<img" not in text
        assert "<script>alert" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_numbers_that_cannot_be_right_break_no_page(browser, board) -> None:
    for number in (1e12, -1e12, 0.0):
        odd = ("submitted_at", "started_at", "ended_at", "expected_start", "elapsed", "time_limit", "node_hours")
        board.rows = [row(**dict.fromkeys((*odd, "node_count", "seen_at"), number), state=state) for state in JobState]
        ada = browser()
        for path in ("/firecrest/jobs", "/firecrest/jobs?order=-used", JOB):
            assert ada.get(path).status_code == 200


def test_each_page_forbids_what_it_does_not_need(browser, board) -> None:
    board.rows = [row()]
    ada = browser()
    for path in ("/firecrest/jobs", JOB, f"{JOB}/cancel", "/firecrest/systems", "/firecrest/jobs/x/y/z/-1/1"):
        answer = ada.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert " style=" not in answer.text
        assert " onclick" not in answer.text
        assert "<script>" not in answer.text


def test_the_table_is_filtered_sorted_and_paged(browser, board) -> None:
    systems = ("eiger", "daint")
    board.rows = [row(str(number), name=f"job-{number:03}", system=systems[number % 2]) for number in range(120)]
    ada = browser()
    first = ada.get("/firecrest/jobs?order=name").text
    assert "1–50 of 120" in first
    assert first.index("job-000") < first.index("job-049")
    assert 'aria-sort="ascending"' in first
    assert "job-050" not in first
    assert "order=-name" in first  # the other way round
    assert "101–120 of 120" in ada.get("/firecrest/jobs?order=name&page=3").text
    assert "1–50 of 60" in ada.get("/firecrest/jobs?system=eiger").text
    assert "job-007" in ada.get("/firecrest/jobs?text=job-007").text
    nothing = ada.get("/firecrest/jobs?text=job-007&state=COMPLETED").text
    assert "No job matches the filter." in nothing


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", f"page={'9' * 20}", "order=nothing", "state=nothing", "map_index={MAP_INDEX}", "text=%00"],
)
def test_an_odd_address_is_answered(browser, board, query) -> None:
    board.rows = [row()]
    answer = browser().get(f"/firecrest/jobs?{query}")
    assert answer.status_code == 200
    assert "<table" in answer.text


def test_a_tab_shows_what_belongs_to_it(browser, board) -> None:
    board.rows = [row("57"), row("58", "train", name="digits")]
    text = browser().get("/firecrest/jobs?dag_id=train&map_index={MAP_INDEX}").text
    assert "digits" in text
    assert "relax-si" not in text


def test_a_job_of_an_ended_task_is_not_said_to_run(browser, board) -> None:
    board.rows = [row(task_state="failed")]
    ada = browser()
    assert "when last seen; its task has ended" in ada.get("/firecrest/jobs").text
    page = ada.get(JOB).text
    assert "nobody waits for the job" in page
    assert "/cancel" not in page


def test_the_sums(browser, board) -> None:
    ended = {"state": JobState.COMPLETED, "ended_at": int(NOW), "account": "s123"}
    board.rows = [row("1", node_hours=3.25, **ended), row("2", node_hours=120.0, **ended), row("3")]
    text = browser().get("/firecrest/jobs").text
    assert "s123" in text
    assert ">123<" in text


# --- cancelling ---------------------------------------------------------------------------------------


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The tasks that Airflow was asked to mark failed."""
    marked: list[tuple[Any, ...]] = []

    async def mark_failed(_headers: Any, *task: Any) -> None:
        marked.append(task)

    monkeypatch.setattr(airflow_internals, "mark_failed", mark_failed)
    return marked


def token(page: str) -> str:
    return page.partition('name="token" value="')[2].partition('"')[0]


def test_cancelling_asks_and_marks_the_task_failed(browser, board, marked) -> None:
    board.rows = [row()]
    ada = browser()
    assert f'href="{JOB}/cancel"' in ada.get(JOB).text
    form = {"token": token(ada.get(f"{JOB}/cancel").text)}
    assert not marked
    answer = ada.post(f"{JOB}/cancel", data=form, headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["location"]) == (303, JOB)
    assert marked == [("relax", "run-1", "job", -1)]


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"}, {}],
)
def test_another_site_cancels_nothing(browser, board, marked, headers) -> None:
    board.rows = [row()]
    ada = browser()
    form = {"token": token(ada.get(f"{JOB}/cancel").text)}
    assert ada.post(f"{JOB}/cancel", data=form, headers=headers).status_code == 403
    assert not marked


def test_the_token_of_the_form_is_for_one_job_and_one_viewer(browser, board, marked) -> None:
    board.rows = [row("57"), row("58")]
    ada, bob = browser(), browser(name="bob")
    of_58 = token(ada.get(f"{JOB[:-2]}58/cancel").text)
    of_bob = token(bob.get(f"{JOB}/cancel").text)
    for form in ({"token": of_58}, {"token": of_bob}, {"token": "forged"}, {}):
        assert ada.post(f"{JOB}/cancel", data=form, headers=SAME_ORIGIN).status_code == 403
    assert not marked


def test_who_may_only_read_cancels_nothing(browser, board, marked) -> None:
    board.rows = [row()]
    form = {"token": token(browser(name="vera").get(f"{JOB}/cancel").text)}
    vera = browser("VIEWER", "vera")
    assert "/cancel" not in vera.get(JOB).text
    assert vera.get(f"{JOB}/cancel").status_code == 403
    assert vera.post(f"{JOB}/cancel", data=form, headers=SAME_ORIGIN).status_code == 403
    assert not marked


def test_what_has_ended_is_not_cancelled(browser, board, marked) -> None:
    board.rows = [row()]
    ada = browser()
    form = {"token": token(ada.get(f"{JOB}/cancel").text)}
    board.rows = [row(state=JobState.COMPLETED)]
    assert "/cancel" not in ada.get(JOB).text
    assert ada.get(f"{JOB}/cancel").status_code == 409
    assert ada.post(f"{JOB}/cancel", data=form, headers=SAME_ORIGIN).status_code == 409
    assert not marked


def test_airflows_refusal_is_said(browser, board, monkeypatch) -> None:
    async def mark_failed(*_asked: Any) -> None:
        raise MarkRefused(409)

    monkeypatch.setattr(airflow_internals, "mark_failed", mark_failed)
    board.rows = [row()]
    ada = browser()
    form = {"token": token(ada.get(f"{JOB}/cancel").text)}
    answer = ada.post(f"{JOB}/cancel", data=form, headers=SAME_ORIGIN)
    assert answer.status_code == 409
    assert "did not mark the task failed" in answer.text


def test_a_form_without_end_is_refused(browser, board) -> None:
    board.rows = [row()]
    assert browser().post(f"{JOB}/cancel", content=b"x" * 100_000, headers=SAME_ORIGIN).status_code == 413


def test_an_older_browser_is_known_by_its_origin() -> None:
    def sent(**headers: str) -> Any:
        return SimpleNamespace(headers=headers)

    assert cancelling.is_same_origin(sent(origin="https://airflow.example", host="airflow.example"))
    assert not cancelling.is_same_origin(sent(origin="null", host="airflow.example"))


def test_the_curves_of_a_training(browser, board, monkeypatch) -> None:
    metrics = Metrics()
    metrics.add_lines(['{"step": 1, "loss": 0.5, "<script>alert(1)</script>": 1}', '{"step": 2, "loss": 0.25}'])
    monkeypatch.setattr(job_page, "metrics_of", lambda row: metrics)
    board.rows = [row(metrics="loss 0.25 (step 2)", usage={"elapsed": 10, "cpu_seconds": 5, "cpus": 1})]
    text = browser().get(JOB).text
    assert text.count("<polyline") == 2
    assert "<script>alert" not in text
    assert "loss 0.25 (step 2)" in text
    assert "% of 1 core" in text
    assert "loss 0.25 (step 2)" in browser().get("/firecrest/jobs").text


@pytest.mark.parametrize("usage", [{"cpus": "<b>"}, {"elapsed": "x", "cpu_seconds": [1]}, {"surprise": 1}])
def test_a_usage_that_somebody_has_edited_breaks_no_page(browser, board, usage) -> None:
    board.rows = [row(usage=usage)]
    assert browser().get(JOB).status_code == 200


# --- output and systems -------------------------------------------------------------------------------


def test_output_is_read_once_for_all_viewers(browser, board, connected, connection, workdir, requests) -> None:
    (workdir / "out.txt").write_text("step 1\n<b>step 2</b>\n")
    out = f"{workdir}/out.txt"
    board.rows = [signed_row(connection, system=connected.system, stdout=out, stderr=out)]
    ada = browser()
    texts = [ada.get(f"{JOB}/output").text for _ in range(5)]
    assert all("step 1\n&lt;b&gt;step 2&lt;/b&gt;" in text for text in texts)
    assert requests["GET tail"] == 1


def test_a_file_that_somebody_has_named_instead_is_not_read(browser, board, connected, connection, workdir) -> None:
    (workdir / "key").write_text("private")
    one = signed_row(connection, system=connected.system, stdout=f"{workdir}/out.txt")
    board.rows = [replace(one, snapshot=replace(one.snapshot, stdout=f"{workdir}/key"))]
    text = browser().get(f"{JOB}/output").text
    assert "somebody has edited it" in text
    assert "private" not in text


def test_output_that_is_not_utf_8(browser, board, connected, connection, workdir) -> None:
    (workdir / "out.txt").write_bytes(b"caf\xe9 \xff\xfe\x00 end\n")
    board.rows = [signed_row(connection, system=connected.system, stdout=f"{workdir}/out.txt", stderr=None)]
    answer = browser().get(f"{JOB}/output")
    assert answer.status_code == 200
    assert "end" in answer.text or "cannot be read" in answer.text


def test_why_there_is_no_output(browser, board, connected, connection, workdir, store, stored) -> None:
    def said(signer: Connection = connection, **fields: Any) -> str:
        board.rows = [signed_row(signer, **{"system": connected.system, "stdout": f"{workdir}/out.txt"} | fields)]
        answer = browser().get(f"{JOB}/output")
        assert answer.status_code == 200
        return answer.text

    assert "removed with its directory" in said()
    assert "The job waits" in said(state=JobState.PENDING, started_at=None)
    assert "not known where" in said(connection_id="")
    assert "finds no connection &#39;gone&#39;" in said(connection_id="gone")
    store(stored | {"password": "wrong-secret"}, "refused")
    text = said(replace(connection, client_secret="wrong-secret"), connection_id="refused")
    assert "cannot be read now" in text
    assert "wrong-secret" not in text
    assert "Each element" in said(stdout="/scratch/out-%a.txt")


def test_the_load_of_the_systems(browser, board, connected) -> None:
    here = row(system=connected.system)
    board.rows = [here, row("58", system="nowhere"), row("59", system="x", connection_id="gone")]
    text = browser().get("/firecrest/systems").text
    assert "of 1 nodes" in text
    assert "has no such system" in text
    assert "finds no connection" in text


def test_a_server_that_is_away_is_one_sentence(browser, board, connected, faults) -> None:
    board.rows = [row(system=connected.system, stdout="/x/out.txt")]
    ada = browser()
    faults.set({"rules": [{"fault": "status", "status": 503}]})
    answer = ada.get("/firecrest/systems")
    assert answer.status_code == 200
    assert 'class="note"' in answer.text
