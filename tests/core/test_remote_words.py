"""A failed command on the system: what its words mean, whatever the login node says before."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Response

from firecrest_core import errors
from firecrest_core.api.client import FirecRESTClient
from firecrest_core.api.remote_words import remote_error

NOISE = [
    "Could not chdir to home directory /users/xyz: No such file or directory",
    "Could not chdir to home directory /users/xyz: Permission denied",
    "Could not chdir to home directory /users/xyz: Stale file handle",
    "/users/me/.bashrc: line 3: /opt/tool: No such file or directory",
    "-bash: /etc/profile.d/modules.sh: Permission denied",
    "bash: warning: setlocale: LC_ALL: cannot change locale (de_CH.UTF-8)",
    "/usr/bin/xauth:  file /users/me/.Xauthority does not exist",
    "Disk quota exceeded on /users since Monday. File exists.",
]

KINDS: list[tuple[str, type[errors.FirecRESTError]]] = [
    ("ls: cannot access '/wd/none': No such file or directory", errors.RemotePathNotFound),
    ("ls: cannot open directory '/wd/closed': Permission denied", errors.RemotePathRefused),
    ("ln: failed to create symbolic link '/wd/claim': File exists", errors.RemotePathExists),
    ("ln: failed to create symbolic link '/wd/claim': Disk quota exceeded", errors.RemotePathRefused),
    ("ln: failed to create symbolic link '/wd/claim': Stale file handle", errors.ServerFault),
    ("ln: failed to create symbolic link '/wd/claim': Words of a new kernel", errors.ServerFault),
    ("/usr/bin/mkdir: cannot create directory '/wd/a': No space left on device", errors.RemotePathRefused),
    ("ls: reading directory '/wd': Input/output error", errors.ServerFault),
    ("stat: cannot statx '/wd': Transport endpoint is not connected", errors.ServerFault),
    ("tail: cannot open '/wd/none' for reading: No such file or directory", errors.RemotePathNotFound),
    ("base64: read error: Is a directory", errors.RemotePathRefused),
    ("bash: line 1: /wd/none/a.txt: No such file or directory", errors.RemotePathNotFound),
    ("zsh:1: no such file or directory: /wd/none/a.txt", errors.RemotePathNotFound),
    ("bash: -c: line 1: unexpected EOF while looking for matching `''", errors.RequestRejected),
    ("tar: This does not look like a tar archive", errors.RequestRejected),
    (
        "tar: a/b: Cannot open: Permission denied\ntar: Exiting with failure status due to previous errors",
        errors.RemotePathRefused,
    ),
]


def failed(text: str, status: int) -> Response:
    message = f"Remote process failed with exit status:1 and error message:{text}"
    body = {"errorType": "error", "message": message, "causedBy": None, "data": None, "user": "me"}
    return Response(json.dumps(body), status, content_type="application/json")


@pytest.mark.parametrize(("line", "error"), KINDS)
def test_the_commands_own_line_decides(line: str, error: type[errors.FirecRESTError]) -> None:
    assert type(remote_error(line, "GET")) is error


@given(before=st.lists(st.sampled_from(NOISE), max_size=3), kind=st.sampled_from(KINDS))
def test_the_login_nodes_lines_change_nothing(before: list[str], kind: tuple[str, type[errors.FirecRESTError]]) -> None:
    line, error = kind
    found = remote_error("\n".join([*before, line]), "GET")
    assert type(found) is error
    assert not any(noise in str(found) for noise in before)


@pytest.mark.parametrize("line", [*NOISE, "", "words of nobody"])
def test_without_a_line_of_the_command_nothing_is_final(line: str) -> None:
    assert isinstance(remote_error(line, "GET"), errors.TransientError)


@pytest.mark.parametrize("path", ["/wd/File exists", "/wd/No such file or directory", "/wd/Stale file handle: x"])
def test_a_path_is_no_reason(path: str) -> None:
    assert isinstance(remote_error(f"ls: cannot access '{path}': Permission denied", "GET"), errors.RemotePathRefused)


@pytest.mark.parametrize("status", [400, 403, 404, 500])
@pytest.mark.parametrize(("line", "error"), KINDS)
async def test_the_status_does_not_decide(
    line: str, error: type[errors.FirecRESTError], status: int, client: FirecRESTClient, httpserver: HTTPServer
) -> None:
    text = f"{NOISE[0]}\n{line}"
    httpserver.expect_request("/filesystem/rig/ops/ls").respond_with_response(failed(text, status))
    with pytest.raises(errors.FirecRESTError) as raised:
        await client.system().list_files("/wd")
    assert type(raised.value) is error
    assert "Ask the site for access" not in str(raised.value)
