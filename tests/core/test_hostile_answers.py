"""Whatever a server answers to any call: the call returns something usable, or raises an error of ours.

The answers are recorded ones that were changed at random, JSON of any form, and what is no JSON. They come with any
status, type of content and header.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firecrest_core import errors, lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.api.models import FileInfo, FileStat, JobInfo
from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.claims.claim import Claims
from firecrest_core.connection import Connection
from firecrest_core.indices import Indices
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, read_job_name
from firecrest_core.jobs.status import parse_status
from firecrest_core.result import JobResult
from firecrest_core.watch.tracker import JobTracker

SECRET = "very-secret-of-the-client"
CONNECTION = Connection(
    url="https://api.example.org",
    token_url="https://id.example.org/token",
    client_id="me",
    client_secret=SECRET,
    system="rig",
    verify=False,  # there is no network, and reading the authorities' certificates takes most of the time
)
RECORDED = [
    one["response"]["body"]
    for one in json.loads((Path(__file__).parent.parent / "contract" / "exchanges.json").read_text())
    if isinstance(one["response"]["body"], dict)
]
SYSTEMS = next(body for body in RECORDED if "systems" in body)

Call = Callable[[System], Awaitable[Any]]


# --- what is called -----------------------------------------------------------------------------------


async def rows(system: System) -> None:
    found = await system.get_job("57")
    use_rows(found)


async def listed(system: System) -> None:
    use_rows(await system.get_jobs())


def use_rows(found: list[JobInfo]) -> None:
    """Read all that a wait reads of the rows, and make a result of them."""
    for row in found:
        assert row.of_job is not None
        read_job_name(row.name)
    for expected in (None, Indices.parse("0-9")):
        status = parse_status(found, "57", expected)
        assert status.ended_ago >= 0
        job = Job(system="rig", job_id="57", array_indices=expected, stdout="/wd/%4a-%N")
        tracker = JobTracker(job, 0.0, on_message=str, not_found_grace=0.0, provisional_grace=0.0)
        result = tracker.on_status(status, 1.0) or tracker.on_status(status, 1000.0)
        assert tracker.idle_seconds(2000.0) >= 0
        if result is not None:
            assert JobResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
            assert result.summary()
            result.output_paths()
            errors.JobFailed(result)


async def entries(system: System) -> None:
    found: list[FileInfo] = await system.list_files("/wd", recursive=True)
    Claims.read(found).jobs([0])


async def stat(system: System) -> None:
    found: FileStat = await system.stat("/wd")
    assert isinstance(found.is_file or found.is_directory or found.is_link, bool)
    assert found.version


async def text(system: System) -> None:
    assert isinstance(await system.tail("/wd/out", lines=3), str)
    assert isinstance(await system.read_from("/wd/out", 3), str)


async def info(system: System) -> None:
    found = await system.info()
    assert isinstance(found.healthy, bool)
    assert await system.scheduler() in ("slurm", "pbs")


async def upload(system: System) -> None:
    ticket = await system.start_upload("/wd/file", 10)
    assert ticket.max_part_size > 0
    assert SECRET not in repr(ticket)


CALLS: dict[str, Call] = {
    "systems": lambda system: system.client.list_systems(),
    "info": info,
    "user": lambda system: system.get_userinfo(),
    "job": rows,
    "jobs": listed,
    "metadata": lambda system: system.get_job_metadata("57"),
    "find": lambda system: lifecycle.find(system, "57"),
    "cancel": lambda system: system.cancel_job("57"),
    "submit": lambda system: system.submit_job(SubmitRequest(name="x", working_directory="/wd", script="#!/bin/sh\n")),
    "cancel a claim": lambda system: lifecycle.cancel(
        system, Job(system="rig", job_id="57", working_dir="/wd", key=ClaimKey("task"))
    ),
    "clean up": lambda system: lifecycle.clean_up(
        system, [Job(system="rig", job_id="57", working_dir="/wd", key=ClaimKey("task"))]
    ),
    "list": entries,
    "stat": stat,
    "is directory": lambda system: system.is_directory("/wd"),
    "checksum": lambda system: system.sha256("/wd/file"),
    "tail": text,
    "mkdir": lambda system: system.make_directory("/wd/new"),
    "symlink": lambda system: system.symlink("/wd/a", "/wd/b"),
    "remove": lambda system: system.remove("/wd/a", missing_ok=True),
    "upload": lambda system: system.upload_small("/wd", "a", b"content"),
    "download": lambda system: system.download_small("/wd/a"),
    "compress": lambda system: system.compress("/wd", "/wd.tar.gz", dereference=False),
    "extract": lambda system: system.extract("/wd.tar.gz", "/wd"),
    "start upload": upload,
    "start download": lambda system: system.start_download("/wd/file"),
    "start transfer": lambda system: system.start_transfer("cp", {"path": "/a", "targetPath": "/b"}),
}


# --- what is answered ---------------------------------------------------------------------------------


def deep() -> Any:
    tree: Any = 1
    for _ in range(200):
        tree = [tree]
    return tree


SCALARS = st.one_of(
    st.sampled_from(
        [None, True, False, "", 0, -1, 2**31, 2**63, 10**18, 10**300, -(10**40), 1.5, float("nan"), float("inf")]
    ),
    st.sampled_from(
        ["57", "57_[0-4000000]", "57_[5-1]", "57_3", "57[]", "None", "COMPLETED", "CANCELLED by " + "9" * 5000]
    ),
    st.sampled_from(["x" * 100_000, "https://a?" * 1000, "more " * 2000, "\ud800", "\0", "\u202e", "nid[" * 500]),
    st.sampled_from(
        ["%" + "9" * 5000 + "a", "-abcdefghij-" + "9" * 5000 + ".0", "9" * 5000 + ".0/claim", "F", "RUNNING"]
    ),
    st.sampled_from(["Remote process failed with exit status:1 and error message:ls: x: No such file or directory"]),
    st.sampled_from(["Unexpected Slurm API response. message:[[", "std_err:sbatch: error: x", "Job not found."]),
    st.builds(deep),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
)
KEYS = st.one_of(
    st.sampled_from(["jobs", "output", "systems", "jobId", "status", "state", "errorType", "message"]), st.text()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


def places(tree: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return each container in a tree with each of its keys."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        found.append((tree, key))
        places(value, found)
    return found


@st.composite
def changed(draw: st.DrawFn) -> Any:
    """A recorded answer of any request, with a few values replaced or left out."""
    tree = copy.deepcopy(draw(st.sampled_from(RECORDED)))
    for _ in range(draw(st.integers(0, 4))):
        every = places(tree, [])
        if not every:
            break
        container, key = every[draw(st.integers(0, len(every) - 1))]
        if draw(st.integers(0, 4)) == 0:
            del container[key]
        else:
            container[key] = draw(TREES)
    return tree


RAW = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"[" * 100_000, b"9" * 5000, b"{", b"null", b'{"jobs": [' + b"9" * 5000 + b"]}", b"\xff\xfe{"]
    ),
    st.sampled_from([b"<html><body>Sign in</body></html>", b'{"a": 1e999}', b'{"jobs": NaN}', b"\x1f\x8b broken"]),
)
BODIES = (
    st.one_of(
        changed(),
        changed(),
        changed(),
        TREES,
        st.builds(lambda one: {"output": one}, TREES),
        st.builds(lambda one: {"jobs": [one]}, TREES),
    ).map(lambda tree: json.dumps(tree).encode())
    | RAW
)
STATUSES = st.one_of(
    st.sampled_from([200, 200, 200, 201, 201, 204]),
    st.sampled_from([202, 206, 299, 301, 302, 304, 400, 401, 403, 404, 405, 408, 409, 413, 418, 422, 424, 429]),
    st.sampled_from([500, 500, 502, 503, 504, 599, 600, 999]),
)
HEADERS = st.fixed_dictionaries(
    {
        "Content-Type": st.sampled_from(
            ["application/json"] * 6 + ["text/html", "text/plain", "", "application/json; charset=none", "image/png"]
        )
    },
    optional={
        "Retry-After": st.sampled_from(
            ["1", "-1", "nan", "inf", "1e999", "9" * 400, "x", "Wed, 21 Oct 99999 07:28:00 GMT"]
        ),
        "Location": st.sampled_from(["https://login.example", "//", "http://[", ""]),
        "Content-Encoding": st.sampled_from(["gzip", "br", "identity"]),
    },
)


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, dict[str, str], bytes]:
    return draw(STATUSES), draw(HEADERS), draw(BODIES)


# --- the promise --------------------------------------------------------------------------------------


def ask(
    virtually: Any, name: str, given_answers: list[tuple[int, dict[str, str], bytes]], *, reached: bool, token: int
) -> None:
    """Call once; the answers come one after the other, and the last one again and again.

    :param reached: FirecREST has answered this process before
    :param token: number of the request for a token that gets an odd answer, too
    """
    sent = tokens = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal sent, tokens
        if request.url.path == "/token":
            tokens += 1
            if tokens != token:
                return httpx.Response(200, json={"access_token": "token", "expires_in": 300})
        sent += 1
        assert sent < 300, "requests without an end"
        status, headers, body = given_answers[min(sent, len(given_answers)) - 1]
        return httpx.Response(status, headers=headers, content=body, request=request)

    async def scene() -> None:
        async with FirecRESTClient(CONNECTION, attempts=1) as client:
            client.requests.session._transport = httpx.MockTransport(answer)
            if reached:
                client.trust_url()
            async with asyncio.timeout(24 * 3600):
                await CALLS[name](client.system())

    try:
        virtually(scene())
        message = "fine"
    except errors.FirecRESTError as error:
        message = str(error)
    assert message
    assert SECRET not in message


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(CALLS)),
    given_answers=st.lists(answers(), min_size=1, max_size=3),
    reached=st.booleans(),
    token=st.sampled_from([0, 0, 0, 1]),
)
def test_only_our_errors_come_of_an_answer(
    virtually: Any, name: str, given_answers: list[tuple[int, dict[str, str], bytes]], reached: bool, token: int
) -> None:
    ask(virtually, name, given_answers, reached=reached, token=token)


JSON = {"Content-Type": "application/json"}


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(CALLS)), tree=changed(), status=st.sampled_from([200, 201, 400, 404, 500]))
@example(name="user", tree={"accounts": [1]}, status=200)
@example(name="job", tree={"jobs": [{"jobId": "57", "status": {"state": [1, None]}}]}, status=200)
@example(name="job", tree={"jobs": [{"jobId": "57", "status": {"state": "CANCELLED by " + "9" * 5000}}]}, status=200)
@example(name="job", tree={"jobs": [{"jobId": "57_" + "9" * 5000, "status": {"state": "RUNNING"}}]}, status=200)
@example(name="stat", tree={"output": {"mode": 10**300}}, status=200)
@example(name="checksum", tree={"output": {}}, status=200)
@example(name="tail", tree={"output": None}, status=200)
def test_only_our_errors_come_of_a_changed_answer(virtually: Any, name: str, tree: Any, status: int) -> None:
    systems = 200, JSON, json.dumps(SYSTEMS).encode()
    odd = status, JSON, json.dumps(tree).encode()
    # Some calls ask for the systems first, others have the odd answer at once.
    ask(virtually, name, [odd], reached=True, token=0)
    ask(virtually, name, [systems, odd], reached=True, token=0)
