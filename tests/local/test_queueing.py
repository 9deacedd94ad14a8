"""Which pending job may start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from firecrest_local.scheduler.jobs.dependencies import parse_dependencies
from firecrest_local.scheduler.jobs.job import COMPLETED, FAILED, PENDING, RUNNING, Job
from firecrest_local.scheduler.process.queueing import decide
from firecrest_local.settings import Partition, Settings

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
    decided = decide({one.id: one for one in jobs}, SETTINGS, NOW)
    return {one.id: "start" if decision.start else decision.reason for one, decision in decided}


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
