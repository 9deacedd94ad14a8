"""One suite of tests for whatever runs a job: the core alone, Airflow or Prefect.

Each ``test_<engine>.py`` beside this derives a class from :class:`Conformance` and defines the three methods of its
:class:`Engine`. The server, its faults and the jobs are real; the scripts count how often they run.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from firecrest_core.api.client import FirecRESTClient
from firecrest_core.connection import Connection
from firecrest_core.errors import InvalidJobSpec, JobFailed, SubmissionRejected

COUNTED = "echo $SLURM_JOB_ID >> runs"
WAITS_FOR_GO = f"{COUNTED}; until [ -e go ]; do sleep 0.05; done; exit $(cat go)"


async def read_script(connection: Connection, job_id: str) -> str:
    """Return the script of a job as the scheduler shows it."""
    async with FirecRESTClient(connection) as client:
        return (await client.system().get_job_metadata(job_id)).script


class Outcome(NamedTuple):
    """What an engine returns for a job that succeeded."""

    job_id: str
    name: str
    state: str
    exit_code: int | None


class Engine(ABC):
    """How an engine runs tasks. A task has a name; its ``job`` holds the fields of a ``JobSpec``."""

    @abstractmethod
    def run(self, task: str, job: dict[str, Any]) -> Outcome:
        """Run a try of the task, the first or the next one, to the job's end."""

    @abstractmethod
    def crash_after_submission(self, task: str, job: dict[str, Any]) -> str:
        """Run a try that crashes as soon as it has submitted the job; return the job's id."""

    @abstractmethod
    def cancel(self, task: str) -> None:
        """Cancel the task that crashed, as a user does."""


class Conformance:
    """The tests."""

    @pytest.fixture
    def engine(self, connection: Connection) -> Engine:
        raise NotImplementedError

    @pytest.fixture
    def runs(self, workdir: Path) -> Any:
        return lambda: (workdir / "runs").read_text().split() if (workdir / "runs").exists() else []

    @pytest.fixture
    def job(self, workdir: Path) -> Any:
        return lambda command, **fields: {"working_dir": str(workdir), "command": command, **fields}

    # --- submit and wait ----------------------------------------------------------------------------

    def test_a_job_runs_to_its_end(self, engine: Engine, job: Any, runs: Any) -> None:
        outcome = engine.run("relax", job(COUNTED, name="silicon"))
        assert outcome == Outcome(runs()[0], "silicon", "COMPLETED", 0)
        assert len(runs()) == 1

    def test_a_first_try_costs_one_submission(self, engine: Engine, job: Any, faults: Any) -> None:
        rule = {"fault": "delay", "seconds": 0.01, "method": "POST", "route": "/compute/{system}/jobs"}
        faults.set({"rules": [rule]})
        engine.run("relax", job("true"))
        assert [one.work for one in faults.log] == [[201]]

    def test_two_tasks_have_separate_jobs(self, engine: Engine, job: Any, runs: Any) -> None:
        ids = [engine.run(task, job(COUNTED)).job_id for task in ("one", "other")]
        assert ids == runs()

    # --- adopt --------------------------------------------------------------------------------------

    def test_a_running_job_is_adopted(self, engine: Engine, job: Any, runs: Any, workdir: Path) -> None:
        first = engine.crash_after_submission("relax", job(WAITS_FOR_GO))
        (workdir / "go").write_text("0")
        assert engine.run("relax", job(WAITS_FOR_GO)).job_id == first
        assert runs() == [first]

    def test_a_job_that_succeeded_is_adopted(self, engine: Engine, job: Any, runs: Any, ended: Any) -> None:
        first = engine.crash_after_submission("relax", job(COUNTED))
        ended(first)
        assert engine.run("relax", job(COUNTED)).job_id == first
        assert runs() == [first]

    @pytest.mark.parametrize("fault", ["lose_answer", "timeout_408", "duplicate"])
    def test_a_lost_answer_does_not_double_the_job(
        self, engine: Engine, job: Any, runs: Any, faults: Any, fault: str
    ) -> None:
        faults.set({"rules": [{"fault": fault, "method": "POST", "route": "/compute/{system}/jobs", "first": 1}]})
        assert engine.run("relax", job(COUNTED)).job_id == runs()[0]
        assert len(runs()) == 1

    # --- secrets ------------------------------------------------------------------------------------

    def test_a_secret_reaches_the_job_by_a_file_alone(
        self, engine: Engine, job: Any, workdir: Path, connection: Connection
    ) -> None:
        # The file of an array stays while it runs, so that the job can look at it.
        shown = "stat -c %a .firecrest/*/*.* .firecrest/*/*.*/secrets-*; echo $HF_TOKEN $SEED"
        environment = {"HF_TOKEN": "hf_of-this-job", "SEED": SecretStr("a-secret-whatever-its-name")}
        outcome = engine.run("sweep", job(f"{{ {shown}; }} > seen", array="0", environment=environment))
        assert (workdir / "seen").read_text() == "700\n600\nhf_of-this-job a-secret-whatever-its-name\n"
        assert not list(workdir.rglob("secrets-*"))
        script = asyncio.run(read_script(connection, outcome.job_id))
        assert "secrets-" in script
        assert "hf_of-this-job" not in script
        assert "whatever" not in script

    @pytest.mark.parametrize("fault", ["lose_answer", "timeout_408", "duplicate"])
    def test_a_lost_answer_leaves_no_file_with_secrets(
        self, engine: Engine, job: Any, workdir: Path, faults: Any, fault: str
    ) -> None:
        faults.set({"rules": [{"fault": fault, "method": "POST", "route": "/compute/{system}/jobs", "first": 1}]})
        command = "echo $HF_TOKEN > seen"
        engine.run("relax", job(command, environment={"HF_TOKEN": "hf_of-this-job"}))
        assert (workdir / "seen").read_text() == "hf_of-this-job\n"
        assert not list(workdir.rglob("secrets-*"))

    def test_a_job_that_is_cancelled_while_it_waits_leaves_no_file_with_secrets(
        self, engine: Engine, job: Any, workdir: Path
    ) -> None:
        first = engine.crash_after_submission("first", job(WAITS_FOR_GO))
        environment = {"HF_TOKEN": "hf_of-this-job"}
        engine.crash_after_submission("second", job("true", dependency=f"afterok:{first}", environment=environment))
        assert len(list(workdir.rglob("secrets-*"))) == 1
        engine.cancel("second")
        assert not list(workdir.rglob("secrets-*"))
        engine.cancel("first")

    # --- fail ---------------------------------------------------------------------------------------

    def test_a_failure_shows_state_exit_code_and_stderr(self, engine: Engine, job: Any) -> None:
        with pytest.raises(JobFailed, match=r"(?s)FAILED, exit code 3.*no such basis set"):
            engine.run("relax", job("echo no such basis set >&2; exit 3"))

    def test_the_next_try_resubmits_a_failed_job(self, engine: Engine, job: Any, runs: Any, workdir: Path) -> None:
        (workdir / "go").write_text("1")
        with pytest.raises(JobFailed):
            engine.run("relax", job(WAITS_FOR_GO))
        (workdir / "go").write_text("0")
        assert engine.run("relax", job(WAITS_FOR_GO)).job_id == runs()[1]
        assert len(runs()) == 2

    def test_an_unknown_partition_is_rejected(self, engine: Engine, job: Any) -> None:
        with pytest.raises(SubmissionRejected, match="partition"):
            engine.run("relax", job("true", partition="nowhere"))

    def test_an_invalid_field_is_rejected(self, engine: Engine, job: Any) -> None:
        with pytest.raises((InvalidJobSpec, ValueError), match="nodes"):
            engine.run("relax", job("true", nodes=0))

    # --- cancel -------------------------------------------------------------------------------------

    def test_a_job_is_cancelled(self, engine: Engine, job: Any, runs: Any, ended: Any) -> None:
        first = engine.crash_after_submission("relax", job(WAITS_FOR_GO))
        engine.cancel("relax")
        engine.cancel("relax")
        # A job that finds its claim cancelled before it is cancelled itself ends well, without running anything.
        assert ended(first) == "CANCELLED" or not runs()
        assert runs() in ([], [first])

    def test_cancelling_an_ended_job_succeeds(self, engine: Engine, job: Any, ended: Any) -> None:
        first = engine.crash_after_submission("relax", job(COUNTED))
        ended(first)
        engine.cancel("relax")
        assert ended(first) == "COMPLETED"

    # --- outage -------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "fault",
        [{"fault": "refuse"}, {"fault": "status", "status": 503}, {"fault": "status", "status": 429}],
        ids=lambda fault: str(fault.get("status", fault["fault"])),
    )
    def test_a_wait_survives_an_outage(
        self, engine: Engine, job: Any, runs: Any, workdir: Path, faults: Any, fault: dict[str, Any]
    ) -> None:
        first = engine.crash_after_submission("relax", job(WAITS_FOR_GO))
        faults.set({"rules": [{**fault, "duration": 2}]})
        (workdir / "go").write_text("0")
        assert engine.run("relax", job(WAITS_FOR_GO)).job_id == first
        assert runs() == [first]

    def test_a_submission_survives_an_unhealthy_system(self, engine: Engine, job: Any, runs: Any, faults: Any) -> None:
        rule = {"fault": "status", "status": 503, "method": "POST", "route": "/compute/{system}/jobs", "duration": 2}
        faults.set({"rules": [rule]})
        assert [engine.run("relax", job(COUNTED)).job_id] == runs()

    # --- arrays -------------------------------------------------------------------------------------

    def test_an_array_runs_to_its_end(self, engine: Engine, job: Any, runs: Any) -> None:
        array = job("echo $SLURM_ARRAY_TASK_ID >> runs", array="0-5:2")
        first = engine.crash_after_submission("sweep", array)
        assert engine.run("sweep", array).job_id == first
        assert sorted(runs()) == ["0", "2", "4"]

    def test_an_array_fails_if_one_element_fails(self, engine: Engine, job: Any) -> None:
        with pytest.raises(JobFailed, match=r"2 of 3 array elements COMPLETED, 1 FAILED \(1\)"):
            engine.run("sweep", job("exit $((SLURM_ARRAY_TASK_ID == 1))", array="0-2"))
