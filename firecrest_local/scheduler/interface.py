"""The interface of a scheduler, which every scheduler has.

The API asks for two views of a job, as FirecREST does. The accounting (`sacct`) has all jobs, but it lags. The queue
(`squeue`) has only the jobs that are pending or running. `firecrest_local.api.compute` merges the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

#: A job, node, partition and so on, in the form in which the API shows it.
Row = dict[str, Any]

#: What a row of the accounting shows of a job as long as only its allocation is known.
ALLOCATION: Row = {"name": "allocation", "group": "root", "partition": "", "workingDirectory": "", "priority": 0}


@dataclass(frozen=True)
class JobDescription:
    """A submission, as the request's body describes it.

    What is not None overrides the script's own directive.

    :param working_dir: where the job runs.
    :param script: the script's text; None if the script is a file on the cluster.
    :param script_path: the script's file on the cluster.
    :param name: the job's name.
    :param account: the account.
    :param reservation: the reservation.
    :param partition: the partition.
    :param constraints: the node features.
    :param standard_input: path of the standard input.
    :param standard_output: path of the standard output.
    :param standard_error: path of the standard error.
    :param environment: variables for the job.
    """

    working_dir: str
    script: str | None = None
    script_path: str | None = None
    name: str | None = None
    account: str | None = None
    reservation: str | None = None
    partition: str | None = None
    constraints: str | None = None
    standard_input: str | None = None
    standard_output: str | None = None
    standard_error: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobQuery:
    """Which jobs to show.

    :param job_id: one job, or all elements of one array; None for the user's jobs.
    :param names: only jobs with one of these names; empty means all.
    :param account: only jobs of this account.
    :param since: only jobs that have not ended before this Unix time.
    :param all_users: whether the list includes other users' jobs.
    """

    job_id: str | None = None
    names: tuple[str, ...] = ()
    account: str | None = None
    since: float = 0.0
    all_users: bool = False


class Scheduler(Protocol):
    """Runs jobs. All methods block briefly, may be called from any thread, and raise `SchedulerError`."""

    def start(self) -> None:
        """Take over the jobs of an earlier run of the server, and begin to schedule.

        :raises OSError: what should run the jobs is not available.
        """

    def stop(self) -> None:
        """Stop scheduling.

        A scheduler that runs the jobs itself stops them, and returns when none of their processes is left. Jobs that
        were submitted to another scheduler continue.
        """

    def submit(self, description: JobDescription) -> str:
        """Queue a job and give its id."""

    def accounted(self, query: JobQuery) -> list[Row]:
        """Return what `sacct` shows."""

    def queued(self, query: JobQuery) -> list[Row]:
        """Return what `squeue` shows."""

    def metadata(self, job_id: str) -> list[Row] | None:
        """Return script and files of a job; None if there is no such job."""

    def cancel(self, job_id: str) -> None:
        """Cancel a job, or all elements of an array."""

    def attach(self, job_id: str, command: str) -> None:
        """Run a shell command inside a running job."""

    def nodes(self) -> list[Row]:
        """Return the nodes."""

    def partitions(self, *, hidden: bool) -> list[Row]:
        """Return the partitions, with `hidden` also the hidden ones."""

    def reservations(self) -> list[Row]:
        """Return the reservations."""

    def accounts(self) -> list[Row]:
        """Return the user's accounts."""
