"""The recorded timelines of jobs, replayed on the embedded server."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firecrest_local import LocalFirecREST, Settings

TIMELINES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent.parent / "contract" / "timelines").glob("*.json"))
}
#: Timelines that the scheduler `process` can't replay.
NOT_REPLAYED = {
    "bad_account": "the recorded Slurm did not enforce accounts, and this scheduler does",
    "cancelled_by_root": "another user's scancel isn't in the API",
    "held_then_released": "scontrol release isn't in the API",
    "node_fail": "there is no second node that could take over",
    "preempted_cancel": "there is no preemption",
    "preempted_requeue": "there is no preemption",
    "requeued": "scontrol requeue isn't in the API",
    "suspended": "scontrol suspend isn't in the API",
}
REPLAYED = [name for name in TIMELINES if name not in NOT_REPLAYED]
REFUSED = [name for name in REPLAYED if TIMELINES[name]["response"]["status"] != 201]
ACCEPTED = [name for name in REPLAYED if name not in REFUSED]

Pattern = list[tuple[Any, ...]]


def pattern(rows: list[dict[str, Any]], job_id: str, uid: int) -> Pattern:
    """Return the fields that describe a job in a set of rows, without the values that differ from run to run."""

    def form(text: str) -> str:
        return re.sub(rf"^{job_id}(?=$|_|\.)", "ID", text)

    found = []
    for row in rows:
        if not form(row["jobId"]).startswith("ID"):
            continue
        status = row["status"]
        tasks = tuple(
            (
                form(task["id"]),
                task["name"],
                *(task["status"][key] for key in ("state", "exitCode", "interruptSignal")),
            )
            for task in row["tasks"]
        )
        state = re.sub(rf" by {uid}$", " by USER", status["state"])
        found.append(
            (
                form(row["jobId"]),
                state,
                status["stateReason"],
                status["exitCode"],
                status["interruptSignal"],
                row["allocationNodes"],
                row["name"],
                tasks,
            )
        )
    return sorted(found)


def recorded_end(timeline: dict[str, Any]) -> tuple[Pattern, Pattern]:
    """Return the last observation of a single GET and of the list."""
    observations = [observation for observation in timeline["observations"] if "GET jobs/{id}" in observation]
    rows = observations[-1]["GET jobs/{id}"]["json"]["jobs"]
    job_id = timeline["response"]["json"]["jobId"]
    return pattern(rows, job_id, 1001), pattern(observations[-1]["GET jobs (this job's rows)"], job_id, 1001)


def adapted(script: str, failed_job: str) -> str:
    """Adapt a recorded script: this server's ids, and a time limit that a test can wait for."""
    return script.replace("--time=1\n", "--time=0:02\n").replace("afterok:15", f"afterok:{failed_job}")


class Timelines:
    """Replays all timelines at once: submits each job and watches it until its recorded end."""

    def __init__(self, server: LocalFirecREST, api: Any) -> None:
        self.server = server
        self.api = api
        self.answers: dict[str, Any] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ACCEPTED}
        self.last: dict[str, tuple[Pattern, Pattern]] = {}
        self.ids: dict[str, str] = {}
        self.metadata: dict[str, Any] = {}

    def submit(self) -> None:
        home = self.server.home
        (home / "wd").mkdir()
        failed = self.api.submit("#!/bin/sh\nexit 1\n", home / "wd")
        self.api.wait_end(failed)
        for name in REPLAYED:
            job = dict(TIMELINES[name]["request"]["json"]["job"])
            job["script"] = adapted(job["script"], failed)
            job["workingDirectory"] = job["workingDirectory"].replace("/users/fireuser", str(home))
            answer = self.api.http.post(self.api.jobs_url, json={"job": job})
            self.answers[name] = answer
            if answer.status_code == 201:
                self.ids[name] = answer.json()["jobId"]
                url = f"{self.api.jobs_url}/{self.ids[name]}/metadata"
                self.metadata[name] = self.api.http.get(url).json()

    def watch(self, seconds: float) -> None:
        waiting = set(ACCEPTED)
        to_cancel = {name for name in ACCEPTED if any("action" in one for one in TIMELINES[name]["observations"])}
        deadline = time.monotonic() + seconds
        uid = os.getuid()
        while waiting and time.monotonic() < deadline:
            listed = self.api.list()
            for name in sorted(waiting):
                job_id = self.ids[name]
                rows = self.api.rows(job_id)
                self.rows[name] += rows
                self.last[name] = pattern(rows, job_id, uid), pattern(listed, job_id, uid)
                if name in to_cancel:
                    # Cancel the job at the point where the recorded job was cancelled.
                    if rows[0]["name"] != "allocation" and self.ready_to_cancel(name, rows[0]):
                        assert self.api.cancel(job_id).status_code == 204
                        to_cancel.discard(name)
                elif self.last[name] == recorded_end(TIMELINES[name]):
                    waiting.discard(name)
            time.sleep(0.05)

    @staticmethod
    def ready_to_cancel(name: str, row: dict[str, Any]) -> bool:
        return name != "cancelled_running" or row["status"]["exitCode"] == 0


@pytest.fixture(scope="module")
def timelines(tmp_path_factory: Any, connect: Any) -> Any:
    settings = Settings(
        root=tmp_path_factory.mktemp("timelines") / "cluster", cores=64, accounting_lag=0.4, kill_wait=0.3
    )
    with LocalFirecREST(settings) as server:
        replayed = Timelines(server, connect(server))
        replayed.submit()
        replayed.watch(30)
        yield replayed


def test_table_is_complete() -> None:
    assert set(NOT_REPLAYED) < set(TIMELINES)
    assert len(REPLAYED) == 17


@pytest.mark.parametrize("name", ACCEPTED)
def test_job_comes_to_the_recorded_end(name: str, timelines: Timelines) -> None:
    single, listed = timelines.last[name]
    assert (single, listed) == recorded_end(TIMELINES[name])


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_row_has_a_recorded_shape(name: str, timelines: Timelines, shape: Callable[[Any], Any]) -> None:
    def shapes(row: dict[str, Any]) -> list[Any]:
        return [shape(row | {"tasks": []}), *(shape(task) for task in row["tasks"])]

    recorded = {
        one
        for timeline in TIMELINES.values()
        for observation in timeline["observations"]
        for rows in (
            (observation.get("GET jobs/{id}") or {}).get("json", {}).get("jobs", []),
            observation.get("GET jobs (this job's rows)") or [],
        )
        for row in rows
        for one in shapes(row)
    }
    assert timelines.rows[name]
    for row in timelines.rows[name]:
        assert set(shapes(row)) <= recorded, row


@pytest.mark.parametrize("name", ACCEPTED)
def test_metadata_is_as_recorded(name: str, timelines: Timelines) -> None:
    recorded = TIMELINES[name]["metadata"]["json"]["jobs"][0]
    (shown,) = timelines.metadata[name]["jobs"]
    assert set(shown) == set(recorded)
    old, new = recorded["jobId"], timelines.ids[name]
    for key in ("standardInput", "standardOutput", "standardError"):
        path = recorded[key].replace("/users/fireuser", str(timelines.server.home))
        assert shown[key] == re.sub(rf"slurm-{old}(?=[_.])", f"slurm-{new}", path)


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_has_the_recorded_message(name: str, timelines: Timelines) -> None:
    recorded, answer = TIMELINES[name]["response"], timelines.answers[name]
    assert answer.status_code == recorded["status"]
    assert answer.json()["message"] == recorded["json"]["message"]
