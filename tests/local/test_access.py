"""Who gets a token, which tokens are accepted, and what stays secret."""

from __future__ import annotations

import logging
import os
from typing import Any

import httpx
import pytest

from firecrest_local import Plan, Settings
from firecrest_local.__main__ import main


@pytest.fixture
def server(serve: Any) -> Any:
    return serve()


def grant(server: Any, **fields: str) -> httpx.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": server.client_id,
        "client_secret": server.client_secret,
        **fields,
    }
    return httpx.post(server.token_url, data=form)


def systems(server: Any, token: str) -> httpx.Response:
    return httpx.get(f"{server.url}/status/systems", headers={"Authorization": f"Bearer {token}"})


def test_token_by_form_fields(server: Any) -> None:
    token = grant(server).raise_for_status().json()
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 300
    assert systems(server, token["access_token"]).status_code == 200


def test_token_by_basic_authentication(server: Any) -> None:
    answer = httpx.post(
        server.token_url,
        data={"grant_type": "client_credentials"},
        auth=(server.client_id, server.client_secret),
    )
    assert systems(server, answer.json()["access_token"]).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "unauthorized_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_refused_grant(server: Any, fields: dict[str, str], status: int, error: str) -> None:
    answer = grant(server, **fields)
    assert answer.status_code == status
    assert answer.json()["error"] == error
    assert answer.json()["error_description"]


def test_wrong_basic_authentication(server: Any) -> None:
    form = {"grant_type": "client_credentials"}
    assert httpx.post(server.token_url, data=form, auth=(server.client_id, "wrong")).status_code == 401


@pytest.mark.parametrize(
    ("lifetime", "message"),
    [
        (29.0, "Access token expires too soon (less than 30s remaining)."),
        (-1.0, "Access token expired"),
    ],
)
def test_token_must_be_valid_for_a_while(server: Any, lifetime: float, message: str) -> None:
    answer = systems(server, server.issuer.issue(lifetime))
    assert answer.status_code == 401
    assert answer.json()["message"] == message
    assert systems(server, server.issuer.issue(35.0)).status_code == 200


def test_tampered_token(server: Any) -> None:
    token = server.issuer.issue()
    answer = systems(server, token[:-4] + "AAAA")
    assert (answer.status_code, answer.json()["message"]) == (401, "Access token is invalid.")


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "Bearer a.b.c", "Bearer é"])
def test_no_token_at_all(server: Any, header: str) -> None:
    answer = httpx.get(f"{server.url}/status/systems", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401


def test_secret_outlives_a_restart_and_is_random(serve: Any, tmp_path: Any) -> None:
    first, other = serve(root=tmp_path / "one"), serve(root=tmp_path / "two")
    secret, token = first.client_secret, first.issuer.issue()
    assert secret != other.client_secret
    first.stop()
    again = serve(root=tmp_path / "one")
    assert again.client_secret == secret
    assert systems(again, token).status_code == 200


def test_chosen_secret_is_used_and_never_written(serve: Any, tmp_path: Any) -> None:
    server = serve(client_secret="chosen-by-hand")
    assert grant(server, client_secret="chosen-by-hand").status_code == 200
    for path in (tmp_path / "cluster").rglob("*"):
        assert not path.is_file() or b"chosen-by-hand" not in path.read_bytes()


@pytest.mark.parametrize("faults", [None, Plan()], ids=["no-faults", "faults"])
def test_secrets_are_in_no_log_and_no_text(
    serve: Any, connect: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, faults: Plan | None
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(client_secret="most-secret-word", faults=faults)
    # logging.config.dictConfig does this to existing loggers, for example in an Airflow process.
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)
    api = connect(server)
    grant(server, client_secret="wrong")
    body = {"path": f"{server.home}/x", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}
    urls = api.http.post(f"{api.transfer_url}/upload", json=body).json()["transferDirectives"]
    httpx.put(urls["partsUploadUrls"][0], content=b"x")
    assert caplog.text
    # The client's own log lines show its URLs. The server's must not.
    ours = [record for record in caplog.records if record.name.startswith(("firecrest_local", "uvicorn"))]
    lines = "\n".join(record.getMessage() for record in ours)
    assert "/staging/" in lines
    for secret in ("most-secret-word", api.http.headers["Authorization"].split()[1], "X-Amz-Signature"):
        assert secret not in lines
    assert "most-secret-word" not in repr(server.settings)
    assert "most-secret-word" not in repr(server)
    state = server.home.parent.parent / "state"
    assert state.stat().st_mode & 0o077 == 0
    assert (state / "secrets.json").stat().st_mode & 0o077 == 0


def test_nothing_is_open_to_other_users_whatever_the_umask(serve: Any, connect: Any, tmp_path: Any) -> None:
    (tmp_path / "cluster" / "home").mkdir(parents=True)
    before = os.umask(0)
    try:
        server = serve()
        api = connect(server)
        api.wait_end(api.submit("#!/bin/sh\nsrun true\n", server.home))
        (server.home / "f").write_text("x")
        for operation in ("download", "upload"):
            body = {"path": f"{server.home}/f", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}
            answer = api.http.post(f"{api.transfer_url}/{operation}", json=body).raise_for_status().json()
            if operation == "upload":
                httpx.put(answer["transferDirectives"]["partsUploadUrls"][0], content=b"x").raise_for_status()
            else:
                api.wait_end(answer["transferJob"]["jobId"])
    finally:
        os.umask(before)
    state = server.home.parent.parent / "state"
    assert {path.name for path in state.rglob("*")} >= {
        "jobs.sqlite",
        "spec.json",
        "exit.json",
        "0.json",
        "object",
        "1",
    }
    for path in (server.home.parent, server.home, state, *state.rglob("*")):
        allowed = 0o700 if path.is_dir() or path.name == "srun" else 0o600
        assert path.stat().st_mode & 0o777 == allowed, path


def test_a_root_of_its_own_is_closed_and_a_given_one_is_left(serve: Any, tmp_path: Any) -> None:
    given = tmp_path / "given"
    given.mkdir()
    given.chmod(0o755)
    serve(root=given)
    serve(root=tmp_path / "new" / "root")
    assert given.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "new" / "root").stat().st_mode & 0o777 == 0o700


def test_another_host_is_refused(server: Any) -> None:
    """A web page may give its own name the address of this machine."""
    for host, status in (("localhost:1", 200), ("127.0.0.1", 200), ("page.example:80", 421)):
        answer = httpx.get(f"{server.url}/status/liveness/", headers={"Host": host})
        assert answer.status_code == status
    assert "page.example" in answer.json()["message"]


def test_all_but_the_liveness_needs_a_token_or_a_secret(serve: Any) -> None:
    server = serve(faults=Plan())
    specification = httpx.get(f"{server.url}/openapi.json").json()
    paths = {**specification["paths"], "/staging/key": ["get", "put", "post"], "/faults": ["get", "put", "delete"]}
    open_to_all = set()
    for path, operations in paths.items():
        for method in operations:
            url = server.url + path.replace("{system_name}", server.system)
            # A page in a browser can send a form without asking.
            answer = httpx.request(method, url, content=b"a=b", headers={"Content-Type": "text/plain"})
            if answer.status_code not in (401, 403):
                open_to_all.add((path, answer.status_code))
    assert open_to_all == {("/status/liveness/", 200), ("/token", 400)}


def test_listens_on_the_loopback_alone(server: Any) -> None:
    assert server.url.startswith("http://127.0.0.1:")


def test_unhealthy_services_are_refused(server: Any, connect: Any) -> None:
    api = connect(server)
    server.health.set("scheduler", healthy=False, message="down for a while")
    answer = api.try_submit("#!/bin/sh\n", server.home)
    assert answer.status_code == 503
    assert answer.json()["message"] == ("The scheduler service for the requested system (local) is unhealthy.")
    report = api.http.get("/status/systems").json()["systems"][0]["servicesHealth"]
    assert {row["serviceType"]: row["healthy"] for row in report}["scheduler"] is False
    server.health.set("scheduler", healthy=True)
    assert api.try_submit("#!/bin/sh\n", server.home).status_code == 201
    server.health.set("filesystem", healthy=False)
    answer = api.http.get(f"{api.ops_url}/ls", params={"path": str(server.home)})
    assert answer.status_code == 503
    assert "filesystem" in answer.json()["message"]


def test_paths_are_read_without_regard_to_case(server: Any, connect: Any) -> None:
    assert connect(server).http.get("/Status/LOCAL/Nodes").status_code == 200


FORM = {"grant_type": "client_credentials"}


def by_basic(server: Any, client_id: str, client_secret: str) -> httpx.Response:
    return httpx.post(server.token_url, data=FORM, auth=(client_id, client_secret))


def test_a_token_endpoint_that_takes_basic_alone(serve: Any) -> None:
    server = serve(token_auth="client_secret_basic", client_id="me & co", client_secret="a:b%c d")
    refused = grant(server)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    # RFC 6749, 2.3.1: each is encoded as in a form
    assert by_basic(server, "me+%26+co", "a%3Ab%25c+d").status_code == 200
    assert server.environ["FIRECREST_AUTH"] == "client_secret_basic"


def test_a_token_endpoint_that_takes_the_form_alone(serve: Any) -> None:
    server = serve(token_auth="client_secret_post")
    assert grant(server).status_code == 200
    assert by_basic(server, server.client_id, server.client_secret).json()["error"] == "invalid_client"


def by_key(server: Any, key: str) -> httpx.Response:
    return httpx.get(f"{server.url}/status/systems", headers={"X-API-Key": key})


def test_an_api_key_in_the_place_of_a_token(serve: Any) -> None:
    server = serve(api_keys=("first-key", "second-key"))
    assert [by_key(server, key).status_code for key in ("first-key", "second-key", "other", "")] == [200, 200, 401, 401]
    assert systems(server, server.issuer.issue()).status_code == 200
    assert server.environ["FIRECREST_API_KEY"] == "first-key"
    assert "first-key" not in repr(server.settings)


def test_no_api_key_is_taken_unless_there_are_some(server: Any) -> None:
    assert by_key(server, "").status_code == 401
    assert "FIRECREST_AUTH" not in server.environ


@pytest.mark.parametrize("wrong", [{"token_auth": "basic"}, {"token_lifetime": 0}, {"api_keys": ("",)}])
def test_settings_of_access_that_cannot_be_right(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="token_auth|lifetime|API key"):
        Settings(**wrong)


def test_the_command_asks_for_each_kind(command: Any, tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key\nsecond-key\n")
    environ = command(
        "--api-key-file", str(keys), "--token-auth", "client_secret_basic", "--token-lifetime", "60"
    ).environ
    assert (environ["FIRECREST_AUTH"], environ["FIRECREST_API_KEY"]) == ("api_key", "first-key")
    url, token_url = environ["FIRECREST_URL"], environ["AUTH_TOKEN_URL"]
    for key in ("first-key", "second-key"):
        assert httpx.get(f"{url}/status/systems", headers={"X-API-Key": key}).status_code == 200
    client = (environ["FIRECREST_CLIENT_ID"], environ["FIRECREST_CLIENT_SECRET"])
    assert httpx.post(token_url, data=FORM, auth=client).json()["expires_in"] == 60


def test_a_file_without_api_keys(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "keys"
    keys.touch()
    assert main(["--root", str(tmp_path / "cluster"), "--api-key-file", str(keys)]) == 1
    assert f"no API key in {keys}: it is empty" in capsys.readouterr().err
