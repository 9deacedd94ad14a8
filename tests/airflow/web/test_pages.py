"""The pages of *HPC Jobs*: who gets an answer, and what is in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

from airflow_provider_firecrest.web.app import create_app
from firecrest_core.jobs.snapshot import HistoryLine
from firecrest_core.states import JobState
from tests.airflow.web.job_rows import JOB, NOW, SAME_ORIGIN, row

EVIL = '<img src=x onerror="alert(1)"><script>alert(1)</script>\x1b[31m\u202e'

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
    evil = dict.fromkeys(("name", "reason", "elements", "account", "partition", "system", "nodes", "working_dir"), EVIL)
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


def test_the_table_tells_earlier_tries_from_earlier_jobs_of_a_try(browser, board) -> None:
    board.rows = [replace(row("1"), ended_earlier=True), replace(row("2"), is_followed=True), row("3")]
    text = browser().get("/firecrest/jobs").text
    assert "<small>1, an earlier try</small>" in text
    assert "<small>2, an earlier job</small>" in text
    assert "<small>3</small>" in text


def test_a_job_of_an_ended_task_is_not_said_to_run(browser, board) -> None:
    board.rows = [row(task_state="failed")]
    ada = browser()
    assert "when last seen; its task has ended" in ada.get("/firecrest/jobs").text
    page = ada.get(JOB).text
    assert "nobody waits for the job" in page
    assert "/cancel" not in page


def test_the_elements_of_an_array_are_counted(browser, board) -> None:
    board.rows = [row(state=JobState.FAILED, elements="9 COMPLETED, 1 FAILED")]
    for path in ("/firecrest/jobs", JOB):
        assert "9 COMPLETED, 1 FAILED" in browser().get(path).text


def test_the_sums(browser, board) -> None:
    ended = {"state": JobState.COMPLETED, "ended_at": int(NOW), "account": "s123"}
    board.rows = [row("1", node_hours=3.25, **ended), row("2", node_hours=120.0, **ended), row("3")]
    text = browser().get("/firecrest/jobs").text
    assert "s123" in text
    assert ">123<" in text
