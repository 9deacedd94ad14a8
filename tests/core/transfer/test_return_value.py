"""The value that a job returns in a file of its working directory."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from firecrest_core import JobState, System
from firecrest_core.errors import RemotePathRefused
from firecrest_core.result import JobResult
from firecrest_core.return_value import LARGEST_RETURN_FILE, read_return_value


def result(there: Path, started_at: int | None = None) -> JobResult:
    state = JobState.COMPLETED
    return JobResult(job_id="57", system="local", state=state, working_dir=str(there), started_at=started_at)


@pytest.mark.parametrize(
    ("content", "value"), [('{"energy": -15.8, "names": ["Si"]}', {"energy": -15.8, "names": ["Si"]}), ("\n3\n", 3)]
)
async def test_what_a_job_returns(system: System, there: Path, content: str, value: Any) -> None:
    (there / "return.json").write_text(content)
    assert await read_return_value(system, result(there, started_at=int(time.time()))) == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{energy}", "it is no JSON that can be kept"),
        (b"", "it is no JSON that can be kept"),
        (b"\xff", "it is no JSON that can be kept"),
        (b'{"energy": NaN}', "it is no JSON that can be kept"),
        (b"1e999", "it is no JSON that can be kept"),
        (b'"\\ud800"', "it is no JSON that can be kept"),
        (b"1" * 20, "an integer has more than 64 bits"),
        (b"[" * 200 + b"]" * 200, "it is nested too deeply"),
        (b"[" * 3000 + b"]" * 3000, "it is nested too deeply"),
        (b'{"a": [{"__classname__": "os.system"}]}', "a name begins with two underscores"),
        (b"1" * (LARGEST_RETURN_FILE + 1), "it is no file of at most 65,536 bytes"),
    ],
)
async def test_what_cannot_be_kept(system: System, there: Path, caplog, content: bytes, words: str) -> None:
    (there / "return.json").write_bytes(content)
    assert await read_return_value(system, result(there)) is None
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"{there}/return.json on ")
    assert words in warning


async def test_a_file_that_may_not_be_read(system: System, there: Path, mocker, caplog) -> None:
    (there / "return.json").write_text("1")
    mocker.patch.object(type(system), "download_small", side_effect=RemotePathRefused("permission denied"))
    assert await read_return_value(system, result(there)) is None
    assert f"{there}/return.json on local is not returned: permission denied." in caplog.text


@pytest.mark.parametrize("written_at", [1000, 1999, 1999.999])
async def test_what_an_earlier_job_returned(system: System, there: Path, caplog, written_at: float) -> None:
    caplog.set_level(logging.INFO)
    (there / "return.json").write_text("1")
    os.utime(there / "return.json", (written_at, written_at))
    assert await read_return_value(system, result(there, started_at=2000)) is None
    assert "is older than job 57" in caplog.text


async def test_what_a_job_returns_in_its_first_second(system: System, there: Path) -> None:
    (there / "return.json").write_text("1")
    os.utime(there / "return.json", (2000.1, 2000.1))
    assert await read_return_value(system, result(there, started_at=2000)) == 1


async def test_a_job_that_returns_nothing_costs_one_request(system: System, there: Path, mocker) -> None:
    stat = mocker.spy(type(system), "stat")
    download = mocker.spy(type(system), "download_small")
    assert await read_return_value(system, result(there)) is None
    assert (stat.call_count, download.call_count) == (1, 0)
