"""The states of a job, and the reasons why it waits: one enum, two tables. Nothing else in the code compares
their texts.

Slurm's names are kept (slurm.schedmd.com/job_state_codes.html and job_reason_codes.html); PBS's letters are
translated into them (PBS Professional Reference Guide, "Job States"), with the exit status telling how a job ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where in its life a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class JobState(StrEnum):
    """What the scheduler says of a job, in Slurm's words."""

    PENDING = "PENDING"
    CONFIGURING = "CONFIGURING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    STOPPED = "STOPPED"
    SIGNALING = "SIGNALING"
    RESIZING = "RESIZING"
    STAGE_OUT = "STAGE_OUT"
    COMPLETING = "COMPLETING"
    REQUEUED = "REQUEUED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    REQUEUE_FED = "REQUEUE_FED"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    DEADLINE = "DEADLINE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    BOOT_FAIL = "BOOT_FAIL"
    PREEMPTED = "PREEMPTED"
    REVOKED = "REVOKED"
    UNKNOWN = "UNKNOWN"

    @property
    def phase(self) -> Phase:
        return _TABLE[self].phase

    @property
    def ended(self) -> bool:
        return self.phase is Phase.ENDED

    @property
    def provisional(self) -> bool:
        """An end after which the scheduler may put the job back into its queue, under the same id."""
        return _TABLE[self].provisional

    @classmethod
    def parse(cls, text: str | Iterable[str] | None, exit_code: int | None = None, *, started: bool = True) -> JobState:
        """Read a state as FirecREST passes it on.

        :param text: ``RUNNING``, ``CANCELLED by 1001``, ``RUNNING,COMPLETING``, a list of such words, or
            one letter of PBS
        :param exit_code: the exit status; PBS ends every job with the letter F and says the rest here
        :param started: whether a start is known; of a job of PBS that was deleted in the queue, FirecREST says F and
            exit status 0
        :returns: ``UNKNOWN`` for a word that is not in the table: such a job is still waited for
        """
        if text is None:
            return cls.UNKNOWN
        joined = text if isinstance(text, str) else " ".join(text)
        words = re.findall(r"[A-Z_]+", joined.upper().partition(" BY ")[0])
        if len(words) == 1 and len(words[0]) == 1:
            return _from_pbs(words[0], exit_code, started)
        states = [cls(word) for word in words if word in cls.__members__]
        # A base state may carry flags, and a flag says more: COMPLETED with COMPLETING has not ended yet.
        flags = [state for state in states if _TABLE[state].flag]
        return (flags or states or [cls.UNKNOWN])[0]


@dataclass(frozen=True, slots=True)
class _Meaning:
    phase: Phase
    flag: bool = False
    provisional: bool = False


_TABLE: dict[JobState, _Meaning] = {
    JobState.PENDING: _Meaning(Phase.WAITING),
    JobState.CONFIGURING: _Meaning(Phase.WAITING, flag=True),
    JobState.RUNNING: _Meaning(Phase.RUNNING),
    JobState.SUSPENDED: _Meaning(Phase.RUNNING),
    JobState.STOPPED: _Meaning(Phase.RUNNING, flag=True),
    JobState.SIGNALING: _Meaning(Phase.RUNNING, flag=True),
    JobState.RESIZING: _Meaning(Phase.RUNNING, flag=True),
    JobState.STAGE_OUT: _Meaning(Phase.RUNNING, flag=True),
    JobState.COMPLETING: _Meaning(Phase.RUNNING, flag=True),
    JobState.REQUEUED: _Meaning(Phase.WAITING, flag=True),
    JobState.REQUEUE_HOLD: _Meaning(Phase.WAITING, flag=True),
    JobState.REQUEUE_FED: _Meaning(Phase.WAITING, flag=True),
    JobState.RESV_DEL_HOLD: _Meaning(Phase.WAITING, flag=True),
    JobState.SPECIAL_EXIT: _Meaning(Phase.WAITING, flag=True),
    JobState.COMPLETED: _Meaning(Phase.ENDED),
    JobState.FAILED: _Meaning(Phase.ENDED),
    JobState.CANCELLED: _Meaning(Phase.ENDED),
    JobState.TIMEOUT: _Meaning(Phase.ENDED),
    JobState.DEADLINE: _Meaning(Phase.ENDED),
    JobState.OUT_OF_MEMORY: _Meaning(Phase.ENDED),
    JobState.NODE_FAIL: _Meaning(Phase.ENDED, provisional=True),
    JobState.BOOT_FAIL: _Meaning(Phase.ENDED, provisional=True),
    JobState.PREEMPTED: _Meaning(Phase.ENDED, provisional=True),
    JobState.REVOKED: _Meaning(Phase.ENDED),
    JobState.UNKNOWN: _Meaning(Phase.WAITING),
}

_PBS_LETTERS = {
    "Q": JobState.PENDING,
    "H": JobState.PENDING,
    "W": JobState.PENDING,
    "T": JobState.PENDING,
    "M": JobState.PENDING,
    "R": JobState.RUNNING,
    "B": JobState.RUNNING,
    "E": JobState.COMPLETING,
    "S": JobState.SUSPENDED,
    "U": JobState.SUSPENDED,
}

# PBS writes 256 + signal where a signal ended the job (qdel sends TERM, then KILL), and negative numbers where it did
# itself (OpenPBS, src/include/job.h, JOB_EXEC_…): over a limit, or because a node's daemon was started anew or lost.
_PBS_ENDS = {
    0: JobState.COMPLETED,
    -29: JobState.TIMEOUT,
    -28: JobState.TIMEOUT,
    -27: JobState.OUT_OF_MEMORY,
    -26: JobState.OUT_OF_MEMORY,
    -20: JobState.NODE_FAIL,
    -14: JobState.NODE_FAIL,
    -7: JobState.NODE_FAIL,
    -6: JobState.NODE_FAIL,
    -5: JobState.NODE_FAIL,
    -4: JobState.NODE_FAIL,
    256 + 9: JobState.CANCELLED,
    256 + 15: JobState.CANCELLED,
}


def _from_pbs(letter: str, exit_code: int | None, started: bool) -> JobState:
    if letter in "FX":
        return _PBS_ENDS.get(exit_code or 0, JobState.FAILED) if exit_code or started else JobState.CANCELLED
    return _PBS_LETTERS.get(letter, JobState.UNKNOWN)


# --- why a job waits ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a job does not start by itself.

    :param advice: what it means and what to do
    :param hopeless: as the job and the site's limits are, it will never start; otherwise somebody holds it, or has
        to act first
    """

    advice: str
    hopeless: bool

    @classmethod
    def parse(cls, text: str | None) -> Reason | None:
        """Read a reason as the scheduler words it; ``None`` for one that passes with time, such as ``Priority``."""
        word = re.match(r"\w+", text or "")
        if word is None:
            return None
        return next((reason for names, reason in _REASONS if re.fullmatch(names, word[0])), None)


def _hopeless(names: str, advice: str) -> tuple[str, Reason]:
    return names, Reason(advice, hopeless=True)


def _held(names: str, advice: str) -> tuple[str, Reason]:
    return names, Reason(advice, hopeless=False)


# The first that fits counts. Limits that other jobs use up (…Grp…, …PerUser, …JobsLimit) pass with time; those for one
# job (…PerJob, …PerNode, …Min…) do not. PartitionConfig, the word of the first moments, soon becomes one of these.
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
        "it was held after it could not be started. Look at its working directory and output paths, then "
        "`scontrol release`.",
    ),
    _held(
        r"(Assoc|QOS)Grp(?!\w*Run)(\w*Minutes\w*|WallLimit)|AssociationTimeLimit|AccountingPolicy"
        "|QOSTimeLimit|QOSUsageThreshold",
        "the budget of its account or QOS is used up. Use another account, or ask the site for more.",
    ),
    _held("PartitionDown|PartitionInactive", "its partition is closed. Wait until the site opens it, or use another."),
)
