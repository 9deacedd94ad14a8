"""The states of a job. All code compares members of this enum, never the scheduler's texts.

The names are Slurm's (slurm.schedmd.com/job_state_codes.html and job_reason_codes.html; "JOB STATE CODES" in the
manuals of squeue and sacct). PBS's letters are translated into them (PBS Professional Reference Guide, "Job States").
Its exit status says how a job ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class Phase(StrEnum):
    """The phase of a job's life: waiting, running or ended."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class JobState(StrEnum):
    """The state of a job, with Slurm's names."""

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
    LAUNCH_FAILED = "LAUNCH_FAILED"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    POWER_UP_NODE = "POWER_UP_NODE"
    UPDATE_DB = "UPDATE_DB"
    EXPEDITING = "EXPEDITING"
    UNKNOWN = "UNKNOWN"

    @property
    def phase(self) -> Phase:
        """The phase that this state belongs to."""
        return _TABLE[self].phase

    @property
    def ended(self) -> bool:
        """Whether the job has ended, well or not."""
        return self.phase is Phase.ENDED

    @property
    def provisional(self) -> bool:
        """Whether the scheduler may put the job back into its queue after this end, under the same id."""
        return _TABLE[self].provisional

    @classmethod
    def parse(cls, text: str | Iterable[str] | None, exit_code: int | None = None, *, started: bool = True) -> JobState:
        """Read a state in the form in which FirecREST passes it on.

        :param text: ``RUNNING``, ``CANCELLED by 1001``, ``RUNNING,COMPLETING``, ``OUT_OF_ME+`` as sacct cuts a word,
            Slurm's short code ``CD``, a list of such words, or one letter of PBS
        :param exit_code: the exit status. PBS gives every ended job the letter F, and only this says how it ended.
        :param started: whether the job has a start time. For a PBS job that was deleted in the queue, FirecREST
            reports F and exit status 0.
        :returns: ``UNKNOWN`` for an unknown word; such a job counts as waiting
        """
        if text is None:
            return cls.UNKNOWN
        joined = text if isinstance(text, str) else " ".join(text)
        return _read(joined[:_LONGEST_STATE], exit_code, started)


@dataclass(frozen=True, slots=True)
class _Meaning:
    phase: Phase
    flag: bool = False
    remark: bool = False
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
    # Slurm requeues a job that could not be launched, if it may.
    JobState.LAUNCH_FAILED: _Meaning(Phase.ENDED, remark=True, provisional=True),
    JobState.RECONFIG_FAIL: _Meaning(Phase.ENDED, remark=True, provisional=True),
    JobState.POWER_UP_NODE: _Meaning(Phase.WAITING, remark=True),
    JobState.UPDATE_DB: _Meaning(Phase.RUNNING, remark=True),
    JobState.EXPEDITING: _Meaning(Phase.WAITING, remark=True),
    JobState.UNKNOWN: _Meaning(Phase.WAITING),
}

# Those of one letter (F, R, S) are PBS's, too, and mean nearly the same there.
_SHORT_CODES = {
    "BF": JobState.BOOT_FAIL,
    "CA": JobState.CANCELLED,
    "CD": JobState.COMPLETED,
    "CF": JobState.CONFIGURING,
    "CG": JobState.COMPLETING,
    "DL": JobState.DEADLINE,
    "NF": JobState.NODE_FAIL,
    "OOM": JobState.OUT_OF_MEMORY,
    "PD": JobState.PENDING,
    "PR": JobState.PREEMPTED,
    "RD": JobState.RESV_DEL_HOLD,
    "RF": JobState.REQUEUE_FED,
    "RH": JobState.REQUEUE_HOLD,
    "RQ": JobState.REQUEUED,
    "RS": JobState.RESIZING,
    "RV": JobState.REVOKED,
    "SE": JobState.SPECIAL_EXIT,
    "SI": JobState.SIGNALING,
    "SO": JobState.STAGE_OUT,
    "ST": JobState.STOPPED,
    "TO": JobState.TIMEOUT,
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

# PBS writes 256 + signal if a signal ended the job (qdel sends TERM, then KILL). It writes a negative number if it
# ended the job itself (OpenPBS, src/include/job.h, JOB_EXEC_…): over a limit, or because a node's daemon was restarted
# or lost.
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


_SHORTEST_CUT = 4
# Characters of all words together.
_LONGEST_STATE = 200


@lru_cache(maxsize=256)  # each row of a large array is read several times, and most are in the same state
def _read(text: str, exit_code: int | None, started: bool) -> JobState:
    words = re.findall(r"[A-Z_]+\+?", text.upper().partition(" BY ")[0])
    if len(words) == 1 and len(words[0]) == 1:
        return _from_pbs(words[0], exit_code, started)
    states = [state for word in words if (state := _from_slurm(word)) is not None]
    # A base state may have flags, and a flag takes precedence: COMPLETED with COMPLETING has not ended yet. Other
    # flags say something only if no base state is there.
    flags = [state for state in states if _TABLE[state].flag]
    bases = [state for state in states if not _TABLE[state].remark]
    return next(iter(flags or bases or states), JobState.UNKNOWN)


def _from_slurm(word: str) -> JobState | None:
    whole = word.removesuffix("+")
    if whole in JobState.__members__:
        return None if whole == JobState.UNKNOWN else JobState(whole)
    if whole == word:
        return _SHORT_CODES.get(word)
    # A word that was cut. If it may be one of several, they have to mean the same for the wait. A few letters may be
    # the rest of "CANCELLED by 1001".
    meant = [state for state in JobState if state.value.startswith(whole) and len(whole) > _SHORTEST_CUT]
    same = len({state.phase for state in meant}) == 1 and (len(meant) == 1 or meant[0].phase is not Phase.ENDED)
    return meant[0] if same else None


def _from_pbs(letter: str, exit_code: int | None, started: bool) -> JobState:
    if letter in "FX":
        return _PBS_ENDS.get(exit_code or 0, JobState.FAILED) if exit_code or started else JobState.CANCELLED
    return _PBS_LETTERS.get(letter, JobState.UNKNOWN)
