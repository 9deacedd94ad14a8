"""The settings of an embedded FirecREST."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from firecrest_local.faults.plan import Plan

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# What clients take for a system's name: it is a segment of the paths of their requests.
_SYSTEM = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]+")
SCHEDULERS = ("process", "slurm", "auto")
#: How a token endpoint may take a client's secret, in OAuth2's words.
TOKEN_AUTH_METHODS = ("client_secret_post", "client_secret_basic")


@dataclass(frozen=True)
class Partition:
    """One partition of the embedded scheduler.

    :param name: the name that `--partition` takes.
    :param default_time: time limit in seconds of a job that asks for none.
    :param max_time: longest time limit, in seconds, with which a job can start.
    :param cores: cores of its own; None shares the node's cores with the other partitions.
    :param hidden: whether it is listed only when a client asks for hidden partitions.
    """

    name: str
    default_time: int = HOUR
    max_time: int = 24 * HOUR
    cores: int | None = None
    hidden: bool = False


#: Transfer jobs wait for a client's bytes. They have cores of their own, so that they don't block computing jobs.
TRANSFER_PARTITION = Partition("xfer", 15 * MINUTE, 24 * HOUR, cores=64, hidden=True)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set. The defaults suit a laptop.

    :param root: directory of the cluster. It holds `home/`, which clients see, and `state/`, which they don't.
    :param port: port on 127.0.0.1; 0 takes any free one. None takes the one that the last server of this root had, and
        any free one if there was none.
    :param client_id: the client that the token endpoint accepts.
    :param client_secret: the client's secret. Without one a random secret is made once and kept in the state
        directory, so that it outlives a restart.
    :param system: name of the system.
    :param other_systems: names of further systems. Each has its own files and jobs, in `root/systems/<name>`, and else
        the same settings.
    :param user: name of the user; None takes the name of the user who runs the server.
    :param scheduler: what runs the jobs: `process` runs them on this machine, `slurm` submits them to the Slurm that
        this machine's commands reach, `auto` takes Slurm where `sinfo` answers. Slurm has its own configuration of
        cores, partitions, features, accounts, limits and waits. Those settings are for `process`.
    :param cores: cores that the one node offers to jobs; None takes the machine's.
    :param gpus: GPUs that the one node offers to jobs.
    :param partitions: the partitions; the first one is the default.
    :param features: node features that `--constraint` may ask for.
    :param accounts: the user's accounts; the first one is the default. Jobs with any other account are refused.
    :param max_submit_jobs: how many jobs may wait or run at once, Slurm's MaxSubmitJobs. Each element of an array
        counts. None means no limit.
    :param max_array_size: array indices must be smaller.
    :param token_auth: how the token endpoint takes the client's secret, `client_secret_post` (in the form) or
        `client_secret_basic` (by HTTP Basic); None takes both.
    :param token_lifetime: seconds that a token is valid for.
    :param api_keys: keys that the API takes in the header `X-API-Key`, in the place of a token.
    :param accounting_lag: seconds by which the accounting view lags behind the jobs. Slurm has its own lag.
    :param min_job_age: seconds after a job's end for which its metadata is known.
    :param command_timeout: seconds after which a backend command is aborted (408).
    :param kill_wait: seconds between SIGTERM and SIGKILL when a job is cancelled or reaches its time limit.
    :param max_ops_file_size: largest direct upload, in bytes.
    :param max_part_size: largest part of a staged upload, in bytes.
    :param url_lifetime: seconds that a presigned URL is valid for. After that, what it leads to is removed.
    :param faults: the fault plan. None makes a server without faults, for which no plan can be set later either.
    """

    root: Path = Path(".firecrest-local")
    port: int | None = None
    client_id: str = "firecrest-local"
    client_secret: str | None = field(default=None, repr=False)
    system: str = "local"
    other_systems: tuple[str, ...] = ()
    user: str | None = None
    scheduler: str = "process"
    cores: int | None = None
    gpus: int = 0
    partitions: tuple[Partition, ...] = (
        Partition("normal"),
        Partition("debug", 5 * MINUTE, 30 * MINUTE),
        TRANSFER_PARTITION,
    )
    features: tuple[str, ...] = ("mc",)
    accounts: tuple[str, ...] = ("test",)
    max_submit_jobs: int | None = None
    max_array_size: int = 1001
    token_auth: str | None = None
    token_lifetime: float = 300.0
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    accounting_lag: float = 1.0
    min_job_age: float = 300.0
    command_timeout: float = 5.0
    kill_wait: float = 5.0
    max_ops_file_size: int = 5 * 1024 * 1024
    max_part_size: int = 1024**3
    url_lifetime: int = 7 * DAY
    faults: Plan | None = None

    def __post_init__(self) -> None:
        for name in (self.system, *self.other_systems):
            if not _SYSTEM.fullmatch(name):
                raise ValueError(f"the system's name is {name!r}: give letters, digits, '_', '-' and '.'")
        if not self.client_id:
            raise ValueError("the client's id is empty")
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ValueError(f"the port is {self.port}: give a number from 0 to 65535")
        # The API's paths are case-insensitive, so the names of its systems have to be lower case.
        object.__setattr__(self, "system", self.system.lower())
        object.__setattr__(self, "other_systems", tuple(name.lower() for name in self.other_systems))
        object.__setattr__(self, "root", Path(self.root))
        if self.cores is None:
            object.__setattr__(self, "cores", os.cpu_count() or 1)
        if self.scheduler not in SCHEDULERS:
            raise ValueError(f"unknown scheduler {self.scheduler!r}: choose one of {', '.join(SCHEDULERS)}")
        if self.token_auth not in (None, *TOKEN_AUTH_METHODS):
            raise ValueError(f"unknown token_auth {self.token_auth!r}: choose one of {', '.join(TOKEN_AUTH_METHODS)}")
        if not self.token_lifetime > 0:
            raise ValueError(f"the tokens' lifetime is {self.token_lifetime}: give a number of seconds above 0")
        if not all(self.api_keys):
            raise ValueError("an API key is empty")
        if not self.partitions:
            raise ValueError("at least one partition is needed")
        if not self.accounts:
            raise ValueError("at least one account is needed")

    @property
    def node_cores(self) -> int:
        """Cores of the node."""
        return self.cores or 1

    @property
    def transfer_partition(self) -> str:
        """Name of the partition for transfer jobs: `xfer` where there is one, else the default."""
        names = [partition.name for partition in self.partitions]
        return TRANSFER_PARTITION.name if TRANSFER_PARTITION.name in names else names[0]
