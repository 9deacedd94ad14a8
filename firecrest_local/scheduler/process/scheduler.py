"""The scheduler `process`: jobs are processes of this machine."""

from __future__ import annotations

import logging
import math
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from firecrest_local.access.identity import Identity
from firecrest_local.errors import ApiError, CommandTimeout, NoJobId, SchedulerError
from firecrest_local.files.confinement import Confinement
from firecrest_local.scheduler.interface import JobDescription, JobQuery, Row
from firecrest_local.scheduler.jobs.job import (
    CANCELLED,
    COMPLETED,
    FAILED,
    NODE,
    NODE_FAIL,
    OUT_OF_MEMORY,
    PENDING,
    RUNNING,
    TIMEOUT,
    Job,
)
from firecrest_local.scheduler.jobs.submission import build_jobs, over_submit_limit
from firecrest_local.scheduler.process.accounting import AccountingView
from firecrest_local.scheduler.process.job_table import JobTable
from firecrest_local.scheduler.process.launcher import JobExit, Launcher
from firecrest_local.scheduler.process.queueing import SchedulingPass
from firecrest_local.scheduler.process.store import JobStore
from firecrest_local.settings import Settings
from firecrest_local.visibility import Visibility

log = logging.getLogger(__name__)

#: Seconds between two checks of the running jobs.
POLL_INTERVAL = 0.05


class ProcessScheduler:
    """Queues jobs, runs them as processes within the node's cores, and keeps their records.

    :param settings: the cluster.
    :param state: directory for jobs and their database.
    :param confinement: the paths that exist for clients.
    :param identity: the user.
    :param home: the user's home directory.
    :param visibility: how late jobs become visible.
    """

    def __init__(
        self,
        settings: Settings,
        state: Path,
        confinement: Confinement,
        identity: Identity,
        home: Path,
        visibility: Visibility,
    ) -> None:
        self._settings = settings
        self._confinement = confinement
        self._identity = identity
        self._home = home
        self._launcher = Launcher(state, settings, confinement, home, identity.user)
        self._view = AccountingView(settings.system, identity.group, visibility)
        self._store = JobStore(state / "jobs.sqlite")
        self._condition = threading.Condition(threading.RLock())
        self._jobs = JobTable()
        #: The latest pass, which also decides about the jobs that are submitted after it.
        self._pass = SchedulingPass(self._jobs, settings, time.time())
        #: Cancelled jobs whose supervisors have the signal.
        self._terminated: set[int] = set()
        self._changed = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="firecrest-local-scheduler", daemon=True)

    # --- start and stop

    def start(self) -> None:
        """Take over the jobs of an earlier run of the server, and begin to schedule."""
        self._launcher.prepare()
        with self._condition:
            jobs = self._store.load()
            for job in jobs:
                if job.running and not self._launcher.alive(job) and not self._launcher.started(job):
                    # The earlier server died after it had decided to start the job, but before it started it.
                    job.state, job.start, job.gone, job.gpu_ids = PENDING, None, True, []
            self._jobs = JobTable(jobs)
            self._changed = True
        self._thread.start()

    def stop(self) -> None:
        """Stop scheduling and the running jobs. Returns when none of their processes is left."""
        with self._condition:
            self._stopping = True
            self._cancel([job for job in self._jobs.active.values() if job.running], by=0)
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        with self._condition:
            self._store.close()

    def _run(self) -> None:
        with self._condition:
            while True:
                try:
                    self._collect()
                    if not self._stopping and (self._changed or self._pass.next_begin <= time.time()):
                        self._changed = False
                        self._schedule()
                except Exception:
                    log.exception("error in the scheduler; it continues")
                if self._stopping and not self._jobs.active:
                    return
                self._condition.wait(self._wait_seconds())

    def _wait_seconds(self) -> float | None:
        """Return the seconds to wait for the next change; None if only a request can bring one."""
        if self._changed and not self._stopping:
            return 0.0
        if self._jobs.active:
            return POLL_INTERVAL
        begin = self._pass.next_begin
        return None if begin == math.inf else min(max(begin - time.time(), POLL_INTERVAL), threading.TIMEOUT_MAX)

    # --- the API's requests

    def submit(self, description: JobDescription) -> str:
        """Queue a job and give its id.

        :raises NoJobId: options of the script keep sbatch from printing the id. Only `--test-only` queues nothing.
        """
        with self._condition:
            job_id = self._jobs.next_id
            jobs = build_jobs(description, job_id, self._identity.user, self._settings, self._confinement)
            self._check_submit_limit(len(jobs))
            if "test-only" in jobs[0].options:
                raise NoJobId
            now = time.time()
            for job in jobs:
                decision = self._pass.decide(job, now)
                job.reason, job.expected_start = decision.reason, decision.expected_start
                self._changed = self._changed or decision.start or decision.never
            self._store.save(jobs)
            for job in jobs:
                self._jobs.add(job)
            self._condition.notify_all()
        if {"parsable", "quiet"} & set(jobs[0].options):
            raise NoJobId
        return str(job_id)

    def accounted(self, query: JobQuery) -> list[Row]:
        """Return what `sacct` shows."""
        with self._condition:
            jobs = self._select(query, "sacct: fatal: Bad job/step specified")
            steps = {job.id: self._launcher.steps(job) for job in jobs if job.running}
            job_id = None if query.job_id is None or not jobs else int(query.job_id)
            return self._view.accounted_rows(jobs, steps, time.time(), job_id)

    def queued(self, query: JobQuery) -> list[Row]:
        """Return what `squeue` shows."""
        with self._condition:
            jobs = self._select(query, "squeue: error: Invalid job id")
            return self._view.queue_rows(jobs, time.time())

    def metadata(self, job_id: str) -> list[Row] | None:
        """Return script and files of a job; None if there is no such job."""
        with self._condition:
            jobs = self._remembered(job_id)
            if not jobs:
                return None
            # An array's own record is that of its last element.
            job = next((job for job in jobs if job.id == int(job_id)), jobs[-1])
            return [
                {
                    "jobId": job_id,
                    "script": job.script,
                    "standardInput": job.standard_input,
                    "standardOutput": job.standard_output,
                    "standardError": job.standard_error,
                }
            ]

    def cancel(self, job_id: str) -> None:
        """Cancel a job, all elements of an array, or by its raw id one element.

        As with Slurm, an element that is cancelled alone while it is pending leaves no row.
        """
        before = f"scancel: Terminating job {job_id}"
        with self._condition:
            if not job_id.isdigit():
                raise SchedulerError(f"scancel: error: Invalid job id {job_id}")
            jobs = self._remembered(job_id)
            live = [job for job in jobs if not job.ended]
            if not live:
                problem = "Job/step already completing or completed" if jobs else "Invalid job id specified"
                message = f"scancel: error: Kill job error on job id {job_id}: {problem}"
                raise SchedulerError(before, message, exit_status=0)
            if len(jobs) == 1 and jobs[0].array_id is not None:
                jobs[0].unrecorded = jobs[0].pending
            self._cancel(live, by=self._identity.uid)
            self._changed = True
            self._condition.notify_all()

    def attach(self, job_id: str, command: str) -> None:
        """Run a shell command inside a running job."""
        with self._condition:
            job = next((job for job in self._find(job_id) if job.running), None)
        if job is None:
            raise SchedulerError(
                f"srun: error: Unable to confirm allocation for job {job_id}: Invalid job id specified",
                f"srun: Check SLURM_JOB_ID environment variable. Expired or invalid job {job_id}",
            )
        try:
            result = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=self._home,
                env=self._launcher.environment(job),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._settings.command_timeout,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise CommandTimeout from None
        if result.returncode != 0:
            raise SchedulerError(*result.stderr.splitlines(), exit_status=result.returncode)

    def nodes(self) -> list[Row]:
        """Return the one node."""
        cores = self._settings.node_cores
        with self._condition:
            held = sum(job.cpus for job in self._jobs.active.values() if not self._own_cores(job))
        state = "IDLE" if held == 0 else "ALLOCATED" if held >= cores else "MIXED"
        return [
            {
                "sockets": 1,
                "cores": cores,
                "threads": 1,
                "cpus": cores,
                "cpuLoad": float(held),
                "freeMemory": 0,
                "features": ",".join(self._settings.features),
                "name": NODE,
                "address": NODE,
                "hostname": NODE,
                "state": [state],
                "partitions": [partition.name for partition in self._settings.partitions],
                "weight": 1,
                "allocMemory": 0,
                "allocCpus": held,
                "idleCpus": max(cores - held, 0),
            }
        ]

    def partitions(self, *, hidden: bool) -> list[Row]:
        """Return the partitions, with `hidden` also the hidden ones."""
        return [
            {
                "name": partition.name,
                "cpus": partition.cores or self._settings.node_cores,
                "totalNodes": 1,
                "partition": "UP",
            }
            for partition in self._settings.partitions
            if hidden or not partition.hidden
        ]

    def reservations(self) -> list[Row]:
        """Return an empty list: this scheduler has no reservations."""
        return []

    def accounts(self) -> list[Row]:
        """Return the user's accounts."""
        return [{"name": name, "default": name == self._settings.accounts[0]} for name in self._settings.accounts]

    # --- with the lock held

    def _check_submit_limit(self, new: int) -> None:
        """Refuse `new` more jobs than may wait or run at once.

        :raises PolicyLimitExceeded: they would be too many.
        """
        limit = self._settings.max_submit_jobs
        if limit is not None and len(self._jobs.live) + new > limit:
            raise over_submit_limit()

    def _save(self, job: Job) -> None:
        """Write down a job's new state."""
        self._jobs.update(job)
        self._store.save([job])

    def _find(self, job_id: str) -> list[Job]:
        """Find a job, or all elements of an array."""
        # No id has so many digits, and Python refuses to read much longer ones.
        return self._jobs.find(int(job_id)) if job_id.isdigit() and len(job_id) < 20 else []

    def _remembered(self, job_id: str) -> list[Job]:
        """Find a job, or all elements of an array, without those that ended more than `min_job_age` seconds ago."""
        since = time.time() - self._settings.min_job_age
        return [job for job in self._find(job_id) if job.end is None or job.end >= since]

    def _select(self, query: JobQuery, message: str) -> list[Job]:
        if query.job_id is not None:
            if not query.job_id.isdigit():
                cause = SchedulerError(f"{message}: {query.job_id}")
                raise ApiError(500, "Error executing Slurm command.", caused_by=[cause.message])
            return self._find(query.job_id)
        return [
            job
            for job in self._jobs.by_id.values()
            if (not query.names or job.name in query.names)
            and (query.account is None or job.account == query.account)
            and (job.end is None or job.end >= query.since)
        ]

    def _own_cores(self, job: Job) -> bool:
        return any(
            partition.cores is not None for partition in self._settings.partitions if partition.name == job.partition
        )

    def _schedule(self) -> None:
        now = time.time()
        self._pass = SchedulingPass(self._jobs, self._settings, now)
        for job in list(self._jobs.pending.values()):
            decision = self._pass.decide(job, now)
            if decision.never and job.kill_on_invalid_dependency:
                job.state, job.reason, job.end = CANCELLED, "Dependency", now
                self._changed = True
                self._save(job)
            elif decision.start:
                self._launch(job)
            else:
                job.expected_start = decision.expected_start
                if job.reason != decision.reason:
                    job.reason = decision.reason
                    self._save(job)

    def _launch(self, job: Job) -> None:
        taken = {gpu for other in self._jobs.active.values() for gpu in other.gpu_ids}
        job.gpu_ids = [gpu for gpu in range(self._settings.gpus) if gpu not in taken][: job.gpus]
        job.state, job.start, job.gone = RUNNING, time.time(), False
        # Saved before the launch, so that a restarted server never starts a running job again.
        self._save(job)
        try:
            self._launcher.launch(job)
        except (OSError, ValueError):
            # Whatever is wrong with one job must not keep the others from starting.
            log.exception("job %s could not be launched", job.id)
            job.state, job.end, job.gone = NODE_FAIL, time.time(), True
            self._changed = True
            self._save(job)

    def _cancel(self, jobs: Iterable[Job], *, by: int) -> None:
        for job in jobs:
            if job.running:
                job.signal = 15
            job.state, job.end, job.cancelled_by = CANCELLED, time.time(), by
            # Saved before the signal, so that a restarted server still knows who cancelled the job.
            self._save(job)

    def _collect(self) -> None:
        """Record the jobs that have ended, and terminate those that were cancelled."""
        for job in list(self._jobs.active.values()):
            if self._launcher.alive(job):
                if job.ended and job.id not in self._terminated and self._launcher.terminate(job):
                    self._terminated.add(job.id)
                continue
            job.gone, job.gpu_ids, job.steps = True, [], self._launcher.steps(job)
            if job.running:
                self._record_exit(job, self._launcher.read_exit(job))
            for step in job.steps:
                if step.end is None:
                    step.end, step.signal = job.end, 15
            self._save(job)
            self._changed = True

    @staticmethod
    def _record_exit(job: Job, job_exit: JobExit | None) -> None:
        """Record the end of a job that was not cancelled through this server."""
        if job_exit is None:
            job.state, job.end = NODE_FAIL, time.time()
            return
        job.end = job_exit.end
        if job_exit.cause is not None:
            if job_exit.cause == "out_of_memory":
                job.state, job.signal = OUT_OF_MEMORY, job_exit.signal
                return
            job.state, job.signal = (TIMEOUT if job_exit.cause == "timeout" else CANCELLED), 15
            job.cancelled_by = 0 if job_exit.cause == "cancelled" else None
            return
        job.state = FAILED if job_exit.exit_code or job_exit.signal else COMPLETED
        job.exit_code, job.signal = job_exit.exit_code, job_exit.signal
