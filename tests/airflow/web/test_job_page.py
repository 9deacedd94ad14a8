"""What a job has used and its training's curves, on its page."""

from __future__ import annotations

import pytest

from airflow_provider_firecrest.web import job_page
from firecrest_core.metrics import Metrics
from tests.airflow.web.job_rows import JOB, row


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
