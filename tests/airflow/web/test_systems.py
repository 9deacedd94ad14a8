"""The health and the load of the systems, above the table of jobs."""

from __future__ import annotations

from tests.airflow.web.job_rows import row


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
