"""What the command prints for a shell, for Airflow and for Prefect."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable

import pytest

from firecrest_local.client_settings import SAVE_BLOCK, airflow_connection, export_lines

ODD = {
    "FIRECREST_URL": "http://127.0.0.1:43210",
    "AUTH_TOKEN_URL": "http://127.0.0.1:43210/token",
    "FIRECREST_CLIENT_ID": "firecrest-local",
    "FIRECREST_CLIENT_SECRET": 'it\'s $HOME `id` "!" \\ # %',
    "FIRECREST_SYSTEM": "local",
    "FIRECREST_WORKDIR": "/tmp/a folder",
}


@pytest.mark.parametrize("shell", ["bash", "zsh", "dash"])
def test_lines_are_right_in_a_shell(shell: str, require: Callable[..., None]) -> None:
    require(shutil.which(shell) is not None, f"{shell} is not installed")
    lines = [*export_lines(ODD), "env -0"]
    words = [shell, *(["-f"] if shell == "zsh" else []), "-c", "\n".join(lines)]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = dict(one.split("=", 1) for one in shown.split("\0") if "=" in one)
    assert {name: found[name] for name in ODD} == ODD
    connection = json.loads(found["AIRFLOW_CONN_FIRECREST_DEFAULT"])
    assert connection["conn_type"] == "firecrest"
    assert connection["password"] == ODD["FIRECREST_CLIENT_SECRET"]


def test_the_connection_names_the_way_to_sign_in() -> None:
    basic = json.loads(airflow_connection(ODD | {"FIRECREST_AUTH": "client_secret_basic"}))
    assert basic["extra"] == {"auth": "client_secret_basic", "auth_url": ODD["AUTH_TOKEN_URL"], "system": "local"}
    keyed = json.loads(airflow_connection(ODD | {"FIRECREST_AUTH": "api_key", "FIRECREST_API_KEY": "the-key"}))
    assert keyed["extra"] == {"auth": "api_key", "system": "local"}
    assert keyed["password"] == "the-key"
    assert "login" not in keyed


def test_prefect_line_is_one_command() -> None:
    python, option, code = shlex.split(SAVE_BLOCK)
    assert (python, option) == ("python", "-c")
    compile(code, "the line", "exec")
