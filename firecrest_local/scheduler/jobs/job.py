"""A job of the embedded scheduler."""

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
OUT_OF_MEMORY = "OUT_OF_MEMORY"

#: The name of the one node.
NODE = "nid001"


@dataclass
class Step:
    """A part of a job: the batch script or an `srun` inside it.

    :param name: `batch`, or the command's name.
    :param start: Unix time of the start.
    :param end: Unix time of the end; None while the step runs.
    :param exit_code: the exit code.
    :param signal: the signal that ended the step; 0 for none.
    """

    name: str
    start: float
    end: float | None = None
    exit_code: int = 0
    signal: int = 0


@dataclass
class Job:
    """One job, or one element of an array.

    :param id: the raw id. The last element of an array has the array's own id.
    :param name: the name.
    :param user: the user's name.
    :param account: the account.
    :param partition: the partition.
    :param working_dir: where the script runs.
    :param script: the script's text.
    :param standard_input: absolute path of the standard input, with all patterns expanded.
    :param standard_output: absolute path of the standard output, likewise.
    :param standard_error: absolute path of the standard error, likewise.
    :param environment: variables that the submission exports.
    :param submitted: Unix time of the submission.
    :param reservation: the reservation.
    :param nodes: nodes that were requested.
    :param ntasks: tasks that were requested.
    :param cpus_per_task: cores of each task.
    :param cpus: cores of the whole job.
    :param gpus: GPUs that were requested.
    :param memory: memory limit of the whole job in bytes; None for no limit.
    :param limit: time limit in seconds; None for no limit.
    :param array_id: the array that this is an element of.
    :param task_id: the index in the array.
    :param task_ids: the indices of the whole array.
    :param throttle: how many elements of the array may run at once.
    :param array_step: the step of the array's range.
    :param hold: whether the job is held.
    :param begin: Unix time before which the job must not start.
    :param dependencies: the dependencies.
    :param kill_on_invalid_dependency: whether the job is cancelled when its dependencies can never be met.
    :param warning_signal: the signal of `--signal`.
    :param warning_seconds: how long before the limit that signal is sent.
    :param warn_batch: whether that signal goes to the batch script instead of the steps.
    :param state: Slurm's state.
    :param reason: Slurm's reason for the state.
    :param expected_start: Unix time at which a pending job is expected to start; None if nobody knows.
    :param start: Unix time of the start.
    :param end: Unix time of the end.
    :param exit_code: the exit code.
    :param signal: the signal that ended the job; 0 for none.
    :param cancelled_by: id of the user who cancelled the job.
    :param unrecorded: whether the accounting has no row: for an element of an array that was cancelled alone while
        it was pending.
    :param gone: whether no process of the job is left.
    :param steps: the `srun` steps of a job that has ended.
    :param gpu_ids: the GPUs that the job holds.
    :param options: every option of the script, by its long name.
    """

    id: int
    name: str
    user: str
    account: str
    partition: str
    working_dir: str
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
    memory: int | None = None
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
    expected_start: float | None = None
    start: float | None = None
    end: float | None = None
    exit_code: int = 0
    signal: int = 0
    cancelled_by: int | None = None
    unrecorded: bool = False
    gone: bool = True
    steps: list[Step] = field(default_factory=list)
    gpu_ids: list[int] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """Whether the job is in the state PENDING."""
        return self.state == PENDING

    @property
    def running(self) -> bool:
        """Whether the job is in the state RUNNING."""
        return self.state == RUNNING

    @property
    def ended(self) -> bool:
        """Whether the job has ended. Its last process may still be exiting."""
        return not (self.pending or self.running)

    @property
    def accounting_id(self) -> str:
        """The id that sacct shows: `17_0` for an element of an array."""
        return str(self.id) if self.array_id is None else f"{self.array_id}_{self.task_id}"

    @property
    def priority(self) -> int:
        """A held job has priority 0. Of the others, older jobs come first."""
        return 0 if self.hold else 4294901760 - (self.array_id or self.id)

    def to_json(self) -> str:
        """Write the whole job as text for the store."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read a job that `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        conditions = tuple(Dependency(**condition) for condition in data["dependencies"]["conditions"])
        data["dependencies"] = Dependencies(conditions, data["dependencies"]["any_of"])
        data["task_ids"] = tuple(data["task_ids"])
        data["steps"] = [Step(**step) for step in data["steps"]]
        return cls(**data)


def expand_pattern(pattern: str, job: Job, node: str) -> str:
    """Expand one of Slurm's file name patterns: `%j %A %a %x %u %N %n %t %s %b %%`, also `%4j` up to `%10j`."""
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
        return text.zfill(min(int(width[:3]), 10)) if width and text.isdigit() else text

    return re.sub(r"%(\d*)([a-zA-Z%])", value, pattern)
