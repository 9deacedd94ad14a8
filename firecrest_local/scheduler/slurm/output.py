"""Parses the output of Slurm's commands into rows of the API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from firecrest_local.scheduler.interface import Row

#: The fields of a job from sacct, and from squeue in the same order. Two of them squeue doesn't have.
RECORD_FORMAT = (
    "JobID,AllocNodes,Cluster,ExitCode,Group,Account,JobName,NodeList,Partition,Priority,State,Reason,"
    "ElapsedRaw,Submit,Start,End,Suspended,TimelimitRaw,User,WorkDir"
)
QUEUE_FORMAT = (
    "JobID:|,NumNodes:|,Cluster:||,GroupName:|,Account:|,Name:|,NodeList:|,Partition:|,PriorityLong:|,State:|,Reason:|,"
    "TimeUsed:|,SubmitTime:|,StartTime:|,EndTime:||,TimeLimit:|,UserName:|,WorkDir:"
)
FIELDS = RECORD_FORMAT.split(",")

#: The fields of a node from sinfo.
NODE_FORMAT = "%z|%c|%O|%e|%f|%N|%o|%n|%T|%R|%w|%v|%m|%C"

#: The states of a node from sinfo. The API knows fewer.
NODE_STATES = {
    "idle": "IDLE",
    "allocated": "ALLOCATED",
    "mixed": "MIXED",
    "down": "DOWN",
    "fail": "DOWN",
    "failing": "DOWN",
    "drained": "DRAIN",
    "draining": "DRAIN",
    "completing": "COMPLETING",
    "maint": "OFFLINE",
    "reserved": "RESERVED",
    "power_down": "POWERING_DOWN",
    "power_up": "POWERING_UP",
}


@dataclass(frozen=True)
class ParsedJob:
    """A job in the output of a command.

    :param row: in the API's form.
    :param submitted: Unix time of the submission.
    """

    row: Row
    submitted: int


def parse_jobs(text: str) -> list[ParsedJob]:
    """Parse the output of sacct or squeue into jobs with their steps.

    A line with a `|` in one of its fields can't be parsed. Its job is missing, as with the real server.
    """
    jobs: dict[str, ParsedJob] = {}
    for line in text.splitlines():
        values = line.split("|")
        if len(values) != len(FIELDS):
            continue
        fields = dict(zip(FIELDS, values, strict=True))
        job_id, _, step = fields["JobID"].partition(".")
        if not step:
            jobs[job_id] = ParsedJob(_job(fields), _number(fields["Submit"]) or 0)
        elif job_id in jobs:
            jobs[job_id].row["tasks"].append(_step(fields))
    return list(jobs.values())


def _job(fields: dict[str, str]) -> Row:
    minutes = _number(fields["TimelimitRaw"])
    return {
        "jobId": fields["JobID"],
        "name": fields["JobName"],
        "status": _status(fields, fields["Reason"]),
        "tasks": [],
        "time": _time(fields, duration(fields["TimelimitRaw"]) if minutes is None else minutes * 60),
        "account": fields["Account"],
        # squeue gives a range (`1-2`) while the job is pending.
        "allocationNodes": int(fields["AllocNodes"].partition("-")[0] or 0),
        "cluster": fields["Cluster"],
        "group": fields["Group"],
        "nodes": fields["NodeList"],
        "partition": fields["Partition"],
        "killRequestUser": None,
        "user": fields["User"],
        "workingDirectory": fields["WorkDir"],
        "priority": _number(fields["Priority"]),
    }


def _step(fields: dict[str, str]) -> Row:
    return {
        "id": fields["JobID"],
        "name": fields["JobName"],
        "status": _status(fields, None),
        "time": _time(fields, _number(fields["TimelimitRaw"])),
    }


def _status(fields: dict[str, str], reason: str | None) -> Row:
    exit_code, _, signal = fields["ExitCode"].partition(":")
    return {
        "state": fields["State"],
        "stateReason": reason,
        "exitCode": _number(exit_code),
        "interruptSignal": _number(signal),
    }


def _time(fields: dict[str, str], limit: int | None) -> Row:
    return {
        "elapsed": duration(fields["ElapsedRaw"]),
        "start": _number(fields["Start"]),
        "end": _number(fields["End"]),
        "suspended": duration(fields["Suspended"]),
        "limit": limit,
    }


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def duration(text: str) -> int | None:
    """Parse a plain number, `M:SS`, `H:MM:SS` or `D-HH:MM:SS`.

    :returns: seconds; None for any other text, such as `UNLIMITED`.
    """
    if (number := _number(text)) is not None:
        return number
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d\d)", text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_metadata(text: str) -> list[Row]:
    """Parse the output of `scontrol show -o job` into the jobs' files. Each path ends at its first blank."""
    names = {"standardInput": "StdIn", "standardOutput": "StdOut", "standardError": "StdErr"}
    return [{key: _attribute(line, name) for key, name in names.items()} for line in text.splitlines() if line]


def _attribute(line: str, name: str) -> str | None:
    found = re.search(rf"(?:^|\s){name}=(\S+)", line)
    return None if found is None else found[1]


def parse_nodes(text: str) -> list[Row]:
    """Parse the output of sinfo, which has a line for each node and partition, into nodes."""
    nodes: dict[str, Row] = {}
    for line in text.splitlines():
        values = line.split("|")
        if len(values) != 14:
            continue
        name, partitions = values[5], values[9].split(",")
        if name in nodes:
            nodes[name]["partitions"] += partitions
            continue
        sockets = _number(values[0].partition(":")[0])
        allocated, idle = values[13].split("/")[:2]
        nodes[name] = {
            "sockets": sockets,
            # The real server shows the number of sockets as the number of cores and of threads too.
            "cores": sockets,
            "threads": sockets,
            "cpus": _number(values[1]),
            "cpuLoad": _fraction(values[2]),
            "freeMemory": _number(values[3]),
            "features": values[4],
            "name": name,
            "address": values[6],
            "hostname": values[7],
            "state": [NODE_STATES.get(values[8].rstrip("*+~#%$@"), "UNKNOWN")],
            "partitions": partitions,
            "weight": _number(values[10]),
            "allocMemory": _number(values[12]),
            "allocCpus": _number(allocated),
            "idleCpus": _number(idle),
        }
    return list(nodes.values())


def _fraction(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _attributes(text: str) -> Iterator[dict[str, Any]]:
    """Parse the `Name=value` pairs of each line."""
    for line in text.splitlines():
        pairs = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if pairs:
            yield pairs


def parse_partitions(text: str, *, hidden: bool) -> list[Row]:
    """Parse the output of `scontrol show -o partitions`. Hidden partitions are left out unless `hidden` is true."""
    return [
        {
            "name": pairs["PartitionName"],
            "cpus": int(pairs["TotalCPUs"]),
            "totalNodes": int(pairs["TotalNodes"]),
            "partition": pairs["State"],
        }
        for pairs in _attributes(text)
        if hidden or pairs["Hidden"].lower() == "no"
    ]


def parse_reservations(text: str) -> list[Row]:
    """Parse the output of `scontrol show -o reservations`."""

    def or_none(value: str) -> str | None:
        return None if value == "(null)" else value

    return [
        {
            "name": pairs["ReservationName"],
            "nodeList": pairs["Nodes"],
            "endTime": int(pairs["EndTime"]),
            "startTime": int(pairs["StartTime"]),
            "features": or_none(pairs["Features"]),
            "state": pairs["State"].lower(),
        }
        for pairs in _attributes(text)
        if "ReservationName" in pairs
    ]
