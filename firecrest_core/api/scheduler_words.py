"""What the scheduler's own words say about a submission: they refuse the job, or they leave open whether it exists.

FirecREST answers 500 to every failed submission, and passes on what ``sbatch``, ``qsub`` or Slurm's REST server said.
Words that speak of the site never refuse a job: ``sbatch`` also fails when the controller is busy, when the
controller's answer is lost after it has taken the job, and when the login node cannot run the command. Unknown words of
Slurm do not refuse it either. Sites may refuse a job in words of their own: in Slurm by a plugin, in PBS by a hook.

Facts: Slurm's messages are those that ``slurm_strerror`` of Slurm 22.05 returns, and those of PBS are in OpenPBS's
``pbs_messages.c``. FirecREST's wrapping is in its ``sbatch_command.py``, ``qsub_command.py`` and
``slurm_rest_client.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

# The words refuse the job even if nothing changes at the site.
_OF_THE_JOB = re.compile(
    r"""
      \b(invalid|illegal|unrecognized|unsupported|unauthorized|duplicate|circular|inconsistent|missing|violates)\b
    | \b(not\ (permitted|supported|specified|allowed)|denied|too\ (long|large|many|few)|exceed(s|ed)?|breached)\b
    | \bmore\ ((?!\bmore\b).)*\bthan\b | \bmust\b | \bneeds?\ to\ be\b | \brequire[sd]\b | \bonly\ one\b
    | \bcannot\ request\b
    | \bno\ (default|partition|such|script)\b | \bunknown\ (queue|resource|node|option)\b | \bbad\ [ug]id\b | \busage:
    | node\ configuration\ is\ not\ available | by\ task\ is\ not\ available | insufficient\ gres
    | nodes\ not\ in\ this\ partition | dependency\ problem | unable\ to\ open\ file | is\ empty
    | not\ look\ like\ a\ batch\ script | line\ breaks | not\ a\ valid | could\ not\ be\ (found|parsed|opened)
    | \bcan\ not\ be\ satisfied\b | \bunbalanced\b | \bforwarding\ not\ available\b | \bnot\ (a\ )?subset\b
    """,
    re.IGNORECASE | re.VERBOSE,
)

# The words speak of the site: the controller, the network, the authentication, a resource that comes back.
_OF_THE_SITE = re.compile(
    r"""
      \b(credentials?|munge|authenticat\w+|protocol|controller|slurmctld|database|socket|connect\w*|communication)\b
    | \btry\ again\b | \btemporarily\b | \btimed\ out\b | \bunexpected\ message\b | \bzero\ bytes\b | \bI/O\ error\b
    | \binternal\ error\b | \bcannot\ allocate\b | \bno\ space\ left\b | \bmessage\ length\b | \bdisabled\b
    | not\ available\ \( | \bnot\ (available|usable)\ now\b | \bend\ of\ file\b | \bs_p_parse_file\b
    | \bconfiguration\ (file|source)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)

# What sbatch says last for any error. Slurm's text for an error without a number is no reason by itself, but a site's
# plugin job_submit ends with it after it has told the user the reason in lines of its own.
_FAILED = "Batch job submission failed: "
_NO_REASON = "Unspecified error"

# How FirecREST begins its 403 when sbatch names a limit (since 2.5.5; 500 before, as for any error).
_OVER_A_LIMIT = "Job submission rejected: accounting/QOS policy limit exceeded."

_COMMAND = re.compile(r"(?:sbatch|qsub): (?:(?:error|fatal): )?(?P<text>.*)")
# What a line quotes of the job: values, and paths.
_QUOTED = re.compile(r""" "[^"]*" | '[^']*' | (?<!\w)/\S+ | (?<=specified:)\ \S+ """, re.VERBOSE)


def refusal(message: str) -> str:
    """Return why the scheduler certainly refused a job.

    :param message: the server's error message
    :returns: the scheduler's words without the server's wrapping, or an empty text if they leave open whether the job
        exists
    """
    lines = list(scheduler_lines(message))
    # If the controller has answered, its words decide and not what sbatch says before.
    verdicts = [line.removeprefix(_FAILED) for line in lines if line.startswith(_FAILED)] or lines
    # A plugin of Slurm gives its reason before that last line. qsub has no such line.
    by_plugin = verdicts == [_NO_REASON] and len(lines) > 1
    in_own_words = by_plugin or (bool(lines) and "Unexpected PBS command response." in message)
    words = [_QUOTED.sub("", line) for line in (lines if in_own_words else verdicts)]
    if any(map(_OF_THE_SITE.search, words)):
        return ""
    return " ".join(lines) if in_own_words or any(map(_OF_THE_JOB.search, words)) else ""


def scheduler_lines(message: str) -> Iterator[str]:
    """Yield the lines that the scheduler's command or REST server has written, without their prefixes.

    Other lines in the standard error come from the login node: of sshd, of the shell, of its profile.

    :param message: the server's error message
    """
    _, found, stderr = message.partition("std_err:")
    if not found and message.startswith(_OVER_A_LIMIT):
        found, stderr = _OVER_A_LIMIT, message.removeprefix(_OVER_A_LIMIT)
    if found:
        for line in stderr.partition(" stdout:")[0].splitlines():  # qsub's stdout, which is empty
            match = _COMMAND.match(line.strip())
            if match is not None and match["text"].strip():
                yield match["text"].strip()
        return
    if "Unexpected Slurm API response." not in message:
        return
    try:
        body = json.loads(message.partition(" message:")[2])
    except json.JSONDecodeError:
        return
    for error in (body.get("errors") if isinstance(body, dict) else None) or ():
        text = (error.get("error") or error.get("description")) if isinstance(error, dict) else error
        if isinstance(text, str) and text.strip():
            yield text.strip()
