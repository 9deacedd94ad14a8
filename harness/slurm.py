"""A real Slurm with one node and accounting in a directory, for tests, benchmarks and trials only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import psutil

from harness.environment import clean_environment
from harness.errors import ServiceFailed, SlurmNotInstalled
from harness.ports import reserved_ports
from harness.processes import kill, related_processes
from harness.service import Service, wait_until
from harness.service_group import ServiceGroup

#: The Debian package of each program that is needed.
PACKAGES = {
    "mariadb-install-db": "mariadb-server",
    "mariadbd": "mariadb-server",
    "munged": "munge",
    "sbatch": "slurm-client",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmdbd": "slurmdbd",
}
#: PATH with the directories of the daemons, which an ordinary user's PATH lacks.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
ACCOUNT = "test"
REQUEUE_SECONDS = 15
#: Where a machine mounts the memory controller of cgroups (version 1), through which Slurm ends what takes too much.
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")


def missing_packages() -> list[str]:
    """Return the Debian packages that Slurm needs and this machine lacks."""
    return sorted({package for program, package in PACKAGES.items() if shutil.which(program, path=SEARCH_PATH) is None})


def can_limit_memory() -> bool:
    """Return whether memory limits can be enforced here: that takes cgroups, which a container rarely has."""
    return os.access(MEMORY_CGROUP / "tasks", os.W_OK)


class Slurm(ServiceGroup):
    """munged, mariadbd, slurmdbd, slurmctld and slurmd with their state in `home`; a context manager.

    It runs as the user who starts it, root or not, on loopback and on free ports. It neither needs nor touches the
    machine's own Slurm. Jobs run as that user too and are killed when it stops.

    `environment` holds the variable with which programs find it, SLURM_CONF. `services` are its daemons in the order
    of their start. The partitions are `normal` (the default) and `debug` (at most 30 minutes). For preemption there
    are `high`, and below it `low` (jobs are cancelled) and `lowrequeue` (jobs are requeued). The account is `test`.
    A requeued job waits for 15 s.

    :param home: a directory that does not exist yet; at most 80 characters long, since it holds sockets
    :param cpus: CPUs that the node claims to have; jobs that sleep may use more than the machine has
    :param limits_memory: end what takes more memory than its job asks for; see `can_limit_memory`
    :raises SlurmNotInstalled: when it is entered and programs are missing
    """

    def __init__(self, home: Path, cpus: int = 8, *, limits_memory: bool = False) -> None:
        self.home = home.absolute()
        self.cpus = cpus
        self.limits_memory = limits_memory
        self.services: list[Service] = []
        self.environment: Mapping[str, str] = {"SLURM_CONF": str(self.home / "slurm.conf")}
        super().__init__()

    def __enter__(self) -> Self:
        if packages := missing_packages():
            raise SlurmNotInstalled(f"no Slurm can be started here: apt-get install {' '.join(packages)}")
        return super().__enter__()

    def command(self, *words: str) -> str:
        """Run one of Slurm's commands and return its output.

        :raises ServiceFailed: the command failed; the message holds its standard error
        """
        done = subprocess.run(words, env=self._environment, check=False, text=True, capture_output=True)
        if done.returncode:
            raise ServiceFailed(f"{' '.join(words)} ended with exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def max_submit_jobs(self, number: int) -> Iterator[None]:
        """Let the user have at most this many jobs that wait or run, inside a context.

        :param number: Slurm's MaxSubmitJobs
        """
        user = pwd.getpwuid(os.getuid()).pw_name
        modify = ("sacctmgr", "-i", "modify", "user", user, "where", f"account={ACCOUNT}", "set")
        self.command(*modify, f"MaxSubmitJobs={number}")
        try:
            yield
        finally:
            self.command(*modify, "MaxSubmitJobs=-1")

    # --- starting

    def _start(self) -> None:
        self.home.mkdir(mode=0o700, parents=True)
        for name in ("ctld", "d", "log"):
            (self.home / name).mkdir()
        self._environment = {
            **clean_environment(),
            **self.environment,
            "PATH": SEARCH_PATH,
            "MYSQL_UNIX_PORT": str(self.home / "mysql.socket"),
        }
        with reserved_ports(3) as ports:
            self._configure(*ports)
            self._start_munge()
            self._start_database()
            self._run("slurmdbd", "-D")
            self._wait(lambda: self._answers("sacctmgr", "-n", "show", "cluster"), "slurmdbd answers")
            self._create_account()
            self._run("slurmctld", "-D")
            self._wait(lambda: self._answers("scontrol", "show", "config"), "slurmctld answers")
            # Entered before slurmd, so that the steps are killed after slurmd has stopped and none can start again.
            self._stack.callback(self._kill_steps)
            if self.limits_memory:
                _remove_cgroups()
            self._run("slurmd", "-D", "-N", "localhost")
            self._wait(lambda: self.command("sinfo", "-h", "-o", "%T").split()[:1] == ["idle"], "the node is idle")

    def _start_munge(self) -> None:
        key = self.home / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        files = {"socket": "munge.socket", "key-file": key.name, "seed-file": "munge.seed", "pid-file": "munge.pid"}
        options = [f"--{option}={self.home / name}" for option, name in files.items()]
        # --force: munged demands a directory that every user can enter, and only its own user can enter this one.
        self._run("munged", "--foreground", "--force", *options, f"--log-file={self.home}/log/munge.log")
        self._wait((self.home / "munge.socket").exists, "munged answers")

    def _start_database(self) -> None:
        user, data = pwd.getpwuid(os.getuid()).pw_name, self.home / "database"
        with (self.home / "log" / "mariadb-install-db.log").open("w") as log:
            subprocess.run(
                [
                    "mariadb-install-db",
                    "--no-defaults",
                    f"--datadir={data}",
                    f"--user={user}",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--skip-name-resolve",
                ],
                env=self._environment,
                stdout=log,
                stderr=log,
                check=True,
            )
        # Only this user reaches the socket, so no password is needed. The data need not be durable.
        self._run(
            "mariadbd",
            "--no-defaults",
            f"--datadir={data}",
            f"--user={user}",
            f"--socket={self.home}/mysql.socket",
            f"--pid-file={self.home}/mysql.pid",
            "--skip-networking",
            "--skip-grant-tables",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
            "--innodb-lock-wait-timeout=900",
        )
        self._wait((self.home / "mysql.socket").exists, "mariadbd answers")

    def _create_account(self) -> None:
        user = pwd.getpwuid(os.getuid()).pw_name
        lines = [
            "add cluster local",
            f"add account {ACCOUNT}",
            f"add user {user} account={ACCOUNT}",
            # Slurm puts root into the account `root` from the beginning.
            f"modify user {user} set defaultaccount={ACCOUNT}",
        ]
        subprocess.run(
            ["sacctmgr", "-i"],
            input="\n".join(lines),
            env=self._environment,
            check=True,
            text=True,
            capture_output=True,
        )

    def _run(self, *command: str) -> None:
        log = self.home / "log" / f"{command[0]}.log"
        service = Service(command[0], command, environment=self._environment, log=log, directory=self.home)
        self.services.append(service)
        # Without grace: what a daemon would save at its end is not needed.
        self._stack.callback(service.stop, grace=0)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, services=self.services, timeout=60)

    def _answers(self, *words: str) -> bool:
        return subprocess.run(words, env=self._environment, check=False, capture_output=True).returncode == 0

    # --- stopping

    def _kill_steps(self) -> None:
        """Kill the jobs: slurmstepd is no child of slurmd, and the jobs' processes have their own sessions."""
        members: set[psutil.Process] = set()
        while members := related_processes(self._steps(), members):
            kill(members)

    def _steps(self) -> list[int]:
        pids = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "slurmstepd":
                    sockets = process.net_connections("unix")
                    ours = any(str(one.laddr).startswith(f"{self.home}/d/") for one in sockets)
                else:
                    # A process that a job has detached from its slurmstepd.
                    variables = process.environ()
                    ours = "SLURM_JOB_ID" in variables and self.environment.items() <= variables.items()
                if ours:
                    pids.append(process.pid)
        return pids

    # --- configuration

    def _configure(self, controller: int, daemon: int, database: int) -> None:
        user = pwd.getpwuid(os.getuid()).pw_name
        # A requeued job waits until its old credential has expired, which takes two minutes by default.
        auth = f"AuthType=auth/munge\nAuthInfo=socket={self.home}/munge.socket,cred_expire={REQUEUE_SECONDS}\n"
        task, select = ("cgroup", "CR_CPU_Memory") if self.limits_memory else ("none", "CR_CPU")
        if self.limits_memory:
            (self.home / "cgroup.conf").write_text(f"""\
CgroupPlugin=cgroup/v1
CgroupMountpoint={MEMORY_CGROUP.parent}
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
""")
        (self.home / "slurm.conf").write_text(f"""\
ClusterName=local
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
{auth}CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={self.home}/ctld
SlurmdSpoolDir={self.home}/d
SlurmctldPidFile={self.home}/slurmctld.pid
SlurmdPidFile={self.home}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/{task}
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters={select}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=3
MinJobAge=300
MaxArraySize=10000
MaxJobCount=50000
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database}
AccountingStoragePass={self.home}/munge.socket
AccountingStorageEnforce=associations,limits
AccountingStoreFlags=job_env,job_script,job_comment
DefMemPerCPU=1000
NodeName=localhost NodeAddr=127.0.0.1 Port={daemon} CPUs={self.cpus} RealMemory=16000 State=UNKNOWN Feature=mc
PartitionName=DEFAULT Nodes=localhost State=UP DefaultTime=10:00 MaxTime=1-00:00:00 PriorityTier=1
PartitionName=normal Default=YES OverSubscribe=YES
PartitionName=debug DefaultTime=5:00 MaxTime=30:00
PartitionName=low PreemptMode=CANCEL
PartitionName=lowrequeue PreemptMode=REQUEUE
PartitionName=high PriorityTier=100 PreemptMode=OFF
""")
        secret = self.home / "slurmdbd.conf"
        secret.touch(mode=0o600)
        secret.write_text(f"""\
{auth}DbdAddr=127.0.0.1
DbdHost=localhost
DbdPort={database}
SlurmUser={user}
PidFile={self.home}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm
""")


def _remove_cgroups() -> None:
    """Remove what an earlier Slurm has left, with the limits of jobs whose numbers come again."""
    for directory, _, _ in os.walk(MEMORY_CGROUP / "slurm_localhost", topdown=False):
        with suppress(OSError):  # a process is in it
            Path(directory).rmdir()
