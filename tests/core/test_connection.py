from __future__ import annotations

import pytest

from firecrest_core import Connection
from firecrest_core.errors import ConfigurationError

GOOD = {
    "FIRECREST_URL": "https://api.example.org/v2/",
    "AUTH_TOKEN_URL": "https://auth.example.org/token",
    "FIRECREST_CLIENT_ID": "me",
    "FIRECREST_CLIENT_SECRET": "very-secret",
}


def test_from_environment() -> None:
    connection = Connection.from_environment(GOOD | {"FIRECREST_SYSTEM": "daint"})
    assert connection.url == "https://api.example.org/v2"
    assert connection.system_or_default(None) == "daint"
    assert connection.system_or_default("eiger") == "eiger"


def test_the_secret_is_not_shown() -> None:
    assert "very-secret" not in repr(Connection.from_environment(GOOD))


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Connection.from_environment({key: value for key, value in GOOD.items() if key != name})


def test_no_system() -> None:
    with pytest.raises(ConfigurationError, match="system"):
        Connection.from_environment(GOOD).system_or_default(None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "api.example.org"},
        {"url": "ftp://api.example.org"},
        {"token_url": ""},
        {"client_id": ""},
        {"client_secret": ""},
        {"url": "https://[::1/v2"},
        {"url": "https://api.example.org:https"},
        {"url": "https://api.example.org/a b"},
        {"url": "https://api.example.org\\.example.com"},
        {"timeout": 0},
        {"max_in_flight": 0},
    ],
)
def test_what_cannot_be_right_is_named(wrong: dict[str, object]) -> None:
    fields = {
        "url": "https://api.example.org",
        "token_url": "https://auth.example.org/token",
        "client_id": "me",
        "client_secret": "s",
    }
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Connection(**(fields | wrong))  # type: ignore[arg-type]


def make(**fields: object) -> Connection:
    given = {
        "url": "https://api.example.org",
        "token_url": "https://auth.example.org/token",
        "client_id": "me",
        "client_secret": "s",
    }
    return Connection(**(given | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        "https://me:hunter2@api.example.org",
        "https://hunter2@api.example.org",
        "https://me:hunt/er2@api.example.org",
        "me:hunter2@api.example.org",
        "https://api.example.org/v2?key=hunter2",
        "https://api.example.org/v2?",
        "https://api.example.org/v2#hunter2",
        "https://api.example.org/?x=hunter2@example.org",
    ],
)
def test_a_url_is_an_address_and_nothing_else(wrong: str) -> None:
    for field in ["url"] if "?" in wrong else ["url", "token_url"]:
        with pytest.raises(ConfigurationError, match=f"^{field} holds") as caught:
            make(**{field: wrong})
        assert "hunt" not in str(caught.value)
        assert "er2" not in str(caught.value)


def test_a_token_url_may_have_a_query() -> None:
    assert make(token_url="https://auth.example.org/token?policy=x").token_url.endswith("?policy=x")
    with pytest.raises(ConfigurationError, match="^token_url is") as caught:
        make(token_url="auth.example.org/token?policy=hunter2")
    assert "hunter2" not in str(caught.value)


ON_THIS_MACHINE = [
    "http://localhost",
    "http://LOCALHOST:8000/v2",
    "http://f7t.localhost",
    "http://127.0.0.1:8000",
    "http://127.9.9.9",
    "http://[::1]:8000",
]
ELSEWHERE = [
    "http://api.example.org/v2",
    "HTTP://api.example.org",
    "http://10.0.0.1",
    "http://0.0.0.0",
    "http://[2001:db8::1]",
    "http://localhost.example.org",
    "http://notlocalhost",
    "http://127.0.0.1.example.org",
    "http://2130706433",
    "http://f7t",
]


@pytest.mark.parametrize("field", ["url", "token_url"])
@pytest.mark.parametrize("url", ELSEWHERE)
def test_plain_http_has_to_be_allowed(field: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field} is plain http to .*allow_http"):
        make(**{field: url})
    assert make(**{field: url, "allow_http": True})


@pytest.mark.parametrize("url", ON_THIS_MACHINE)
def test_plain_http_to_this_machine(url: str) -> None:
    assert make(url=url, token_url=url)


@pytest.mark.parametrize(
    ("value", "allowed"), [("true", True), ("1", True), ("True", True), ("false", False), ("0", False), ("", False)]
)
def test_plain_http_is_allowed_by_the_environment(value: str, allowed: bool) -> None:
    connection = Connection.from_environment(GOOD | {"FIRECREST_ALLOW_HTTP": value})
    assert connection.allow_http is allowed


def test_an_odd_switch_in_the_environment() -> None:
    with pytest.raises(ConfigurationError, match="FIRECREST_ALLOW_HTTP is 'yes please'"):
        Connection.from_environment(GOOD | {"FIRECREST_ALLOW_HTTP": "yes please"})


OWN_TOKENS = ["command:give-token --for me", "file:/run/token", "env:MY_TOKEN"]


@pytest.mark.parametrize("auth", ["api_key", *OWN_TOKENS])
def test_some_ways_to_sign_in_need_no_client(auth: str) -> None:
    assert make(auth=auth, token_url="", client_id="")
    ignored = make(auth=auth, token_url="http://elsewhere.example.org", client_id="me")
    assert (ignored.token_url, ignored.client_id) == ("", "")


@pytest.mark.parametrize("auth", ["client_secret_post", "client_secret_basic"])
@pytest.mark.parametrize("field", ["token_url", "client_id"])
def test_a_client_needs_both(auth: str, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        make(auth=auth, **{field: ""})


@pytest.mark.parametrize(
    ("auth", "words"),
    [("client_secret_basic", "secret of your OAuth2 client"), ("api_key", "your API key")]
    + [(auth, "any long random text: it signs the records") for auth in OWN_TOKENS],
)
def test_every_way_needs_a_secret(auth: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^client_secret is empty: .*{words}"):
        make(auth=auth, client_secret="")


@pytest.mark.parametrize(
    "auth",
    [
        "",
        "hunter2",
        "basic",
        "comand:give hunter2",
        "command:",
        "command:give 'hunter2",
        "file: ",
        "env",
        "env:MY TOKEN",
        "env:hunter2-x",
        "api_key:hunter2",
        "client_secret_post:hunter2",
    ],
)
def test_what_is_no_way_to_sign_in(auth: str) -> None:
    with pytest.raises(ConfigurationError, match="^auth") as caught:
        make(auth=auth)
    assert "hunter2" not in str(caught.value)


def test_the_ways_to_sign_in_are_listed() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(auth="oauth")
    for kind in ("client_secret_post", "client_secret_basic", "api_key", "command:", "file:", "env:"):
        assert kind in str(caught.value)


@pytest.mark.parametrize("key", ["two words", "line\n", "schlüssel", "\x00"])
def test_an_api_key_stands_in_a_header(key: str) -> None:
    with pytest.raises(ConfigurationError, match="^client_secret is no API key") as caught:
        make(auth="api_key", client_secret=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy.example.org:3128",
        "me:hunter2@proxy:3128",
        "socks5://proxy",
        "http://",
        "http://me:hunter2@proxy:x",
        "http://proxy/path",
        "http://proxy?hunter2",
        "http://pro xy",
    ],
)
def test_what_is_no_proxy(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="^proxy is not the URL") as caught:
        make(proxy=proxy)
    assert "hunter2" not in str(caught.value)


def test_neither_the_password_of_a_proxy_nor_a_command_line_is_shown() -> None:
    connection = make(proxy="http://me:hunter2@proxy:3128", auth="command:give hunter2")
    assert "hunter2" not in repr(connection)
    assert "hunter2" not in repr(connection.sign_in)


@pytest.mark.parametrize(
    ("auth", "needed"),
    [
        ("", {"AUTH_TOKEN_URL", "FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET"}),
        ("client_secret_basic", {"AUTH_TOKEN_URL", "FIRECREST_CLIENT_ID", "FIRECREST_CLIENT_SECRET"}),
        ("api_key", {"FIRECREST_API_KEY"}),
        ("file:/run/token", {"FIRECREST_CLIENT_SECRET"}),
    ],
)
def test_the_variables_that_a_way_to_sign_in_needs(auth: str, needed: set[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Connection.from_environment({"FIRECREST_AUTH": auth})
    named = str(caught.value).removeprefix("set the environment variable(s) ").split(", ")
    assert set(named) == needed | {"FIRECREST_URL"}


def test_an_api_key_in_the_environment() -> None:
    given = {"FIRECREST_URL": "https://api.example.org", "FIRECREST_API_KEY": "very-secret"}
    connection = Connection.from_environment(given)
    assert connection.sign_in.by_api_key
    assert connection.secret.get_secret_value() == "very-secret"
    with pytest.raises(ConfigurationError, match="AUTH_TOKEN_URL"):
        Connection.from_environment(given | {"FIRECREST_AUTH": "client_secret_post"})


def test_the_environment_names_its_own_variable() -> None:
    with pytest.raises(ConfigurationError, match="^FIRECREST_AUTH: .*client_secret_basic"):
        Connection.from_environment(GOOD | {"FIRECREST_AUTH": "basic"})


def test_proxy_and_certificate_of_the_environment() -> None:
    more = {"FIRECREST_PROXY": "http://proxy:3128", "FIRECREST_CLIENT_CERT": "/etc/me.pem"}
    connection = Connection.from_environment(GOOD | more)
    assert connection.proxy_url is not None
    assert connection.proxy_url.get_secret_value() == "http://proxy:3128"
    assert connection.client_cert == "/etc/me.pem"
    assert Connection.from_environment(GOOD).proxy_url is None


def test_two_keys_share_nothing() -> None:
    one, other = (make(auth="api_key", client_secret=key) for key in ("key-1", "key-2"))
    assert one != other
    assert one == make(auth="api_key", client_secret="key-1", client_id="ignored")
