"""Starts jobs as processes and reads how they ended."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firecrest_local.files.confinement import Confinement
from firecrest_local.private_files import make_private_directory, write_private
from firecrest_local.scheduler.jobs.job import NODE, Job, Step
from firecrest_local.scheduler.login_environment import login_environment
from firecrest_local.scheduler.process import srun_shim, supervisor
from firecrest_local.settings import Settings


@dataclass(frozen=True)
class JobExit:
    """How a job ended.

    :param exit_code: the exit code of the batch script.
    :param signal: the signal that ended the batch script; 0 for none.
    :param cause: `timeout`, `cancelled` or `out_of_memory` if the supervisor ended the job for that cause.
    :param start: Unix time of the start.
    :param end: Unix time of the end.
    """

    exit_code: int
    signal: int
    cause: str | None
    start: float
    end: float


class Launcher:
    """Runs each job under its own supervisor, in its own directory.

    :param directory: holds the jobs' directories and the replacement for `srun`.
    :param settings: the cluster.
    :param confinement: the paths that exist for clients. A job with other paths fails to launch.
    :param home: the user's home directory.
    :param user: the user's name.
    """

    def __init__(self, directory: Path, settings: Settings, confinement: Confinement, home: Path, user: str) -> None:
        self._jobs = directory / "jobs"
        self._bin = directory / "bin"
        self._settings = settings
        self._confinement = confinement
        self._home = home
        self._user = user
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def prepare(self) -> None:
        """Make the directories and the replacement for `srun`."""
        make_private_directory(self._jobs)
        make_private_directory(self._bin)
        command = [sys.executable, "-I", "-S", str(Path(srun_shim.__file__).resolve())]
        shim = self._bin / "srun"
        write_private(shim, f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        shim.chmod(0o700)

    # --- starting

    def launch(self, job: Job) -> None:
        """Start a job without waiting for it."""
        directory = self._jobs / str(job.id)
        for private in (directory, directory / "steps"):
            make_private_directory(private)
        write_private(directory / "slurm_script", job.script)
        write_private(directory / "spec.json", json.dumps(self._spec(job, directory)))
        # The supervisor inherits the lock, so there is no moment in which the job runs without it.
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_private(directory / "supervisor.log", "")
            with (directory / "supervisor.log").open("ab") as log:
                self._children[job.id] = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(Path(supervisor.__file__).resolve()), str(directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)

    def environment(self, job: Job) -> dict[str, str]:
        """Make the environment of a job."""
        settings = self._settings
        variables = login_environment(self._home, self._user) | job.environment
        variables["PATH"] = f"{self._bin}:{variables.get('PATH', os.defpath)}"
        variables |= {
            "ENVIRONMENT": "BATCH",
            "FIRECREST_LOCAL_STEPS": str(self._jobs / str(job.id) / "steps"),
            "SLURMD_NODENAME": NODE,
            "SLURM_CLUSTER_NAME": settings.system,
            "SLURM_CPUS_ON_NODE": str(job.cpus),
            "SLURM_GTIDS": "0",
            "SLURM_JOBID": str(job.id),
            "SLURM_JOB_ACCOUNT": job.account,
            "SLURM_JOB_CPUS_PER_NODE": str(job.cpus),
            "SLURM_JOB_GID": str(os.getgid()),
            "SLURM_JOB_ID": str(job.id),
            "SLURM_JOB_NAME": job.name,
            "SLURM_JOB_NODELIST": NODE,
            "SLURM_JOB_NUM_NODES": str(job.nodes),
            "SLURM_JOB_PARTITION": job.partition,
            "SLURM_JOB_QOS": job.options.get("qos", "normal"),
            "SLURM_JOB_UID": str(os.getuid()),
            "SLURM_JOB_USER": self._user,
            "SLURM_LOCALID": "0",
            "SLURM_NNODES": str(job.nodes),
            "SLURM_NODEID": "0",
            "SLURM_NODELIST": NODE,
            "SLURM_NPROCS": str(job.ntasks),
            "SLURM_NTASKS": str(job.ntasks),
            "SLURM_PROCID": "0",
            "SLURM_SUBMIT_DIR": job.working_dir,
            "SLURM_SUBMIT_HOST": "localhost",
            "SLURM_TASKS_PER_NODE": str(job.ntasks),
            "TMPDIR": variables.get("TMPDIR", "/tmp"),
        }
        if "cpus-per-task" in job.options:
            variables["SLURM_CPUS_PER_TASK"] = str(job.cpus_per_task)
        if job.array_id is not None:
            variables |= {
                "SLURM_ARRAY_JOB_ID": str(job.array_id),
                "SLURM_ARRAY_TASK_COUNT": str(len(job.task_ids)),
                "SLURM_ARRAY_TASK_ID": str(job.task_id),
                "SLURM_ARRAY_TASK_MAX": str(max(job.task_ids)),
                "SLURM_ARRAY_TASK_MIN": str(min(job.task_ids)),
                "SLURM_ARRAY_TASK_STEP": str(job.array_step),
            }
        if job.gpu_ids:
            held = ",".join(map(str, job.gpu_ids))
            variables |= {
                "CUDA_VISIBLE_DEVICES": held,
                "SLURM_JOB_GPUS": held,
                "SLURM_GPUS_ON_NODE": str(len(job.gpu_ids)),
            }
        return variables

    def _spec(self, job: Job, directory: Path) -> dict[str, Any]:
        files = (job.standard_input, job.standard_output, job.standard_error)
        paths = [job.working_dir, *(path for path in files if path != os.devnull)]
        outside = [path for path in paths if not self._confinement.holds(path)]
        return {
            "unreachable": outside[0] if outside else None,
            "working_dir": job.working_dir,
            "standard_input": job.standard_input,
            "standard_output": job.standard_output,
            "standard_error": job.standard_error,
            "append": job.options.get("open-mode", "").startswith("a"),
            "environment": self.environment(job),
            "limit": job.limit,
            "memory": job.memory,
            "step_id": f"{job.accounting_id}.batch",
            "kill_wait": self._settings.kill_wait,
            "warning_signal": job.warning_signal,
            "warning_seconds": job.warning_seconds,
            "warn_batch": job.warn_batch,
        }

    # --- watching

    def alive(self, job: Job) -> bool:
        """Return whether the job's supervisor is alive, as a child of this server or of an earlier one."""
        child = self._children.get(job.id)
        if child is not None:
            if child.poll() is None:
                return True
            del self._children[job.id]
        try:
            lock = os.open(self._jobs / str(job.id) / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def started(self, job: Job) -> bool:
        """Return whether the job was ever started."""
        return (self._jobs / str(job.id) / "started.json").exists()

    def read_exit(self, job: Job) -> JobExit | None:
        """Read how the job ended; return None if its supervisor did not record it."""
        try:
            text = (self._jobs / str(job.id) / "exit.json").read_text()
        except FileNotFoundError:
            return None
        return JobExit(**json.loads(text))

    def steps(self, job: Job) -> list[Step]:
        """Return the `srun` steps so far, in their order."""
        directory = self._jobs / str(job.id) / "steps"
        steps: list[Step] = []
        number = 0
        while True:
            try:
                fields = json.loads((directory / f"{number}.json").read_text())
            except (FileNotFoundError, ValueError):
                # The file of a step that is just starting is still empty.
                return steps
            fields.pop("pid")
            steps.append(Step(**fields))
            number += 1

    # --- stopping

    def terminate(self, job: Job) -> bool:
        """Ask a job's supervisor to end the job. The supervisor kills what doesn't end by itself.

        :returns: False if the supervisor can't be signalled yet, because an earlier server has only just started it.
        """
        child = self._children.get(job.id)
        if child is not None:
            child.send_signal(signal.SIGTERM)
            return True
        try:
            started = json.loads((self._jobs / str(job.id) / "started.json").read_text())
        except FileNotFoundError:
            return False
        # While the lock is held, the process id still belongs to the supervisor.
        if self.alive(job):
            os.kill(started["pid"], signal.SIGTERM)
        return True
