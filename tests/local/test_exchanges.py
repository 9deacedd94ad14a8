"""Every recorded exchange, replayed in its order against the embedded server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from firecrest_local import LocalFirecREST, Settings

CONTENTS = {18: b"line1\nline2\nline3\n"}

EXCHANGES = json.loads((Path(__file__).parent.parent / "contract" / "exchanges.json").read_text())
NAMES = [exchange["name"] for exchange in EXCHANGES]


class Replay:
    """Replays the exchanges and keeps the answers."""

    def __init__(self, server: LocalFirecREST, api: Any, until: Callable[..., Any]) -> None:
        self.server = server
        self.api = api
        self.until = until
        self.ids: dict[str, str] = {}
        self.answers: dict[str, httpx.Response] = {}
        self.blocker = ""

    def translate(self, value: Any) -> Any:
        """Replace recorded names and ids with those of this server."""
        if isinstance(value, dict):
            return {key: self.translate(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.translate(part) for part in value]
        if not isinstance(value, str):
            return value
        home = str(self.server.home)
        text = re.sub(r"^fireuser$", self.server.user, value.replace("/users/fireuser", home))
        return re.sub(r"(/jobs/|job |job id )(\d+)", lambda match: match[1] + self.ids.get(match[2], match[2]), text)

    def before(self, name: str) -> None:
        if name == "submit":
            # The recorded job was still pending when it was listed. A full node keeps it pending here too.
            self.blocker = self.api.submit("#!/bin/sh\nsleep 60\n", self.server.home)
        elif name == "jobs_by_name":
            self.api.cancel(self.blocker)
            self.api.wait_end(self.ids["57"])
        elif name == "attach":
            self.api.wait_running(self.ids["59"])

    def send(self, exchange: dict[str, Any]) -> None:
        request = exchange["request"]
        self.before(exchange["name"])
        arguments: dict[str, Any] = {}
        if "json" in request:
            arguments["json"] = self.translate(request["json"])
        if "params" in request:
            arguments["params"] = self.translate(request["params"])
        if "multipart" in request:
            file = request["multipart"]["file"]
            content = CONTENTS.get(file["bytes"], b"x" * file["bytes"])
            arguments["files"] = {"file": (file["filename"], content)}
        if exchange["name"] == "status_systems_no_token":
            arguments["headers"] = {"Authorization": ""}
        elif exchange["name"] == "status_systems_bad_token":
            arguments["headers"] = {"Authorization": "Bearer not.a.token"}
        answer = self.api.http.request(request["method"], self.translate(request["path"]), **arguments)
        self.answers[exchange["name"]] = answer
        recorded = exchange["response"]["body"]
        if answer.status_code == 201 and isinstance(recorded, dict):
            body = answer.json()
            old, new = recorded.get("transferJob", recorded), body.get("transferJob", body)
            if "jobId" in old:
                self.ids[old["jobId"]] = new["jobId"]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: Any, connect: Any, until: Any) -> Any:
    settings = Settings(
        root=tmp_path_factory.mktemp("exchanges") / "cluster",
        system="rig",
        cores=1,
        command_timeout=1.0,
        kill_wait=0.3,
        # When the recorded job had ended, the accounting did not have it yet. This lag is long enough for that.
        accounting_lag=60.0,
    )
    with LocalFirecREST(settings) as server:
        (server.home / "wd").mkdir()
        replay = Replay(server, connect(server), until)
        for exchange in EXCHANGES:
            replay.send(exchange)
        yield replay


@pytest.mark.parametrize("exchange", EXCHANGES, ids=NAMES)
def test_answer_is_as_recorded(exchange: dict[str, Any], replay: Replay, shape: Callable[[Any], Any]) -> None:
    recorded, answer = exchange["response"], replay.answers[exchange["name"]]
    assert answer.status_code == recorded["status"], answer.text
    assert answer.headers["f7t-appversion"]
    assert ("www-authenticate" in answer.headers) == ("www-authenticate" in recorded["headers"])
    expected = recorded["body"]
    if not isinstance(expected, dict):
        assert answer.text == expected
        return
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert shape(body) == shape(expected)
    if recorded["status"] >= 400:
        # If a request doesn't fit its model, the recorded text continues with places in the real server's code.
        assert body["message"] == replay.translate(expected["message"]).partition("\n\n")[0]
        assert {key: body[key] for key in ("errorType", "causedBy", "data")} == {
            key: expected[key] for key in ("errorType", "causedBy", "data")
        }
        assert body["user"] == replay.translate(expected["user"])


@pytest.mark.parametrize(
    "name",
    [
        "checksum",
        "file",
        "head_lines",
        "head_bytes",
        "tail_lines",
        "tail_bytes",
        "tail_skip_beginning_bytes",
        "view",
        "view_offset",
    ],
)
def test_contents_are_as_recorded(name: str, replay: Replay) -> None:
    recorded = next(exchange for exchange in EXCHANGES if exchange["name"] == name)["response"]["body"]
    body = replay.answers[name].json()
    if name == "checksum":
        recorded, body = recorded["output"]["algorithm"], body["output"]["algorithm"]
    assert body == recorded


def test_every_endpoint_of_the_recordings_was_counted(replay: Replay) -> None:
    assert replay.server.requests["GET", "/compute/{system_name}/jobs"] == 5
    assert replay.server.requests["POST", "/filesystem/{system_name}/ops/upload"] == 5
