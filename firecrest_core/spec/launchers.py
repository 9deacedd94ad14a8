r"""The lines of bash with which a launcher starts a command as many processes, on all nodes of a job.

Each process runs the command by ``bash -c``, so variables in it have their values there, and it may be any line of
shell. The processes of ``srun``, ``torchrun`` and ``ray`` meet at ``MASTER_ADDR`` and ``MASTER_PORT``: the first node,
where Slurm runs the batch script, and a port that follows from the job's id: above those of Ray's workers (19999), and
below those that Linux gives to clients (32768). The job's environment or its setup may name others, for a network of
its own, say.

- ``srun``: a process for each task, with torchrun's variables ``RANK``, ``LOCAL_RANK`` and ``WORLD_SIZE``.
- ``torchrun``: one agent on each node, each with a process for each GPU, or each task of a job without GPUs.
- ``mpirun``: a process for each task. Open MPI, MPICH and Intel MPI read the nodes from Slurm and PBS themselves.
- ``ray``: a Ray node on each node; the command runs once, on the first one, when all have joined.

Facts: Slurm's srun manual, tried with 22.05. Since then, srun takes ``--cpus-per-task`` from its own command line
alone, and a step without that option gets all CPUs of the job. torchrun's manual. Ray's commands, tried with 2.60.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from firecrest_core.spec import shell
from firecrest_core.spec.containers import Container

_MEETING_POINT = (
    ': "${MASTER_ADDR:=$(uname -n)}" "${MASTER_PORT:=$((20000 + SLURM_JOB_ID % 12000))}"',
    "export MASTER_ADDR MASTER_PORT",
)
# If one process fails, the others would wait for it until the time limit.
_SRUN = "srun --kill-on-bad-exit=1"
_SRUN_ON_EACH_NODE = (
    f'{_SRUN} --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpu-bind=none'
)
# What torchrun takes in the place of a program: a Python file, or a module.
_PYTHON = re.compile(r"\s*(?:-m\s|[^\s=]+\.py(?:\s|$))")

# The first task starts the head, the others join it and leave when it has ended. `--block` ends its own processes
# alone; `ray stop` would end those of the user's other jobs on the node, too.
_RAY = """\
head_listens() { (: > "/dev/tcp/$MASTER_ADDR/$MASTER_PORT") 2> /dev/null; }
if [ "$SLURM_PROCID" != 0 ]; then
    until head_listens; do sleep 1; done
    ray start --address="$MASTER_ADDR:$MASTER_PORT" --num-cpus="$SLURM_CPUS_ON_NODE" --block &
    while head_listens && kill -0 $! 2> /dev/null; do sleep 2; done
    kill $! 2> /dev/null
    exit 0
fi
ray start --head --port="$MASTER_PORT" --num-cpus="$SLURM_CPUS_ON_NODE" --include-dashboard=false --block &
export RAY_ADDRESS=$MASTER_ADDR:$MASTER_PORT
until [ "$(ray status 2> /dev/null | grep -c "^ *1 node_")" -ge "$SLURM_NNODES" ]; do
    kill -0 $! 2> /dev/null || { echo "firecrest: the head of Ray has ended, so nothing runs" >&2; exit 1; }
    sleep 1
done
bash -c "$1"
code=$?
kill $! 2> /dev/null
exit $code"""


def start(launcher: str | None, line: str, container: Container | None = None) -> list[str]:
    """Return the lines of bash that run a command.

    :param launcher: one of :data:`LAUNCHERS`; ``None`` runs the command once, on the first node
    :param line: the command, as a line of shell
    :param container: what it runs in. Without a launcher, the batch script as a whole is in that of an EDF
    """
    if launcher is not None:
        return LAUNCHERS[launcher](line, container)
    if container is None or not container.command:
        return [line]
    return [_command(" ".join(container.command), _bash(line))]


def _srun(line: str, container: Container | None) -> list[str]:
    ranks = "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS"
    cpus = '${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"}'
    return [*_MEETING_POINT, _command(f"{_SRUN} {cpus}", *_contained(container), _bash(f"{ranks}\n{line}"))]


def _torchrun(line: str, container: Container | None) -> list[str]:
    return [
        *_MEETING_POINT,
        "processes=${SLURM_GPUS_ON_NODE:-${SLURM_TASKS_PER_NODE%%[!0-9]*}}",
        _command(
            _SRUN_ON_EACH_NODE,
            *_contained(container),
            'torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$processes" --rdzv-backend=c10d',
            '--rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" --no-python',
            _bash(f"python -u {line.strip()}" if _PYTHON.match(line) else line),
        ),
    ]


def _mpirun(line: str, container: Container | None) -> list[str]:
    return [_command('mpirun ${SLURM_NTASKS:+-np "$SLURM_NTASKS"}', *_contained(container), _bash(line))]


def _ray(line: str, container: Container | None) -> list[str]:
    program = _command(_bash(_RAY), "ray", shell.quote(line))
    return [*_MEETING_POINT, _command(_SRUN_ON_EACH_NODE, *_contained(container), program)]


LAUNCHERS: dict[str, Callable[[str, Container | None], list[str]]] = {
    "srun": _srun,
    "torchrun": _torchrun,
    "mpirun": _mpirun,
    "ray": _ray,
}
"""The values of ``launcher``."""


def _contained(container: Container | None) -> list[str]:
    return [" ".join([*container.srun_options, *container.command])] if container else []


def _bash(line: str) -> str:
    return f"bash -c {shell.quote(line)}"


def _command(*parts: str) -> str:
    """Return one command, in a line for each of its parts."""
    return " \\\n    ".join(parts)
