"""What a state or a pending reason means for the user, and what to do about it.

Facts: slurm.schedmd.com/job_reason_codes.html and job_state_codes.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from firecrest_core.states import JobState

# Slurm's own signal number for a script that it could not start (recorded in timelines/bad_workdir.json).
_SIGNAL_OF_FAILED_LAUNCH = 53

_ADVICE = {
    JobState.OUT_OF_MEMORY: "Ask for more memory (`memory`) or more nodes.",
    JobState.TIMEOUT: "Ask for more time (`time_limit`), or write checkpoints.",
    JobState.DEADLINE: "It could not end before its deadline: submit it earlier, or with a later one.",
    JobState.NODE_FAIL: "That is not the job's fault: run it again.",
    JobState.BOOT_FAIL: "That is not the job's fault: run it again.",
    JobState.LAUNCH_FAILED: "Its nodes could not start it: run it again, and tell the site if that happens again.",
    JobState.RECONFIG_FAIL: "Its nodes could not be configured for it: run it again.",
    JobState.PREEMPTED: "A job of higher priority took its place: run it again.",
}


_MORE_MEMORY = _ADVICE[JobState.OUT_OF_MEMORY]

_ADVICE_FOR_SIGNAL = {
    9: f"Signal 9 (KILL) often means that memory ran out. {_MORE_MEMORY}",
    15: "Signal 15 (TERM) means that somebody, or a limit of the site's, stopped a command of it. Ask the site if you "
    "did not.",
    _SIGNAL_OF_FAILED_LAUNCH: "Slurm could not launch it: check that its working directory and output paths can be "
    "written.",
}

# slurmstepd: "Detected 1 oom-kill event(s) in StepId=57.batch", since 21.08 "oom_kill event"; the kernel: "oom-killer".
_OOM_KILL = re.compile(r"(?i)\boom[-_ ]kill(er|ed)?\b")


def signal_of(exit_code: int | None) -> int | None:
    """Return the signal that ended a command, from the exit code of the script.

    A shell ends with 128 + the signal of a command that a signal ended. Up to 22.05 at least, sacct subtracts 128 from
    what is above (tried: ``exit 137`` is shown as 9). So 9 and 15 are taken for 137 and 143, because hardly a program
    ends with them by itself.

    :param exit_code: as the scheduler reports it
    :returns: ``None`` if it tells of no signal
    """
    if exit_code in (9, 15):
        return exit_code
    return exit_code - 128 if exit_code is not None and 128 < exit_code <= 128 + 64 else None


def describe_exit_code(exit_code: int) -> str:
    """Return an exit code in words, with the signal that it tells of."""
    signal = signal_of(exit_code)
    if signal is None:
        return f"exit code {exit_code}"
    return f"exit code {exit_code} ({f'or {128 + signal}, ' if signal == exit_code else ''}signal {signal})"


def advice(state: JobState, signal: int | None = None, exit_code: int | None = None, output: str = "") -> str:
    """Return what to do about a job that ended in ``state``.

    :param state: the state in which the job ended
    :param signal: the signal that ended the job's script, as the scheduler reports it
    :param exit_code: of the job's script, as the scheduler reports it
    :param output: the last lines of the job's output
    :returns: one or two sentences, or an empty text if there is no advice
    """
    if state is not JobState.OUT_OF_MEMORY and _OOM_KILL.search(output):
        return f"Its output says that the kernel killed a process of it because memory ran out. {_MORE_MEMORY}"
    if state in _ADVICE:
        return _ADVICE[state]
    if state is JobState.CANCELLED and signal != _SIGNAL_OF_FAILED_LAUNCH:  # by a signal, like all that are cancelled
        return ""
    return _ADVICE_FOR_SIGNAL.get(signal or signal_of(exit_code) or 0, "")


@dataclass(frozen=True, slots=True)
class PendingReason:
    """Why a job does not start by itself.

    :param advice: what the reason means and what to do
    :param hopeless: ``True``: with the site's limits, the job can never start as it is. ``False``: somebody holds the
        job, or has to act before it can start.
    """

    advice: str
    hopeless: bool

    @classmethod
    def parse(cls, text: str | None) -> PendingReason | None:
        """Read a pending reason of the scheduler.

        :param text: the reason, for example ``QOSMaxCpuPerJobLimit`` or ``launch failed requeued held``
        :returns: ``None`` for a reason that passes with time, such as ``Priority``
        """
        word = re.match(r"\w+", text or "")
        if word is None:
            return None
        return next((reason for names, reason in _REASONS if re.fullmatch(names, word[0])), None)


def _hopeless(names: str, advice: str) -> tuple[str, PendingReason]:
    return names, PendingReason(advice, hopeless=True)


def _held(names: str, advice: str) -> tuple[str, PendingReason]:
    return names, PendingReason(advice, hopeless=False)


# The first pattern that matches is used. Limits that other jobs use up (…Grp…, …PerUser, …JobsLimit) pass with time.
# Limits for one job (…PerJob, …PerNode, …Min…) do not. Slurm gives PartitionConfig only at first, and soon replaces it
# by one of these.
_REASONS = (
    _hopeless("DependencyNeverSatisfied", "a job that it depends on did not end as asked. Submit it anew."),
    _hopeless("PartitionTimeLimit", "its time limit is above the partition's. Ask for less, or for another partition."),
    _hopeless(
        "PartitionNodeLimit",
        "it asks for more or fewer nodes than the partition gives, or its nodes are down. Ask for another number of "
        "nodes, or for another partition.",
    ),
    _hopeless("BadConstraints", "no node has all that it asks for. Change its constraint, cores, memory or GPUs."),
    _hopeless(
        r"(Assoc|QOS)Max\w+Per(Job|Node)(Limit)?|MaxMemPerLimit",
        "it asks for more than one job may have with its account, QOS or partition. Ask for less, or for another one.",
    ),
    _hopeless(r"QOSMin\w+", "it asks for less than its QOS demands. Ask for more, or for another QOS."),
    _hopeless("InvalidAccount|AccountNotAllowed", "its account may not be used there. Name another one."),
    _hopeless("InvalidQOS|QOSNotAllowed", "its QOS may not be used there. Name another one."),
    _hopeless("ReservationDeleted", "its reservation is gone. Submit it anew, without it or with another one."),
    _hopeless("DeadLine", "it cannot end before its deadline any more. Submit it anew with a later one."),
    _held("JobHeldUser", "it is held by its user. It starts after `scontrol release`."),
    _held("JobHeldAdmin", "an administrator holds it. Ask the site."),
    _held(
        "JobHoldMaxRequeue|JobLaunchFailure|launch|launch_failed_requeued_held",
        "it was held after it could not be started. Check its working directory and output paths, then "
        "`scontrol release`.",
    ),
    _held(
        r"(Assoc|QOS)Grp(?!\w*Run)(\w*Minutes\w*|WallLimit)|AssociationTimeLimit|AccountingPolicy"
        "|QOSTimeLimit|QOSUsageThreshold",
        "the budget of its account or QOS is used up. Use another account, or ask the site for more.",
    ),
    _held("PartitionDown|PartitionInactive", "its partition is closed. Wait until the site opens it, or use another."),
)
