"""A job as the embedded scheduler keeps it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from firecrest_local.scheduler.jobs.dependencies import Dependencies, Dependency

PENDING = "PENDING"
RUNNING = "RUNNING"
COMPLETED = "COMPLETED"
FAILED = "FAILED"
CANCELLED = "CANCELLED"
TIMEOUT = "TIMEOUT"
NODE_FAIL = "NODE_FAIL"

#: Slurm's "signal" of a job that could not be launched.
LAUNCH_FAILURE = 53


@dataclass
class Step:
    """A part of a job: the batch script or an `srun` inside it.

    Parameters:
        name: `batch`, or the command's name.
        start, end: seconds since the epoch; no end while it runs.
        exit_code, signal: how it ended.
    """

    name: str
    start: float
    end: float | None = None
    exit_code: int = 0
    signal: int = 0


@dataclass
class Job:
    """One job, or one element of an array.

    Parameters:
        id: the raw id; the last element of an array has the array's own id.
        name, user, account, partition, reservation: as submitted or by default.
        working_directory, script: what runs where.
        standard_input, standard_output, standard_error: absolute paths, all patterns expanded.
        environment: variables that the submission exports.
        nodes, ntasks, cpus_per_task, cpus, gpus: what was asked for; `cpus` is the sum.
        limit: seconds; None for no limit.
        submitted, start, end: seconds since the epoch.
        array_id, task_id: the array and the index in it.
        task_ids, throttle, array_step: the whole array's indices, how many may run at once, the step.
        hold, begin, dependencies, kill_on_invalid_dependency: what it waits for.
        warning_signal, warning_seconds, warn_batch: `--signal`: which, how long before the limit, to the
            batch script too.
        state, reason: Slurm's words.
        exit_code, signal, cancelled_by: how it ended; `cancelled_by` is a user id.
        gone: no process is left.
        steps: the `srun` steps of a job that has ended.
        gpu_ids: the GPUs that it holds.
        options: every option of the script, by its long name.
    """

    id: int
    name: str
    user: str
    account: str
    partition: str
    working_directory: str
    script: str
    standard_input: str
    standard_output: str
    standard_error: str
    environment: dict[str, str]
    submitted: float
    reservation: str | None = None
    nodes: int = 1
    ntasks: int = 1
    cpus_per_task: int = 1
    cpus: int = 1
    gpus: int = 0
    limit: int | None = None
    array_id: int | None = None
    task_id: int | None = None
    task_ids: tuple[int, ...] = ()
    throttle: int | None = None
    array_step: int = 1
    hold: bool = False
    begin: float | None = None
    dependencies: Dependencies = field(default_factory=Dependencies)
    kill_on_invalid_dependency: bool = False
    warning_signal: int | None = None
    warning_seconds: int = 60
    warn_batch: bool = False
    state: str = PENDING
    reason: str = "None"
    start: float | None = None
    end: float | None = None
    exit_code: int = 0
    signal: int = 0
    cancelled_by: int | None = None
    gone: bool = True
    steps: list[Step] = field(default_factory=list)
    gpu_ids: list[int] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """It waits."""
        return self.state == PENDING

    @property
    def running(self) -> bool:
        """It runs."""
        return self.state == RUNNING

    @property
    def ended(self) -> bool:
        """It has ended, though its last process may still be dying."""
        return not (self.pending or self.running)

    @property
    def accounting_id(self) -> str:
        """The id that sacct shows: `17_0` for an element of an array."""
        return str(self.id) if self.array_id is None else f"{self.array_id}_{self.task_id}"

    @property
    def priority(self) -> int:
        """A held job has none; the others go by age."""
        return 0 if self.hold else 4294901760 - (self.array_id or self.id)

    def to_json(self) -> str:
        """Everything, as text for the store."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        conditions = tuple(Dependency(**condition) for condition in data["dependencies"]["conditions"])
        data["dependencies"] = Dependencies(conditions, data["dependencies"]["any_of"])
        data["task_ids"] = tuple(data["task_ids"])
        data["steps"] = [Step(**step) for step in data["steps"]]
        return cls(**data)


def expand_pattern(pattern: str, job: Job, node: str) -> str:
    """Fill in a file name pattern of Slurm's: `%j %A %a %x %u %N %n %t %s %b %%`, also `%4j`."""
    values: dict[str, str | int] = {
        "j": job.id,
        "J": job.id,
        "A": job.array_id or job.id,
        "a": 4294967294 if job.task_id is None else job.task_id,
        "b": 0 if job.task_id is None else job.task_id % 10,
        "x": job.name,
        "u": job.user,
        "N": node,
        "n": 0,
        "t": 0,
        "s": "batch",
    }

    def value(match: re.Match[str]) -> str:
        width, letter = match.groups()
        if letter == "%":
            return "%"
        if letter not in values:
            return match[0]
        text = str(values[letter])
        return text.zfill(int(width)) if width and text.isdigit() else text

    return re.sub(r"%(\d*)([a-zA-Z%])", value, pattern)
