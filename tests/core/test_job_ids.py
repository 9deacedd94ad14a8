"""The ids of jobs as people and schedulers write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer

from firecrest_core import lifecycle
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.job_ids import read_job_id
from firecrest_core.api.models import JobInfo
from firecrest_core.errors import InvalidJobId
from firecrest_core.jobs.job import Job

BLANKS = st.text(" \t\n", max_size=3)


@given(
    number=st.integers(1, 10**9), before=BLANKS, after=BLANKS, server=st.sampled_from(["", ".pbs01", ".srv.site.org"])
)
def test_blanks_and_the_server_do_not_matter(number: int, before: str, after: str, server: str) -> None:
    assert read_job_id(f"{before}{number}{server}{after}") == str(number)
    assert read_job_id(number) == str(number)


@pytest.mark.parametrize("part", ["12_3", " 12_3 ", "12_[0-3]", "12+1", "12[]", "12[3].pbs01", "12.0", "12.batch"])
def test_a_part_of_a_job_is_named(part: str) -> None:
    with pytest.raises(InvalidJobId, match=r"is a part of job 12, .* Give 12"):
        read_job_id(part)


@pytest.mark.parametrize("nothing", ["", "  ", None, "None", "null", True])
def test_what_gave_no_id_is_named(nothing: Any) -> None:
    with pytest.raises(InvalidJobId, match="it is empty"):
        read_job_id(nothing)


@given(st.text() | st.none() | st.integers() | st.lists(st.integers()))
def test_anything_else_is_one_sentence(value: Any) -> None:
    message = "job_id: 4711"
    try:
        message = f"job_id: {int(read_job_id(value))}"
    except InvalidJobId as error:
        message = str(error)
    assert message.startswith("job_id: ")
    assert len(message) < 400


@pytest.mark.parametrize("wrong", ["12_3", "", "None", "{{ job }}"])
async def test_nothing_is_sent_for_what_is_no_id(wrong: str, client: FirecRESTClient, httpserver: HTTPServer) -> None:
    system = client.system()
    for call in (
        lifecycle.find(system, wrong),
        lifecycle.cancel(system, Job(system="rig", job_id=wrong)),
        system.get_job(wrong),
        system.get_job_metadata(wrong),
    ):
        with pytest.raises(InvalidJobId):
            await call
    assert not httpserver.log


async def test_the_number_is_asked_for(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    answer = {"jobs": [{"jobId": "4711.pbs01", "status": {"state": "R"}}]}
    httpserver.expect_request("/compute/rig/jobs/4711", method="GET").respond_with_json(answer)
    assert [row.job_id for row in await client.system().get_job(" 4711.pbs01 ")] == ["4711"]


@pytest.mark.parametrize(("written", "read"), [("17_3", "17_3"), ("17[3].pbs01", "17[3]"), (" 17 ", "17"), (17, "17")])
def test_the_id_of_a_row(written: Any, read: str) -> None:
    assert JobInfo.model_validate({"jobId": written}).job_id == read
