"""What the name of a system may be, wherever it comes from. Nothing else may become a part of a URL."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from firecrest_core import lifecycle
from firecrest_core.api.answers import parse, parse_each
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.models import DownloadTicket, SystemInfo
from firecrest_core.connection import Connection
from firecrest_core.errors import ConfigurationError, FirecRESTError, ServerFault
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey
from firecrest_core.system_names import check_system_name

REMOVAL = "../filesystem/local/ops/rm?path=/home/me/precious&x="
ODD = [
    REMOVAL,
    "..",
    ".",
    "",
    " ",
    "daint/jobs",
    "daint?x=1",
    "daint#x",
    "daint%2F..",
    "dai nt",
    "daint\n",
    "daint\\x",
    "daint;x",
    "dàint",
    "daint:80",
    "me@daint",
    None,
    7,
]
GOOD = ["daint", "Daint", "alps-daint", "daint_2", "eiger.cscs.ch", "1", "..daint", "..."]


@pytest.mark.parametrize("name", GOOD)
def test_a_name(name: str) -> None:
    assert check_system_name(name) == check_system_name(f" {name} ") == name


@pytest.mark.parametrize("name", [name for name in ODD if name != "daint\n"])
def test_no_name(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="^system: .* is not the name of a system"):
        check_system_name(name)


def test_a_long_one_is_not_repeated_whole() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_system_name("/" * 10_000)
    assert len(str(caught.value)) < 300


JOB = Job(system=REMOVAL, job_id="1", working_dir="/home/me")
CALLS: dict[str, Callable[[FirecRESTClient], Awaitable[Any]]] = {
    "cancel": lambda client: lifecycle.cancel(client.system(REMOVAL), Job(system=REMOVAL, job_id="1")),
    "cancel_job": lambda client: client.system(REMOVAL).cancel_job("1"),
    "made without the client": lambda client: System(client, REMOVAL).cancel_job("1"),
    "an XCom": lambda client: lifecycle.wait(client.system("rig"), Job.from_dict(JOB.to_dict())),
    "an XCom with a key": lambda client: lifecycle.wait(
        client.system("rig"), Job.from_dict(replace(JOB, key=ClaimKey("one")).to_dict())
    ),
    "list_files": lambda client: client.system(REMOVAL).list_files("/"),
    "submit": lambda client: client.system(REMOVAL).submit_job(None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_nothing_is_sent(client: FirecRESTClient, httpserver: HTTPServer, call: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not the name of a system"):
        await call(client)
    assert httpserver.log == []


def test_the_default_of_a_connection(connection: Connection) -> None:
    with pytest.raises(ConfigurationError, match="is not the name of a system"):
        replace(connection, system=REMOVAL)


def test_the_default_in_the_environment() -> None:
    environ = {
        "FIRECREST_URL": "https://api.example.org",
        "AUTH_TOKEN_URL": "https://auth.example.org/token",
        "FIRECREST_CLIENT_ID": "me",
        "FIRECREST_CLIENT_SECRET": "s",
        "FIRECREST_SYSTEM": REMOVAL,
    }
    with pytest.raises(ConfigurationError, match="is not the name of a system"):
        Connection.from_environment(environ)


def test_a_server_that_gives_odd_names(exchanges: dict[str, dict[str, Any]]) -> None:
    systems = exchanges["status_systems"]["response"]["body"]
    systems = json.loads(systems) if isinstance(systems, str) else systems
    [good] = systems["systems"]
    assert [system.name for system in parse_each(SystemInfo, [good, good | {"name": REMOVAL}], "")] == [good["name"]]
    ticket = {
        "transferJob": {"jobId": 1, "system": REMOVAL},
        "transferDirectives": {"downloadUrl": "https://store.example.org/x"},
    }
    with pytest.raises(ServerFault):
        parse(DownloadTicket, ticket, "")


@pytest.mark.parametrize("part", ["../x?y=1#z", "a b", "%2e%2e", "é", "a&b"])
async def test_all_else_is_data_in_a_url(client: FirecRESTClient, httpserver: HTTPServer, part: str) -> None:
    """Paths, names and accounts travel as parameters, which the server reads back as they were given."""
    path = f"/home/{part}"
    jobs = httpserver.expect_request("/compute/rig/jobs", query_string={"name": part, "account": part})
    jobs.respond_with_json({"jobs": []})
    tail = httpserver.expect_request(
        "/filesystem/rig/ops/tail", query_string={"path": path, "skipHeading": "false", "lines": "10"}
    )
    tail.respond_with_json({"output": {"content": "x", "contentType": "lines", "startPosition": 0, "endPosition": 1}})
    removal = httpserver.expect_request("/filesystem/rig/ops/rm", "DELETE", query_string={"path": path})
    removal.respond_with_data(status=204)
    system = client.system("rig")
    assert await system.get_jobs(name=part, account=part) == []
    assert await system.tail(path, lines=10) == "x"
    await system.remove(path)


async def test_a_segment_of_a_path_is_no_path(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    with pytest.raises(FirecRESTError):
        await client.system("rig").start_transfer("../ops/rm?path=/x&y=", {})
    posted = [one.url.partition(":")[2].partition("/")[2] for one, _ in httpserver.log if one.path != "/token"]
    assert not [url for url in posted if "/rm?" in url]
