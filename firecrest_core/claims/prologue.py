"""The prologue: lines of shell that let a script run only in the job that holds the claim."""

from __future__ import annotations

from collections.abc import Sequence

from firecrest_core.jobs.key import ClaimKey, claims_home
from firecrest_core.spec.jobspec import Scheduler
from firecrest_core.spec.shell import quote

FORGOTTEN_AFTER = 90
"""Days after its last change in which the directory of another task is removed.

A claim is in use from the start of its job until the engine has read the job's end, and longer while a duplicate waits
in the queue. So this has to be more than the longest time limit of any site (weeks), and the longest wait for an engine
that is down. Scratch file systems are purged after a month or two, which is the same to a job of this length.
"""


def prologue(
    key: ClaimKey,
    working_dir: str,
    name: str,
    scheduler: Scheduler = "slurm",
    *,
    gate: Sequence[str] = (),
    shared_output: bool = False,
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
    :param gate: the lines that wait until the job may claim, of :mod:`firecrest_core.claims.gate`
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
        f"    workdir={quote(working_dir)}; tasks={quote(claims_home(working_dir, key.identity))}",
        f'    claims="$tasks/{key.epoch}.{key.generation}"; job={job}; job=${{job%%[!0-9]*}}',
        '    fail() { printf "firecrest: %s\\n" "$1" >&2; exit 1; }',
        '    [ -n "$job" ] || fail "no job id in the environment, so this job cannot claim its task"',
        # Slurm runs a job in another directory if its own does not exist, and `mkdir -p` would create a misspelt path.
        '    [ -d "$workdir" ] || fail "$workdir is no directory on $(uname -n)"',
        *gate,
        '    problem=$({ mkdir -p "$claims" && ln -sn "$claims/job-$job" "$claims/claim"; } 2>&1) || {',
        '        holder=$(readlink "$claims/claim") || fail "this job cannot claim its task: $problem"',
        '        [ "${holder##*/}" = "job-$job" ] || exit 100',
        "    }",
        # This comes after the claim. The caller that begins a new epoch makes its directory first and reads the claims
        # second, so at least one of the two finds the other.
        '    for other in "$tasks"/*; do',
        f'        other=${{other##*/}}; if [ "${{other%%.*}}" -gt {key.epoch} ]; then exit 100; fi',
        "    done 2> /dev/null",
        *_pruning(key),
        ") || case $? in 100) exit 0 ;; *) exit 1 ;; esac",
    ]
    if shared_output:
        lines += [f"if [ -f /dev/{stream} ]; then : >| /dev/{stream}; fi" for stream in ("stdout", "stderr")]
    return [*lines, f"export {variable}={quote(name)}"]


def _pruning(key: ClaimKey) -> Sequence[str]:
    """Return lines that remove what crashes have left of other tasks, once a day for each working directory.

    The first job of a day makes a link with the day's name, which is atomic, unless its task is the only one there. All
    this is in the background, because a metadata server may be slow. One `find` reads `.firecrest` alone (`! -name .
    -prune` is the portable form of `-maxdepth 1`). A second one looks into each old directory for anything younger,
    because the claim may have been made long after its directory.
    """
    old = f"-mtime +{FORGOTTEN_AFTER}"
    each = f'for task; do [ -n "$(find "$task" ! {old})" ] || rm -rf "$task"; done'
    return (
        "    {",
        "        all=${tasks%/*}; stamp=.pruned-$(date -u +%Y%m%d)",
        '        [ -h "$all/$stamp" ] || { set -- "$all"/*; [ $# = 1 ]; } || ! ln -s "$stamp" "$all/$stamp" || {',
        '            find "$all/." ! -name . -prune -name ".pruned-*" ! -name "$stamp" -exec rm -f {} +',
        f'            find "$all/." ! -name . -prune -type d ! -name {key.identity} {old} \\',
        f"                -exec sh -c {quote(each)} sh {{}} +",
        "        }",
        "    } < /dev/null > /dev/null 2>&1 &",
    )
