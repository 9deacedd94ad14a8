"""Makes jobs from a submission, with sbatch's checks and messages."""

# Clients' paths are text here, as they are written in requests and scripts.
# ruff: noqa: PTH118, PTH119

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import replace

from firecrest_local.errors import CommandTimeout, PolicyLimitExceeded, SchedulerError
from firecrest_local.files.confinement import Confinement
from firecrest_local.files.opening import open_regular
from firecrest_local.scheduler.interface import JobDescription
from firecrest_local.scheduler.jobs.arrays import ArraySpec, parse_array
from firecrest_local.scheduler.jobs.dependencies import Dependencies, parse_dependencies
from firecrest_local.scheduler.jobs.directives import parse_directives
from firecrest_local.scheduler.jobs.durations import parse_begin, parse_duration
from firecrest_local.scheduler.jobs.job import NODE, Job, expand_pattern
from firecrest_local.scheduler.jobs.memory import parse_memory
from firecrest_local.settings import Partition, Settings

#: Characters of a script: Slurm's default of `max_script_size`.
_LARGEST_SCRIPT = 4 * 1024 * 1024


def refused(reason: str, *before: str) -> SchedulerError:
    """Make the error with which the controller refuses a job."""
    return SchedulerError(*before, f"sbatch: error: Batch job submission failed: {reason}")


def over_submit_limit() -> PolicyLimitExceeded:
    """Make the error with which the controller refuses one job too many."""
    return PolicyLimitExceeded(
        "sbatch: error: AssocMaxSubmitJobLimit",
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
        "(job submit limit, user's size and/or time limits)",
    )


def read_script(description: JobDescription, confinement: Confinement) -> tuple[str, str]:
    """Read the script, and the name that a job has by default.

    :raises CommandTimeout: there is no script; sbatch would wait for it on its standard input.
    :raises SchedulerError: the script can't be read, or isn't a batch script.
    """
    name = "sbatch"
    if description.script_path:
        path = description.script_path
        name = os.path.basename(path)
        try:
            if not confinement.holds(os.path.join(confinement.root, path)):
                raise FileNotFoundError(path)
            with open_regular(os.path.join(confinement.root, path), "rb") as file:
                script = file.read(_LARGEST_SCRIPT + 1).decode()
        except (OSError, UnicodeDecodeError):
            raise SchedulerError(f"sbatch: error: Unable to open file {path}") from None
    elif description.script:
        script = description.script
    else:
        raise CommandTimeout
    if len(script) > _LARGEST_SCRIPT:
        raise refused("Job script exceeds the maximum size")
    if not script.startswith("#!"):
        raise SchedulerError(
            "sbatch: error: This does not look like a batch script.  The first",
            "sbatch: error: line must start with #! followed by the path to an interpreter.",
            "sbatch: error: For instance: #!/bin/sh",
        )
    if "\r\n" in script:
        raise SchedulerError(
            "sbatch: error: Batch script contains DOS line breaks (\\r\\n)",
            "sbatch: error: instead of expected UNIX line breaks (\\n).",
        )
    return script, name


def exported(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables as `--export` passes them.

    They are joined with commas, so a comma in a value begins another variable.
    """
    joined = ",".join(f"{name}={value}" for name, value in environment.items())
    pairs = (item.partition("=") for item in joined.split(","))
    return {name: value for name, equals, value in pairs if equals and name}


def build_jobs(
    description: JobDescription, job_id: int, user: str, settings: Settings, confinement: Confinement
) -> list[Job]:
    """Make the job, or the elements of an array in their order.

    :param description: the submission.
    :param job_id: the next free id. An array takes as many ids as it has elements.
    :param user: the user's name.
    :param settings: the cluster.
    :param confinement: the paths that exist for clients.
    :raises CommandTimeout: sbatch would hang.
    :raises SchedulerError: sbatch would refuse.
    """
    try:
        return _build_jobs(description, job_id, user, settings, confinement)
    except (ValueError, OverflowError):
        # For example a number with more digits than anything counts.
        raise refused("Invalid numeric value in the job's options") from None


def _build_jobs(
    description: JobDescription, job_id: int, user: str, settings: Settings, confinement: Confinement
) -> list[Job]:
    script, default_name = read_script(description, confinement)
    options = parse_directives(script)
    partition = _partition(description.partition or options.get("partition"), settings)
    nodes = _number(options, "nodes", 1, pattern=r"(\d+)(?:-\d+)?")
    cpus_per_task = _number(options, "cpus-per-task", 1)
    per_node = _number(options, "ntasks-per-node", 1)
    ntasks = _number(options, "ntasks", nodes * per_node)
    gpus = _gpus(options, nodes, ntasks)
    cpus = max(ntasks * cpus_per_task, nodes)
    available = partition.cores or settings.node_cores
    if nodes == 1 and cpus > available:
        raise refused(
            "Requested node configuration is not available",
            "sbatch: error: CPU count per node can not be satisfied",
        )
    if gpus > settings.gpus:
        raise refused("Requested node configuration is not available")
    constraints = description.constraints or options.get("constraint", "")
    if not set(re.findall(r"[A-Za-z_][\w.-]*", constraints)) <= set(settings.features):
        raise refused("Invalid feature specification")
    reservation = description.reservation or options.get("reservation")
    if reservation:
        raise refused("Requested reservation is invalid")
    array = _array(options, settings)
    warning_signal, warning_seconds, warn_batch = _warning(options)
    job = Job(
        id=job_id,
        name=description.name or options.get("job-name") or default_name,
        user=user,
        account=_account(description.account or options.get("account"), settings),
        partition=partition.name,
        working_dir=os.path.normpath(os.path.join(confinement.root, description.working_dir)),
        script=script,
        standard_input="",
        standard_output="",
        standard_error="",
        environment=exported(dict(description.environment)),
        submitted=time.time(),
        nodes=nodes,
        ntasks=ntasks,
        cpus_per_task=cpus_per_task,
        cpus=available if "exclusive" in options else cpus,
        gpus=gpus,
        memory=_memory(options, nodes, cpus, gpus),
        limit=_limit(options, partition),
        hold="hold" in options or options.get("priority") == "0",
        begin=_begin(options),
        dependencies=_dependencies(options),
        kill_on_invalid_dependency=options.get("kill-on-invalid-dep", "no").lower() == "yes",
        warning_signal=warning_signal,
        warning_seconds=warning_seconds,
        warn_batch=warn_batch,
        options=options,
    )
    if array is None:
        return [_with_files(job, description)]
    # Slurm splits one element after the other from the array's record, so the last one keeps the array's id.
    ids = [*range(job_id + 1, job_id + len(array.indices)), job_id]
    return [
        _with_files(
            replace(
                job,
                id=element_id,
                array_id=job_id,
                task_id=index,
                task_ids=array.indices,
                throttle=array.throttle,
                array_step=array.step,
            ),
            description,
        )
        for element_id, index in zip(ids, array.indices, strict=True)
    ]


def _with_files(job: Job, description: JobDescription) -> Job:
    default = "slurm-%j.out" if job.array_id is None else "slurm-%A_%a.out"
    output = description.standard_output or job.options.get("output") or default
    error = description.standard_error or job.options.get("error") or output
    given = description.standard_input or job.options.get("input") or "/dev/null"

    def place(pattern: str) -> str:
        return os.path.join(job.working_dir, expand_pattern(pattern, job, NODE))

    return replace(job, standard_input=place(given), standard_output=place(output), standard_error=place(error))


def _partition(name: str | None, settings: Settings) -> Partition:
    if name is None:
        return settings.partitions[0]
    # With several names, Slurm takes the partition that can start the job first. Here it is the first that exists.
    for wanted in name.split(","):
        for partition in settings.partitions:
            if partition.name == wanted:
                return partition
    raise refused("Invalid partition name specified", f"sbatch: error: invalid partition specified: {name}")


def _account(name: str | None, settings: Settings) -> str:
    if not name:
        return settings.accounts[0]
    # Slurm's account names are lower case.
    if name.lower() not in settings.accounts:
        raise refused("Invalid account or account/partition combination specified")
    return name.lower()


def _number(options: dict[str, str], name: str, default: int, *, pattern: str = r"(\d+)") -> int:
    if name not in options:
        return default
    match = re.fullmatch(pattern, options[name])
    if match is None or int(match[1]) < 1:
        if name == "nodes":
            raise SchedulerError(f"sbatch: error: Invalid node count: {options[name]}")
        raise SchedulerError(f'sbatch: error: Invalid numeric value "{options[name]}" for --{name}.')
    return int(match[1])


def _memory(options: dict[str, str], nodes: int, cpus: int, gpus: int) -> int | None:
    """Return the memory of the whole job in bytes, by whichever option it is requested; None for all of the node's."""
    for name, factor in (("mem", nodes), ("mem-per-cpu", cpus), ("mem-per-gpu", gpus)):
        if name in options:
            try:
                return parse_memory(options[name]) * factor or None
            except ValueError:
                raise SchedulerError(f"sbatch: error: Invalid --{name} specification") from None
    return None


def _gpus(options: dict[str, str], nodes: int, ntasks: int) -> int:
    """Count the GPUs that are requested in all, by whichever option."""

    def count(text: str) -> int:
        last = text.rsplit(":", 1)[-1]
        if last.isdigit():
            return int(last)
        if ":" in text or not last:
            raise refused("Invalid generic resource (gres) specification")
        return 1

    requested = [0]
    for name, factor in (("gpus", 1), ("gpus-per-node", nodes), ("gpus-per-task", ntasks)):
        if name in options:
            requested.append(sum(count(part) for part in options[name].split(",")) * factor)
    for part in options.get("gres", "").split(","):
        kind, _, amount = part.partition(":")
        if kind == "gpu":
            requested.append(count(amount or "1") * nodes)
        elif kind and kind != "none":
            raise refused("Invalid generic resource (gres) specification")
    return max(requested)


def _limit(options: dict[str, str], partition: Partition) -> int | None:
    if "time" not in options:
        return partition.default_time
    try:
        return parse_duration(options["time"])
    except ValueError:
        raise SchedulerError("sbatch: error: Invalid --time specification") from None


def _begin(options: dict[str, str]) -> float | None:
    if "begin" not in options:
        return None
    try:
        return parse_begin(options["begin"])
    except ValueError:
        raise SchedulerError(f"sbatch: error: Invalid time specification {options['begin']}") from None


def _dependencies(options: dict[str, str]) -> Dependencies:
    if not options.get("dependency"):
        return Dependencies()
    try:
        return parse_dependencies(options["dependency"])
    except ValueError:
        raise refused("Job dependency problem") from None


def _array(options: dict[str, str], settings: Settings) -> ArraySpec | None:
    if "array" not in options:
        return None
    try:
        return parse_array(options["array"], settings.max_array_size)
    except ValueError:
        raise refused("Invalid job array specification") from None


def _warning(options: dict[str, str]) -> tuple[int | None, int, bool]:
    """Read `--signal=[R][B:]signal[@seconds]`."""
    if "signal" not in options:
        return None, 60, False
    match = re.fullmatch(r"(?:[RB]+:)?(\w+)(?:@(\d+))?", options["signal"])
    try:
        if match is None:
            raise ValueError(options["signal"])
        name = match[1].upper()
        number = int(name) if name.isdigit() else signal.Signals[f"SIG{name.removeprefix('SIG')}"].value
    except (ValueError, KeyError):
        raise SchedulerError("sbatch: error: Invalid --signal specification") from None
    flags = options["signal"].partition(":")[0] if ":" in options["signal"] else ""
    return number, int(match[2] or 60), "B" in flags
