"""The scheduler `slurm`: submits jobs to the Slurm of this machine, through its own commands.

The commands, options and fields are those that FirecREST 2.5 uses over SSH
(https://github.com/eth-cscs/firecrest-v2, `src/lib/scheduler_clients/slurm`).
"""

from __future__ import annotations

import math
import os
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from firecrest_local.access.identity import current_identity
from firecrest_local.errors import ApiError, CommandTimeout, NoJobId, PolicyLimitExceeded
from firecrest_local.scheduler.interface import ALLOCATION, JobDescription, JobQuery, Row
from firecrest_local.scheduler.login_environment import login_environment
from firecrest_local.scheduler.slurm.commands import CommandResult, run_command
from firecrest_local.scheduler.slurm.output import (
    NODE_FORMAT,
    QUEUE_FORMAT,
    RECORD_FORMAT,
    ParsedJob,
    parse_jobs,
    parse_metadata,
    parse_nodes,
    parse_partitions,
    parse_reservations,
)
from firecrest_local.settings import Settings
from firecrest_local.visibility import Visibility

NO_SUCH_JOB = "Invalid job id specified"
#: How Slurm names the limits of accounts and of qualities of service.
_QUOTA = re.compile(r"\b(QOS|Assoc)(Max|Min)\w*Limit\b", re.IGNORECASE)


class SlurmScheduler:
    """Submits jobs to Slurm, and shows them as Slurm does.

    :param settings: the cluster.
    :param home: the user's home directory, in which commands run.
    :param visibility: delays in addition to Slurm's own.
    """

    def __init__(self, settings: Settings, home: Path, visibility: Visibility) -> None:
        self._timeout = settings.command_timeout
        self._home = home
        self._visibility = visibility
        # The user who runs the commands. Settings may give the API's user another name.
        self._user = current_identity().user
        self._environment = login_environment(home, self._user)
        if "SLURM_CONF" in os.environ:
            self._environment["SLURM_CONF"] = os.environ["SLURM_CONF"]

    # --- start and stop

    def start(self) -> None:
        """Check that Slurm answers.

        :raises ConnectionError: Slurm doesn't answer.
        """
        result = run_command(["sinfo", "--noheader"], self._environment, timeout=10, cwd=self._home)
        if result.exit_status:
            raise ConnectionError(f"no Slurm answers here: {result.stderr.strip()}")

    def stop(self) -> None:
        """Do nothing. The jobs belong to Slurm and continue."""

    # --- jobs

    def submit(self, description: JobDescription) -> str:
        """Run `sbatch`."""
        if not description.script and not description.script_path:
            # sbatch would wait for a script on its standard input.
            raise CommandTimeout
        variables = ",".join(f"{name}={value}" for name, value in description.environment.items())
        options = {
            "export": f"ALL,{variables}",
            "chdir": description.working_dir,
            "partition": description.partition,
            "reservation": description.reservation,
            "account": description.account,
            "job-name": description.name,
            "error": description.standard_error,
            "output": description.standard_output,
            "input": description.standard_input,
            "constraint": description.constraints,
        }
        command = ["sbatch", *(f"--{option}={value}" for option, value in options.items() if value)]
        if description.script_path:
            command += ["--", description.script_path]
        result = self._run(command, stdin=description.script or "")
        if result.exit_status and _QUOTA.search(result.stderr):
            raise PolicyLimitExceeded(result.stderr)
        submitted = re.search("Submitted batch job ([0-9]+)", result.stdout)
        if result.exit_status:
            raise result.error()
        if submitted is None:
            raise NoJobId
        return submitted[1]

    def accounted(self, query: JobQuery) -> list[Row]:
        """Run `sacct`."""
        options = [f"--format={RECORD_FORMAT}"]
        if query.job_id is None:
            options.append(f"--starttime=now-{math.ceil(time.time() - query.since)}seconds")
        if query.all_users or query.job_id is not None:
            options.append("--allusers")
        jobs = self._query("sacct", [*options, "--parsable2"], query)
        return [row for job in jobs for row in self._with_lag(job, single=query.job_id is not None)]

    def queued(self, query: JobQuery) -> list[Row]:
        """Run `squeue`."""
        options = [f"--Format={QUEUE_FORMAT}"]
        if not query.all_users and query.job_id is None:
            options.append(f"--user={self._user}")
        return [job.row for job in self._query("squeue", options, query)]

    def _query(self, program: str, options: Sequence[str], query: JobQuery) -> list[ParsedJob]:
        command = [program, "--noheader", *options]
        if query.account:
            command.append(f"--account={query.account}")
        if query.names:
            command.append(f"--name={','.join(query.names)}")
        if query.job_id is not None:
            command.append(f"--jobs={query.job_id}")
        try:
            result = self._run(command)
            if result.exit_status == 1 and NO_SUCH_JOB in result.stderr:
                return []
            if result.exit_status:
                raise result.error()
        except ApiError as cause:
            raise ApiError(500, "Error executing Slurm command.", caused_by=[cause.message]) from None
        now, invisible = time.time(), self._visibility.invisible
        # Slurm gives times in whole seconds.
        return [job for job in parse_jobs(result.stdout) if not invisible or now >= job.submitted + 1 + invisible]

    def _with_lag(self, job: ParsedJob, *, single: bool) -> list[Row]:
        """Return what the accounting would show of a job if it lagged by more than Slurm's own lag."""
        lag, row = self._visibility.accounting_lag, job.row
        start, end = row["time"]["start"], row["time"]["end"]
        now = time.time()
        known = now >= ((start if start is not None else end) or 0) + lag
        if not lag or (known and (single or end is None or now >= end + lag)):
            return [row]
        if not single:
            return []
        state = row["status"] if end is not None else {**row["status"], "state": "PENDING"}
        return [{**row, **ALLOCATION, "status": state}]

    def metadata(self, job_id: str) -> list[Row] | None:
        """Run `scontrol show job` and `scontrol write batch_script`."""
        shown = self._run(["scontrol", "show", "-o", "job", job_id])
        if shown.exit_status and NO_SUCH_JOB in shown.stderr:
            return None
        script = self._run(["scontrol", "write", "batch_script", job_id, "-"])
        for result in (shown, script):
            if result.exit_status:
                raise result.error()
        # An array has several records but only one script. The first record is shown.
        return [{"jobId": job_id, "script": script.stdout, **files} for files in parse_metadata(shown.stdout)[:1]]

    def cancel(self, job_id: str) -> None:
        """Run `scancel`."""
        result = self._run(["scancel", "--verbose", job_id])
        # scancel exits with 0 even if there was nothing to cancel.
        if result.exit_status or re.search(".+error:", result.stderr):
            raise result.error()

    def attach(self, job_id: str, command: str) -> None:
        """Run `srun --overlap`."""
        result = self._run(["/bin/sh", "-c", f"srun --jobid={shlex.quote(job_id)} --overlap {command}"])
        if result.exit_status:
            raise result.error()

    # --- the cluster

    def nodes(self) -> list[Row]:
        """Run `sinfo`."""
        return parse_nodes(self._checked(["sinfo", "-a", "-N", "--noheader", f"--format={NODE_FORMAT}"]))

    def partitions(self, *, hidden: bool) -> list[Row]:
        """Run `scontrol show partitions`."""
        return parse_partitions(self._checked(["scontrol", "-a", "show", "-o", "partitions"]), hidden=hidden)

    def reservations(self) -> list[Row]:
        """Run `scontrol show reservations`."""
        return parse_reservations(self._checked(["scontrol", "-a", "show", "-o", "reservations"]))

    def accounts(self) -> list[Row]:
        """Run `sacctmgr` for the user's accounts."""
        show = ["sacctmgr", "--noheader", "--parsable2", "show"]
        default = self._checked([*show, "user", self._user, "format=defaultaccount"]).strip()
        names = self._checked([*show, "assoc", f"user={self._user}", "format=account"]).split()
        return [{"name": name, "default": name == default} for name in names]

    # --- commands

    def _run(self, command: Sequence[str], stdin: str = "") -> CommandResult:
        # All commands print Unix times, except sbatch, whose environment the job inherits.
        seconds = {} if command[0] == "sbatch" else {"SLURM_TIME_FORMAT": "%s"}
        return run_command(command, self._environment | seconds, timeout=self._timeout, cwd=self._home, stdin=stdin)

    def _checked(self, command: Sequence[str]) -> str:
        result = self._run(command)
        if result.exit_status:
            raise result.error()
        return result.stdout
