"""What a client gets for the faults that answer as gateways, shells and schedulers of real sites do."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from firecrest_local import LocalFirecREST, Plan, Settings
from firecrest_local.__main__ import parser
from firecrest_local.faults.plan import fault_kinds

JOBS = "/compute/{system_name}/jobs"
JOB = "/compute/{system_name}/jobs/{job_id}"
SCRIPT = "#!/bin/sh\n"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    root = tmp_path_factory.mktemp("odd") / "cluster"
    settings = Settings(root=root, cores=4, accounting_lag=0.0, kill_wait=0.3, faults=Plan())
    with LocalFirecREST(settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_errors_in_the_servers_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Injecting a fault must not be an error of the server."""
    yield
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


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


# --- gateways


@pytest.mark.parametrize(
    ("page", "status", "kind", "words"),
    [
        ("not_found", 404, "text/plain", "404 page not found"),
        ("maintenance", 200, "text/html", "Scheduled maintenance"),
        ("bad_gateway", 502, "text/html", "502 Bad Gateway"),
        ("unavailable", 503, "text/html", "503 Service Temporarily Unavailable"),
        ("login", 302, "text/html", "302 Found"),
    ],
)
@pytest.mark.parametrize("done", [False, True])
def test_gateway_page(
    page: str, status: int, kind: str, words: str, done: bool, server: Any, api: Any, set_fault: Any
) -> None:
    set_fault("gateway_page", page=page, done=done, method="POST", route=JOBS)
    answer = api.try_submit(SCRIPT, server.home, name=f"{page}-{done}")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(kind)
    assert words in answer.text
    assert ("location" in answer.headers) == (page == "login")
    assert len(submitted(api, f"{page}-{done}")) == done
    assert injected(server) == [(f"gateway_page_{page}", [201] if done else [])]


def test_large_body_is_refused_by_a_gateway(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("too_large", limit=2000, route="/filesystem/**")
    url = f"{api.ops_url}/upload"
    query = {"path": str(server.home)}
    large = api.http.post(url, params=query, files={"file": ("large", b"x" * 3000)})
    assert (large.status_code, large.headers["content-type"].split(";")[0]) == (413, "text/html")
    assert "Request Entity Too Large" in large.text
    assert not (server.home / "large").exists()
    assert api.http.post(url, params=query, files={"file": ("small", b"x" * 1000)}).status_code == 204
    assert injected(server) == [("too_large", [])]


# --- shells and file systems


def test_noise_of_the_home_directory_stands_before_what_commands_say(server: Any, api: Any, set_fault: Any) -> None:
    (server.home / "noisy").symlink_to("/dev/null")
    set_fault("home_noise")
    noise = "Could not chdir to home directory /users/xyz: No such file or directory\n"
    link = {"path": str(server.home), "linkPath": f"{server.home}/noisy"}
    answer = api.http.post(f"{api.ops_url}/symlink", json=link)
    # The server judges by the whole standard error.
    assert answer.status_code == 404
    assert answer.json()["message"] == (
        f"Remote process failed with exit status:1 and error message:{noise}"
        f"ln: failed to create symbolic link '{server.home}/noisy': File exists"
    )
    cancelled = api.cancel("999999")
    assert cancelled.status_code == 500
    assert cancelled.json()["message"].startswith(
        f"Unexpected Slurm command response. exit_status:0 std_err:{noise}scancel: Terminating job 999999\n"
    )
    # An answer that shows no standard error stays as it is.
    assert api.http.get("/status/systems").status_code == 200
    assert api.http.get(f"{api.jobs_url}/999999").json()["message"] == "Job not found."


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("mkdir", "mkdir: cannot create directory '{path}': Disk quota exceeded"),
        ("symlink", "ln: failed to create symbolic link '{path}-link': Disk quota exceeded"),
        ("upload", "base64: write error: Disk quota exceeded"),
    ],
)
def test_quota_fails_what_writes(operation: str, words: str, server: Any, api: Any, set_fault: Any) -> None:
    set_fault("disk_quota")
    path = f"{server.home}/over-{operation}"
    if operation == "upload":
        arguments: dict[str, Any] = {"params": {"path": path}, "files": {"file": ("a", b"x")}}
    else:
        arguments = {"json": {"path": path, "linkPath": f"{path}-link"}}
    answer = api.http.post(f"{api.ops_url}/{operation}", **arguments)
    assert answer.status_code == 500
    assert answer.json()["message"] == (
        f"Remote process failed with exit status:1 and error message:{words.format(path=path)}"
    )
    assert not Path(path).exists()
    assert api.http.get(f"{api.ops_url}/ls", params={"path": str(server.home)}).status_code == 200
    assert injected(server) == [("disk_quota", [])]


@pytest.mark.parametrize(
    ("words", "status"),
    [("Stale file handle", 500), ("Input/output error", 500), ("Permission denied", 403)],
)
def test_file_system_that_hiccups(words: str, status: int, server: Any, api: Any, set_fault: Any) -> None:
    set_fault("file_error", words=words, first=1)
    query = {"path": str(server.home)}
    answer = api.http.get(f"{api.ops_url}/ls", params=query)
    assert answer.status_code == status
    assert answer.json()["message"] == (
        f"Remote process failed with exit status:2 and error message:ls: cannot access '{server.home}': {words}"
    )
    assert api.http.get(f"{api.ops_url}/ls", params=query).status_code == 200


def test_file_command_fails_after_its_work(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("file_error", done=True)
    path = server.home / "made-all-the-same"
    assert api.http.post(f"{api.ops_url}/mkdir", json={"path": str(path)}).status_code == 500
    assert path.is_dir()
    assert injected(server) == [("file_error", [201])]


# --- the scheduler


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "exit_status:-1 std_err:"),
        ({"exit_status": 0}, "exit_status:0 std_err:"),
        ({"exit_status": "None"}, "exit_status:None std_err:"),
        (
            {"words": "Zero Bytes were transmitted or received"},
            "exit_status:1 std_err:sbatch: error: Batch job submission failed: "
            "Zero Bytes were transmitted or received\n",
        ),
    ],
)
@pytest.mark.parametrize("done", [False, True])
def test_sbatch_fails(rule: dict[str, Any], message: str, done: bool, server: Any, api: Any, set_fault: Any) -> None:
    set_fault("sbatch_error", done=done, **rule)
    name = f"sbatch-{next(NUMBERS)}"
    answer = api.try_submit(SCRIPT, server.home, name=name)
    assert answer.status_code == 500
    assert answer.json()["message"] == f"Unexpected Slurm command response. {message}"
    assert len(submitted(api, name)) == done
    assert injected(server) == [("sbatch_error", [201] if done else [])]


@pytest.mark.parametrize(("kind", "body"), [("absent", {}), ("null", {"jobId": None}), ("empty", {"jobId": ""})])
def test_missing_job_id(kind: str, body: dict[str, Any], server: Any, api: Any, set_fault: Any) -> None:
    set_fault("missing_job_id", job_id=kind)
    answer = api.try_submit(SCRIPT, server.home, name=f"id-{kind}")
    assert (answer.status_code, answer.json()) == (201, body)
    assert len(submitted(api, f"id-{kind}")) == 1
    assert injected(server) == [("missing_job_id", [201])]


@pytest.mark.parametrize("status", [408, 413, 500, 502])
def test_only_the_list_of_jobs_fails(status: int, server: Any, api: Any, set_fault: Any) -> None:
    set_fault("list_error", status=status)
    job_id = api.submit(SCRIPT, server.home)
    answer = api.http.get(api.jobs_url)
    assert answer.status_code == status
    if status == 500:
        assert answer.json()["message"] == "Error executing Slurm command."
        assert answer.json()["causedBy"] == ["Command execution timeout limit exceeded."]
    assert api.http.get(f"{api.jobs_url}/{job_id}").status_code == 200
    assert injected(server) == [(f"list_error_{status}", [])]


def test_rows_of_others_that_cannot_be_read(server: Any, api: Any, set_fault: Any) -> None:
    job_id = api.submit(SCRIPT, server.home)
    set_fault("unreadable_rows")
    foreign, *rest = api.list()
    assert foreign["time"]["elapsed"] == "UNKNOWN"
    assert job_id in [row["jobId"] for row in rest]
    systems = api.http.get("/status/systems").json()["systems"]
    assert [(system["name"], system["fileSystems"] is None) for system in systems] == [
        ("other", True),
        ("local", False),
    ]


# --- how answers arrive, and anything else


def test_answer_that_trickles(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("trickle", interval=0.002, route="/status/systems")
    began = time.monotonic()
    answer = api.http.get("/status/systems")
    assert answer.json()["systems"][0]["name"] == "local"
    assert time.monotonic() - began > 0.002 * len(answer.content)
    assert injected(server) == [("trickle", [200])]


def test_trickling_ends_with_the_client(server: Any, api: Any, set_fault: Any, until: Any) -> None:
    set_fault("trickle", first=1)
    with pytest.raises(httpx.ReadTimeout):
        api.http.get("/status/systems", timeout=0.2)
    assert api.http.get("/status/systems").status_code == 200


def test_error_of_the_staging_store(server: Any, api: Any, set_fault: Any) -> None:
    set_fault("store_error", code="SlowDown", status=503)
    answer = api.http.get(f"{server.url}/staging/any")
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("application/xml")
    assert "<Code>SlowDown</Code>" in answer.text
    assert api.http.get("/status/systems").status_code == 200


def test_body_that_is_not_firecrests(api: Any, set_fault: Any) -> None:
    set_fault("status", status=500, body='{"errorType": "validation", "data": "x"}', done=True)
    answer = api.http.get("/status/systems")
    assert (answer.status_code, answer.json()) == (500, {"errorType": "validation", "data": "x"})
    assert answer.headers["content-type"] == "application/json"


def test_other_words(server: Any, api: Any, set_fault: Any) -> None:
    job_id = api.submit(SCRIPT, server.home)
    api.wait_end(job_id)
    set_fault("replaced_text", pattern='"state":"COMPLETED"', text='"state":"CD"', route=JOB)
    assert api.state(job_id) == "CD"
    set_fault("replaced_text", pattern='"jobId":"(\\d+)"', text='"jobId":" \\1.pbs01"', route=JOBS)
    assert f" {job_id}.pbs01" in [row["jobId"] for row in api.list()]


def test_faults_are_composable(server: Any, api: Any) -> None:
    rules = [
        {"fault": "gateway_page", "page": "not_found", "probability": 0.3, "route": "/status/**"},
        {"fault": "gateway_page", "page": "maintenance", "probability": 0.3, "route": "/status/**"},
        {"fault": "list_error"},
    ]
    server.faults.set({"rules": rules})
    assert {api.http.get("/status/systems").text[:3] for _ in range(40)} == {"404", "<ht", '{"s'}
    assert api.http.get(api.jobs_url).status_code == 500
    assert set(server.faults.counts) == {"gateway_page_not_found", "gateway_page_maintenance", "list_error_500"}


def test_every_fault_is_documented() -> None:
    docs = (Path(__file__).parent.parent.parent / "docs" / "local-server.md").read_text()
    shown = parser().format_help()
    for name in fault_kinds():
        assert f"| `{name}` |" in docs, name
        assert f"  {name} " in shown, name
