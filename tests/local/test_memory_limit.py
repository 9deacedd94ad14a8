"""Jobs that hold more memory than they asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firecrest_local.scheduler.jobs.memory import parse_memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="memory is measured by /proc")

HOG = "python3 -c 'import time; held = b\"x\" * (300 * 1024**2); time.sleep(30)'"


@pytest.fixture
def server(serve: Any) -> Any:
    return serve()


@pytest.mark.parametrize("option", ["--mem=100M", "--mem-per-cpu=50 -c 2", "--mem-per-gpu=100m --gpus=1"])
def test_job_over_its_limit_is_out_of_memory(option: str, serve: Any, connect: Any) -> None:
    server = serve(gpus=1)
    api = connect(server)
    script = f"#!/bin/bash\n#SBATCH {option} --output=out --error=err\n{HOG}\necho it ended with $?\n"
    job_id = api.submit(script, server.home)
    row = api.wait_end(job_id)
    status = {"state": "OUT_OF_MEMORY", "stateReason": "None", "exitCode": 0, "interruptSignal": 125}
    assert row["status"] == status
    assert row["tasks"][0]["status"] == {**status, "stateReason": None}
    # The script continues after the process that was killed.
    assert (server.home / "out").read_text() == "it ended with 137\n"
    assert (server.home / "err").read_text().splitlines()[-1] == (
        f"slurmstepd: error: Detected 1 oom_kill event in StepId={job_id}.batch. "
        "Some of the step tasks have been OOM Killed."
    )


def test_element_of_an_array_is_named(server: Any, connect: Any) -> None:
    api = connect(server)
    script = f"#!/bin/bash\n#SBATCH --mem=100M --array=7 --output=out\n{HOG}\n"
    job_id = api.submit(script, server.home)
    assert api.wait_end(job_id)["status"]["state"] == "OUT_OF_MEMORY"
    assert f"StepId={job_id}_7.batch." in (server.home / "out").read_text()


@pytest.mark.parametrize("option", ["", "--mem=2G", "--mem=0"])
def test_job_within_its_limit_completes(option: str, server: Any, connect: Any) -> None:
    api = connect(server)
    script = f"#!/bin/bash\n#SBATCH --output=out {option}\n{HOG.replace('30', '2')}\n"
    assert api.wait_end(api.submit(script, server.home))["status"]["state"] == "COMPLETED"
    assert (server.home / "out").read_text() == ""


@pytest.mark.parametrize(
    ("text", "mebibytes"), [("500", 500), ("4G", 4096), ("1.5g", 1536), ("2048K", 2), ("1TB", 1024**2), ("0", 0)]
)
def test_amounts(text: str, mebibytes: int) -> None:
    assert parse_memory(text) == mebibytes * 1024**2


@pytest.mark.parametrize("text", ["", "lots", "4X", "-1", "1 G"])
def test_wrong_amounts(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount of memory"):
        parse_memory(text)
