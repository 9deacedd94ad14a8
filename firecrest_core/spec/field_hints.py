"""What a user means by a name that is no field of a job: a field by another name, or an option of sbatch.

Facts: the options in Slurm's sbatch manual.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from firecrest_core.near_names import nearest
from firecrest_core.spec.options import SLURM_OPTIONS

# Names that mean a field. The long options of sbatch are in SLURM_OPTIONS.
_SYNONYMS = {
    "allocation": "account", "project": "account",
    "queue": "partition",
    "job": "name", "title": "name",
    "node": "nodes", "n_nodes": "nodes", "nnodes": "nodes", "num_nodes": "nodes", "node_count": "nodes",
    "tasks": "ntasks", "n_tasks": "ntasks", "num_tasks": "ntasks", "ranks": "ntasks", "mpiprocs": "ntasks_per_node",
    "tasks_per_node": "ntasks_per_node",
    "cpus": "cpus_per_task", "cores": "cpus_per_task", "ncpus": "cpus_per_task", "num_cpus": "cpus_per_task",
    "cpu": "cpus_per_task", "threads": "cpus_per_task",
    "gpu": "gpus", "ngpus": "gpus", "num_gpus": "gpus",
    "ram": "memory",
    "walltime": "time_limit", "wall_time": "time_limit", "timeout": "time_limit", "duration": "time_limit",
    "runtime": "time_limit", "max_time": "time_limit",
    "job_array": "array", "array_indices": "array",
    "depends_on": "dependency", "dependencies": "dependency", "depend": "dependency", "after": "dependency",
    "features": "constraint", "constraints": "constraint",
    "env": "environment", "envs": "environment", "env_vars": "environment", "variables": "environment",
    "environment_variables": "environment",
    "image": "container", "edf": "container", "mounts": "container_mounts", "binds": "container_mounts",
    "container_image": "container", "container_engine": "container_runtime",
    "module": "modules", "module_load": "modules", "login": "login_shell",
    "prologue": "setup", "prolog": "setup", "pre_commands": "setup", "before_script": "setup",
    "options": "directives", "extra_args": "directives", "sbatch_args": "directives", "extra_options": "directives",
    "standard_output": "stdout", "standard_error": "stderr", "out": "stdout", "err": "stderr",
    "output_file": "stdout", "error_file": "stderr",
    "workdir": "working_dir", "work_dir": "working_dir", "cwd": "working_dir", "directory": "working_dir",
    "working_directory": "working_dir", "dir": "working_dir",
    "cmd": "command", "commands": "command", "bash_command": "command", "script_text": "script",
    "script_file": "script_path", "remote_script": "script_path", "rerunnable": "requeue",
}  # fmt: skip
# sbatch's options that have no field, and whether a value belongs to them.
_DIRECTIVES = {
    "begin": True, "burst_buffer": True, "clusters": True, "comment": True, "contiguous": False,
    "core_spec": True, "cpu_freq": True, "cpus_per_gpu": True, "deadline": True, "delay_boot": True,
    "distribution": True, "exclude": True, "exclusive": False, "export": True, "extra_node_info": True,
    "get_user_env": False, "gpu_bind": True, "gpu_freq": True, "gpus_per_socket": True, "gpus_per_task": True,
    "gres": True, "gres_flags": True, "hint": True, "hold": False, "kill_on_invalid_dep": True, "licenses": True,
    "mail_type": True, "mail_user": True, "mem_per_cpu": True, "mem_per_gpu": True, "mincpus": True,
    "network": True, "nice": True, "nodefile": True, "nodelist": True, "ntasks_per_core": True, "ntasks_per_gpu": True,
    "ntasks_per_socket": True, "open_mode": True, "overcommit": False, "oversubscribe": False, "prefer": True,
    "priority": True, "profile": True, "propagate": True, "reboot": False, "sockets_per_node": True,
    "spread_job": False, "switches": True, "thread_spec": True, "threads_per_core": True, "time_min": True,
    "tmp": True, "use_min_nodes": False, "wait_all_nodes": True, "wckey": True,
}  # fmt: skip


def meaning(name: str, fields: Iterable[str]) -> str | None:
    """Return what to write in the place of a name that is no field of a job; ``None`` if that cannot be told.

    :param name: the name, in any spelling: ``mem-per-cpu``, ``workingDirectory``
    :param fields: the fields of a job, and what else may be given
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").strip("_ ")
    meant = {option.replace("-", "_"): field for field, option in SLURM_OPTIONS.items()}
    meant |= _SYNONYMS | {field: field for field in fields}
    if snake in meant:
        return f"did you mean {meant[snake]!r}?"
    if snake in _DIRECTIVES:
        value = "=…" if _DIRECTIVES[snake] else ""
        return f"give it as an option of the scheduler, directives=['--{snake.replace('_', '-')}{value}']"
    if near := nearest(snake, meant, likeness=0.75):
        return f"did you mean {meant[near]!r}?"
    return None
