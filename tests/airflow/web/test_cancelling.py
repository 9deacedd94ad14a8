"""Cancelling a job from its page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_firecrest import airflow_internals
from airflow_provider_firecrest.airflow_internals import MarkRefused
from airflow_provider_firecrest.web import cancelling
from firecrest_core.states import JobState
from tests.airflow.web.job_rows import JOB, SAME_ORIGIN, row


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
