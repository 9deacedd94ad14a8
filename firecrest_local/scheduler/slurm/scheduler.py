"""The scheduler `slurm`: jobs go to the Slurm of this machine, through its own commands.

Which command answers what, with which options and fields, is how FirecREST 2.5 does it over SSH
(https://github.com/eth-cscs/firecrest-v2, `src/lib/scheduler_clients/slurm`).
"""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from firecrest_local.access.identity import current_identity
from firecrest_local.errors import ApiError, CommandTimeout, OutputTooLarge, SchedulerError
from firecrest_local.scheduler.interface import JobDescription, JobQuery, Row
from firecrest_local.scheduler.login_environment import login_environment
from firecrest_local.scheduler.process.accounting import ALLOCATION
from firecrest_local.scheduler.slurm.output import (
    NODE_FORMAT,
    QUEUE_FORMAT,
    RECORD_FORMAT,
    Seen,
    parse_jobs,
    parse_metadata,
    parse_nodes,
    parse_partitions,
    parse_reservations,
)
from firecrest_local.settings import Settings
from firecrest_local.visibility import Visibility

#: Bytes of a command's output that the real server reads.
BUFFER = 5 * 1024 * 1024
NO_SUCH_JOB = "Invalid job id specified"
#: Slurm names its limits of accounts and of qualities of service in this way.
_QUOTA = re.compile(r"\b(QOS|Assoc)(Max|Min)\w*Limit\b", re.IGNORECASE)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    stdout: str
    stderr: str
    exit_status: int

    def error(self) -> SchedulerError:
        """Its failure, in its own words."""
        return SchedulerError(*self.stderr.splitlines(), exit_status=self.exit_status)


def run(words: Sequence[str], environment: Mapping[str, str], *, timeout: float, cwd: Path, stdin: str = "") -> Done:
    """Run a command to its end.

    Parameters:
        words: program and arguments.
        environment: its whole environment.
        timeout: seconds after which it is killed, with what it has started.
        cwd: where it runs.
        stdin: text on its standard input.

    Raises:
        CommandTimeout: it took longer.
        OutputTooLarge: it printed more than the real server reads.
    """
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        # In a shell's words, since that is who would say it on a cluster.
        return Done("", f"{words[0]}: command not found", 127)
    try:
        stdout, stderr = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise CommandTimeout from None
    if max(len(stdout), len(stderr)) >= BUFFER:
        raise OutputTooLarge
    return Done(stdout, stderr, process.returncode)


def slurm_answers() -> bool:
    """Whether this machine has a Slurm whose controller answers."""
    try:
        return run(["sinfo", "--noheader"], os.environ, timeout=10, cwd=Path("/")).exit_status == 0
    except ApiError:
        return False


class SlurmScheduler:
    """Submits to Slurm, and shows what it says.

    Parameters:
        settings: the cluster.
        home: the user's home directory; commands run there.
        visibility: how much later than by Slurm's own doing jobs are seen.
    """

    def __init__(self, settings: Settings, home: Path, visibility: Visibility) -> None:
        self._timeout = settings.command_timeout
        self._home = home
        self._visibility = visibility
        # The one who runs the commands, whatever the API calls him.
        self._user = current_identity().user
        self._environment = login_environment(home, self._user)
        if "SLURM_CONF" in os.environ:
            self._environment["SLURM_CONF"] = os.environ["SLURM_CONF"]

    # --- life

    def start(self) -> None:
        """See that Slurm is there.

        Raises:
            ConnectionError: it doesn't answer.
        """
        done = run(["sinfo", "--noheader"], self._environment, timeout=10, cwd=self._home)
        if done.exit_status:
            raise ConnectionError(f"no Slurm answers here: {done.stderr.strip()}")

    def stop(self) -> None:
        """Nothing: the jobs are Slurm's, and go on."""

    # --- jobs

    def submit(self, description: JobDescription) -> str:
        """`sbatch`."""
        if not description.script and not description.script_path:
            # It would wait for a script on its standard input.
            raise CommandTimeout
        variables = ",".join(f"{name}={value}" for name, value in description.environment.items())
        options = {
            "export": f"ALL,{variables}",
            "chdir": description.working_directory,
            "partition": description.partition,
            "reservation": description.reservation,
            "account": description.account,
            "job-name": description.name,
            "error": description.standard_error,
            "output": description.standard_output,
            "input": description.standard_input,
            "constraint": description.constraints,
        }
        words = ["sbatch", *(f"--{option}={value}" for option, value in options.items() if value)]
        if description.script_path:
            words += ["--", description.script_path]
        done = self._run(words, stdin=description.script or "")
        if done.exit_status and _QUOTA.search(done.stderr):
            complaint = "Job submission rejected: accounting/QOS policy limit exceeded."
            raise ApiError(403, f"{complaint} {done.stderr.strip()}")
        submitted = re.search("Submitted batch job ([0-9]+)", done.stdout)
        if done.exit_status or submitted is None:
            raise done.error()
        return submitted[1]

    def accounted(self, query: JobQuery) -> list[Row]:
        """`sacct`."""
        options = [f"--format={RECORD_FORMAT}"]
        if query.job_id is None:
            options.append(f"--starttime=now-{math.ceil(time.time() - query.since)}seconds")
        if query.all_users or query.job_id is not None:
            options.append("--allusers")
        seen = self._look("sacct", [*options, "--parsable2"], query)
        return [row for one in seen for row in self._late(one, single=query.job_id is not None)]

    def queued(self, query: JobQuery) -> list[Row]:
        """`squeue`."""
        options = [f"--Format={QUEUE_FORMAT}"]
        if not query.all_users and query.job_id is None:
            options.append(f"--user={self._user}")
        return [one.row for one in self._look("squeue", options, query)]

    def _look(self, command: str, options: Sequence[str], query: JobQuery) -> list[Seen]:
        words = [command, "--noheader", *options]
        if query.account:
            words.append(f"--account={query.account}")
        if query.names:
            words.append(f"--name={','.join(query.names)}")
        if query.job_id is not None:
            words.append(f"--jobs={query.job_id}")
        try:
            done = self._run(words)
            if done.exit_status == 1 and NO_SUCH_JOB in done.stderr:
                return []
            if done.exit_status:
                raise done.error()
        except ApiError as cause:
            raise ApiError(500, "Error executing Slurm command.", caused_by=[cause.message]) from None
        now, invisible = time.time(), self._visibility.invisible
        # Slurm counts whole seconds.
        return [one for one in parse_jobs(done.stdout) if not invisible or now >= one.submitted + 1 + invisible]

    def _late(self, seen: Seen, *, single: bool) -> list[Row]:
        """What an accounting shows that trails by more than Slurm's does."""
        lag, time_of, row = self._visibility.accounting_lag, seen.row["time"], seen.row
        start, end = time_of["start"], time_of["end"]
        now = time.time()
        known = now >= ((start if start is not None else end) or 0) + lag
        if not lag or (known and (single or end is None or now >= end + lag)):
            return [row]
        if not single:
            return []
        state = row["status"] if end is not None else {**row["status"], "state": "PENDING"}
        return [{**row, **ALLOCATION, "status": state}]

    def metadata(self, job_id: str) -> list[Row] | None:
        """`scontrol show job` and `scontrol write batch_script`."""
        shown = self._run(["scontrol", "show", "-o", "job", job_id])
        if shown.exit_status and NO_SUCH_JOB in shown.stderr:
            return None
        script = self._run(["scontrol", "write", "batch_script", job_id, "-"])
        for done in (shown, script):
            if done.exit_status:
                raise done.error()
        # An array has several records but one script: the first record is shown.
        return [{"jobId": job_id, "script": script.stdout, **files} for files in parse_metadata(shown.stdout)[:1]]

    def cancel(self, job_id: str) -> None:
        """`scancel`."""
        done = self._run(["scancel", "--verbose", job_id])
        # It calls it a success that there was nothing to cancel.
        if done.exit_status or re.search(".+error:", done.stderr):
            raise done.error()

    def attach(self, job_id: str, command: str) -> None:
        """`srun --overlap`."""
        done = self._run(["/bin/sh", "-c", f"srun --jobid={shlex.quote(job_id)} --overlap {command}"])
        if done.exit_status:
            raise done.error()

    # --- the cluster

    def nodes(self) -> list[Row]:
        """`sinfo`."""
        return parse_nodes(self._checked(["sinfo", "-a", "-N", "--noheader", f"--format={NODE_FORMAT}"]))

    def partitions(self, *, hidden: bool) -> list[Row]:
        """`scontrol show partitions`."""
        return parse_partitions(self._checked(["scontrol", "-a", "show", "-o", "partitions"]), hidden=hidden)

    def reservations(self) -> list[Row]:
        """`scontrol show reservations`."""
        return parse_reservations(self._checked(["scontrol", "-a", "show", "-o", "reservations"]))

    def accounts(self) -> list[Row]:
        """`sacctmgr`: the user's accounts."""
        show = ["sacctmgr", "--noheader", "--parsable2", "show"]
        default = self._checked([*show, "user", self._user, "format=defaultaccount"]).strip()
        names = self._checked([*show, "assoc", f"user={self._user}", "format=account"]).split()
        return [{"name": name, "default": name == default} for name in names]

    # --- commands

    def _run(self, words: Sequence[str], stdin: str = "") -> Done:
        # In seconds since the epoch, but for sbatch, whose environment the job gets.
        seconds = {} if words[0] == "sbatch" else {"SLURM_TIME_FORMAT": "%s"}
        return run(words, self._environment | seconds, timeout=self._timeout, cwd=self._home, stdin=stdin)

    def _checked(self, words: Sequence[str]) -> str:
        done = self._run(words)
        if done.exit_status:
            raise done.error()
        return done.stdout
