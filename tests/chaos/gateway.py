"""The proxy between Airflow and FirecREST: it delays, loses or replaces answers, and knows the case of each request."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from firecrest_local.faults.plan import RequestRule
from firecrest_local.faults.replacement import Replacement, Rewriting
from firecrest_local.faults.selector import FaultSelector
from tests.chaos.odd_answers import odd_answers, replaced, request_head, rewritten
from tests.chaos.plan import ODD_ANSWERS

_CASE = re.compile(rb"case\d{4}")
_EPOCH = re.compile(rb"case\d{4}-[a-z2-7]{10}-(\d+)\.\d+")
_TIMEOUT = {"errorType": "error", "message": "Command execution timeout limit exceeded.", "data": None}

_SILENT_SBATCH = {
    "errorType": "error",
    "message": "Unexpected Slurm command response. exit_status:-1 std_err:",
    "data": None,
}


@dataclass(frozen=True)
class Submission:
    """A request of a case to submit a job.

    :param at: the Unix time of the request
    :param case: the case's run id
    :param epoch: the epoch in the job's name; 0 for a job without a claim
    :param job_id: None until the cluster has accepted the job
    """

    at: float
    case: str
    epoch: int
    job_id: str | None = None


@dataclass
class HeldRequest:
    """One request of a case that the gateway holds until it is released.

    :param case: the case's run id
    :param kind: `submit` or `fetch`
    :param before: `forwarding`, to hold the request itself, or `answering`, to hold the answer to it
    """

    case: str
    kind: str
    before: str
    #: Set when the gateway has received the request.
    received: threading.Event = field(default_factory=threading.Event)
    #: What happens to the answer: None, or one of `ANSWER_FAULTS`.
    fault: str | None = None
    _released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let the request or its answer pass."""
        self._released.set()

    async def wait(self) -> None:
        """Wait for the release, but less long than a client waits for its answer."""
        self.received.set()
        deadline = time.monotonic() + 25
        while not self._released.is_set() and time.monotonic() < deadline:  # set by another thread
            await asyncio.sleep(0.02)


class Gateway:
    """A proxy on 127.0.0.1 in front of one port; a context manager.

    `submissions` are all requests to submit a job, the oldest first, also those whose answer was lost. A request that
    the cluster accepted is listed a second time, with its job id. `outages` are the Unix times, from and to, in which
    the gateway answered with errors or not at all.

    :param upstream: the port of the embedded FirecREST
    """

    def __init__(self, upstream: int) -> None:
        self.submissions: list[Submission] = []
        self.outages: list[tuple[float, float]] = []
        self._upstream = upstream
        self._holds: list[HeldRequest] = []
        self._lock = threading.Lock()
        self._failures: list[tuple[float, str | FaultSelector]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Gateway:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def latest_epoch(self, case: str) -> int:
        """Return the latest epoch for which a case has submitted a job; -1 if there is none."""
        return max((each.epoch for each in list(self.submissions) if each.case == case), default=-1)

    def epoch_of(self, case: str, job_id: str) -> int:
        """Return the epoch of a job; the latest one if its submission was never answered."""
        known = (each.epoch for each in list(self.submissions) if (each.case, each.job_id) == (case, job_id))
        return next(known, max(0, self.latest_epoch(case)))

    def hold(self, case: str, kind: str, before: str) -> HeldRequest:
        """Hold the case's next request of a kind."""
        hold = HeldRequest(case, kind, before)
        with self._lock:
            self._holds.append(hold)
        return hold

    def drop(self, hold: HeldRequest) -> None:
        """Release a request. If the gateway has not received it, no longer wait for it."""
        hold.release()
        with self._lock, suppress(ValueError):
            self._holds.remove(hold)

    def fail(self, kind: str, seconds: float) -> None:
        """Fail all requests for some seconds.

        :param kind: `burst_5xx` to answer with errors, `outage` not to answer, or a kind of odd answers, which some of
            the requests meet
        """
        now = time.time()
        self.outages.append((now, now + seconds))
        self._failures.append((now + seconds, odd_answers(kind, len(self._failures)) if kind in ODD_ANSWERS else kind))

    # --- serving

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            answer = await self._answer(head, body)
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, body: bytes) -> bytes | None:
        line = head.partition(b"\r\n")[0]
        match = _CASE.search(line) or _CASE.search(body)
        case = match[0].decode() if match else ""
        method, path = line.split(b" ")[:2]
        kind = "other"
        if method == b"POST" and path.partition(b"?")[0].endswith(b"/jobs"):
            kind = "submit"
        elif b"/ops/download" in path:
            kind = "fetch"

        submission = None
        if kind == "submit":
            epoch = _EPOCH.search(body)
            submission = Submission(time.time(), case, int(epoch[1]) if epoch else 0)
            self.submissions.append(submission)
        hold = self._matching_hold(case, kind)
        if hold is not None and hold.before == "forwarding":
            await hold.wait()
        rule: RequestRule | None = None
        for until, failure in self._failures:
            if time.time() < until:
                if not isinstance(failure, FaultSelector):
                    return None if failure == "outage" else _error(random.choice((500, 502, 503, 504)))
                rule = rule or failure.select(request_head(head, body), time.time())
        try:
            if isinstance(rule, Replacement):
                if rule.done:
                    await self._forward(head, body, submission)
                return replaced(rule, head, body)
            answer = await self._forward(head, body, submission)
            if isinstance(rule, Rewriting):
                answer = rewritten(rule, answer)
            if hold is not None and hold.before == "answering":
                await hold.wait()
                if hold.fault == "duplicate":
                    answer = await self._forward(head, body, submission)
                if hold.fault == "timeout_408":
                    return _response(408, _TIMEOUT)
                if hold.fault == "silent_sbatch":
                    return _response(500, _SILENT_SBATCH)
                if hold.fault == "missing_job_id":
                    return _response(201, {"jobId": None})
                if hold.fault == "lost_answer":
                    return None
        except OSError:
            return None
        return answer or None

    def _matching_hold(self, case: str, kind: str) -> HeldRequest | None:
        with self._lock:
            for hold in self._holds:
                if (hold.case, hold.kind) == (case, kind) and not hold.received.is_set():
                    self._holds.remove(hold)
                    return hold
        return None

    async def _forward(self, head: bytes, body: bytes, submission: Submission | None) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)
            writer.write(head[:-2] + b"connection: close\r\n\r\n" + body)
            await writer.drain()
            answer = await reader.read(-1)
        finally:
            writer.close()
        if submission is not None and answer.split(b" ", 2)[1:2] == [b"201"]:
            job_id = json.loads(answer.partition(b"\r\n\r\n")[2])["jobId"]
            self.submissions.append(replace(submission, job_id=str(job_id)))
        return answer


def _error(status: int) -> bytes:
    return _response(status, {"errorType": "error", "message": "The gateway has no answer.", "data": None})


def _response(status: int, data: dict[str, Any]) -> bytes:
    body = json.dumps(data).encode()
    head = f"HTTP/1.1 {status} Chaos\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body
