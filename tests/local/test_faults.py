"""What a client gets for each fault, and whether the work was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from firecrest_local import LocalFirecREST, Plan, Settings
from firecrest_local.__main__ import main

JOBS = "/compute/{system_name}/jobs"
JOB = "/compute/{system_name}/jobs/{job_id}"
EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "faults.toml"
SCRIPT = "#!/bin/sh\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    root = tmp_path_factory.mktemp("faults") / "cluster"
    settings = Settings(root=root, cores=4, accounting_lag=0.0, kill_wait=0.3, faults=Plan())
    with LocalFirecREST(settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_errors_in_the_servers_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Injecting a fault must not be an error of the server."""
    yield
    assert [
        one.getMessage() for one in caplog.records if one.name.startswith("uvicorn") and one.levelname == "ERROR"
    ] == []


@pytest.fixture
def api(server: LocalFirecREST, connect: Any) -> Any:
    server.faults.clear()
    return connect(server)


@pytest.fixture
def set_fault(server: LocalFirecREST) -> Callable[..., None]:
    """Set a plan of one rule."""

    def set_rule(fault: str, **rule: Any) -> None:
        server.faults.set({"rules": [{"fault": fault, **rule}]})

    return set_rule


def injected(server: LocalFirecREST) -> list[tuple[str, list[int]]]:
    return [(one.label, one.work) for one in server.faults.log]


def submitted(api: Any, name: str) -> list[str]:
    return [row["jobId"] for row in api.list(name=name)]


# --- the answer is lost or wrong, the work is done


def test_lost_answer(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("lose_answer", method="POST", route=JOBS, first=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        api.try_submit(SCRIPT, server.home, name="lost")
    assert len(submitted(api, "lost")) == 1
    api.submit(SCRIPT, server.home, name="lost")
    assert len(submitted(api, "lost")) == 2
    assert injected(server) == [("lose_answer", [201])]


def test_timeout_of_a_submission_that_worked(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("timeout_408", method="POST", route=JOBS)
    answer = api.try_submit(SCRIPT, server.home, name="late")
    assert answer.status_code == 408
    assert answer.json()["message"] == "Command execution timeout limit exceeded."
    assert len(submitted(api, "late")) == 1
    assert injected(server) == [("timeout_408", [201])]


def test_answer_of_work_that_failed_is_lost_too(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("lose_answer", method="DELETE")
    with pytest.raises(httpx.RemoteProtocolError):
        api.cancel("999999")
    assert injected(server) == [("lose_answer", [500])]


def test_duplicate(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("duplicate", method="POST", route=JOBS, first=1)
    answered = api.submit(SCRIPT, server.home, name="twice")
    both = submitted(api, "twice")
    assert len(both) == 2
    assert answered == max(both, key=int)
    assert injected(server) == [("duplicate", [201, 201])]


# --- nothing is done


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, "API rate limit exceeded"),
        (424, "Unable to open a new SSH channel."),
        (500, "Internal Server Error"),
        (503, "The scheduler service for the requested system (local) is unhealthy."),
    ],
)
def test_status(status: int, words: str, server: Any, api: Any, set_fault: Any) -> None:
    set_fault("status", status=status, method="POST", route=JOBS)
    answer = api.try_submit(SCRIPT, server.home, name=f"refused-{status}")
    assert (answer.status_code, answer.json()["message"]) == (status, words)
    assert answer.headers.get("Retry-After") == ("1" if status == 429 else None)
    assert submitted(api, f"refused-{status}") == []
    assert injected(server) == [(f"status_{status}", [])]


@pytest.mark.parametrize("status", [502, 504])
def test_page_of_a_proxy(status: int, server: Any, api: Any, set_fault: Any) -> None:
    set_fault("status", status=status, retry_after=7, method="POST", route=JOBS)
    answer = api.try_submit(SCRIPT, server.home, name=f"refused-{status}")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["Retry-After"] == "7"
    assert submitted(api, f"refused-{status}") == []


def test_status_with_its_own_message(api: Any, set_fault: Any) -> None:
    set_fault("status", status=502, message="gone fishing")
    assert api.http.get("/status/systems").json()["message"] == "gone fishing"


def test_reset(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("reset", method="POST", route=JOBS)
    with pytest.raises(httpx.ReadError):
        api.try_submit(SCRIPT, server.home, name="reset")
    assert submitted(api, "reset") == []
    assert injected(server) == [("reset", [])]


# --- late


@pytest.mark.parametrize("before", ["work", "answer"])
def test_delay(before: str, server: Any, api: Any, set_fault: Any) -> None:
    set_fault("delay", seconds=0.3, before=before, route="/filesystem/**")
    path = server.home / f"made-before-{before}"
    asked = time.time()
    answer = api.http.post(f"{api.ops_url}/mkdir", json={"path": str(path)})
    answered = time.time()
    assert answer.status_code == 201
    made = path.stat().st_mtime
    # The timestamps of a file system have a resolution of some milliseconds.
    assert (made - asked if before == "work" else answered - made) > 0.28


def test_slow_body(server: Any, api: Any, set_fault: Any) -> None:
    (server.home / "slow").write_bytes(b"0123456789" * 100)
    set_fault("slow_body", rate=4000, route="/filesystem/**")
    began = time.monotonic()
    answer = api.http.get(f"{api.ops_url}/download", params={"path": f"{server.home}/slow"})
    assert time.monotonic() - began > 0.24
    assert answer.content == b"0123456789" * 100
    assert injected(server) == [("slow_body", [200])]


# --- cut off


def read_until_cut_off(api: Any, url: str, **params: str) -> bytes:
    received = b""
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        with api.http.stream("GET", url, params=params or None) as answer:
            assert answer.status_code == 200
            for part in answer.iter_raw():
                received += part
    return received


@pytest.mark.parametrize(("size", "arrives"), [(None, 500), (7, 7), (0, 0), (5000, 999)])
def test_cut_body(size: int | None, arrives: int, server: Any, api: Any, set_fault: Any) -> None:
    content = b"0123456789" * 100
    (server.home / "cut").write_bytes(content)
    set_fault("cut_body", size=size, route="/filesystem/**")
    received = read_until_cut_off(api, f"{api.ops_url}/download", path=f"{server.home}/cut")
    assert received == content[:arrives]
    assert injected(server) == [("cut_body", [200])]


def test_nothing_to_cut(server: Any, api: Any, set_fault: Any) -> None:
    job_id = api.submit("#!/bin/sh\nsleep 60\n", server.home)
    set_fault("cut_body", method="DELETE")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        api.cancel(job_id)
    assert api.state(job_id).startswith("CANCELLED")


def test_staging_store_is_cut_off_too(server: Any, api: Any, set_fault: Any, until: Any) -> None:
    content = b"0123456789" * 300_000
    (server.home / "large").write_bytes(content)
    body = {"path": f"{server.home}/large", "transferDirectives": {"transferMethod": "s3"}}
    url = api.http.post(f"{api.transfer_url}/download", json=body).json()["transferDirectives"]["downloadUrl"]
    until(lambda: httpx.get(url).status_code == 200, "the object is there")
    set_fault("cut_body", route="/staging/{key:path}", first=1)
    assert read_until_cut_off(api, url) == content[:1_500_000]
    assert httpx.get(url).content == content


# --- jobs that become visible late


def test_new_job_is_invisible_for_a_while(server: Any, api: Any, until: Any) -> None:
    server.faults.set({"invisible": 0.5})
    asked = time.time()
    job_id = api.submit(SCRIPT, server.home, name="unseen")
    url = f"{api.jobs_url}/{job_id}"
    answer, row_ids = api.http.get(url), submitted(api, "unseen")
    if time.time() - asked < 0.5:
        assert (answer.status_code, answer.json()["message"]) == (404, "Job not found.")
        assert row_ids == []
    until(lambda: api.http.get(url).status_code == 200, "the job is visible")
    assert time.time() - asked >= 0.5
    assert submitted(api, "unseen") == [job_id]


def test_invisible_until_cleared(server: Any, api: Any) -> None:
    server.faults.set({"invisible": 600})
    job_id = api.submit("#!/bin/sh\n#SBATCH --array=0-1\n", server.home, name="unseen-array")
    assert api.http.get(f"{api.jobs_url}/{job_id}").status_code == 404
    assert submitted(api, "unseen-array") == []
    server.faults.clear()
    assert len(api.rows(job_id)) >= 1


def test_accounting_lag_can_be_changed(server: Any, api: Any, until: Any) -> None:
    server.faults.set({"accounting_lag": 600})
    job_id = api.submit(SCRIPT, server.home, name="lags")
    until(lambda: api.state(job_id) == "COMPLETED", "the job ends")
    assert api.row(job_id)["name"] == "allocation"
    server.faults.clear()
    assert api.row(job_id)["name"] == "lags"


# --- access


def test_token_that_expires_early(server: Any, api: Any, set_fault: Any, connect: Any) -> None:
    set_fault("early_token_expiry", first=1)
    for _ in range(2):
        answer = api.http.get("/status/systems")
        assert answer.status_code == 401
        assert answer.json()["message"] == "Access token expires too soon (less than 30s remaining)."
    assert server.faults.counts == {"early_token_expiry": 2}
    assert connect(server).http.get("/status/systems").status_code == 200


def test_token_issuer_is_down(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("status", status=503, message="Down", route="/token")
    assert httpx.post(server.token_url, data={}).status_code == 503
    assert api.http.get("/status/systems").status_code == 200


# --- outages


def test_refused_connections(server: Any, api: Any, set_fault: Any, until: Any) -> None:
    def answers() -> bool:
        try:
            return api.http.get("/status/systems").is_success
        except httpx.TransportError:
            return False

    def refused() -> bool:
        try:
            api.http.get("/status/systems")
        except httpx.ConnectError:
            return True
        except httpx.TransportError:  # the port was closed with this request on its way
            pass
        return False

    set_fault("refuse")
    until(refused, "connections are refused")
    assert injected(server) == [("refuse", [])]
    server.faults.clear()
    until(answers, "the server is back")
    set_fault("refuse", duration=1.0)
    until(lambda: server.faults.log, "the port is closed again")
    until(answers, "the server is back again")
    assert injected(server) == [("refuse", [])]


def test_outage_of_some_routes(api: Any, set_fault: Any, until: Any) -> None:
    url = f"{api.jobs_url}/999999"
    set_fault("status", status=503, route=JOB, duration=1.0)
    assert api.http.get(url).status_code == 503
    assert api.http.get("/status/systems").status_code == 200
    until(lambda: api.http.get(url).status_code == 404, "the outage is over")


def test_server_stops_while_it_refuses(serve: Any, connect: Any, until: Any) -> None:
    server = serve(faults=Plan())
    server.faults.set({"rules": [{"fault": "refuse"}]})
    until(lambda: server.faults.log, "the port is closed")
    server.stop()
    server.start()
    until(lambda: connect(server).http.get("/status/systems").is_success, "the restarted server answers")


# --- which requests


def test_no_other_route_is_affected(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("status", status=500, method="GET", route=JOB)
    job_id = api.submit(SCRIPT, server.home)
    assert api.http.get(api.jobs_url).status_code == 200
    assert api.http.get(f"{api.jobs_url}/{job_id}/metadata").status_code == 200
    assert api.http.get("/status/systems").status_code == 200
    assert api.cancel("999999").json()["message"].startswith("Unexpected Slurm")
    assert injected(server) == []
    assert api.http.get(f"{api.jobs_url}/{job_id}").status_code == 500
    # Paths are read without regard to case.
    assert api.http.get(f"{api.jobs_url}/{job_id}".upper()).status_code == 500
    assert [one.path for one in server.faults.log] == [
        f"{api.jobs_url}/{job_id}",
        f"{api.jobs_url}/{job_id}".upper(),
    ]


def test_same_seed_same_faults(server: Any, api: Any) -> None:
    def statuses(seed: int) -> list[int]:
        rules = [
            {"fault": "status", "status": 429, "probability": 0.3},
            {"fault": "status", "status": 500, "probability": 0.3},
        ]
        server.faults.set({"seed": seed, "rules": rules})
        return [api.http.get("/status/systems").status_code for _ in range(40)]

    first = statuses(1)
    assert set(first) == {200, 429, 500}
    assert server.faults.counts == {"status_429": first.count(429), "status_500": first.count(500)}
    assert statuses(1) == first
    assert statuses(2) != first


# --- control


def test_server_without_a_plan_has_no_faults(serve: Any, connect: Any) -> None:
    server = serve()
    api = connect(server)
    secret = {"X-Client-Secret": server.client_secret}
    for method in ("GET", "PUT", "DELETE"):
        assert api.http.request(method, "/faults", headers=secret).status_code == 404
    with pytest.raises(RuntimeError, match=r"without Settings\.faults"):
        _ = server.faults


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("headers", [{}, {"X-Client-Secret": "wrong"}, {"X-Client-Secret": "ä".encode()}])
def test_control_needs_the_secret(method: str, headers: Any, server: Any, api: Any, set_fault: Any) -> None:
    set_fault("status", status=500)
    body = {"json": {}} if method == "PUT" else {}
    answer = api.http.request(method, "/faults", headers=headers, **body)
    assert answer.status_code == 401
    assert len(server.faults.plan.rules) == 1


def test_control_over_http(server: Any, api: Any) -> None:
    control = httpx.Client(base_url=server.url, headers={"X-Client-Secret": server.client_secret})
    plan = {"seed": 3, "rules": [{"fault": "status", "status": 424, "first": 1}]}
    assert control.put("/faults", json=plan).status_code == 204
    # The endpoint itself meets no faults.
    assert control.get("/faults").json() == {"plan": plan, "injected": {}}
    assert [api.http.get("/status/systems").status_code for _ in range(2)] == [424, 200]
    assert control.get("/faults").json()["injected"] == {"status_424": 1}
    assert control.delete("/faults").status_code == 204
    assert control.get("/faults").json() == {"plan": {}, "injected": {"status_424": 1}}
    refused = control.put("/faults", json={"rules": [{"fault": "status"}]})
    assert refused.status_code == 400
    assert "Field required" in refused.text


def test_example_of_the_docs(command: Any, connect_by_environment: Any, until: Any) -> None:
    running = command("--faults", str(EXAMPLE))
    api = connect_by_environment(running.environ)
    job_id = api.submit(SCRIPT, running.home)
    with pytest.raises(httpx.RemoteProtocolError):
        api.try_submit(SCRIPT, running.home)
    url = f"{api.jobs_url}/{job_id}"
    for _ in range(2):
        with pytest.raises(httpx.ReadError):
            api.http.get(url)
    until(lambda: api.http.get(url).status_code == 200, "the job is visible")
    secret = {"X-Client-Secret": running.environ["FIRECREST_CLIENT_SECRET"]}
    shown = api.http.get("/faults", headers=secret).json()
    assert len(shown["plan"]["rules"]) == 6
    assert shown["injected"]["lose_answer"] == 1
    assert shown["injected"]["reset"] == 2


def test_docs_show_the_example() -> None:
    _, _, rules = EXAMPLE.read_text().partition("\n\n")
    assert rules in EXAMPLE.with_name("local-server.md").read_text()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rules = [", "Invalid value"),
        ("[[rules]]\nfault = 'reset'\nroutes = '/'\n", "rules.0.reset.routes: Extra inputs are not permitted"),
        (None, "No such file"),
    ],
)
def test_wrong_file_is_reported_in_one_line(text: str | None, complaint: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "faults.toml"
    if text is not None:
        path.write_text(text)
    assert main(["--root", str(tmp_path / "cluster"), "--faults", str(path)]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert complaint in errors
    assert len(errors.splitlines()) == 1


def test_requests_count_the_work(server: Any, api: Any) -> None:
    rules = [
        {"fault": "lose_answer", "nth": [1]},
        {"fault": "reset", "nth": [2]},
        {"fault": "duplicate", "nth": [3]},
    ]
    server.faults.set({"rules": rules})
    before = server.requests["GET", "/status/systems"]
    for broken in (True, True, False):
        if broken:
            with pytest.raises(httpx.TransportError):
                api.http.get("/status/systems")
        else:
            assert api.http.get("/status/systems").status_code == 200
    assert server.requests["GET", "/status/systems"] - before == 3
    assert injected(server) == [("lose_answer", [200]), ("reset", []), ("duplicate", [200, 200])]
