"""The prologue: lines of shell that let a script run only in the job that holds the claim."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from firecrest_core.jobs.key import ClaimKey, claims_home
from firecrest_core.spec.jobspec import Scheduler


def prologue(
    key: ClaimKey, working_dir: str, name: str, scheduler: Scheduler = "slurm", *, shared_output: bool = False
) -> Sequence[str]:
    """Return lines of POSIX shell that let the rest of the script run only in the job that holds the claim.

    Any other job of the key ends with exit code 0 and without output, because its output may go to the same file. If
    the claim can be neither made nor read, the job ends with exit code 1 and one line on standard error. A job that was
    requeued finds its own claim and runs. An array has one claim with the array's id, so all its elements run and no
    element of another submission does.

    :param key: the key of the claim
    :param working_dir: absolute path of the job's working directory
    :param name: the user's name for the job
    :param scheduler: ``slurm`` or ``pbs``
    :param shared_output: the output's name does not contain the job id, so all jobs of the key write to one file. That
        file is opened for appending, so that a job without the claim does not empty it. The job that runs empties it
        here.
    """
    # The raw id, as in FirecREST's answer to the submission: the number in PBS's 12.server and 12[].server.
    if scheduler == "slurm":
        job, variable = "${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID-}}", "SLURM_JOB_NAME"
    else:
        job, variable = "${PBS_ARRAY_ID:-${PBS_JOBID-}}", "PBS_JOBNAME"
    lines = [
        "# Exactly once: of all jobs that were submitted for this task, the one that holds the claim runs the rest.",
        "(",
        "    set +f; PATH=$PATH:/usr/bin:/bin",
        f"    workdir={shlex.quote(working_dir)}; tasks={shlex.quote(claims_home(working_dir, key.identity))}",
        f'    claims="$tasks/{key.epoch}.{key.generation}"; job={job}; job=${{job%%[!0-9]*}}',
        '    fail() { printf "firecrest: %s\\n" "$1" >&2; exit 1; }',
        '    [ -n "$job" ] || fail "no job id in the environment, so this job cannot claim its task"',
        # Slurm runs a job in another directory if its own does not exist, and `mkdir -p` would create a misspelt path.
        '    [ -d "$workdir" ] || fail "$workdir is no directory on $(uname -n)"',
        '    problem=$({ mkdir -p "$claims" && ln -sn "$claims/job-$job" "$claims/claim"; } 2>&1) || {',
        '        holder=$(readlink "$claims/claim") || fail "this job cannot claim its task: $problem"',
        '        [ "${holder##*/}" = "job-$job" ] || exit 100',
        "    }",
        # This comes after the claim. The caller that begins a new epoch makes its directory first and reads the claims
        # second, so at least one of the two finds the other.
        '    for other in "$tasks"/*; do',
        f'        other=${{other##*/}}; if [ "${{other%%.*}}" -gt {key.epoch} ]; then exit 100; fi',
        "    done 2> /dev/null",
        ") || case $? in 100) exit 0 ;; *) exit 1 ;; esac",
    ]
    if shared_output:
        lines += [f"if [ -f /dev/{stream} ]; then : >| /dev/{stream}; fi" for stream in ("stdout", "stderr")]
    return [*lines, f"export {variable}={shlex.quote(name)}"]
