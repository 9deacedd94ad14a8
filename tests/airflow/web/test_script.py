"""The script of a job on its page."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_firecrest.web.script import script_of
from tests.airflow.web.job_rows import JOB, row

TASK = {"dag_id": "relax", "run_id": "run-1", "task_id": "job", "map_index": -1}


@pytest.fixture
def render(tables: Callable[[], Any]) -> Callable[..., None]:
    """Keep rendered fields of the job's task, as Airflow does."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Rendered
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import insert

    def render(**fields: Any) -> None:
        state = {"id": uuid.uuid4(), "state": "deferred", "max_tries": 1, "pool_slots": 1, "pool": "default_pool"}
        with tables() as session:
            Rendered.__table__.create(session.connection())
            session.execute(insert(TaskInstance).values(**TASK, **state, queued_dttm=datetime.now(UTC)))
            session.execute(insert(Rendered).values(**TASK, rendered_fields=fields))

    return render


def test_the_script_is_shown_as_text(browser, board, render, requests) -> None:
    render(script="#!/bin/bash\necho '<script>alert(1)</script>'\n", system="daint")
    board.rows = [row()]
    ada = browser()
    assert f'data-src="{JOB}/script"' in ada.get(JOB).text
    text = ada.get(f"{JOB}/script").text
    assert "#!/bin/bash\necho &#39;&lt;script&gt;" in text
    assert "<script>alert" not in text
    assert not requests  # FirecREST is not asked


def test_a_script_that_airflow_does_not_keep(browser, board, render) -> None:
    render()
    board.rows = [row()]
    assert "Airflow does not keep the script" in browser().get(f"{JOB}/script").text


@pytest.mark.parametrize(
    ("fields", "text", "note"),
    [
        ({"script": "#!/bin/sh\n", "command": None}, "#!/bin/sh\n", ""),
        ({"command": "srun relax"}, "srun relax", ""),
        ({"command": ["srun", "a b"]}, "srun 'a b'", ""),
        ({"script": None, "job": {"script": "#!/bin/sh\n"}}, "#!/bin/sh\n", ""),
        ({"script_path": "/scratch/run.sh", "job": None}, "", "/scratch/run.sh"),
        ({"op_args": []}, "", "does not keep"),
        ({"script": 17, "job": "{'script': 1}"}, "17", ""),
    ],
)
def test_where_a_script_stands(fields, text, note) -> None:
    found = script_of(fields)
    assert found.text == text
    assert note in found.note


def test_who_may_not_read_tasks_reads_no_script(browser, board, monkeypatch) -> None:
    from airflow_provider_firecrest.airflow_internals import rights

    monkeypatch.setattr(rights, "may_read_script", lambda user, dag_id: False)
    board.rows = [row()]
    ada = browser()
    assert f"{JOB}/script" not in ada.get(JOB).text
    assert ada.get(f"{JOB}/script").status_code == 403
