"""What a user may choose about an embedded FirecREST."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from firecrest_local.faults.plan import Plan

MINUTE = 60
HOUR = 60 * MINUTE
SCHEDULERS = ("process", "slurm", "auto")


@dataclass(frozen=True)
class Partition:
    """One partition of the embedded scheduler.

    Parameters:
        name: what `--partition` takes.
        default_time: time limit of a job that names none, in seconds.
        max_time: longest time limit with which a job can start, in seconds.
        cores: cores of its own; None shares the node's cores with the other partitions.
        hidden: listed only when a client asks for hidden partitions.
    """

    name: str
    default_time: int = HOUR
    max_time: int = 24 * HOUR
    cores: int | None = None
    hidden: bool = False


#: Transfer jobs wait for a client's bytes; cores of their own keep them from starving the jobs that compute.
TRANSFER_PARTITION = Partition("xfer", 15 * MINUTE, 24 * HOUR, cores=64, hidden=True)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; the defaults suit a laptop.

    Parameters:
        root: directory of the cluster; holds `home/` (what clients see) and `state/` (what they don't).
        port: port on 127.0.0.1; 0 takes any free one.
        client_id, client_secret: credentials that the token endpoint accepts; without a secret a random one
            is made once and kept in the state directory, so that it outlives a restart.
        system: name of the one system.
        user: name of the user; None takes the name of the user who runs the server.
        scheduler: what runs the jobs: `process` runs them on this machine, `slurm` hands them to the Slurm that this
            machine's commands reach, `auto` takes Slurm where `sinfo` answers. Slurm has its own say about cores,
            partitions, features, accounts, limits and waits, which are settings of `process`.
        cores, gpus: what the one node offers to jobs; cores None takes the machine's.
        partitions: the first one is the default.
        features: node features that `--constraint` may ask for.
        account: the user's default account.
        max_array_size: array indices must be smaller.
        token_lifetime: seconds that a token is valid for.
        accounting_lag: seconds by which the accounting view trails the jobs; Slurm's trails by its own.
        min_job_age: seconds after a job's end for which its metadata is known.
        command_timeout: seconds after which a backend command that hangs is given up (408).
        kill_wait: seconds between SIGTERM and SIGKILL when a job is cancelled or out of time.
        max_ops_file_size: largest direct upload, in bytes.
        max_part_size: largest part of a staged upload, in bytes.
        url_lifetime: seconds that a presigned URL is valid for.
        faults: what goes wrong; None is a sound server, which can't be told to go wrong later either.
    """

    root: Path = Path(".firecrest-local")
    port: int = 0
    client_id: str = "firecrest-local"
    client_secret: str | None = field(default=None, repr=False)
    system: str = "local"
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
    account: str = "test"
    max_array_size: int = 1001
    token_lifetime: float = 300.0
    accounting_lag: float = 1.0
    min_job_age: float = 300.0
    command_timeout: float = 5.0
    kill_wait: float = 5.0
    max_ops_file_size: int = 5 * 1024 * 1024
    max_part_size: int = 1024**3
    url_lifetime: int = 7 * 24 * HOUR
    faults: Plan | None = None

    def __post_init__(self) -> None:
        # The API's paths are case-insensitive, so its one system's name has to be lower case.
        object.__setattr__(self, "system", self.system.lower())
        object.__setattr__(self, "root", Path(self.root))
        if self.cores is None:
            object.__setattr__(self, "cores", os.cpu_count() or 1)
        if self.scheduler not in SCHEDULERS:
            raise ValueError(f"unknown scheduler {self.scheduler!r}: one of {', '.join(SCHEDULERS)} is wanted")
        if not self.partitions:
            raise ValueError("at least one partition is needed")

    @property
    def node_cores(self) -> int:
        """Cores of the node."""
        return self.cores or 1

    @property
    def transfer_partition(self) -> str:
        """Name of the partition for transfer jobs: `xfer` where there is one, else the default."""
        names = [partition.name for partition in self.partitions]
        return TRANSFER_PARTITION.name if TRANSFER_PARTITION.name in names else names[0]
