"""Whatever is sent to the embedded server, it answers as its specification says, and raises nothing."""

from __future__ import annotations

import json
import logging
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from firecrest_local import LocalFirecREST, Settings

#: The same examples in each run, so that a failure is one of the change that is tested.
FEW = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
#: How the messages of 500 begin: with what a command on the system printed.
COMMAND_FAILED = (
    "Remote process failed with exit status:",
    "Unexpected Slurm command response. exit_status:",
    "Error executing Slurm command.",
    "Unable to submit new job",
    "Invalid output: ",
)
SECONDS = 20
PATHS = ("path", "sourcePath", "targetPath", "linkPath", "workingDirectory")


class Errors(logging.Handler):
    """Keeps what a server logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFirecREST]:
    """A server whose node is full, so that it runs no script of the tests."""
    root = tmp_path_factory.mktemp("fuzz") / "cluster"
    with LocalFirecREST(Settings(root=root, cores=1, accounting_lag=0, kill_wait=0.3, command_timeout=0.1)) as running:
        send(running, "POST", "/compute/local/jobs", json={"job": {"workingDirectory": "/", "script": "#!/bin/cat\n"}})
        (running.home / "file").write_text("content\n")
        yield running


@pytest.fixture
def errors() -> Iterator[list[str]]:
    handler = Errors()
    logging.getLogger().addHandler(handler)
    yield handler.messages
    logging.getLogger().removeHandler(handler)


def token(server: LocalFirecREST) -> str:
    return f"Bearer {server.issuer.issue()}"


def send(server: LocalFirecREST, method: str, path: str, **request: Any) -> httpx.Response:
    request["headers"] = {"Authorization": token(server)} | request.get("headers", {})
    return httpx.request(method, server.url + path, timeout=SECONDS, trust_env=False, **request)


def check(status: int, text: str, errors: list[str]) -> None:
    assert not errors
    if status < 400 or not text:
        return
    if text.startswith("<?xml"):  # the staging store
        assert status < 500
        return
    body = json.loads(text)
    if "error" in body:  # the token endpoint
        assert status < 500
        return
    assert set(body) == {"errorType", "message", "causedBy", "data", "user"}
    assert status != 500 or body["message"].startswith(COMMAND_FAILED), body["message"]
    assert status <= 500


def reach(value: Any, home: str) -> Any:
    """Lead half of the paths in a request to the cluster, where the others are refused at once."""
    if not isinstance(value, dict):
        return value
    return {
        name: f"{home}/{part}" if name in PATHS and isinstance(part, str) and len(part) % 2 else reach(part, home)
        for name, part in value.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_requests_that_follow_or_break_the_specification(
    mode: GenerationMode, server: LocalFirecREST, errors: list[str]
) -> None:
    document = send(server, "GET", "/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [one.ok() for one in schema.get_all_operations()]
    assert len(operations) == sum(len(methods) for methods in document["paths"].values())
    for operation in operations:

        @settings(FEW, max_examples=15)
        @given(case=operation.as_strategy(generation_mode=mode))
        def send_all(case: schemathesis.Case) -> None:
            send_case(case, server, errors)

        with suppress(Unsatisfiable):  # Such a request can't break anything.
            send_all()


def send_case(case: schemathesis.Case, server: LocalFirecREST, errors: list[str]) -> None:
    home = str(server.home)
    case.query, case.body = reach(case.query, home), reach(case.body, home)
    if case.path_parameters and "system_name" in case.path_parameters:
        case.path_parameters["system_name"] = server.system
    # No command of a test runs in the job.
    if case.path.endswith("/attach"):
        case.path_parameters["job_id"] = "999"
    session = requests.Session()
    session.trust_env = False
    answer = case.call(base_url=server.url, session=session, headers={"Authorization": token(server)}, timeout=SECONDS)
    check(answer.status_code, answer.text, errors)


ROUTES = [
    ("POST", "/token"),
    ("POST", "/compute/local/jobs"),
    ("PUT", "/compute/local/jobs/999/attach"),
    ("POST", "/filesystem/local/ops/upload?path={home}"),
    ("POST", "/filesystem/local/ops/mkdir"),
    ("PUT", "/filesystem/local/ops/chmod"),
    ("POST", "/filesystem/local/transfer/upload"),
    ("PUT", "/staging/a"),
]
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n--b--\r\n'
BODIES = st.one_of(
    st.binary(max_size=50),
    st.sampled_from(
        [b"", b"null", b"[" * 50_000, b'{"job":' * 20_000, b'{"sourcePath": "\\ud800"}', b"--b--\r\n", b"--b"]
    ),
    st.builds(lambda name, data: FORM % (name, data), st.binary(max_size=9), st.binary(max_size=9)),
    st.builds(lambda name, number: b'{"%s": %d}' % (name.encode(), number), st.sampled_from(PATHS), st.integers()),
)
TYPES = st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=b",
        "multipart/form-data; boundary=\xff",
        "text/plain; charset=none",
        "",
    ]
)


@FEW
@given(body=BODIES, content_type=TYPES)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_any_body(
    method: str, path: str, body: bytes, content_type: str, server: LocalFirecREST, errors: list[str]
) -> None:
    headers = {"Authorization": token(server), "Content-Type": content_type.encode("latin-1")}
    answer = send(server, method, path.format(home=server.home), content=body, headers=headers)
    check(answer.status_code, answer.text, errors)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kid", "exp", "a"]), inner, max_size=3)
    ),
)
HEADER_BYTES = st.binary(max_size=40).map(lambda data: re.sub(rb"[\x00-\x1f\x7f]", b".", data).strip())
HEADERS = st.sampled_from(["Authorization", "Range", "X-Client-Secret", "Content-Type", "Accept", "Cookie", "Expect"])


@FEW
@given(
    header=HEADERS, value=HEADER_BYTES, path=st.sampled_from(["/status/systems", "/staging/a", "/token", "/nothing"])
)
def test_any_header(header: str, value: bytes, path: str, server: LocalFirecREST, errors: list[str]) -> None:
    answer = send(server, "GET", path, headers={header: value})
    check(answer.status_code, answer.text, errors)


@FEW
@given(
    parts=st.lists(
        st.one_of(
            JSON_VALUES.map(lambda value: json.dumps(value).encode()),
            st.sampled_from(
                [b"[" * 20_000, b'{"kid": "firecrest-local"}', b'{"exp": 1e999}', b'{"exp": %s}' % (b"9" * 400)]
            ),
            st.binary(max_size=20),
        ),
        max_size=4,
    )
)
def test_any_token(parts: list[bytes], server: LocalFirecREST, errors: list[str]) -> None:
    text = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    answer = send(server, "GET", "/status/systems", headers={"Authorization": (b"Bearer " + text).strip()})
    assert answer.status_code == 401
    check(answer.status_code, answer.text, errors)


@FEW
@given(
    option=st.sampled_from(
        ["nodes", "ntasks", "time", "begin", "mem", "gpus", "gres", "array", "dependency", "signal", "output", "x"]
    ),
    value=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
    | st.sampled_from(["9" * 5000, "²", "now+%sdays" % ("9" * 400), "afterok:" + "9" * 5000, "%999999999j", "0-3%²"]),
)
def test_any_directive(option: str, value: str, server: LocalFirecREST, errors: list[str]) -> None:
    script = f"#!/bin/sh\n#SBATCH --{option}={value}\n"
    job = {"workingDirectory": str(server.home), "script": script}
    answer = send(server, "POST", "/compute/local/jobs", json={"job": job})
    check(answer.status_code, answer.text, errors)
