"""A chain: one piece of work that takes many jobs, each of which goes on from the checkpoint of the one before.

::

    chain=Chain(max_jobs=20, signal="USR1@120", done="train.done", checkpoint="ckpt/*")

The scheduler sends the script a signal before the job's time limit. The script writes a checkpoint and ends, and the
next job goes on. The chain ends well when a job has ended COMPLETED and the marker ``done`` is there. It ends with a
sentence, for a person, when a job has left no newer checkpoint, or was the last one that is allowed.

Of an array, each element is a chain of its own, see :mod:`firecrest_core.array_chain`.

Markers and checkpoints of an earlier run may lie in the directory. What was there before the first job of the chain
began counts as neither. All times are those that the system's own file listing gives, so no two clocks are compared.

Facts: ``--signal`` in Slurm's sbatch manual: without ``B:`` the signal goes to the steps (``srun``) and not to the
batch shell, and it may come up to 60 s earlier than asked for.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import signal as signals
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from firecrest_core.errors import InvalidJobSpec
from firecrest_core.escalation import TIME_LIMIT, Escalation
from firecrest_core.followup import Cause, FollowUp, Note, Stop
from firecrest_core.near_names import suggestion
from firecrest_core.result import JobResult
from firecrest_core.spec import quantities, validation
from firecrest_core.spec.jobspec import JobSpec, Scheduler
from firecrest_core.spec.points import ARRAY_SIZE
from firecrest_core.spec.script import directive_lines
from firecrest_core.states import JobState

# Seconds by which Slurm may send the signal too early, the part of the time until then that this is at most, and the
# seconds before the end if nothing is said. A script that fails in the first half of a short job has failed by itself.
_EARLY = 60
_EARLY_SHARE = 0.5
_BEFORE = 60
# The index of an element in a path. A digit or a wildcard beside it might be taken for a part of another index.
_ELEMENT = re.compile(r"(?<![\d*?\]%])%\d*a(?![\d*?\[])")
# What sbatch replaces in names of files, and is another text for each job of a chain.
_OF_ONE_JOB = re.compile(r"(?<!%)%\d*[AJjN]")
# What starts a step of a job, which a signal without ``B:`` reaches.
_STEP = re.compile(r"\b(srun|mpirun|mpiexec)\b")
# A dependency in a directive for Slurm or PBS.
_DEPENDENCY = re.compile(r"(?:^|\s)(?:-d|--dep|-W\s*depend)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The newest file, or directory, that a chain's pattern matches.

    :param name: below the directory that the pattern names
    :param modified: when it was changed, as the listing gives it: ``2026-11-20T15:05:40``
    :param size: bytes
    :param beside: name and size of those that were changed in the same second, which is all that a listing tells
    """

    name: str
    modified: str
    size: int
    beside: tuple[tuple[str, int], ...] = ()

    @classmethod
    def newest_of(cls, found: Iterable[Checkpoint]) -> Checkpoint | None:
        """Return the newest of several checkpoints, with those beside it; ``None`` if there are none.

        :param found: the checkpoints
        """
        ordered = sorted(found, key=lambda one: (one.modified, len(one.name), one.name))
        if not ordered:
            return None
        beside = [(one.name, one.size) for one in ordered[:-1] if one.modified == ordered[-1].modified]
        return replace(ordered[-1], beside=tuple(beside))

    @property
    def mark(self) -> str:
        """A short text that stands for it, to tell later whether there is a newer one."""
        files = "\n".join(f"{size} {name}" for name, size in sorted((*self.beside, (self.name, self.size))))
        return f"{self.modified}.{hashlib.sha256(files.encode()).hexdigest()[:12]}"

    def is_newer(self, mark: str) -> bool:
        """Tell whether it was written after another one.

        :param mark: of the other one
        """
        return self.mark != mark and self.modified >= mark.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a job of a chain has left.

    :param done: the marker is there, and was made by a job of this chain
    :param stale: a marker is there, but from before the chain
    :param newest: the newest checkpoint
    :param is_newer: it was written by the job that has just ended
    """

    done: bool = False
    stale: bool = False
    newest: Checkpoint | None = None
    is_newer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain of jobs, as a person asks for it.

    :param max_jobs: how many jobs there may be at most, those that an escalation policy adds included
    :param signal: the signal before each job's time limit, and how many seconds before, as in ``signal`` of a
        :class:`~firecrest_core.spec.jobspec.JobSpec`: ``"USR1@120"`` to what ``srun`` has started, ``"B:USR1@120"`` to
        the script alone
    :param done: the file that the script makes when all is done. It and ``checkpoint`` are relative to the job's
        ``working_dir``, or absolute. For an array, ``%a`` in both stands for an element's index, and ``%4a`` for four
        digits of it, as in ``stdout``: ``"run-%a/train.done"``
    :param checkpoint: the checkpoints, with wildcards: ``"ckpt/*"``, and of an array ``"run-%a/ckpt/*"``
    :param ahead: submit the next job as soon as one runs, to begin after that one, so that the time in the queue
        overlaps with the run. What waits is cancelled if no other job follows, and submitted anew if the next one gets
        something else. See :mod:`firecrest_core.claims.ahead`
    :raises InvalidJobSpec: one of them is not valid; the message begins with ``chain``
    """

    max_jobs: int
    signal: str
    done: str
    checkpoint: str
    ahead: bool = False

    def __post_init__(self) -> None:
        most = quantities.whole_number(self.max_jobs)
        if most is None or most < 1:
            raise _wrong(f"max_jobs is {self.max_jobs!r}; give a whole number, at least 1")
        object.__setattr__(self, "max_jobs", most)  # the class is frozen
        for name in ("signal", "done", "checkpoint"):
            try:
                value = validation.checked("signal" if name == "signal" else "stdout", getattr(self, name))
            except InvalidJobSpec as error:
                raise _wrong(f"{name}{str(error).removeprefix(error.field)}") from None
            object.__setattr__(self, name, value)
        if self._signal_number in (signals.SIGKILL, signals.SIGSTOP):
            raise _wrong(f"signal is {self.signal!r}, which no script can catch; give another one, such as 'USR1@120'")
        for name in ("done", "checkpoint"):
            self._check_path(name, getattr(self, name))
        if not isinstance(self.ahead, bool):
            raise _wrong(f"ahead is {self.ahead!r}; give true or false")

    def _check_path(self, name: str, path: str) -> None:
        if path.startswith(("~", "$")):
            raise _wrong(f"{name} is {path!r}; give a path below working_dir, or an absolute one")
        if path.endswith("/"):
            raise _wrong(f"{name} is {path!r}; name what is in the directory, as in {path + '*'!r}")
        if other := _OF_ONE_JOB.search(path):
            raise _wrong(f"{name} is {path!r}; leave out {other[0]}, which differs from job to job")

    @classmethod
    def parse(cls, given: Any) -> Chain:
        """Return the chain that a person has given, also as a mapping of the same fields.

        :param given: a chain, or a mapping
        :raises InvalidJobSpec: it is neither, or a field is missing, unknown or not valid
        """
        if isinstance(given, cls):
            return given
        names = [field.name for field in fields(cls)]
        unknown = [name for name in given if name not in names] if isinstance(given, Mapping) else []
        if unknown:
            raise _wrong(f"{unknown[0]!r} is no field of it; {suggestion(unknown[0], names)}")
        form = "the form is Chain(max_jobs=20, signal='USR1@120', done='…', checkpoint='ckpt/*')"
        if not isinstance(given, Mapping):
            raise _wrong(f"{given!r}; {form}")
        if missing := [field.name for field in fields(cls) if field.default is MISSING and field.name not in given]:
            raise _wrong(f"without {', '.join(missing)}; {form}")
        return cls(**given)

    @property
    def signal_name(self) -> str:
        """The signal, without to whom and when: ``USR1``."""
        return self.signal.rpartition(":")[2].partition("@")[0]

    @property
    def _signal_number(self) -> int:
        name = self.signal_name
        return int(name) if name.isdecimal() else signals.Signals["SIG" + name.upper().removeprefix("SIG")].value

    @property
    def _to_shell(self) -> bool:
        return "B" in self.signal.rpartition(":")[0].upper()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`parse` reads them back."""
        return asdict(self)

    def check(self, spec: JobSpec, scheduler: Scheduler = "slurm") -> None:
        """Refuse a job that cannot be part of a chain.

        :param spec: the job
        :param scheduler: what runs it
        :raises InvalidJobSpec: PBS runs it, or it has another signal, or less time than comes after the chain's, or is
            an array whose elements cannot be told from each other; with ``ahead``, it is any array, or has a dependency
        """
        if scheduler == "pbs":
            raise _wrong("PBS sends no signal before the time limit, so a chain needs Slurm")
        if spec.array_indices is not None:
            if len(spec.array_indices) > ARRAY_SIZE:
                raise _wrong(f"the array has {len(spec.array_indices)} elements; give at most {ARRAY_SIZE}")
            self.check_elements()
        if spec.signal not in (None, self.signal):
            raise _wrong(f"signal is {self.signal!r}, and that of the job {spec.signal!r}; give one of them")
        try:
            validation.check_signal(self.signal, TIME_LIMIT.given(spec))
        except InvalidJobSpec as error:
            raise _wrong(str(error)) from None
        if self.ahead and _has_dependency(spec):
            raise _wrong("ahead gives the next job a dependency of its own; leave out ahead, or the job's dependency")

    def check_elements(self) -> None:
        """Refuse a chain that cannot be one of each element of an array.

        :raises InvalidJobSpec: ``done`` or ``checkpoint`` does not name an element's own files, or ``ahead`` is set
        """
        if self.ahead:
            raise _wrong("ahead is set, but only the end of an array tells which of its elements go on; leave it out")
        for name in ("done", "checkpoint"):
            if not _ELEMENT.search(path := getattr(self, name)):
                raise _wrong(
                    f"{name} is {path!r}, and each element of an array needs its own: put %a there for its index, "
                    f"without a digit or a wildcard beside it, as in 'run-%a/{posixpath.basename(path)}'"
                )

    def apply(self, spec: JobSpec) -> JobSpec:
        """Return the job with the chain's signal.

        :param spec: the job
        """
        return replace(spec, signal=self.signal)

    def after(self, result: JobResult, spec: JobSpec, progress: Progress, jobs: int) -> FollowUp | Stop | None:
        """Decide what follows the end of a job.

        :param result: how it ended
        :param spec: what was asked for
        :param progress: what it has left
        :param jobs: how many jobs there were, with this one
        :returns: ``None`` if all is done, or the job has failed for another reason than its time limit
        """
        completed = result.state is JobState.COMPLETED
        if (completed and progress.done) or not (completed or self._was_stopped(result, spec)):
            return None
        ended = f"Job {result.job_id} ended {result.state}"
        if progress.newest is None or not progress.is_newer:
            return Stop(f"{self._no_progress(progress, completed=completed)} {self.advice(result, spec)}")
        if jobs >= self.max_jobs:
            marker = "" if progress.done else f", and {self.done} {_lack(progress)}"
            again = f"A new run of the task goes on from {progress.newest.name} (in Airflow, clear the task)."
            return Stop(f"It was job {jobs} of a chain of max_jobs={self.max_jobs}{marker}. {again}")
        note = Note(Cause.CHAIN, checkpoint=progress.newest.mark)
        number = f"{jobs + 1} of at most {self.max_jobs}"
        return FollowUp(note, f"{ended} and has left {progress.newest.name}: the next job, {number}, goes on from it.")

    def or_escalated(
        self,
        chained: FollowUp | Stop | None,
        escalation: Escalation | None,
        result: JobResult,
        spec: JobSpec,
        notes: Sequence[Note],
        jobs: int,
    ) -> FollowUp | Stop | None:
        """Decide what follows with a policy beside the chain.

        :param chained: what :meth:`after` has decided
        :param escalation: the policy
        :param result: how the job ended
        :param spec: what was asked for
        :param notes: those of the jobs before it
        :param jobs: how many jobs there were, with this one
        """
        if isinstance(chained, FollowUp) or escalation is None:
            return chained
        # A job that was stopped without a new checkpoint may need more time for one.
        stopped = isinstance(chained, Stop) and result.state is not JobState.COMPLETED
        decision = escalation.after(result, spec, notes, at_time_limit=stopped)
        if not isinstance(decision, FollowUp):
            return chained or decision
        if jobs >= self.max_jobs:
            return chained or Stop(f"It was job {jobs} of a chain of max_jobs={self.max_jobs}.")
        return decision

    def unseen(self, decision: FollowUp | Stop | None, state: JobState, progress: Progress) -> str:
        """Return what else a job may have left, if seeing it would change what follows; an empty text if not.

        :param decision: what :meth:`after` has decided
        :param state: how the job ended
        :param progress: what is seen of what it has left
        """
        if not isinstance(decision, Stop):
            return ""
        if not progress.is_newer:
            return f"neither {self.done} nor a new checkpoint ({self.checkpoint})"
        return f"a new checkpoint, but no {self.done}" if state is JobState.COMPLETED else ""

    def advice(self, result: JobResult, spec: JobSpec) -> str:
        """Return what to do about a job that has left no new checkpoint.

        :param result: how it ended
        :param spec: what was asked for
        """
        name, script = self.signal_name, str(spec.script or spec.command or "")
        if result.state is JobState.COMPLETED:
            return "See whether the script makes the marker at the end of its work."
        if result.state is JobState.FAILED and result.signal == self._signal_number:
            return (
                f"{name} has ended the script's own shell, or a program that did not handle it. Begin the program with "
                "exec, or leave out B: and start it by srun."
            )
        if (
            result.state is JobState.TIMEOUT
            and script
            and not (self._to_shell or spec.launcher or _STEP.search(script))
        ):
            return (
                f"{self.signal} reaches only what srun has started, and the script has no srun. Give B:{self.signal} "
                "and begin the program with exec, or start it by srun."
            )
        return f"See whether the script handles {name} and has the time to write one."

    def _no_progress(self, progress: Progress, *, completed: bool) -> str:
        if progress.newest is None:
            none = f"nothing matches {self.checkpoint}; see whether the script writes there"
        else:
            none = f"{progress.newest.name} is older"
        if completed:
            return f"{self.done} {_lack(progress)}, and it has left no new checkpoint ({none})."
        return f"It has left no new checkpoint ({none}), so another job would repeat it."

    def _was_stopped(self, result: JobResult, spec: JobSpec) -> bool:
        """Tell whether the time limit has ended a job, or the signal before it."""
        if result.state is JobState.TIMEOUT:
            return True
        if result.state is not JobState.FAILED:
            return False
        number, before = self._signal_number, self.signal.partition("@")[2]
        if result.signal == number or result.exit_code == 128 + number:
            return True
        given = TIME_LIMIT.given(spec)
        limit = None if given is None else quantities.seconds(given)
        if limit is None or not result.elapsed:
            return False
        due = limit - int(before or _BEFORE)
        return result.elapsed >= due - min(_EARLY, due * _EARLY_SHARE)


def _lack(progress: Progress) -> str:
    return "is older than the chain" if progress.stale else "is not there yet"


def _has_dependency(spec: JobSpec) -> bool:
    """Tell whether a job depends on others, by its field, a directive or a line of its script."""
    lines = (*spec.directives, *directive_lines(spec.script or ""))
    return spec.dependency is not None or any(map(_DEPENDENCY.search, lines))


def _wrong(message: str) -> InvalidJobSpec:
    return InvalidJobSpec("chain", message)
