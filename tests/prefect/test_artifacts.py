"""The table of jobs: what it shows, of which, and how often it is written."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from firecrest_core.elements import ElementGroup
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.status import JobStatus
from firecrest_core.result import JobResult
from firecrest_core.states import JobState
from prefect_firecrest.observability import artifacts, job_table, markdown
from prefect_firecrest.observability.artifacts import Artifact
from prefect_firecrest.observability.job_table import JobTable, Row


def row(job_id: int, state: JobState = JobState.COMPLETED, **fields: Any) -> Row:
    return Row(str(job_id), "relax", "daint", state, **fields)


def test_a_row() -> None:
    done = row(
        7,
        nodes="nid[001-002]",
        elapsed=5400,
        node_hours=3.0,
        used="31 % of 128 cores",
        metrics="loss 0.25 █▄▁ (step 2)",
        page="https://ui.example.org/jobs/(7)",
        link="http://prefect/runs/task-run/1",
    )
    assert done.cells() == {
        "Job": "7",
        "Name": "relax",
        "System": "daint",
        "State": "COMPLETED",
        "Expected start": "",
        "Nodes": "nid[001-002]",
        "Elapsed": "1:30:00",
        "Node hours": "3.0000",
        "Used": "31 % of 128 cores",
        "Metrics": "loss 0.25 █▄▁ (step 2)",
        "Page": "[page](https://ui.example.org/jobs/%287%29)",
        "Log": "[log](http://prefect/runs/task-run/1)",
    }


def test_the_reason_of_a_job_that_waits() -> None:
    cells = row(7, JobState.PENDING, reason="Priority").cells()
    assert (cells["State"], cells["Nodes"], cells["Elapsed"], cells["Node hours"]) == ("PENDING (Priority)", "", "", "")


def test_the_expected_start_of_a_job_that_waits() -> None:
    job = Job(system="daint", job_id="7", name="relax")
    at = datetime(2026, 11, 29, 14, 20, 31, tzinfo=UTC).timestamp()
    waiting = Row.of(job, JobStatus(state=JobState.PENDING, expected_start=int(at)), None)
    assert waiting.cells()["Expected start"] == "2026-11-29 14:20 UTC"
    no_time = Row.of(job, JobStatus(state=JobState.PENDING, expected_start=2**52), None)
    assert no_time.cells()["Expected start"] == ""


def test_the_elements_of_an_array_are_counted_and_cost_together() -> None:
    good = ElementGroup.of(Indices.of(range(9)), JobState.COMPLETED)
    bad = ElementGroup.of(Indices.of([9]), JobState.FAILED)
    known: dict[str, Any] = {"job_id": "7", "system": "daint", "state": JobState.FAILED, "groups": (bad, good)}
    array, unknown = (JobResult(**known, node_seconds=seconds) for seconds in (360, None))
    cells = Row.of(array, array).cells()
    assert (cells["State"], cells["Node hours"]) == ("FAILED (9 COMPLETED, 1 FAILED)", "0.1000")
    assert job_table.render_table([Row.of(array, array)])[1] == "1 job: 1 FAILED; 0.1000 node hours"
    assert job_table.render_table([Row.of(unknown, unknown)])[1] == "1 job: 1 FAILED"


def test_of_very_many_jobs_those_that_ended_well_are_only_counted() -> None:
    rows = [row(number, elapsed=36, node_hours=0.01) for number in range(600)]
    data, description = job_table.render_table([*rows, row(1000, JobState.FAILED)])
    shown = json.loads(data)
    assert len(shown) == 500
    assert shown[0]["State"] == "FAILED"
    assert description == "601 jobs: 600 COMPLETED, 1 FAILED; 6.0000 node hours; 101 are not listed"


def test_a_table_is_read_back_as_it_was_written() -> None:
    rows = [
        row(7, nodes="nid[001-002]", elapsed=93784, node_hours=52.1022, link="http://prefect/runs/task-run/1"),
        row(8, JobState.PENDING, reason="Priority"),
        row(12, JobState.FAILED, elements="9 COMPLETED, 1 FAILED", elapsed=36),
        row(9, JobState.PENDING, expected_start=datetime(2026, 11, 29, 14, 20, tzinfo=UTC)),
        row(10, metrics="loss 0.25 █▄▁ (step 2)", page="https://ui.example.org/jobs/10"),
        Row("11", "[<b>](javascript:alert(1))", "daint", JobState.COMPLETED),
    ]
    data, description = job_table.render_table(rows)
    assert job_table._read_rows(data) == rows
    assert job_table.render_table(job_table._read_rows(data)) == (data, description)


def test_columns_that_are_empty_in_every_row_are_left_out() -> None:
    [cells] = json.loads(job_table.render_table([row(7)])[0])
    assert not {"Metrics", "Page"} & set(cells)
    first, second = json.loads(job_table.render_table([row(7), row(8, page="https://ui.example.org/8")])[0])
    assert (first["Page"], second["Page"]) == ("", "[page](https://ui.example.org/8)")


def test_a_row_that_knows_less_keeps_the_page_and_the_metrics(sent: list[Any]) -> None:
    async def show() -> None:
        table = JobTable(uuid4())
        table.show(row(1, JobState.RUNNING, metrics="loss 1", page="https://ui.example.org/1"))
        table.show(row(1, JobState.CANCELLED))
        await table.write()

    asyncio.run(show())
    assert (sent[-1][0]["State"], sent[-1][0]["Metrics"]) == ("CANCELLED", "loss 1")
    assert sent[-1][0]["Page"] == "[page](https://ui.example.org/1)"


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=https://evil.example/x.png>",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "[x][y]",
    "https://evil.example",
    "www.evil.example",
    "WWW.evil.example",
    "*a* _b_ `c` ~d~ a|b",
    "&lt;b&gt;",
    "a\n\n    code",
    "\\[x](y)",
    "\N{NULL}\ud800",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_others_is_shown_as_it_is(text: str) -> None:
    shown = re.sub(r"\\(.)", r"\1", markdown.escape(text)).replace("\N{WORD JOINER}", "")
    assert shown == re.sub(r"[\x00\ud800]", "\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    assert not re.search(r"[<>\[\]*_`|!&]", re.sub(r"\\.", "", markdown.escape(text)))
    assert not re.search(r"www\.|://", markdown.escape(text), re.IGNORECASE)
    markdown.escape(text).encode()


def test_words_and_numbers_stay_readable() -> None:
    text = "Job 57 (train-digits) on daint: RUNNING, 0:00:04 of 1:00:00, 0.31 % = 1e-3/s é█"
    assert markdown.escape(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_holds_no_tag_and_no_link_of_others(text: str) -> None:
    cell = markdown.cell(text)
    assert not re.search(r"<[a-z/!?]|\][(\[]|\n", cell, re.IGNORECASE)
    assert markdown.read_cell(cell) == " ".join(text.split())


@pytest.mark.parametrize("data", [None, "no JSON", "[1]", "7", '[{"Job": "7", "State": "LOST"}]', '[{"State": 3}]'])
def test_what_is_no_table_is_read_as_an_empty_one(data: str | None) -> None:
    assert job_table._read_rows(data) == []


@pytest.mark.parametrize(
    ("elapsed", "limit", "share"), [(30, 600, 5.0), (700, 600, 100.0), (None, 600, None), (30, None, None)]
)
def test_time_used(elapsed: int | None, limit: int | None, share: float | None) -> None:
    used = artifacts.time_used(JobStatus(state=JobState.RUNNING, elapsed=elapsed, time_limit=limit))
    assert (used and used[0]) == share


def test_keys_are_what_prefect_allows() -> None:
    assert artifacts.progress_key(Job(system="x", job_id="1", name="Si_8 (relaxed).v2")) == "firecrest-si-8-relaxed-v2"
    assert artifacts.progress_key(Job(system="x", job_id="1", name="_")) == "firecrest"
    assert artifacts.progress_key(Job(system="x", job_id="1")) == "firecrest-job"


@pytest.fixture
def sent(mocker) -> list[list[dict[str, str]]]:
    """What is written, instead of writing it."""
    tables: list[list[dict[str, str]]] = []

    async def send(artifact: Artifact, data: str, description: str) -> None:
        await asyncio.sleep(0)
        tables.append(json.loads(data))

    mocker.patch.object(Artifact, "_send", send)
    return tables


async def test_many_ends_at_once_are_few_writes(sent: list[Any]) -> None:
    table = JobTable(uuid4())

    async def end(number: int) -> None:
        table.show(row(number))
        await table.write()

    await asyncio.gather(*(end(number) for number in range(500)))
    assert len(sent) <= 2
    assert len(sent[-1]) == 500


async def test_changes_are_written_once_in_some_seconds(sent: list[Any]) -> None:
    table = JobTable(uuid4())
    for elapsed in range(20):
        table.show(row(1, JobState.RUNNING, elapsed=elapsed))
        await asyncio.sleep(0.01)
    assert len(sent) == 1
    await table.write()
    assert [shown["Elapsed"] for [shown] in sent] == ["0:00:00", "0:00:19"]


async def test_a_job_that_ran_nothing_leaves_its_row_to_the_one_that_ran(sent: list[Any]) -> None:
    table = JobTable(uuid4())
    table.show(row(1, JobState.PENDING))
    table.show(row(2), instead_of=Job(system="daint", job_id="1"))
    await table.write()
    assert [shown["Job"] for shown in sent[-1]] == ["2"]
