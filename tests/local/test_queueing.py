"""Which pending job may start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from firecrest_local.access.identity import current_identity
from firecrest_local.files.confinement import Confinement
from firecrest_local.scheduler.interface import JobDescription
from firecrest_local.scheduler.jobs.dependencies import parse_dependencies
from firecrest_local.scheduler.jobs.job import COMPLETED, FAILED, PENDING, RUNNING, Job
from firecrest_local.scheduler.process.job_table import JobTable
from firecrest_local.scheduler.process.queueing import SchedulingPass
from firecrest_local.scheduler.process.scheduler import ProcessScheduler
from firecrest_local.settings import Partition, Settings
from firecrest_local.visibility import Visibility

NOW = 1000.0
SETTINGS = Settings(root=Path("unused"), cores=4, partitions=(Partition("normal"), Partition("own", cores=1)), gpus=1)


def job(job_id: int, **fields: Any) -> Job:
    defaults: dict[str, Any] = {
        "id": job_id,
        "name": f"job{job_id}",
        "user": "ada",
        "account": "test",
        "partition": "normal",
        "working_dir": "/w",
        "script": "#!/bin/sh\n",
        "standard_input": "/dev/null",
        "standard_output": "/w/out",
        "standard_error": "/w/out",
        "environment": {},
        "submitted": float(job_id),
        "limit": 100,
    }
    if fields.get("state") == RUNNING:
        defaults |= {"start": NOW, "gone": False}
    return Job(**{**defaults, **fields})


def reasons(*jobs: Job) -> dict[int, str]:
    table = JobTable(jobs)
    decided = SchedulingPass(table, SETTINGS, NOW)
    decisions = {one.id: decided.decide(one, NOW) for one in table.pending.values()}
    return {job_id: "start" if decision.start else decision.reason for job_id, decision in decisions.items()}


def test_jobs_start_while_there_are_cores() -> None:
    assert reasons(job(1, cpus=2), job(2, cpus=2), job(3), job(4)) == {
        1: "start",
        2: "start",
        3: "Resources",
        4: "Priority",
    }


def test_small_job_passes_a_big_one_only_if_it_ends_in_time() -> None:
    running = job(1, state=RUNNING, cpus=3, limit=100)
    big = job(2, cpus=4)
    assert reasons(running, big, job(3, limit=50)) == {2: "Resources", 3: "start"}
    assert reasons(running, big, job(3, limit=500)) == {2: "Resources", 3: "Priority"}


def test_partition_with_its_own_cores_is_independent() -> None:
    running = job(1, state=RUNNING, cpus=4)
    assert reasons(running, job(2), job(3, partition="own"), job(4, partition="own")) == {
        2: "Resources",
        3: "start",
        4: "Resources",
    }


def test_gpus_are_counted() -> None:
    assert reasons(job(1, gpus=1), job(2, gpus=1)) == {1: "start", 2: "Resources"}


def test_what_keeps_a_job_from_starting() -> None:
    assert reasons(
        job(1, hold=True),
        job(2, begin=NOW + 5),
        job(3, nodes=2),
        job(4, limit=99 * 86400),
        job(5, limit=None),
        job(6, begin=NOW - 5),
    ) == {
        1: "JobHeldUser",
        2: "BeginTime",
        3: "PartitionNodeLimit",
        4: "PartitionTimeLimit",
        5: "PartitionTimeLimit",
        6: "start",
    }


def test_dependencies() -> None:
    done, failed, waits = job(1, state=COMPLETED), job(2, state=FAILED), job(3, state=PENDING, hold=True)

    def reason(text: str) -> str:
        return reasons(done, failed, waits, job(9, dependencies=parse_dependencies(text)))[9]

    assert reason("afterok:1") == "start"
    assert reason("afterok:2") == "DependencyNeverSatisfied"
    assert reason("afterok:3") == "Dependency"
    assert reason("afterany:1:2") == "start"
    assert reason("afterany:3") == "Dependency"
    assert reason("afternotok:2") == "start"
    assert reason("afternotok:1") == "DependencyNeverSatisfied"
    assert reason("after:3") == "Dependency"
    assert reason("afterok:1,afterok:2") == "DependencyNeverSatisfied"
    assert reason("afterok:1?afterok:2") == "start"
    assert reason("afterok:777") == "start"


def test_singleton_waits_for_older_jobs_of_its_name() -> None:
    older = job(1, name="one", state=RUNNING)
    singleton = job(2, name="one", dependencies=parse_dependencies("singleton"))
    assert reasons(older, singleton) == {2: "Dependency"}


def test_dependency_on_an_array_means_all_its_elements() -> None:
    elements = [
        job(5, array_id=4, task_id=0, state=COMPLETED),
        job(4, array_id=4, task_id=1, state=RUNNING),
    ]
    follower = job(9, dependencies=parse_dependencies("afterok:4"))
    assert reasons(*elements, follower) == {9: "Dependency"}
    one = job(9, dependencies=parse_dependencies("afterok:4_0"))
    assert reasons(*elements, one) == {9: "start"}


def test_array_runs_no_more_than_its_throttle() -> None:
    elements = [job(10 + index, array_id=10, task_id=index, throttle=2) for index in range(4)]
    assert reasons(*elements) == {
        10: "start",
        11: "start",
        12: "JobArrayTaskLimit",
        13: "JobArrayTaskLimit",
    }


def instructions(work: Callable[[], Any]) -> int:
    """Count the instructions of Python that a call takes."""
    counted = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal counted
        frame.f_trace_opcodes = True
        counted += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize("options", ["", "#SBATCH --dependency=singleton -J one\n", "#SBATCH --dependency=afterok:1\n"])
def test_a_submission_costs_the_same_however_long_the_queue_is(tmp_path: Path, options: str) -> None:
    settings = Settings(root=tmp_path, cores=1, max_submit_jobs=10_000)
    # It is never started, so the queue only grows.
    scheduler = ProcessScheduler(
        settings, tmp_path, Confinement(tmp_path, "local"), current_identity("ada"), tmp_path, Visibility(0.0)
    )
    description = JobDescription(working_dir=str(tmp_path), script=f"#!/bin/sh\n{options}")

    def submit_until(job_id: int) -> int:
        while int(scheduler.submit(description)) < job_id - 1:
            pass
        return instructions(lambda: scheduler.submit(description))

    short, long = submit_until(50), submit_until(1000)
    scheduler.stop()
    assert long < 1.5 * short


def test_a_pass_costs_each_job_the_same_however_many_wait() -> None:
    def cost(count: int) -> float:
        table = JobTable(job(number, dependencies=parse_dependencies("afterok:1")) for number in range(1, count + 1))

        def decide_all() -> None:
            one = SchedulingPass(table, SETTINGS, NOW)
            for pending in table.pending.values():
                one.decide(pending, NOW)

        return instructions(decide_all) / count

    assert cost(1000) < 1.5 * cost(50)
