"""Any sequence of odd answers that ends with honest ones: nothing fails, nothing runs twice, nothing is left.

The real client talks to a model of a site. Between them a gateway answers in the site's place, or after it, with
generated words, statuses and bodies: pages, faults of FirecREST that speak of the site, the login node's noise, file
systems that hiccup, `sbatch` without words. The clock runs as fast as it can.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firecrest_core import errors, lifecycle
from firecrest_core.api.client import FirecRESTClient, System
from firecrest_core.connection import Connection
from firecrest_core.jobs.job import Job
from firecrest_core.jobs.key import ClaimKey, claims_home, read_job_name
from firecrest_core.result import JobResult
from firecrest_core.spec.jobspec import JobSpec
from firecrest_core.states import JobState

CONNECTION = Connection(
    url="https://api.example.org",
    token_url="https://id.example.org/token",
    client_id="me",
    client_secret="secret",
    system="rig",
    verify=False,  # there is no network, and reading the authorities' certificates takes most of the time
)
SPEC = JobSpec(working_dir="/wd", command="true", name="relax")
KEY = ClaimKey("task")
STARTS_AFTER, RUNS, VISIBLE_AFTER = 20.0, 60.0, 3.0


# --- the site -----------------------------------------------------------------------------------------


@dataclass
class ModelJob:
    id: str
    name: str
    submitted: float
    state: str = "PENDING"
    ran: bool = False


@dataclass
class Site:
    """A FirecREST with a scheduler and a file system that has the claims.

    :param odd: what comes in place of the honest answers; the rest is honest
    """

    odd: list[Odd | None]
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    honest: bool = True

    def client_type(self) -> type[FirecRESTClient]:
        site = self

        class Client(FirecRESTClient):
            def __init__(self, connection: Connection, *, attempts: int = 4) -> None:
                super().__init__(connection, attempts=attempts)
                self.requests.session._transport = httpx.MockTransport(site.answer)

        return Client

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.2)
        odd = None if self.honest or not self.odd else self.odd.pop(0)
        if odd is not None and not odd.fits(request):
            odd = None
        if odd is None:
            return self.obey(request)
        if odd.after:
            self.obey(request)
        return odd.answer(request)

    def obey(self, request: httpx.Request) -> httpx.Response:
        path, query = request.url.path, request.url.params
        if path == "/token":
            return httpx.Response(200, json={"access_token": "token", "expires_in": 300})
        if path == "/status/systems":
            return httpx.Response(200, json={"systems": [{"name": "rig"}]})
        if path.endswith("/ops/stat"):
            return httpx.Response(200, json={"output": {"mode": 0o40755, "size": 1}})
        if path.endswith("/ops/ls"):
            return self.listing(query["path"])
        if path.endswith("/ops/mkdir"):
            self.directories.add(json.loads(request.content)["sourcePath"])
            return httpx.Response(201, json={"output": None})
        if path.endswith("/ops/symlink"):
            body = json.loads(request.content)
            return self.link(body["sourcePath"], body["linkPath"])
        if request.method == "POST":
            return httpx.Response(201, json={"jobId": self.submit(json.loads(request.content)["job"]["name"])})
        if request.method == "DELETE":
            job = self.jobs[path.rpartition("/")[2]]
            if job.state in ("PENDING", "RUNNING"):
                job.state = "CANCELLED"
                return httpx.Response(204)
            return failed(
                500, f"scancel: error: Kill job error on job id {job.id}: Job/step already completing or completed"
            )
        return self.rows(path.rpartition("/")[2])

    def submit(self, name: str) -> str:
        loop = asyncio.get_running_loop()
        job = ModelJob(str(100 + len(self.jobs)), name, loop.time())
        self.jobs[job.id] = job
        # The first job starts last, so that the claim is what decides.
        loop.call_later(STARTS_AFTER + 5 / len(self.jobs), self.start, job)
        return job.id

    def start(self, job: ModelJob) -> None:
        """What the prologue does."""
        if job.state != "PENDING":
            return
        name = read_job_name(job.name)
        assert name is not None
        directory = ClaimKey(KEY.identity, *name[1:]).directory("/wd")
        self.directories.add(directory)
        job.state = "RUNNING"
        job.ran = self.links.setdefault(f"{directory}/claim", f"{directory}/job-{job.id}").endswith(f"job-{job.id}")
        asyncio.get_running_loop().call_later(RUNS if job.ran else 1.0, self.end, job)

    def end(self, job: ModelJob) -> None:
        if job.state == "RUNNING":
            job.state = "COMPLETED"

    def listing(self, path: str) -> httpx.Response:
        inside = [each for each in self.directories if each.startswith(f"{path}/")]
        if not inside:
            return failed(404, f"ls: cannot access '{path}': No such file or directory")
        rows = [{"name": each.removeprefix(f"{path}/"), "type": "d"} for each in inside]
        rows += [
            {"name": link.removeprefix(f"{path}/"), "type": "l", "linkTarget": target}
            for link, target in self.links.items()
        ]
        return httpx.Response(200, json={"output": rows})

    def link(self, target: str, link: str) -> httpx.Response:
        if link.rpartition("/")[0] not in self.directories:
            return failed(404, f"ln: failed to create symbolic link '{link}': No such file or directory")
        if link in self.links:
            return failed(500, f"ln: failed to create symbolic link '{link}': File exists")
        self.links[link] = target
        return httpx.Response(201, json={"output": None})

    def rows(self, which: str) -> httpx.Response:
        now = asyncio.get_running_loop().time()
        shown = [
            {"jobId": job.id, "name": job.name, "status": {"state": job.state}, "workingDirectory": "/wd"}
            for job in self.jobs.values()
            if which in ("jobs", job.id) and now >= job.submitted + VISIBLE_AFTER
        ]
        if which != "jobs" and not shown:
            return httpx.Response(404, json={"errorType": "error", "message": "Job not found."})
        return httpx.Response(200, json={"jobs": shown})

    @property
    def payloads(self) -> int:
        return sum(job.ran for job in self.jobs.values())

    @property
    def alive(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state in ("PENDING", "RUNNING")]


def failed(status: int, line: str) -> httpx.Response:
    message = f"Remote process failed with exit status:1 and error message:{line}\n"
    return httpx.Response(status, json={"errorType": "error", "message": message, "data": None})


# --- odd answers --------------------------------------------------------------------------------------


@dataclass
class Odd:
    """An answer that is not the honest one.

    :param after: the request was obeyed before
    :param fits: whether it can come in answer to a request
    """

    name: str
    after: bool
    answer: Callable[[httpx.Request], httpx.Response]
    fits: Callable[[httpx.Request], bool] = lambda request: True

    def __repr__(self) -> str:
        return f"{self.name}{' after' if self.after else ''}"


def is_submission(request: httpx.Request) -> bool:
    return request.method == "POST" and request.url.path.endswith("/jobs")


def is_file_operation(request: httpx.Request) -> bool:
    return "/filesystem/" in request.url.path


def is_api(request: httpx.Request) -> bool:
    return request.url.path != "/token"


def own(status: int, message: str) -> httpx.Response:
    """An answer with FirecREST's own form of errors."""
    return httpx.Response(status, json={"errorType": "error", "message": message, "data": None, "user": "me"})


words = st.text("abcdefghijklmnopqrstuvwxyz ABC.:'\n", max_size=40)
NOISE = st.sampled_from(
    [
        "",
        "Could not chdir to home directory /users/xyz: No such file or directory\n",
        "bash: warning: setlocale: LC_ALL: cannot change locale (de_CH.UTF-8)\n",
        "-bash: /etc/profile.d/modules.sh: Permission denied\n",
        "*** Invalid use of this system is not permitted ***\n",
        "/usr/bin/lua: Disk quota exceeded\n",
    ]
)
SITE_WORDS = st.sampled_from(
    [
        "Protocol authentication error",
        "Zero Bytes were transmitted or received",
        "Resource temporarily unavailable",
        "Unable to contact slurm controller (connect failure)",
        "Socket timed out on send/recv operation",
        "I/O error writing script/environment to file",
    ]
)
HICCUPS = st.sampled_from(
    ["Stale file handle", "Input/output error", "Connection timed out", "Transport endpoint is not connected"]
)
# A 413 says of a POST that it is too large: that is final. So it is left to `too_long`.
PAGE_STATUSES = st.sampled_from(
    [200, 201, 204, 301, 302, 307, 400, 401, 403, 404, 405, 410, 418, 429, 500, 502, 503, 504, 520]
)
after = st.booleans()


@st.composite
def pages(draw: st.DrawFn) -> Odd:
    """The page of a gateway, a firewall or a maintenance; or JSON that is not FirecREST's."""
    status, text = draw(PAGE_STATUSES), draw(words)
    kind = draw(st.sampled_from(["text/html", "text/plain", "application/json"]))
    content = f"<html>{text}</html>" if kind == "text/html" else text
    if kind == "application/json":
        content = json.dumps(draw(st.dictionaries(st.sampled_from(["status", "detail", "error", "message"]), words)))

    def fits(request: httpx.Request) -> bool:
        if status >= 300:
            return True
        # What cannot be told from the honest answer: nothing where nothing is due, JSON where any JSON will do.
        return request.method == "GET" or (status != 204 and kind != "application/json")

    def answer(request: httpx.Request) -> httpx.Response:
        if status == 204:
            return httpx.Response(204)
        return httpx.Response(
            status, content=content, headers={"Content-Type": kind, "Location": "https://login.example"}
        )

    return Odd(f"{status} {kind}", draw(after), answer, fits)


@st.composite
def faults(draw: st.DrawFn) -> Odd:
    """FirecREST's own faults, which say nothing of the request."""
    status, message = draw(
        st.sampled_from(
            [
                (408, "Command execution timeout limit exceeded."),
                (424, "Unable to open a new SSH channel."),
                (500, "Unexpected error"),
                (503, "The scheduler service for the requested system (rig) is unhealthy."),
                (
                    500,
                    "Unexpected Slurm command response. exit_status:1 std_err:slurm_load_jobs error: Unable to contact",
                ),
            ]
        )
    )
    # FirecREST answers 424 and 503 before it does anything.
    return Odd(f"own {status}", status not in (424, 503) and draw(after), lambda request: own(status, message), is_api)


@st.composite
def too_long(draw: st.DrawFn) -> Odd:
    """A list of jobs that does not fit into the server's buffer, or through a gateway."""
    words, page = "Command output exceeded buffer limit.", httpx.Response(413, content="<html>413</html>")
    of_server = draw(st.booleans())

    def fits(request: httpx.Request) -> bool:
        return request.method == "GET" and "/compute/" in request.url.path

    return Odd("413", draw(after), lambda request: own(413, words) if of_server else page, fits)


@st.composite
def silences(draw: st.DrawFn) -> Odd:
    """No answer."""
    kind = draw(st.sampled_from([httpx.ConnectError, httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError]))

    def answer(request: httpx.Request) -> httpx.Response:
        raise kind("no", request=request)

    return Odd(kind.__name__, kind is not httpx.ConnectError and draw(after), answer)


@st.composite
def submissions(draw: st.DrawFn) -> Odd:
    """What is said of a submission without saying whether the job was taken."""
    exit_status = draw(st.sampled_from([-1, 0, 1, 255, None]))
    line = draw(
        st.one_of(st.just(""), SITE_WORDS.map(lambda text: f"sbatch: error: Batch job submission failed: {text}\n"))
    )
    message = f"Unexpected Slurm command response. exit_status:{exit_status} std_err:{draw(NOISE)}{line}"
    empty = draw(st.sampled_from([{}, {"jobId": None}, {"jobId": ""}, {"jobId": "None"}, {"jobId": 0}]))
    response = draw(st.sampled_from(["words", "no id"]))

    def answer(request: httpx.Request) -> httpx.Response:
        return own(500, message) if response == "words" else httpx.Response(201, json=empty)

    return Odd(f"sbatch: {message if response == 'words' else empty}", draw(after), answer, is_submission)


@st.composite
def hiccups(draw: st.DrawFn) -> Odd:
    """A file system that hiccups; the status is what the server makes of it, and noise comes before."""
    status = draw(st.sampled_from([400, 403, 404, 500]))
    noise, problem = draw(NOISE), draw(HICCUPS)
    command = draw(
        st.sampled_from(["ls: cannot access '/wd/x'", "ln: failed to create symbolic link '/wd/x'", "stat: /wd"])
    )
    line = f"{noise}{command}: {problem}\n"
    message = f"Remote process failed with exit status:{draw(st.integers(1, 255))} and error message:{line}"
    return Odd(f"{status} {message!r}", draw(after), lambda request: own(status, message), is_file_operation)


@st.composite
def noise_alone(draw: st.DrawFn) -> Odd:
    """The login node's own words and nothing of the command's."""
    message = f"Remote process failed with exit status:255 and error message:{draw(NOISE)}"
    status = draw(st.sampled_from([403, 404, 500]))
    return Odd(f"{status} {message!r}", draw(after), lambda request: own(status, message), is_file_operation)


odd_answers = st.one_of(pages(), faults(), too_long(), silences(), submissions(), hiccups(), noise_alone())
sequences = st.lists(st.one_of(st.none(), odd_answers, odd_answers), max_size=40)
many = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


# --- the promise --------------------------------------------------------------------------------------


async def reached(site: Site) -> FirecRESTClient:
    """A client of which FirecREST has answered a request; from here on answers may be odd."""
    client = site.client_type()(CONNECTION)
    await client.system().info()
    await client.system().has_directory("/wd")
    site.honest = False
    return client


async def attempt(system: System, *, first_attempt: bool) -> JobResult:
    job = await lifecycle.submit(system, SPEC, KEY, first_attempt=first_attempt)
    return await lifecycle.wait(system, job)


@many
@given(odd=sequences)
def test_a_task_whose_job_completes_succeeds(virtually: Any, odd: list[Odd | None]) -> None:
    site = Site(odd)

    async def scene() -> JobResult:
        async with await reached(site) as client:
            result = await attempt(client.system(), first_attempt=True)
        await asyncio.sleep(3600)  # what was submitted twice ends without running anything
        return result

    assert virtually(scene()).state is JobState.COMPLETED
    assert site.payloads == 1
    assert not site.alive


@many
@given(odd=sequences, killed_after=st.floats(0, 200))
def test_a_retry_after_a_crash_finds_its_job(virtually: Any, odd: list[Odd | None], killed_after: float) -> None:
    site = Site(odd)

    async def scene() -> JobResult:
        async with await reached(site) as client:
            first = asyncio.create_task(attempt(client.system(), first_attempt=True))
            await asyncio.wait({first}, timeout=killed_after)
            first.cancel()
            await asyncio.wait({first})
        async with site.client_type()(CONNECTION) as client:  # a new process, which has seen no answer
            result = await attempt(client.system(), first_attempt=False)
        await asyncio.sleep(3600)
        return result

    assert virtually(scene()).state is JobState.COMPLETED
    assert site.payloads == 1
    assert not site.alive


@many
@given(odd=sequences, cancelled_after=st.floats(0, 120))
def test_what_is_cancelled_never_runs_on(virtually: Any, odd: list[Odd | None], cancelled_after: float) -> None:
    site = Site(odd)

    async def scene() -> None:
        async with await reached(site) as client:
            system = client.system()
            working = asyncio.create_task(attempt(system, first_attempt=True))
            await asyncio.wait({working}, timeout=cancelled_after)
            working.cancel()
            await asyncio.wait({working})
            job = Job(system="rig", job_id="", working_dir="/wd", key=KEY)
            for _ in range(10):  # as the engines' reconcilers do, until it is done
                with suppress(errors.FirecRESTError):
                    await lifecycle.cancel(system, job)
                    break
            else:
                raise AssertionError("it cannot be cancelled")
            payloads, running = site.payloads, [job for job in site.jobs.values() if job.state == "RUNNING" and job.ran]
            assert not running
            await asyncio.sleep(3600)
            assert site.payloads == payloads
            assert not site.alive

    virtually(scene())


def test_the_claims_of_the_model_are_where_the_product_looks() -> None:
    assert KEY.directory("/wd").startswith(claims_home("/wd", KEY.identity))
