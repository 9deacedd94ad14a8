"""The page on Prefect's UI, word for word: `run_job` gets a saved block by `$ref`, and an automation acts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.prefect import real

PAGE = Path(__file__).parent.parent.parent / "docs" / "howto" / "prefect-ui.md"
REPORT = """
from prefect import flow

@flow
def report(job: str):
    pass

if __name__ == "__main__":
    report.serve("report")
"""
SAVE = """
import sys
from prefect_firecrest import FirecRESTCredentials, FirecRESTJob
credentials = FirecRESTCredentials.load("cluster")
for name, command in (("hello", "true"), ("broken", "exit 3")):
    FirecRESTJob(credentials=credentials, working_dir=sys.argv[1], command=command, poll_interval=0.5).save(name)
"""


def block(kind: str, number: int = 0) -> str:
    """Return one of the page's blocks of a kind."""
    return re.findall(rf"^```{kind}.*?\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[number]


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Any:
    """Run a command of a shell with the server's variables, and return what it printed."""
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", command], env={**environment, "PATH": path}, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def deployment(api: real.Api, name: str) -> dict[str, Any]:
    """Wait for a deployment and return it."""
    return real.until(lambda: api.get(f"/deployments/name/{name}"), f"the deployment {name}")


def test_the_page(api, environment, run, workdir, tmp_path, f7t) -> None:
    (tmp_path / "save.py").write_text(SAVE)
    (tmp_path / "serve.py").write_text(block("python"))
    (tmp_path / "report.py").write_text(REPORT)
    run(f"python save.py {workdir}")
    with (
        real.process([sys.executable, "serve.py"], environment, tmp_path / "serve.log", tmp_path),
        real.process([sys.executable, "report.py"], environment, tmp_path / "report.log", tmp_path),
    ):
        reporting = deployment(api, "report/report")["id"]
        automation = block("yaml")
        assert "firecrest.job.ended" in automation
        (tmp_path / "automation.yaml").write_text(
            automation.replace("00000000-0000-0000-0000-000000000000", str(reporting))
        )
        run(block("console", 1).removeprefix("$ "))

        serving = deployment(api, "run-job/hpc")["id"]
        start = block("console").removeprefix("$ ")
        for name in ("hello", "broken"):
            assert "firecrest-job/hello" in start
            run(start.replace("firecrest-job/hello", f"firecrest-job/{name}"))

        def runs_of(deployment_id: str) -> list[dict[str, Any]]:
            return api.post("/flow_runs/filter", deployments={"id": {"any_": [deployment_id]}})

        def states() -> list[str]:
            return sorted(one["state"]["type"] for one in runs_of(serving))

        real.until(lambda: states() == ["COMPLETED", "FAILED"], "the end of both runs")
        [reported] = real.until(lambda: runs_of(reporting), "the automation")
        assert re.fullmatch(r"firecrest\.job\.\w+\.\d+", reported["parameters"]["job"])
        assert all(f7t.client_secret not in str(one["parameters"]) for one in runs_of(serving))
