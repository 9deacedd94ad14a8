"""The output of Slurm's commands, parsed as the real server parses it."""

from __future__ import annotations

import pytest

from firecrest_local.scheduler.slurm.output import (
    duration,
    parse_jobs,
    parse_metadata,
    parse_nodes,
    parse_partitions,
    parse_reservations,
)

RECORD = "{id}|1|rig|{exit}|users|test|{name}|nid001|normal|42|{state}|None|5|100|101|106|00:00:00|10|me|/wd"


def test_steps_belong_to_their_jobs() -> None:
    lines = [
        RECORD.format(id="17_2", exit="3:0", name="arr", state="FAILED"),
        RECORD.format(id="17_2.batch", exit="3:0", name="batch", state="FAILED"),
        RECORD.format(id="18+0", exit="0:15", name="het", state="CANCELLED by 1001"),
        RECORD.format(id="18+0.0", exit="0:15", name="sleep", state="CANCELLED"),
        RECORD.format(id="19", exit="0:0", name="with|bar", state="COMPLETED"),
    ]
    array, heterogeneous = parse_jobs("\n".join(lines) + "\n")
    assert (array.row["jobId"], array.submitted) == ("17_2", 100)
    assert array.row["status"] == {"state": "FAILED", "stateReason": "None", "exitCode": 3, "interruptSignal": 0}
    assert array.row["time"] == {"elapsed": 5, "start": 101, "end": 106, "suspended": 0, "limit": 600}
    assert [task["id"] for task in array.row["tasks"]] == ["17_2.batch"]
    assert heterogeneous.row["jobId"] == "18+0"
    assert heterogeneous.row["status"]["state"] == "CANCELLED by 1001"
    assert [task["name"] for task in heterogeneous.row["tasks"]] == ["sleep"]


def test_a_pending_job_of_the_queue() -> None:
    line = "7|1-2|rig||users|test|job||normal|42|PENDING|Resources|0:00|100|N/A|N/A||UNLIMITED|me|/wd"
    (job,) = parse_jobs(line)
    assert job.row["status"] == {
        "state": "PENDING",
        "stateReason": "Resources",
        "exitCode": None,
        "interruptSignal": None,
    }
    assert job.row["time"] == {"elapsed": 0, "start": None, "end": None, "suspended": None, "limit": None}
    assert job.row["allocationNodes"] == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0:07", 7), ("10:00", 600), ("1:00:01", 3601), ("1-02:00:00", 93600), ("UNLIMITED", None), ("", None)],
)
def test_durations(text: str, seconds: int | None) -> None:
    assert duration(text) == seconds


def test_metadata() -> None:
    line = "JobId=7 JobName=x StdErr=/wd/e StdIn=/dev/null StdOut=/wd/o Power=\n"
    assert parse_metadata(line) == [{"standardInput": "/dev/null", "standardOutput": "/wd/o", "standardError": "/wd/e"}]


def test_a_node_of_two_partitions() -> None:
    line = "2:4:1|8|0.31|21962|mc|nid001|nid001|nid001|drained*|{}|1|22.05.8|16000|2/6/0/8\n"
    (node,) = parse_nodes(line.format("normal") + line.format("debug"))
    assert node["partitions"] == ["normal", "debug"]
    assert (node["state"], node["allocCpus"], node["idleCpus"], node["cpuLoad"]) == (["DRAIN"], 2, 6, 0.31)


def test_partitions_and_reservations() -> None:
    line = "PartitionName={} Hidden={} State=UP TotalCPUs=8 TotalNodes=1\n"
    text = line.format("normal", "NO") + line.format("secret", "YES")
    assert [row["name"] for row in parse_partitions(text, hidden=False)] == ["normal"]
    assert [row["name"] for row in parse_partitions(text, hidden=True)] == ["normal", "secret"]
    assert parse_reservations("No reservations in the system\n") == []
    (row,) = parse_reservations("ReservationName=r StartTime=1 EndTime=2 Nodes=nid001 Features=(null) State=ACTIVE\n")
    assert row == {
        "name": "r",
        "nodeList": "nid001",
        "startTime": 1,
        "endTime": 2,
        "features": None,
        "state": "active",
    }
