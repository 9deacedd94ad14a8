"""The limits that make a scheduler refuse a job: some pass with time, and others never do for this job.

A limit on the number of a user's or an account's jobs passes when one of them ends. A limit on the job itself, such as
its time or its nodes, stays.

Facts: Slurm's names are those of ``job_state_reason_string`` of Slurm 22.05, which ``sbatch`` prints before "Job
violates accounting/QOS policy". PBS's sentences are in OpenPBS's ``pbs_messages.c`` and in its tests of limits.
"""

from __future__ import annotations

import re

from firecrest_core.api.scheduler_words import scheduler_lines

# AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit, AssocGrpSubmitJobsLimit, QOSMaxJobsPerAccountLimit, …
_COUNTS_JOBS = re.compile(r"\b(?:Assoc|QOS)(?:Max|Grp)(?:Submit)?Jobs?(?:Per(?:User|Account))?Limit\b", re.IGNORECASE)
# "Maximum number of jobs already in queue q", "would exceed queue generic's per-user limit of jobs in 'Q' state". A
# limit on a resource may be below what this job alone asks for.
_PBS_MAXIMUM = re.compile(r"\bmaximum number of jobs\b.*", re.IGNORECASE)
_PBS_EXCEEDED = re.compile(r"\bwould exceed\b.*", re.IGNORECASE)
# In such a limit only the user's own jobs count, and no others of the account.
_COUNTS_OWN_JOBS = re.compile(r"AssocMax|PerUser|per-user|for user", re.IGNORECASE)

_CONCERNS_JOB = re.compile(r"\b(?:Assoc|QOS)(Max|Min|Grp)(\w*?)(?:Limit|NotSatisfied)\b", re.IGNORECASE)


def passing_limit(message: str) -> str:
    """Return the limit on submitted jobs that is reached, in the scheduler's words.

    :param message: the server's error message
    :returns: for example ``AssocMaxSubmitJobLimit``; an empty text if the message names no such limit
    """
    for line in scheduler_lines(message):
        limit = match[0] if (match := _COUNTS_JOBS.search(line)) else _limit_of_pbs(line)
        if limit:
            return limit
    return ""


def _limit_of_pbs(line: str) -> str:
    if (match := _PBS_MAXIMUM.search(line)) and re.search(r"\balready in\b", match[0], re.IGNORECASE):
        return match[0]
    if (match := _PBS_EXCEEDED.search(line)) and re.search(r"\blimit\b", match[0], re.IGNORECASE):
        return "" if re.search(r"\bon resource\b", match[0], re.IGNORECASE) else match[0]
    return ""


def counts_own_jobs(limit: str) -> bool:
    """Tell whether only the user's own jobs count for a limit.

    :param limit: as :func:`passing_limit` returns it
    """
    return _COUNTS_OWN_JOBS.search(limit) is not None


def advice(refusal: str) -> str:
    """Return what to do about a limit that this job can never keep; an empty text if none is named.

    :param refusal: the scheduler's words
    """
    if "invalid job array specification" in refusal.lower():
        return "Indices have to be below the site's MaxArraySize (`scontrol show config`): split a larger array."
    match = _CONCERNS_JOB.search(refusal)
    if match is None:
        return ""
    if "wall" in match[2].lower():
        return "Lower time_limit: the job's time is above what this account or QOS allows."
    if match[1].lower() == "min":
        return "Ask for more: the job is below what this QOS requires."
    return "Ask for less, or choose another qos: the job alone is above what this account or QOS allows."
