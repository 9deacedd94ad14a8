"""The way from Airflow to FirecREST: it knows which request is whose, holds it, loses it, or answers in its place."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

_CASE = re.compile(rb"case\d{4}")
_EPOCH = re.compile(rb"case\d{4}-[a-z2-7]{10}-(\d+)\.\d+")
_TIMEOUT = {"errorType": "error", "message": "Command execution timeout limit exceeded.", "data": None}


@dataclass(frozen=True)
class Submission:
    """A job that was to be submitted for a case.

    Parameters:
        at: when the request came.
        epoch: as the job's name tells it; 0 for a job without a claim.
        job_id: None until the cluster has taken it.
    """

    at: float
    case: str
    epoch: int
    job_id: str | None = None


@dataclass
class Hold:
    """One request of a case that is held on its way until it is let go.

    Parameters:
        case: the case's run id.
        kind: `submit` or `fetch`.
        before: what it is held before: the `work`, or the `answer` of work that is done.
    """

    case: str
    kind: str
    before: str
    arrived: threading.Event = field(default_factory=threading.Event)
    #: What becomes of the answer: `deliver`, `lose`, `timeout_408`, `duplicate`.
    answer: str = "deliver"
    _released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let it go."""
        self._released.set()

    async def wait(self) -> None:
        """Tell that it has arrived, and wait; never as long as a client waits for its answer."""
        self.arrived.set()
        until = time.monotonic() + 25
        while not self._released.is_set() and time.monotonic() < until:  # noqa: ASYNC110  # another thread releases it
            await asyncio.sleep(0.02)


class Gateway:
    """A proxy on 127.0.0.1 before one port; a context manager.

    `submissions` are all that came by, the oldest first, whether or not the answer arrived. `away` are the times, from
    and to, in which it answered with errors or not at all.
    """

    def __init__(self, upstream: int) -> None:
        self.submissions: list[Submission] = []
        self.away: list[tuple[float, float]] = []
        self.requests: dict[str, int] = defaultdict(int)
        self._upstream = upstream
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._failing: list[tuple[float, str]] = []
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
        """The latest epoch of a case of which a submission came by; -1 for none."""
        return max((each.epoch for each in list(self.submissions) if each.case == case), default=-1)

    def epoch_of(self, case: str, job_id: str) -> int:
        """The epoch of a job; the latest if its submission was never answered."""
        known = (each.epoch for each in list(self.submissions) if (each.case, each.job_id) == (case, job_id))
        return next(known, max(0, self.latest_epoch(case)))

    def hold(self, case: str, kind: str, before: str) -> Hold:
        """Hold the case's next request of a kind."""
        hold = Hold(case, kind, before)
        with self._lock:
            self._holds.append(hold)
        return hold

    def drop(self, hold: Hold) -> None:
        """Hold it no more, whether it has come or not."""
        hold.release()
        with self._lock, suppress(ValueError):
            self._holds.remove(hold)

    def fail(self, how: str, seconds: float) -> None:
        """Answer nobody for some seconds: with an error (`burst_5xx`), or not at all (`outage`)."""
        now = time.time()
        self.away.append((now, now + seconds))
        self._failing.append((now + seconds, how))

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
        self.requests[kind] += 1

        submission = None
        if kind == "submit":
            epoch = _EPOCH.search(body)
            submission = Submission(time.time(), case, int(epoch[1]) if epoch else 0)
            self.submissions.append(submission)
        hold = self._held(case, kind)
        if hold is not None and hold.before == "work":
            await hold.wait()
        for until, how in self._failing:
            if time.time() < until:
                return None if how == "outage" else _error(random.choice((500, 502, 503, 504)))
        try:
            answer = await self._forward(head, body, submission)
            if hold is not None and hold.before == "answer":
                await hold.wait()
                if hold.answer == "duplicate":
                    answer = await self._forward(head, body, submission)
                if hold.answer == "timeout_408":
                    return _respond(408, _TIMEOUT)
                if hold.answer == "lose":
                    return None
        except OSError:
            return None
        return answer or None

    def _held(self, case: str, kind: str) -> Hold | None:
        with self._lock:
            for hold in self._holds:
                if (hold.case, hold.kind) == (case, kind) and not hold.arrived.is_set():
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
    return _respond(status, {"errorType": "error", "message": "The gateway has no answer.", "data": None})


def _respond(status: int, data: dict[str, Any]) -> bytes:
    body = json.dumps(data).encode()
    head = f"HTTP/1.1 {status} Chaos\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body
