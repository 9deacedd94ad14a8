"""The lines of shell that let a script run only in the job that holds the claim."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from firecrest_core.jobs.key import ClaimKey, claims_home
from firecrest_core.spec.jobspec import Scheduler


def prologue(
    key: ClaimKey, working_dir: str, name: str, scheduler: Scheduler = "slurm", *, shared_output: bool = False
) -> Sequence[str]:
    """Return lines of POSIX shell that let what follows run only in the job that holds the claim.

    Any other job of the key ends with exit code 0 and without a word, since its output may be the same file. A
    claim that can be neither made nor read ends the job with exit code 1 and one line on standard error. A job
    that was requeued finds its own claim and runs. An array has one claim, by the array's id: its elements are
    different work, and no element of another submission gets in between.

    :param name: the user's own name for the job
    :param shared_output: the output's name has no job id in it, so that all jobs of the key write one file. It
        is then opened for appending, lest a job that leaves empties it, and emptied here by the one that runs.
    """
    # The raw id, as FirecREST's answer to a submission has it: of PBS's 12.server and 12[].server, the number.
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
        # Slurm runs a job elsewhere whose directory is missing; `mkdir -p` would make one of any misspelt path.
        '    [ -d "$workdir" ] || fail "$workdir is no directory on $(uname -n)"',
        '    problem=$({ mkdir -p "$claims" && ln -sn "$claims/job-$job" "$claims/claim"; } 2>&1) || {',
        '        holder=$(readlink "$claims/claim") || fail "this job cannot claim its task: $problem"',
        '        [ "${holder##*/}" = "job-$job" ] || exit 100',
        "    }",
        # After the claim, not before: whoever begins a new epoch makes its directory first and looks for claims
        # then, so one of the two sees the other.
        '    for other in "$tasks"/*; do',
        f'        other=${{other##*/}}; if [ "${{other%%.*}}" -gt {key.epoch} ]; then exit 100; fi',
        "    done 2> /dev/null",
        ") || case $? in 100) exit 0 ;; *) exit 1 ;; esac",
    ]
    if shared_output:
        lines += [f"if [ -f /dev/{stream} ]; then : >| /dev/{stream}; fi" for stream in ("stdout", "stderr")]
    return [*lines, f"export {variable}={shlex.quote(name)}"]
