"""What a scheduler is to the API, whichever it is.

The API asks for two views of a job, as FirecREST does: the accounting (`sacct`), which knows all but knows it
late, and the queue (`squeue`), which knows only what waits or runs. `firecrest_local.compute` merges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

#: A job, or a node, partition and so on, in the form in which the API shows it.
Row = dict[str, Any]


@dataclass(frozen=True)
class JobDescription:
    """A submission: what the request's body says.

    Parameters:
        working_directory: where the job runs.
        script: its text; None when it's a file on the cluster.
        script_path: that file.
        name, account, reservation, partition, constraints: override the script's own directives.
        standard_input, standard_output, standard_error: likewise.
        environment: variables for the job.
    """

    working_directory: str
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

    Parameters:
        job_id: one job, or all elements of one array; None for the user's jobs.
        names, account: only jobs of such a name, of this account.
        since: only jobs that have not ended before (seconds since the epoch).
        all_users: the list shows other users' jobs, too.
    """

    job_id: str | None = None
    names: tuple[str, ...] = ()
    account: str | None = None
    since: float = 0.0
    all_users: bool = False


class Scheduler(Protocol):
    """Runs jobs. All methods block briefly, may be called from any thread, and raise `SchedulerError`."""

    def start(self) -> None:
        """Take up the jobs of an earlier life and begin to schedule.

        Raises:
            OSError: what should run the jobs isn't there.
        """

    def stop(self) -> None:
        """End what was started here: a scheduler of our own ends its jobs and returns when none of their processes is
        left; jobs that were handed to a scheduler beside us are its own, and go on."""

    def submit(self, description: JobDescription) -> str:
        """Queue a job and give its id."""

    def accounted(self, query: JobQuery) -> list[Row]:
        """What `sacct` shows."""

    def queued(self, query: JobQuery) -> list[Row]:
        """What `squeue` shows."""

    def metadata(self, job_id: str) -> list[Row] | None:
        """Script and files of a job; None when there is no such job."""

    def cancel(self, job_id: str) -> None:
        """Cancel a job, or all elements of an array."""

    def attach(self, job_id: str, command: str) -> None:
        """Run a shell command inside a running job."""

    def nodes(self) -> list[Row]:
        """The nodes."""

    def partitions(self, *, hidden: bool) -> list[Row]:
        """The partitions, with `hidden` also those that don't show themselves."""

    def reservations(self) -> list[Row]:
        """The reservations."""

    def accounts(self) -> list[Row]:
        """The user's accounts."""
