"""The credentials block: Prefect's own rules for blocks, and what the core gets from it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import ValidationError

from firecrest_core.connection import Connection
from firecrest_core.documentation import page_url
from firecrest_core.errors import ConfigurationError
from prefect_firecrest import FirecRESTCredentials

SECRET = "not-to-be-seen"


@pytest.fixture
def credentials() -> FirecRESTCredentials:
    return FirecRESTCredentials(
        url="https://api.example.org/v2/",
        token_url="https://auth.example.org/token",
        client_id="me",
        client_secret=SECRET,
        scopes=["jobs"],
        system="daint",
        timeout=7,
        verify="/etc/ssl/site.pem",
        auth="client_secret_basic",
        client_cert="/etc/me.pem",
        proxy=f"http://me:{SECRET}@proxy:3128",
        base_dir="$SCRATCH/flows",
        paths={"PROJECT": "/project/x"},
    )


class TestStandard(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[FirecRESTCredentials]:
        return FirecRESTCredentials

    def test_has_a_valid_image(self, block: type[FirecRESTCredentials]) -> None:
        # Prefect's own test fetches the picture: that is for a machine with a network.
        assert str(block._logo_url) == page_url("images/logo.svg")


def test_the_line_break_of_a_copied_value_is_left_out(credentials: FirecRESTCredentials) -> None:
    names = ("url", "token_url", "client_id")
    copied = {name: f"{getattr(credentials, name)}\n" for name in names} | {"client_secret": f"{SECRET}\n"}
    credentials = FirecRESTCredentials(**copied)
    connection = credentials.connection()
    assert [getattr(connection, name) for name in names] == [
        "https://api.example.org/v2",
        "https://auth.example.org/token",
        "me",
    ]
    assert connection.secret.get_secret_value() == SECRET


def test_the_core_gets_every_field(credentials: FirecRESTCredentials) -> None:
    connection = credentials.connection()
    assert connection.url == "https://api.example.org/v2"
    assert connection.token_url == "https://auth.example.org/token"
    assert connection.client_id == "me"
    assert connection.secret.get_secret_value() == SECRET
    assert connection.scopes == ("jobs",)
    assert connection.system == "daint"
    assert connection.timeout == 7
    assert connection.verify == "/etc/ssl/site.pem"
    assert connection.auth == "client_secret_basic"
    assert connection.client_cert == "/etc/me.pem"
    assert connection.proxy_url is not None
    assert connection.proxy_url.get_secret_value() == f"http://me:{SECRET}@proxy:3128"
    assert (connection.base_dir, connection.paths) == ("$SCRATCH/flows", {"PROJECT": "/project/x"})


def test_the_secret_is_not_shown(credentials: FirecRESTCredentials) -> None:
    assert SECRET not in repr(credentials)
    assert SECRET not in str(credentials)
    assert SECRET not in repr(credentials.connection())
    assert SECRET not in json.dumps(credentials.model_dump(mode="json"))


def test_a_saved_block_comes_back_whole(credentials: FirecRESTCredentials) -> None:
    credentials.save("centre")
    assert FirecRESTCredentials.load("centre").connection() == credentials.connection()


async def test_the_client_speaks_to_that_deployment(credentials: FirecRESTCredentials) -> None:
    credentials.verify, credentials.client_cert = True, None
    async with credentials.get_client() as client:
        assert client.connection == credentials.connection()


def test_a_url_that_is_none_is_refused_with_its_name(credentials: FirecRESTCredentials) -> None:
    credentials.token_url = "auth.example.org"
    with pytest.raises(ConfigurationError, match="token_url"):
        credentials.get_client()


def test_plain_http_has_to_be_allowed(credentials: FirecRESTCredentials) -> None:
    credentials.url = "http://api.example.org"
    with pytest.raises(ConfigurationError, match="allow_http"):
        credentials.get_client()
    credentials.allow_http = True
    assert credentials.connection().allow_http is True


def test_a_name_that_is_no_field_is_refused_where_it_is_written(credentials: FirecRESTCredentials) -> None:
    with pytest.raises(ConfigurationError, match="clientsecret: no such field; did you mean 'client_secret'"):
        credentials.clientsecret = SECRET  # type: ignore[attr-defined]


def test_an_odd_system_is_refused(credentials: FirecRESTCredentials) -> None:
    credentials.system = "../filesystem/local/ops/rm?path=/home/me&x="
    with pytest.raises(ConfigurationError, match="is not the name of a system"):
        credentials.get_client()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "example.org"}, "url is 'example.org': give a full URL"),
        ({"url": "http://api.example.org"}, "allow_http"),
        ({"token_url": f"https://me:{SECRET}@auth.example.org/token"}, "token_url holds a user name or a password"),
        ({"system": "a/b"}, "is not the name of a system"),
        ({"client_secret": ""}, "client_secret is empty"),
        ({"clientsecret": SECRET}, "clientsecret: no such field; did you mean 'client_secret'"),
        ({"auth": f"Bearer {SECRET}"}, "auth is none of the ways to sign in: give client_secret_post"),
        ({"proxy": f"me:{SECRET}@proxy"}, "proxy is not the URL of a proxy"),
        ({"job_url": "javascript:alert({job_id})"}, "job_url is no URL of a web page"),
        ({"job_url": "https://ui.example.org/{user}"}, "job_url names {user}, which is nothing of a job"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once(wrong: dict[str, str], words: str) -> None:
    right = {
        "url": "https://api.example.org/v2",
        "token_url": "https://auth.example.org/token",
        "client_id": "me",
        "client_secret": SECRET,
    }
    FirecRESTCredentials(**right)
    with pytest.raises(ValidationError, match=words) as refusal:
        FirecRESTCredentials(**right | wrong)
    assert SECRET not in str(refusal.value)


def test_an_api_key_needs_neither_client_nor_token_url() -> None:
    credentials = FirecRESTCredentials(url="https://api.example.org", auth="api_key", client_secret=SECRET)
    assert credentials.connection().sign_in.by_api_key


@pytest.mark.parametrize("auth", ["api_key", "client_secret_basic", "file:/run/token"])
def test_the_environment_names_the_way_to_sign_in(monkeypatch: pytest.MonkeyPatch, auth: str) -> None:
    variables = {
        "FIRECREST_URL": "https://api.example.org",
        "FIRECREST_AUTH": auth,
        "FIRECREST_API_KEY": "the-key",
        "FIRECREST_CLIENT_SECRET": SECRET,
        "FIRECREST_CLIENT_ID": "me",
        "AUTH_TOKEN_URL": "https://auth.example.org/token",
        "FIRECREST_PROXY": "http://proxy:3128",
        "FIRECREST_CLIENT_CERT": "/etc/me.pem",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    connection = FirecRESTCredentials.from_environment().connection()
    assert connection == Connection.from_environment(variables)
    assert connection.secret.get_secret_value() == ("the-key" if auth == "api_key" else SECRET)


def test_the_names_that_stored_blocks_depend_on_are_stable() -> None:
    assert FirecRESTCredentials.get_block_type_slug() == "firecrest-credentials"
    assert FirecRESTCredentials._block_type_name == "FirecREST Credentials"


def test_importing_the_collection_imports_no_http_client_of_ours() -> None:
    code = (
        "import sys, prefect_firecrest; print('firecrest' in sys.modules, 'firecrest_core.api.client' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
