"""What is sent, how often, and what a failure is called."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.connection import Connection

JOB = SubmitRequest(name="j", working_directory="/wd", script="#!/bin/bash\n")


def answer(status: int, message: str = "", **headers: str) -> Response:
    body = json.dumps({"errorType": "error", "message": message, "causedBy": None, "data": None, "user": None})
    return Response(body, status, headers, content_type="application/json")


def asked(httpserver: HTTPServer) -> list[Request]:
    """The requests that reached FirecREST, without those for tokens."""
    return [request for request, _ in httpserver.log if request.path != "/token"]


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (answer(408, "Command execution timeout limit exceeded."), errors.RequestTimedOut),
        (answer(424, "Unable to open a new SSH channel."), errors.ServerFault),
        (answer(429, "slow down"), errors.RateLimited),
        (answer(500, "boom"), errors.ServerFault),
        (answer(502), errors.ServerFault),
        (answer(503, "The scheduler service for the requested system (rig) is unhealthy."), errors.SystemUnhealthy),
        (Response("<html>Bad Gateway</html>", 504), errors.ServerFault),
    ],
)
async def test_questions_are_repeated_a_few_times(
    refused: Response, error: type[errors.TransientError], client: FirecRESTClient, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_response(refused)
    with pytest.raises(error) as raised:
        await client.system().get_job("7")
    assert raised.value.retryable
    assert not raised.value.user_error
    assert len(asked(httpserver)) == 4


async def test_one_fault_is_not_noticed(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    httpserver.expect_oneshot_request("/compute/rig/jobs/7").respond_with_response(answer(502))
    httpserver.expect_oneshot_request("/compute/rig/jobs/7").respond_with_json({"jobs": []})
    assert await client.system().get_job("7") == []


@pytest.mark.parametrize("status", [408, 500, 502, 504])
async def test_a_submission_is_not_sent_twice(status: int, client: FirecRESTClient, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/compute/rig/jobs").respond_with_response(answer(status, "boom"))
    with pytest.raises(errors.SubmissionUnknown, match="may be in the queue"):
        await client.system().submit_job(JOB)
    assert len(asked(httpserver)) == 1


@pytest.mark.parametrize(
    "refused",
    [
        answer(424, "Unable to open a new SSH channel."),
        answer(429, "slow down"),
        answer(503, "The scheduler service for the requested system (rig) is unhealthy."),
    ],
)
async def test_a_submission_that_did_nothing_is_sent_again(
    refused: Response, client: FirecRESTClient, httpserver: HTTPServer
) -> None:
    httpserver.expect_oneshot_request("/compute/rig/jobs").respond_with_response(refused)
    httpserver.expect_oneshot_request("/compute/rig/jobs").respond_with_json({"jobId": "7"}, status=201)
    assert await client.system().submit_job(JOB) == "7"


@pytest.mark.parametrize("name", ["bad_partition", "bad_no_shebang"])
async def test_what_sbatch_refuses_is_the_users_to_mend(
    name: str, client: FirecRESTClient, httpserver: HTTPServer, timeline: Callable[[str], dict[str, Any]]
) -> None:
    recorded = timeline(name)["response"]
    httpserver.expect_request("/compute/rig/jobs").respond_with_json(recorded["json"], status=recorded["status"])
    with pytest.raises(errors.SubmissionRejected) as raised:
        await client.system().submit_job(JOB)
    assert raised.value.user_error
    assert len(asked(httpserver)) == 1
    assert "std_err" not in str(raised.value)


async def test_a_controller_that_is_away_refuses_nothing(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    said = (
        "Unexpected Slurm command response. exit_status:1 std_err:sbatch: error: Batch job submission failed: "
        "Unable to contact slurm controller (connect failure)"
    )
    httpserver.expect_request("/compute/rig/jobs").respond_with_response(answer(500, said))
    with pytest.raises(errors.SubmissionUnknown):
        await client.system().submit_job(JOB)


async def test_the_cause_of_a_wrapped_error_counts(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    body = {
        "errorType": "error",
        "message": "Error executing Slurm command.",
        "causedBy": ["Command execution timeout limit exceeded."],
    }
    httpserver.expect_request("/compute/rig/jobs").respond_with_json(body, status=500)
    with pytest.raises(errors.RequestTimedOut, match="timeout limit"):
        await client.system().get_jobs()


@pytest.mark.parametrize("status", [200, 302, 403, 404])
async def test_a_first_answer_that_is_not_firecrests(
    httpserver: HTTPServer, connection: Connection, status: int
) -> None:
    """A new process cannot tell a gateway's page from a wrong URL, so it asks for what every FirecREST has."""
    page = Response(
        "<html>nothing here</html>", status, content_type="text/html", headers={"Location": "https://a.example"}
    )
    httpserver.expect_request("/filesystem/rig/ops/ls").respond_with_response(page)
    async with FirecRESTClient(connection, attempts=1) as client:
        with pytest.raises(errors.UserError):
            await client.system().list_files("/wd")
    httpserver.expect_request("/status/systems").respond_with_json({"systems": []})
    async with FirecRESTClient(connection, attempts=1) as client:
        with pytest.raises(errors.UnexpectedAnswer, match="gateway"):
            await client.system().list_files("/wd")


async def test_a_new_client_knows_that_the_url_is_right(httpserver: HTTPServer, connection: Connection) -> None:
    """A Prefect process or a triggerer has many clients one after the other."""
    answers = iter([Response('{"systems": []}', content_type="application/json"), Response("404 page not found", 404)])
    httpserver.expect_request("/status/systems").respond_with_handler(lambda request: next(answers))
    async with FirecRESTClient(connection) as first:
        await first.list_systems()
    async with FirecRESTClient(connection, attempts=1) as second:
        with pytest.raises(errors.UnexpectedAnswer, match="gateway"):
            await second.list_systems()
    other = dataclasses.replace(connection, token_url=f"{connection.token_url}?other")
    async with FirecRESTClient(other, attempts=1) as third:
        assert not third.requests.session.reached


async def test_a_gateways_413_concerns_only_content(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    client.trust_url()
    page = "<html>413 Request Entity Too Large</html>"
    for path in ("/compute/rig/jobs/7", "/compute/rig/jobs", "/filesystem/rig/ops/download"):
        httpserver.expect_request(path).respond_with_data(page, status=413)
    with pytest.raises(errors.UnexpectedAnswer):
        await client.system().get_job("7")
    with pytest.raises(errors.FileTooLarge):
        await client.system().download_small("/f")
    with pytest.raises(errors.FileTooLarge):  # the script
        await client.system().submit_job(JOB)


async def test_retry_after_is_kept(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_response(answer(429, "slow", **{"Retry-After": "0"}))
    with pytest.raises(errors.RateLimited) as raised:
        await client.system().get_job("7")
    assert raised.value.retry_after == 0


async def test_a_long_retry_after_is_raised_at_once(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    slow = answer(429, "slow", **{"Retry-After": "600"})
    httpserver.expect_oneshot_request("/compute/rig/jobs/7").respond_with_response(slow)
    with pytest.raises(errors.RateLimited) as raised:
        await client.system().get_job("7")
    assert raised.value.retry_after == 600


async def test_the_list_is_filtered_here_too(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    rows = [{"jobId": 1, "name": "mine"}, {"jobId": 2, "name": "other"}]
    httpserver.expect_request("/compute/rig/jobs").respond_with_json({"jobs": rows})
    assert [row.job_id for row in await client.system().get_jobs(name="mine")] == ["1"]


async def test_an_odd_row_hides_no_other(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    odd = [{"jobId": 1, "name": 7}, {"name": "no id"}, None, "row", {"jobId": 2, "status": "gone"}]
    rows = [*odd, {"jobId": 9, "status": {"state": "RUNNING"}, "time": {"elapsed": "UNKNOWN", "limit": "UNLIMITED"}}]
    httpserver.expect_request("/compute/rig/jobs").respond_with_json({"jobs": rows})
    found = {row.job_id: row for row in await client.system().get_jobs()}
    assert found["9"].state == "RUNNING"
    assert (found["9"].elapsed, found["9"].time_limit) == (None, None)
    assert "1" not in found


@pytest.mark.parametrize("rows", [[None], [{"jobId": 1, "name": 7}], "none", 7, {"jobs": []}])
async def test_rows_that_cannot_be_read_are_no_empty_list(
    rows: Any, client: FirecRESTClient, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/compute/rig/jobs").respond_with_json({"jobs": rows})
    with pytest.raises(errors.ServerFault, match="not the form"):
        await client.system().get_jobs()


async def test_an_odd_row_of_the_job_itself_is_a_fault(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    rows = [{"jobId": "7_0", "status": {"state": "COMPLETED"}}, {"jobId": "7_1", "name": 7}]
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_json({"jobs": rows})
    with pytest.raises(errors.ServerFault, match="not the form"):
        await client.system().get_job("7")


async def test_an_odd_system_hides_no_other(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    systems = [{"name": "old", "fileSystems": None}, {"name": None}, {"name": "rig", "scheduler": {"type": "slurm"}}]
    httpserver.expect_request("/status/systems").respond_with_json({"systems": systems})
    assert [system.name for system in await client.list_systems()] == ["old", "rig"]
    assert await client.system().scheduler() == "slurm"


async def test_a_long_list_is_read_whole(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    rows = [{"jobId": number, "name": "x" * 1000} for number in range(500)]
    httpserver.expect_request("/compute/rig/jobs").respond_with_json({"jobs": rows})
    assert [row.job_id for row in await client.system().get_jobs()] == [str(number) for number in range(500)]


@pytest.mark.parametrize("body", [{}, {"status": "maintenance"}, [], "soon"])
async def test_an_answer_without_jobs_is_a_fault_of_the_server(
    client: FirecRESTClient, httpserver: HTTPServer, body: object
) -> None:
    httpserver.expect_request("/compute/rig/jobs").respond_with_json(body)
    with pytest.raises(errors.ServerFault, match="not the form"):
        await client.system().get_jobs()


async def test_who_asks_again_by_itself_is_answered_at_once(connection: Connection, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_data("", status=502)
    async with FirecRESTClient(connection, attempts=1) as client:
        with pytest.raises(errors.ServerFault):
            await client.system().get_job("7")
    assert len([one for one, _ in httpserver.log if one.path.endswith("/7")]) == 1


# --- tokens ---------------------------------------------------------------------------------------


async def test_one_token_serves_many(
    client: FirecRESTClient, httpserver: HTTPServer, token_requests: list[Request]
) -> None:
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_json({"jobs": []})
    await asyncio.gather(*(client.system().get_job("7") for _ in range(10)))
    assert len(token_requests) == 1
    assert token_requests[0].form["grant_type"] == "client_credentials"


async def test_a_token_is_renewed_before_the_server_refuses_it(
    client: FirecRESTClient, httpserver: HTTPServer, token_requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_json({"jobs": []})
    await client.system().get_job("7")
    start = time.monotonic()
    for later, tokens in ((230, 1), (250, 2)):
        monkeypatch.setattr("firecrest_core.api.auth.time.monotonic", lambda later=later: start + later)
        await client.system().get_job("7")
        assert len(token_requests) == tokens


async def test_a_refused_token_is_renewed_once(
    client: FirecRESTClient, httpserver: HTTPServer, token_requests: list[Request]
) -> None:
    httpserver.expect_oneshot_request("/compute/rig/jobs/7").respond_with_response(answer(401, "expires too soon"))
    httpserver.expect_oneshot_request("/compute/rig/jobs/7").respond_with_json({"jobs": []})
    await client.system().get_job("7")
    assert len(token_requests) == 2
    httpserver.expect_request("/compute/rig/jobs/8").respond_with_response(answer(401, "no"))
    with pytest.raises(errors.AuthenticationFailed):
        await client.system().get_job("8")
    assert len(asked(httpserver)) == 4


@pytest.mark.parametrize(
    ("issued", "error", "words"),
    [
        (
            Response('{"error": "unauthorized_client", "error_description": "Invalid client secret"}', 401),
            errors.AuthenticationFailed,
            "Invalid client secret",
        ),
        (Response("nope", 400), errors.AuthenticationFailed, "refused"),
        (Response("<html>not here</html>", 404), errors.ConfigurationError, "token URL"),
        (Response("<html>welcome</html>", 200), errors.ConfigurationError, "token URL"),
        (Response("down", 503), errors.ServerFault, "503"),
    ],
)
async def test_an_issuer_that_gives_no_token(
    issued: Response, error: type[errors.FirecRESTError], words: str, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/token").respond_with_response(issued)
    connection = Connection(
        url=httpserver.url_for("/"), token_url=httpserver.url_for("/token"), client_id="me", client_secret="very-secret"
    )
    async with FirecRESTClient(connection) as client:
        with pytest.raises(error, match=words) as raised:
            await client.list_systems()
    assert "very-secret" not in str(raised.value)


async def test_scopes_are_asked_for(httpserver: HTTPServer, connection: Connection) -> None:
    httpserver.expect_request("/status/systems").respond_with_json({"systems": []})
    async with FirecRESTClient(dataclasses.replace(connection, scopes=("openid", "hpc"))) as client:
        await client.list_systems()
    assert httpserver.log[0][0].form["scope"] == "openid hpc"


async def test_secrets_are_not_logged(
    client: FirecRESTClient, httpserver: HTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    httpserver.expect_request("/compute/rig/jobs/7").respond_with_json({"jobs": []})
    await client.system().get_job("7")
    assert "very-secret" not in caplog.text
    assert "Bearer token-1" not in caplog.text
    assert "very-secret" not in repr(client)


# --- the network ------------------------------------------------------------------------------------


def elsewhere(connection: Connection, url: str, **fields: Any) -> Connection:
    return dataclasses.replace(connection, url=url, **fields)


async def test_a_host_that_does_not_exist(connection: Connection) -> None:
    async with FirecRESTClient(elsewhere(connection, "https://no-such-host.invalid")) as client:
        with pytest.raises(errors.HostNotFound, match=r"no-such-host\.invalid is not known") as raised:
            await client.list_systems()
    assert raised.value.user_error


async def test_nobody_listens(connection: Connection) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with FirecRESTClient(elsewhere(connection, url)) as client:
            with pytest.raises(errors.ServerUnreachable, match="no connection to 127") as raised:
                await client.system().submit_job(JOB)
    assert raised.value.not_processed


async def test_a_host_that_does_not_answer(connection: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with FirecRESTClient(elsewhere(connection, url, timeout=0.2)) as client:
            with pytest.raises(errors.RequestTimedOut, match="did not answer in time"):
                await client.list_systems()
            with pytest.raises(errors.SubmissionUnknown):
                await client.system().submit_job(JOB)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[HTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        server.expect_request("/status/systems").respond_with_json({"systems": []})
        yield server


async def test_a_certificate_that_nobody_vouches_for(connection: Connection, secure: HTTPServer) -> None:
    async with FirecRESTClient(elsewhere(connection, secure.url_for("/"))) as client:
        with pytest.raises(errors.TLSFailed, match="CA bundle") as raised:
            await client.list_systems()
    assert raised.value.user_error
    assert not secure.log


async def test_a_certificate_of_the_sites_own_authority(
    connection: Connection, secure: HTTPServer, authority: trustme.CA, tmp_path: Any
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    async with FirecRESTClient(elsewhere(connection, secure.url_for("/"), verify=str(bundle))) as client:
        assert await client.list_systems() == []


async def test_a_bundle_that_is_none(connection: Connection, tmp_path: Any) -> None:
    for bundle in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        if bundle.name == "empty.pem":
            bundle.touch()
        async with FirecRESTClient(elsewhere(connection, connection.url, verify=str(bundle))) as client:
            with pytest.raises(errors.ConfigurationError, match=bundle.name):
                await client.list_systems()


@pytest.mark.parametrize(
    "page", ["<html>no such page</html>", '{"detail": "Not Found"}', '{"errorType": "error", "message": "Not Found"}']
)
async def test_a_url_that_is_not_the_apis_root(page: str, client: FirecRESTClient, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/status/systems").respond_with_data(page, status=404)
    with pytest.raises(errors.RequestRejected, match="Does the URL point at FirecREST version 2") as raised:
        await client.list_systems()
    assert client.connection.url in str(raised.value)


async def test_something_else_than_firecrest(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/status/systems").respond_with_data("<html>welcome</html>")
    with pytest.raises(errors.RequestRejected, match="FirecREST version 2"):
        await client.list_systems()


async def test_four_requests_are_in_flight_at_most(client: FirecRESTClient, httpserver: HTTPServer) -> None:
    most = now = 0

    async def count(request: Any) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)

    async def uncount(response: Any) -> None:
        nonlocal now
        now -= 1

    httpserver.expect_request("/compute/rig/jobs/7").respond_with_json({"jobs": []})
    await client.system().get_job("7")
    client.requests.session.event_hooks = {"request": [count], "response": [uncount]}
    await asyncio.gather(*(client.system().get_job("7") for _ in range(40)))
    assert most == 4
