"""What a server that was stopped or killed still has after its restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from firecrest_local.__main__ import main

REPOSITORY = Path(__file__).parent.parent.parent


def alive(pid: int) -> bool:
    """Return whether a process is alive. A zombie is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def free_port() -> int:
    """Return a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_command_prints_what_a_client_needs(command: Any, connect_by_environment: Any) -> None:
    running = command("--system", "Laptop", "--client-id", "me", "--gpus", "1")
    assert list(running.environ) == [
        "FIRECREST_URL",
        "AUTH_TOKEN_URL",
        "FIRECREST_CLIENT_ID",
        "FIRECREST_CLIENT_SECRET",
        "FIRECREST_SYSTEM",
        "FIRECREST_WORKDIR",
        "AIRFLOW_CONN_FIRECREST_DEFAULT",
    ]
    api = connect_by_environment(running.environ)
    assert api.http.get("/status/systems").json()["systems"][0]["name"] == "laptop"
    assert running.environ["FIRECREST_CLIENT_ID"] == "me"
    row = api.wait_end(api.submit("#!/bin/sh\n#SBATCH --gpus=1\n", running.home))
    assert row["status"]["state"] == "COMPLETED"
    status, output, errors = running.end(signal.SIGINT)
    assert (status, output) == (0, "")
    assert "POST /compute/laptop/jobs -> 201" in errors
    assert running.environ["FIRECREST_CLIENT_SECRET"] not in errors


def test_secret_from_a_file(command: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("word-of-a-file\n")
    running = command("--client-secret-file", str(tmp_path / "secret"))
    assert running.environ["FIRECREST_CLIENT_SECRET"] == "word-of-a-file"


def test_no_secret_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--client-secret", "word", "--client-secret=word"])
    said = capsys.readouterr().err
    assert "unrecognized: --client-secret" in said
    assert "word" not in said
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", tmp_path / "missing"):
        assert main(["--client-secret-file", str(path)]) == 1
        assert f"no secret in {path}" in capsys.readouterr().err


def test_secret_from_the_environment_reaches_no_job(command: Any, connect_by_environment: Any) -> None:
    running = command(environment={"FIRECREST_CLIENT_SECRET": "word-from-outside"})
    assert running.environ["FIRECREST_CLIENT_SECRET"] == "word-from-outside"
    api = connect_by_environment(running.environ)
    job_id = api.submit("#!/bin/sh\nenv; cat /proc/$PPID/environ | tr '\\0' '\\n'\n", running.home)
    api.wait_end(job_id)
    assert "word-from-outside" not in (running.home / f"slurm-{job_id}.out").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "the port is 70000: give a number from 0 to 65535"),
        (["--system", "a/b"], "the system's name is 'a/b': give letters"),
        (["--client-id", ""], "the client's id is empty"),
    ],
)
def test_odd_settings_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert capsys.readouterr().err.startswith(f"firecrest-local: {said}")


def test_help_shows_the_purpose() -> None:
    words = [sys.executable, "-m", "firecrest_local", "--help"]
    shown = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "development and tests" in " ".join(shown.split())


def test_taken_port_is_reported_in_one_line(command: Any, tmp_path: Path) -> None:
    port = command().environ["FIRECREST_URL"].rpartition(":")[2]
    words = [sys.executable, "-m", "firecrest_local", "--root", str(tmp_path / "other"), "--port", port]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"firecrest-local: cannot serve {tmp_path / 'other'}: port {port} is taken. "
        "Stop what uses it, or choose another one with --port\n"
    )


def test_killed_server_leaves_its_jobs_running_and_takes_them_over(
    command: Any, connect_by_environment: Any, until: Any
) -> None:
    first = command()
    api = connect_by_environment(first.environ)
    script = "#!/bin/bash\necho $$ > {0}.pid\nuntil [ -e {0}.go ]; do sleep 0.05; done\nexit {1}\n"
    ends_meanwhile = api.submit(script.format("meanwhile", 3), first.home, name="meanwhile")
    ends_later = api.submit(script.format("later", 0), first.home, name="later")
    waits = api.submit("#!/bin/sh\necho waited\n", first.home, name="waits")
    for job_id in (ends_meanwhile, ends_later):
        api.wait_running(job_id)
    pids = {}
    for name in ("meanwhile", "later"):
        file = first.home / f"{name}.pid"
        until(lambda file=file: file.exists() and file.read_text(), f"{name} wrote its pid")
        pids[name] = int(file.read_text())
    first.end(signal.SIGKILL)
    assert alive(pids["meanwhile"])
    (first.home / "meanwhile.go").touch()
    until(lambda: not alive(pids["meanwhile"]), "the job ends without a server")
    assert alive(pids["later"])

    second = command()
    api = connect_by_environment(second.environ)
    assert api.wait_end(ends_meanwhile)["status"] == {
        "state": "FAILED",
        "stateReason": "None",
        "exitCode": 3,
        "interruptSignal": 0,
    }
    assert api.row(ends_later)["tasks"][0]["status"]["state"] == "RUNNING"
    (second.home / "later.go").touch()
    assert api.wait_end(ends_later)["status"]["state"] == "COMPLETED"
    assert api.wait_end(waits)["status"]["state"] == "COMPLETED"
    assert api.submit("#!/bin/sh\n", second.home) == str(int(waits) + 1)


def test_restarted_server_can_cancel_an_earlier_job(command: Any, connect_by_environment: Any, until: Any) -> None:
    first = command()
    api = connect_by_environment(first.environ)
    job_id = api.submit("#!/bin/bash\necho $$ > pid\nsleep 300\n", first.home)
    pid_file = first.home / "pid"
    until(lambda: pid_file.exists() and pid_file.read_text(), "the job wrote its pid")
    first.end(signal.SIGKILL)
    second = command()
    api = connect_by_environment(second.environ)
    assert api.cancel(job_id).status_code == 204
    assert api.wait_end(job_id)["status"]["state"].startswith("CANCELLED by")
    until(lambda: not alive(int(pid_file.read_text())), "the job's process is gone")


def test_killed_server_comes_back_at_the_same_port(command: Any, connect_by_environment: Any, until: Any) -> None:
    first = command("--port", str(free_port()))
    url = first.environ["FIRECREST_URL"]
    api = connect_by_environment(first.environ)
    script = "#!/bin/bash\necho >> runs\nuntil [ -e go ]; do sleep 0.05; done\n"
    job_id = api.submit(script, first.home)
    api.wait_running(job_id)
    # Connections of clients that the server closes first, or that end with it, must not block the port.
    for _ in range(3):
        first.end(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            api.http.get("/status/systems")
        first = command("--port", url.rpartition(":")[2])
        assert first.environ["FIRECREST_URL"] == url
        # A token of the first server is valid at the next one.
        assert api.row(job_id)["tasks"][0]["status"]["state"] == "RUNNING"
    (first.home / "go").touch()
    assert api.wait_end(job_id)["status"]["state"] == "COMPLETED"
    assert (first.home / "runs").read_text() == "\n"


def test_what_was_printed_stays_right(command: Any, connect_by_environment: Any) -> None:
    first = command()
    first.end(signal.SIGINT)
    second = command()
    assert second.environ == first.environ
    second.end(signal.SIGKILL)
    third = command()
    assert third.environ == first.environ
    assert connect_by_environment(first.environ).http.get("/status/systems").status_code == 200
    third.end(signal.SIGINT)
    chosen = command("--port", str(free_port()))
    chosen.end(signal.SIGINT)
    assert command().environ == chosen.environ  # a port that was chosen stays, too


def test_kept_port_that_is_taken(serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve()
    port = int(server.url.rpartition(":")[2])
    server.stop()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert main(["--root", str(tmp_path / "cluster")]) == 1
    assert f"port {port} is taken. Stop what uses it" in capsys.readouterr().err


def test_state_is_private(serve: Any, tmp_path: Path) -> None:
    serve()
    state = tmp_path / "cluster" / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    assert {name: (state / name).stat().st_mode & 0o777 for name in ("port", "secrets.json")} == {
        "port": 0o600,
        "secrets.json": 0o600,
    }


def test_stopped_server_comes_back_at_the_same_port(serve: Any, connect: Any) -> None:
    server = serve(port=free_port())
    api = connect(server)
    for _ in range(3):
        assert api.http.get("/status/systems").status_code == 200
        server.stop()
        server.start()


def test_killed_with_its_supervisor_counts_as_a_failed_node(
    command: Any, connect_by_environment: Any, until: Any
) -> None:
    first = command()
    api = connect_by_environment(first.environ)
    job_id = api.submit("#!/bin/bash\necho $$ $PPID > pids\nsleep 300\n", first.home)
    file = first.home / "pids"
    until(lambda: file.exists() and file.read_text(), "the job wrote its pids")
    first.end(signal.SIGKILL)
    for pid in reversed(file.read_text().split()):
        os.kill(int(pid), signal.SIGKILL)
    second = command()
    assert connect_by_environment(second.environ).wait_end(job_id)["status"]["state"] == "NODE_FAIL"


def test_stop_ends_running_jobs_and_keeps_pending_ones(serve: Any, connect: Any, until: Any) -> None:
    first = serve(cores=1)
    api = connect(first)
    runs = api.submit("#!/bin/bash\necho $$ > pid\nsleep 300\n", first.home)
    waits = api.submit("#!/bin/sh\n", first.home)
    pid_file = first.home / "pid"
    until(lambda: pid_file.exists() and pid_file.read_text(), "the job wrote its pid")
    first.stop()
    assert not alive(int(pid_file.read_text()))
    second = serve(cores=1)
    api = connect(second)
    assert api.state(runs) == "CANCELLED by 0"
    assert api.wait_end(waits)["status"]["state"] == "COMPLETED"
    assert api.submit("#!/bin/sh\n", second.home) == str(int(waits) + 1)


def test_presigned_url_outlives_the_server(serve: Any, connect: Any) -> None:
    first = serve()
    body = {"path": f"{first.home}/x", "transferDirectives": {"transferMethod": "s3", "fileSize": 1}}
    api = connect(first)
    answer = api.http.post(f"{api.transfer_url}/upload", json=body).json()
    port = int(first.url.rpartition(":")[2])
    first.stop()
    second = serve(port=port)
    put = connect(second).http.put(answer["transferDirectives"]["partsUploadUrls"][0], content=b"x")
    assert put.status_code == 200


def test_two_servers_with_one_root(serve: Any) -> None:
    serve()
    with pytest.raises(OSError, match="already serves"):
        serve()
