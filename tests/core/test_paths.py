"""Paths on a system as users write them: `~`, variables, and paths relative to the connection's base directory."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from firecrest_core import errors, paths
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.spec.jobspec import JobSpec

Serve = Callable[..., None]

USERS = {"path": "/users", "dataType": "users", "defaultWorkDir": True}
SCRATCH = {"path": "/capstor/scratch/cscs", "dataType": "scratch"}
STORE = {"path": "/capstor/store", "dataType": "store"}


@pytest.fixture
def serve(httpserver: HTTPServer, exchanges: dict[str, dict[str, Any]]) -> Serve:
    """Answer as the recorded server would with these file systems and directories."""

    def serve(file_systems: Sequence[dict[str, Any]] = (), directories: Sequence[str] = ()) -> None:
        systems = json.loads(json.dumps(exchanges["status_systems"]["response"]["body"]))
        systems["systems"][0]["fileSystems"] = list(file_systems)
        refusal = exchanges["mkdir_denied"]["response"]["body"]["message"]

        def stat(request: Request) -> Response:
            path = request.args["path"]
            if path in directories:
                return _json({"output": {"mode": 0o040755}})
            if not any(path.startswith(one["path"]) for one in file_systems):
                return _json(_error(refusal.replace("/restricted/x", path)), 400)
            failed = "Remote process failed with exit status:1 and error message:stat: "
            return _json(_error(f"{failed}{path}: No such file or directory"), 404)

        def make(request: Request) -> Response:
            made = json.loads(request.data)["sourcePath"]
            directories.append(made)
            return _json({"output": None}, 201)

        directories = list(directories)
        httpserver.expect_request("/status/systems").respond_with_json(systems)
        httpserver.expect_request("/status/rig/userinfo").respond_with_json(
            exchanges["status_userinfo"]["response"]["body"]
        )
        httpserver.expect_request("/filesystem/rig/ops/stat").respond_with_handler(stat)
        httpserver.expect_request("/filesystem/rig/ops/mkdir").respond_with_handler(make)

    return serve


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json")


def _error(message: str) -> dict[str, Any]:
    return {"errorType": "error", "message": message, "causedBy": None, "data": None, "user": "fireuser"}


async def expanded(connection: Connection, path: str) -> str:
    async with FirecRESTClient(connection) as client:
        return await paths.expand(client.system(), path)


DIRECTORIES = ("/users/fireuser", "/capstor/scratch/cscs/fireuser")


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("~", "/users/fireuser"),
        ("~/a b", "/users/fireuser/a b"),
        ("$HOME/x/", "/users/fireuser/x/"),
        ("${HOME}x", "/users/fireuserx"),
        ("$SCRATCH", "/capstor/scratch/cscs/fireuser"),
        ("${SCRATCH}/x", "/capstor/scratch/cscs/fireuser/x"),
        ("/scratch/$USER/x", "/scratch/fireuser/x"),
        ("/a/${USER}_$USER.out", "/a/fireuser_fireuser.out"),
        ("$PROJECT/x", "/project/p1/fireuser/x"),
        ("$DEEP/x", "/project/p1/fireuser/deep/x"),
        ("x/y", "/capstor/scratch/cscs/fireuser/base/x/y"),
        ("$USER/y", "/capstor/scratch/cscs/fireuser/base/fireuser/y"),
        ("./x", "/capstor/scratch/cscs/fireuser/base/./x"),
        ("/a/~/x", "/a/~/x"),
        ("/a/$1 $ $(x)", "/a/$1 $ $(x)"),
        ("/a/$$HOME", "/a/$HOME"),
    ],
)
async def test_a_path_is_expanded_for_system_and_user(connection, serve, path, absolute):
    serve([USERS, SCRATCH], DIRECTORIES)
    given = {"PROJECT": "/project/p1/$USER/", "DEEP": "$PROJECT/deep"}
    assert await expanded(replace(connection, base_dir="$SCRATCH/base", paths=given), path) == absolute


@pytest.mark.parametrize("path", ["/scratch/me", "/", "", "/a/$1", "/a/$$x"])
async def test_a_path_that_needs_nothing_costs_no_request(connection, httpserver, path):
    await expanded(connection, path)
    assert httpserver.log == []


async def test_names_of_the_connection_go_first_and_cost_no_request(connection, httpserver):
    given = replace(connection, paths={"HOME": "/h", "USER": "/not/a/name", "SCRATCH": "/s"})
    assert [await expanded(given, path) for path in ("~/x", "$SCRATCH")] == ["/h/x", "/s"]
    assert httpserver.log == []


async def test_a_process_asks_once_for_each_system_and_user(connection, serve, requests: Counter[str]):
    serve([USERS, SCRATCH], DIRECTORIES)
    async with FirecRESTClient(connection) as client:
        await asyncio.gather(*(paths.expand(client.system(), path) for path in ("~/a", "$SCRATCH/b", "/x/$USER") * 5))
    await expanded(connection, "~/c$SCRATCH")
    assert (requests["GET userinfo"], requests["GET stat"], requests["GET systems"]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "$SCRACH/x",
            r"\$SCRACH is not known on rig\. There are \$HOME, \$LOOP, .*\$PROJECT, \$SCRATCH, \$USER; `paths`",
        ),
        ("/a/${SLURM_JOB_ID}", r"\$SLURM_JOB_ID is not known"),
        ("${", r"\$ is not known"),
        ("~other/x", r"~other/x: only your own home directory"),
        ("x", r"x is relative, and the connection has no base directory"),
        ("$LOOP", r"\$LOOP stands for itself"),
        ("$SCRATCH", r"\$SCRATCH is not known on rig: it has no file system of the type scratch.*/users \(users\)"),
        ("~", r"\$HOME is not known on rig: there is no /users/fireuser\. Write the whole path"),
    ],
)
async def test_a_path_that_means_nothing_is_refused_in_one_sentence(connection, serve, path, message):
    serve([USERS, STORE])
    with pytest.raises(errors.InvalidFileName, match=message) as caught:
        await expanded(replace(connection, paths={"PROJECT": "/p", "LOOP": "$POOL", "POOL": "$LOOP"}), path)
    assert caught.value.user_error


async def test_of_several_file_systems_that_of_the_user_counts(connection, serve):
    other = {"path": "/iopsstor", "dataType": "scratch"}
    serve([other, SCRATCH], ["/capstor/scratch/cscs/fireuser"])
    assert await expanded(connection, "$SCRATCH") == "/capstor/scratch/cscs/fireuser"


async def test_between_several_directories_of_the_user_nothing_is_guessed(connection, serve):
    other = {"path": "/iopsstor", "dataType": "scratch"}
    serve([other, SCRATCH], ["/capstor/scratch/cscs/fireuser", "/iopsstor/fireuser"])
    with pytest.raises(errors.InvalidFileName, match="fireuser has directories on /iopsstor and /capstor/scratch/cscs"):
        await expanded(connection, "$SCRATCH")


async def test_between_several_directories_the_sites_default_counts(connection, serve):
    other = {"path": "/iopsstor", "dataType": "scratch", "defaultWorkDir": True}
    serve([other, SCRATCH], ["/capstor/scratch/cscs/fireuser", "/iopsstor/fireuser"])
    assert await expanded(connection, "$SCRATCH") == "/iopsstor/fireuser"


async def test_an_outage_is_not_the_paths_fault_and_is_waited_out(
    connection, httpserver, serve, monkeypatch, virtually
):
    answers = [503] * 6 + [200]

    def userinfo(request: Request) -> Response:
        status = answers.pop(0)
        good = {"user": {"id": "1", "name": "me"}, "group": {"id": "1", "name": "g"}, "groups": []}
        return _json(good if status == 200 else _error("The filesystem service is unhealthy."), status)

    async def at_once(seconds: float) -> None:
        pass

    monkeypatch.setattr("firecrest_core.api.backoff.sleep", at_once)
    httpserver.expect_request("/status/rig/userinfo").respond_with_handler(userinfo)
    async with FirecRESTClient(connection) as client:
        with pytest.raises(errors.TransientError):
            await paths.expand(client.system(), "/x/$USER")
        spec = await paths.expand_spec(client.system(), JobSpec(command="true", working_dir="/x/$USER"))
    assert spec.working_dir == "/x/me"


async def test_a_retry_bears_a_refused_client_for_a_while(connection, serve, monkeypatch, httpserver):
    serve([USERS])
    pauses: list[float] = []

    async def at_once(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("firecrest_core.api.backoff.sleep", at_once)
    spec = JobSpec(command="true", working_dir="/x/$USER")
    async with FirecRESTClient(replace(connection, token_url=httpserver.url_for("/no-token"))) as client:
        httpserver.expect_request("/no-token").respond_with_json({"error": "invalid_client"}, status=401)
        with pytest.raises(errors.AuthenticationFailed):
            await paths.expand_spec(client.system(), spec)
        assert sum(pauses) < 60
        with pytest.raises(errors.AuthenticationFailed):
            await paths.expand_spec(client.system(), spec, is_retry=True)
    assert 300 <= sum(pauses) < 500


async def test_the_paths_of_a_job(connection, serve, caplog):
    caplog.set_level(logging.INFO, "firecrest_core")
    serve([USERS, SCRATCH], DIRECTORIES)
    spec = JobSpec(
        working_dir="run/", script_path="~/job.sh", stdout="$USER-%j.out", stderr="$SCRATCH/%j.err", name="job"
    )
    async with FirecRESTClient(replace(connection, base_dir="~")) as client:
        whole = await paths.expand_spec(client.system(), spec)
    assert whole == replace(
        spec,
        working_dir="/users/fireuser/run",
        script_path="/users/fireuser/job.sh",
        stdout="fireuser-%j.out",
        stderr="/capstor/scratch/cscs/fireuser/%j.err",
    )
    assert "working_dir: run is /users/fireuser/run on rig." in caplog.text


async def test_the_paths_of_a_container(connection, serve):
    serve([USERS, SCRATCH], DIRECTORIES)
    given = JobSpec(
        command="true",
        working_dir="/w",
        container="~/image.sif",
        container_runtime="apptainer",
        container_mounts=["$SCRATCH", "$SCRATCH/data:/data:ro"],
    )
    async with FirecRESTClient(connection) as client:
        spec = await paths.expand_spec(client.system(), given)
        registry = await paths.expand_spec(client.system(), replace(given, container="docker://python:3.12"))
    assert spec.container == "/users/fireuser/image.sif"
    scratch = "/capstor/scratch/cscs/fireuser"
    assert spec.container_mounts == (scratch, f"{scratch}/data:/data:ro")
    assert registry.container == "docker://python:3.12"


async def test_the_field_with_the_wrong_path_is_named(connection, serve):
    serve([USERS])
    async with FirecRESTClient(connection) as client:
        with pytest.raises(errors.InvalidJobSpec, match=r"^stdout: \$NOPE is not known"):
            await paths.expand_spec(client.system(), JobSpec(command="true", working_dir="/a", stdout="$NOPE/x"))


@pytest.mark.parametrize(
    ("working_dir", "asked", "made"),
    [
        ("run", None, True),
        ("$USER", None, True),
        ("~/run", None, False),
        ("$SCRATCH", None, False),
        ("/a", None, False),
        ("run", False, False),
        ("~/run", True, True),
        ("/a", True, True),
    ],
)
def test_what_is_made_without_being_asked(working_dir, asked, made):
    assert paths.is_made(JobSpec(command="true", working_dir=working_dir), asked) is made


async def test_a_missing_directory_is_made_once(connection, serve, requests: Counter[str]):
    serve([USERS])
    async with FirecRESTClient(connection) as client:
        await paths.make_directory(client.system(), "/users/fireuser/a/b")
        await paths.make_directory(client.system(), "/users/fireuser/a/b")
    assert requests["POST mkdir"] == 1


async def test_a_path_on_no_file_system_names_those_that_exist(connection, serve):
    serve([USERS, SCRATCH])
    async with FirecRESTClient(connection) as client:
        with pytest.raises(
            errors.RemotePathRefused,
            match=r"file systems of rig are: /users \(users\), /capstor/scratch/cscs \(scratch\)",
        ):
            await client.system().stat("/scratch/me")


@pytest.mark.parametrize(
    ("directory", "path", "joined"),
    [
        ("~/run", "a.txt", "~/run/a.txt"),
        ("~/run", "$USER.txt", "~/run/$USER.txt"),
        ("~/run", "$$a.txt", "~/run/$$a.txt"),
        ("~/run", "~/a.txt", "~/a.txt"),
        ("~/run", "${SCRATCH}/a.txt", "${SCRATCH}/a.txt"),
        ("~/run", "/a.txt", "/a.txt"),
    ],
)
def test_a_path_relative_to_a_directory(directory, path, joined):
    assert paths.join(directory, path) == joined


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_dir": "work"}, "base_dir is 'work': give a path that begins with /, ~ or a variable"),
        ({"paths": {"A": "b"}}, "paths: A is 'b'"),
        ({"paths": {"A": 1}}, "paths: A is 1"),
        ({"paths": {"A-B": "/b"}}, "paths: 'A-B' cannot be the name of a variable"),
        ({"paths": "A=/b"}, "paths: give names and paths"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(connection, settings, message):
    with pytest.raises(errors.ConfigurationError, match=message):
        replace(connection, **settings)


def test_the_base_directory_in_the_environment(f7t):
    environ = f7t.environ | {"FIRECREST_BASE_DIR": "$SCRATCH/flows"}
    assert Connection.from_environment(environ).base_dir == "$SCRATCH/flows"


async def test_what_is_no_path(connection) -> None:
    """An XCom that holds nothing, say."""
    async with FirecRESTClient(connection) as client:
        with pytest.raises(errors.InvalidFileName, match="None is no path on daint. Give a text"):
            await paths.expand(client.system("daint"), None)  # type: ignore[arg-type]
