"""The API's answers as types. Fields that a server leaves out have defaults; unknown fields are ignored."""

from __future__ import annotations

import re
import stat
from typing import Annotated, Any

from pydantic import AliasPath, BeforeValidator, Field, SecretStr

from firecrest_core.api.answers import Answer, Count, JobId, Number, SystemName, Text
from firecrest_core.states import JobState


def _row_id(value: Any) -> str:
    """Return the id of a row without PBS's server: 4711 for 4711.pbs01, 4711[3] for 4711[3].pbs01."""
    if not isinstance(value, str | int):
        raise ValueError("an id is a text or a number")
    return str(value).strip().partition(".")[0]


def _state_words(value: Any) -> str | None:
    """Return the words of a state, which Slurm's REST server sends as a list."""
    words = value if isinstance(value, list) else [value]
    return " ".join(word for word in words if isinstance(word, str)) or None


# The scheduler's own words for "none": squeue's reason of a job that does not wait, sacct's nodes of a job without any.
Reason = Annotated[str | None, BeforeValidator(lambda value: None if value in ("", "None") else value)]
Nodes = Annotated[str, BeforeValidator(lambda value: "" if value in (None, "None assigned") else value)]
State = Annotated[str | None, BeforeValidator(_state_words)]


class FileSystem(Answer):
    """A file system of a system."""

    path: str
    data_type: Text = ""
    default_work_dir: bool = False


class ServiceHealth(Answer):
    """The last result of the server's probe of one service."""

    service_type: str
    healthy: bool = True
    message: str | None = None


class SystemInfo(Answer):
    """A system (cluster) behind a FirecREST, from ``GET /status/systems``.

    :param scheduler_type: ``slurm`` or ``pbs``
    :param max_ops_file_size: largest file that ``ops/upload`` takes, in bytes
    :param transfer_method: ``s3``, ``streamer``, ``wormhole``, :data:`OLD_STORAGE`, or ``None`` if only direct
        transfers work
    :param max_part_size: largest part of a staged upload, in bytes
    """

    name: SystemName
    scheduler_type: str = Field("slurm", validation_alias=AliasPath("scheduler", "type"))
    scheduler_version: Text = Field("", validation_alias=AliasPath("scheduler", "version"))
    file_systems: Annotated[tuple[FileSystem, ...], BeforeValidator(lambda value: value or ())] = ()
    services_health: tuple[ServiceHealth, ...] | None = None
    max_ops_file_size: int = Field(5 * 1024 * 1024, validation_alias=AliasPath("dataOperation", "max_ops_file_size"))
    transfer_method: str | None = Field(
        None, validation_alias=AliasPath("dataOperation", "data_transfer", "serviceType")
    )
    max_part_size: int | None = Field(
        None, validation_alias=AliasPath("dataOperation", "data_transfer", "multipart", "max_part_size")
    )

    @property
    def unhealthy(self) -> tuple[ServiceHealth, ...]:
        """The services that the server's probe found unhealthy."""
        return tuple(service for service in self.services_health or () if not service.healthy)

    @property
    def healthy(self) -> bool:
        """Whether the server's probe found no service unhealthy."""
        return not self.unhealthy

    def describe_file_systems(self) -> str:
        """Return a sentence that names the file systems, for messages."""
        named = ", ".join(f"{one.path} ({one.data_type})" for one in self.file_systems) or "none"
        return f"The file systems of {self.name} are: {named}."


OLD_STORAGE = "storage"
"""The transfer method of servers before 2.3.1: a staging store with requests of another form."""


class SystemList(Answer):
    """The answer of ``GET /status/systems``, with systems that are not read yet.

    Since 2.5.0 each system describes its transfers. Before that, the server does it beside the systems: in
    ``dataOperation`` from 2.3.1 on, in ``storage`` from 2.2.0 on.
    """

    systems: Annotated[tuple[Any, ...], BeforeValidator(lambda value: () if value is None else value)]
    data_operation: Any = None
    storage: Any = None

    def described(self) -> list[Any]:
        """Return the systems, each with the description of its transfers."""
        shared = self.data_operation
        if shared is None and isinstance(self.storage, dict):
            shared = {"data_transfer": {"serviceType": OLD_STORAGE}}
            if "max_ops_file_size" in self.storage:
                shared["max_ops_file_size"] = self.storage["max_ops_file_size"]
        return [
            {**system, "dataOperation": shared}
            if isinstance(shared, dict) and isinstance(system, dict) and system.get("dataOperation") is None
            else system
            for system in self.systems
        ]


def _names(value: Any) -> tuple[str, ...]:
    named = value if isinstance(value, list) else ()
    return tuple(one["name"] for one in named if isinstance(one, dict) and isinstance(one.get("name"), str))


class UserInfo(Answer):
    """The user that the server runs commands as, from ``GET /status/{system}/userinfo``.

    :param accounts: the accounts that may be charged
    """

    name: str = Field(validation_alias=AliasPath("user", "name"))
    accounts: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()


class FileInfo(Answer):
    """One entry of ``ops/ls``.

    :param type: ``-`` file, ``d`` directory, ``l`` symbolic link, as ``ls`` writes it
    :param user: numeric id of the owner
    :param group: numeric id of the group
    :param size: bytes
    """

    name: str
    type: str
    link_target: str | None = None
    user: Text = ""
    group: Text = ""
    permissions: Text = ""
    last_modified: Text = ""
    size: Count = 0

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type == "-"

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.type == "d"


class FileStat(Answer):
    """The answer of ``ops/stat`` for a path.

    :param mode: kind and permissions, as in ``os.stat_result``
    :param size: bytes
    :param mtime: Unix time of the last change
    """

    mode: int = Field(ge=0, lt=2**32)
    size: Count = 0
    mtime: Count = 0

    @property
    def version(self) -> str:
        """A text that changes with the content: size and modification time."""
        return f"{self.size} {self.mtime}"

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)


class FileText(Answer):
    """The answer of ``ops/tail``."""

    content: str


class FilePart(Answer):
    """The whole answer of ``ops/tail``."""

    output: FileText


class Checksum(Answer):
    """The answer of ``ops/checksum``."""

    checksum: str


class JobStep(Answer):
    """A step of a job (``57.batch``, ``57.0``)."""

    id: str
    name: Text = ""
    raw_state: State = Field(None, validation_alias=AliasPath("status", "state"))
    exit_code: Number = Field(None, validation_alias=AliasPath("status", "exitCode"))

    @property
    def state(self) -> JobState:
        """The step's state."""
        return JobState.parse(self.raw_state, self.exit_code)


class JobInfo(Answer):
    """One row of a status answer: a job, or an element of an array.

    A single GET merges ``sacct`` and ``squeue``: right after the start it may say PENDING with the name
    ``allocation``, no partition and no working directory, while the job's batch step runs already.

    :param elapsed: seconds since the start
    :param time_limit: seconds
    :param start: Unix time of the start, and of a pending job the one that the scheduler expects; use
        :attr:`started_at` and :attr:`expected_start`, which tell them apart
    :param end: Unix time of the end, and before it the one that the scheduler expects; ``None`` if it does not say
    """

    job_id: Annotated[str, BeforeValidator(_row_id)]
    name: Text = ""
    raw_state: State = Field(None, validation_alias=AliasPath("status", "state"))
    reason: Reason = Field(None, validation_alias=AliasPath("status", "stateReason"))
    exit_code: Number = Field(None, validation_alias=AliasPath("status", "exitCode"))
    signal: Number = Field(None, validation_alias=AliasPath("status", "interruptSignal"))
    elapsed: Number = Field(None, validation_alias=AliasPath("time", "elapsed"))
    start: Number = Field(None, validation_alias=AliasPath("time", "start"))
    end: Number = Field(None, validation_alias=AliasPath("time", "end"))
    time_limit: Number = Field(None, validation_alias=AliasPath("time", "limit"))
    nodes: Nodes = ""
    node_count: Count = Field(0, validation_alias="allocationNodes")
    partition: Text = ""
    account: Text = ""
    user: Text = ""
    working_dir: Text = Field("", validation_alias="workingDirectory")
    steps: Annotated[tuple[JobStep, ...], BeforeValidator(lambda value: value or ())] = Field(
        (), validation_alias="tasks"
    )

    @property
    def of_job(self) -> str:
        """The id that the submission returned.

        It is 57 for the rows 57_3, 57_[4-9] and PBS's 57[] of an array, and for the component 57+1.
        """
        return re.split(r"[_+\[]", self.job_id, maxsplit=1)[0]

    @property
    def cancelled_by(self) -> int | None:
        """The numeric id of the user that cancelled the job, from ``CANCELLED by 1001``."""
        found = re.search(r"CANCELLED by (\d{1,18})\b", self.raw_state or "")
        return int(found[1]) if found else None

    @property
    def state(self) -> JobState:
        """The job's state, with what only its steps tell.

        It is RUNNING for a job that is said to be PENDING while a step of it runs, and OUT_OF_MEMORY for one that is
        said to have FAILED after a step of it ran out of memory: of what srun has started, Slurm says that of the step
        alone.
        """
        state = JobState.parse(self.raw_state, self.exit_code, started=self._start_is_before_end)
        of_steps = {step.state for step in self.steps}
        if state is JobState.PENDING and JobState.RUNNING in of_steps:
            return JobState.RUNNING
        if state is JobState.FAILED and JobState.OUT_OF_MEMORY in of_steps:
            return JobState.OUT_OF_MEMORY
        return state

    @property
    def started_at(self) -> int | None:
        """The Unix time of the start, ``None`` before it."""
        return self.start if self._start_is_before_end and self.state is not JobState.PENDING else None

    @property
    def expected_start(self) -> int | None:
        """The Unix time at which the scheduler expects a pending job to start, ``None`` if it does not say."""
        return self.start if self.state is JobState.PENDING else None

    @property
    def _start_is_before_end(self) -> bool:
        # The start that was expected may be left on a job that was deleted in the queue.
        return self.start is not None and (self.end is None or self.start <= self.end)


class SubmittedJob(Answer):
    """The answer of ``POST jobs``. The server writes null if it finds no id in the scheduler's answer."""

    job_id: JobId


class JobRows(Answer):
    """The answer of ``GET jobs`` and ``GET jobs/{id}``, with rows that are not read yet."""

    jobs: Annotated[tuple[Any, ...], BeforeValidator(lambda value: () if value is None else value)]


class JobMetadata(Answer):
    """The answer of ``GET jobs/{id}/metadata``. On Slurm before 24.05 it is gone about 300 s after the job's end."""

    script: Text = ""
    stdout: Text = Field("", validation_alias="standardOutput")
    stderr: Text = Field("", validation_alias="standardError")


class TransferJob(Answer):
    """A job that the server started to move files."""

    job_id: JobId
    system: SystemName
    working_dir: Text = Field("", validation_alias="workingDirectory")
    output_log: Text = Field("", validation_alias=AliasPath("logs", "outputLog"))
    error_log: Text = Field("", validation_alias=AliasPath("logs", "errorLog"))


class BegunTransfer(Answer):
    """The answer of every ``POST …/transfer/…``: the job that it started."""

    job: TransferJob = Field(validation_alias="transferJob")


class UploadTicket(BegunTransfer):
    """Where the parts of a staged upload go. The URLs are secrets: anybody with them can write.

    :param max_part_size: largest part, in bytes
    """

    part_urls: tuple[SecretStr, ...] = Field(validation_alias=AliasPath("transferDirectives", "partsUploadUrls"))
    complete_url: SecretStr = Field(validation_alias=AliasPath("transferDirectives", "completeUploadUrl"))
    max_part_size: int = Field(gt=0, validation_alias=AliasPath("transferDirectives", "maxPartSize"))

    @property
    def urls(self) -> tuple[SecretStr, ...]:
        """All its URLs."""
        return (*self.part_urls, self.complete_url)


class DownloadTicket(BegunTransfer):
    """Where a staged file will be when its job has ended. The URL is a secret."""

    url: SecretStr = Field(validation_alias=AliasPath("transferDirectives", "downloadUrl"))

    @property
    def urls(self) -> tuple[SecretStr, ...]:
        """All its URLs."""
        return (self.url,)
