"""A job specification as a batch script, and as the request that FirecREST takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from firecrest_core.api.submit_request import SubmitRequest
from firecrest_core.errors import InvalidJobSpec
from firecrest_core.spec import options, pbs, quantities, script, shell, slurm
from firecrest_core.spec.jobspec import JobSpec, Scheduler


def may_start_again(spec: JobSpec, scheduler: Scheduler) -> bool:
    """Tell whether the script may be started more than once: as an array, or by a scheduler that runs the job again.

    :param spec: the job, with a script
    :param scheduler: ``slurm`` or ``pbs``
    """
    own = options.script_options(spec.text, scheduler)
    again = slurm.may_run_again(spec, own) if scheduler == "slurm" else pbs.may_run_again(spec, own)
    return again or spec.array is not None or "array" in own


def render(
    spec: JobSpec,
    scheduler: Scheduler = "slurm",
    *,
    prologue: Sequence[str] = (),
    secrets: Sequence[str] = (),
    at_end: str = "",
) -> str:
    """Return the batch script with its directives.

    :param spec: the job
    :param scheduler: ``slurm`` or ``pbs``
    :param prologue: lines of POSIX shell to run first, before the environment is changed
    :param secrets: lines of POSIX shell that export the job's secrets, which stand nowhere else in the script
    :param at_end: a command for the end of the outer script, if the script is not for a POSIX shell
    :raises InvalidJobSpec: the scheduler cannot express a field, or the script is a ``script_path``
    """
    if spec.script_path is not None:
        raise InvalidJobSpec("script_path", "a file on the cluster cannot be rendered")
    spec.check_working_dir()
    spec = _with_task_for_each_gpu(spec)
    text = spec.text
    own = options.script_options(text, scheduler)
    setup = list(prologue)
    if scheduler == "slurm":
        first: list[str] = []
        last = slurm.directives(spec, own)
    elif scheduler == "pbs":
        first, last = pbs.directives(spec, own)
        # FirecREST calls qsub in the working directory, but PBS starts jobs in the home directory.
        setup.insert(0, f"cd {shell.quote(spec.working_dir)} || exit 1")
    else:
        raise ValueError(f"{scheduler!r} is no scheduler; 'slurm' and 'pbs' are")
    head, body = script.with_directives(text, first, last)
    # The values of PATH and the like must not change what the lines for the secrets call.
    exports = [*secrets, *script.exports(spec.plain_environment), *script.load_modules(spec.modules), *spec.setup]
    if shell.posix_shell(script.interpreter(text)):
        setup += exports
    elif setup or exports or spec.login_shell:
        # The outer script needs only the directives from the head of the original.
        head = ["#!/bin/bash", *(line for line in head[1:] if script.is_directive(line))]
        body = script.wrapped(text, exports, at_end)
    if spec.login_shell:
        head = [script.login_line(text), *head[1:]]
    return "\n".join([*head, *setup, *body]) + "\n"


def submit_request(
    spec: JobSpec,
    scheduler: Scheduler = "slurm",
    *,
    prologue: Sequence[str] = (),
    secrets: Sequence[str] = (),
    at_end: str = "",
) -> SubmitRequest:
    """Return the body of the request that submits a job.

    :param spec: the job
    :param scheduler: ``slurm`` or ``pbs``
    :param prologue: as for :func:`render`
    :param secrets: as for :func:`render`
    :param at_end: as for :func:`render`
    :raises InvalidJobSpec: the scheduler cannot express a field, or the field cannot be used with a ``script_path``
    """
    if spec.secrets and not secrets:
        raise ValueError(f"the lines are missing that read {', '.join(spec.secrets)}")
    if spec.script_path is not None:
        _check_script_path(spec, scheduler)
        text = None
    else:
        text = render(spec, scheduler, prologue=prologue, secrets=secrets, at_end=at_end)
    return SubmitRequest(
        name=spec.name,
        working_directory=spec.working_dir,
        script=text,
        script_path=spec.script_path,
        account=spec.account,
        partition=spec.partition,
        reservation=spec.reservation,
        constraints=spec.constraint,
        standard_output=spec.stdout,
        standard_error=spec.stderr,
        env=spec.plain_environment or None if spec.script_path is not None else None,
    )


def _with_task_for_each_gpu(spec: JobSpec) -> JobSpec:
    """Return a job with a number of tasks, if a launcher starts a process for each and the job asks for GPUs alone."""
    if spec.launcher not in ("srun", "mpirun") or spec.ntasks is not None or spec.ntasks_per_node is not None:
        return spec
    gpus, each = quantities.gpu_count(spec.gpus), quantities.gpu_count(spec.gpus_per_node)
    if gpus:
        return replace(spec, ntasks=gpus)
    return replace(spec, ntasks_per_node=each) if each else spec


def _check_script_path(spec: JobSpec, scheduler: Scheduler) -> None:
    """Refuse the fields that need a directive in the script, because FirecREST has no field for them."""
    if scheduler == "pbs" and (spec.reservation is not None and spec.partition is not None):
        raise InvalidJobSpec("reservation", "in PBS a reservation is a queue of its own; leave `partition` out")
    possible = {
        "working_dir",
        "script_path",
        "name",
        "account",
        "partition",
        "reservation",
        "stdout",
        "stderr",
        "usage",
    }
    possible |= {"environment", "constraint"} if scheduler == "slurm" else {"environment"}
    for field in spec.to_mapping():
        if field not in possible:
            where = "put it into the file itself" if scheduler == "slurm" else "send the script's text instead"
            raise InvalidJobSpec(field, f"nothing can be added to a script_path; {where}")
    for name, value in spec.plain_environment.items():
        # FirecREST joins the variables with commas, and sbatch and qsub interpret quotes and backslashes in the result.
        if set(value) & set(",'\"\\\n\r"):
            raise InvalidJobSpec(
                "environment", f"{name}: a comma, quote, backslash or new line does not reach a script_path whole"
            )
