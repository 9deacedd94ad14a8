"""The claim: what makes a job of many submissions run once.

FirecREST knows no idempotency key, and a lost answer says nothing about the job. So a submission is sent until
one is known to have arrived, and the jobs settle among themselves which of them runs: the first one to create
a symbolic link, its *claim*, does; all others leave without running anything. Creating a link is atomic on a
POSIX file system, NFS and Lustre included, and ``ops/symlink`` does the same from outside.

Everything here is text: names, the lines of shell, the reading of a listing. :mod:`firecrest_core.exactly_once`
talks to the server.

Below the working directory::

    .firecrest/<identity>/<epoch>.<generation>/claim -> job-57
    .firecrest/<identity>/<epoch>.<generation>/claim -> cancelled

What the links point to never exists: ``ln -s`` onto a link to a directory would create one inside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from firecrest_core import fields, scripts

if TYPE_CHECKING:
    from firecrest_core.jobspec import JobSpec, Scheduler
    from firecrest_core.models import FileInfo

CANCELLED = "cancelled"
"""The holder of a claim that was taken so that no job gets it."""

_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_NAME = re.compile(r"-([a-z2-7]{10})-(\d+)\.(\d+)$")
_ENTRY = re.compile(r"(?:.*/)?(\d+)\.(\d+)(/claim)?")
_SYMBOL = re.compile(r"%(\d*)(.)")
_DEFAULT_NAME = "job"


def identity(*parts: object, nonce: str = "") -> str:
    """Name a task: readable, safe as a file's name, and equal only for equal parts and nonce.

    :param parts: what tells the task from others, for example DAG, run, task and map index
    :param nonce: a random text for parts that are not unique by themselves: the ids of scheduled runs are equal
        in two deployments that may share a user and a directory
    """
    texts = [str(part) for part in parts]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(texts)).strip("-")[:80].rstrip("-")
    return "-".join(filter(None, (readable, _digest(json.dumps([*texts, nonce]), 16))))


@dataclass(frozen=True, slots=True)
class Key:
    """Which submission: all jobs of one key carry the same claim, so one of them runs.

    :param identity: the task, as :func:`identity` names it
    :param epoch: grows when a person asks for a new run
    :param generation: grows when the job itself failed and is to run again
    :raises ValueError: for an identity that is not safe as a file's name, or a negative number
    """

    identity: str
    epoch: int = 0
    generation: int = 0

    def __post_init__(self) -> None:
        if not _IDENTITY.fullmatch(self.identity):
            raise ValueError(f"{self.identity!r} is not safe as a file's name; claim.identity() makes one that is")
        if self.epoch < 0 or self.generation < 0:
            raise ValueError(f"epoch and generation count from 0, not {self.epoch} and {self.generation}")

    def next_generation(self) -> Key:
        """The key of one more run after the job has failed."""
        return replace(self, generation=self.generation + 1)

    def next_epoch(self) -> Key:
        """The key of a new run that a person wants."""
        return replace(self, epoch=self.epoch + 1, generation=0)

    def directory(self, working_dir: str) -> str:
        """Where the claim is."""
        return posixpath.join(home(working_dir, self.identity), f"{self.epoch}.{self.generation}")

    def job_name(self, name: str) -> str:
        """A job's name that tells its key also where a server cannot filter; the longest names are cut."""
        suffix = f"-{fingerprint(self.identity)}-{self.epoch}.{self.generation}"
        return name[: fields.LONGEST_NAME - len(suffix)] + suffix

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types alone; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Key:
        return cls(**data)


def home(working_dir: str, identity: str) -> str:
    """The directory that holds all claims of a task."""
    return posixpath.join(working_dir, ".firecrest", identity)


def fingerprint(identity: str) -> str:
    """What stands for the identity in a job's name: 50 bits, since a wrong match would cancel another's job."""
    return _digest(identity, 10)


def read_name(job_name: str) -> tuple[str, int, int] | None:
    """Fingerprint, epoch and generation from a job's name; ``None`` for a job without a key."""
    match = _NAME.search(job_name)
    return None if match is None else (match[1], int(match[2]), int(match[3]))


@dataclass(frozen=True, slots=True)
class Claims:
    """What a task's directory says.

    :param holders: (epoch, generation) → a job's id, or :data:`CANCELLED`
    :param epochs: those that have begun, as far as they left a directory
    """

    holders: Mapping[tuple[int, int], str]
    epochs: frozenset[int]

    @classmethod
    def read(cls, entries: Iterable[FileInfo]) -> Claims:
        """Read the recursive listing of :func:`home`."""
        holders: dict[tuple[int, int], str] = {}
        epochs = set()
        for entry in entries:
            match = _ENTRY.fullmatch(entry.name)
            if match is None:
                continue
            epochs.add(int(match[1]))
            if match[3] and entry.link_target:
                holder = posixpath.basename(entry.link_target)
                holders[int(match[1]), int(match[2])] = holder.removeprefix("job-")
        return cls(holders, frozenset(epochs))

    def holder(self, key: Key) -> str | None:
        return self.holders.get((key.epoch, key.generation))

    def latest(self, epoch: int) -> int:
        """The latest generation of an epoch that is claimed; -1 for none."""
        return max((generation for each, generation in self.holders if each == epoch), default=-1)

    def is_over(self, epoch: int) -> bool:
        """Whether a later epoch has begun."""
        return any(each > epoch for each in self.epochs)

    def jobs(self, epochs: Iterable[int]) -> list[str]:
        """The jobs that hold claims of these epochs, the latest first."""
        wanted = set(epochs)
        return [
            holder
            for (epoch, _), holder in sorted(self.holders.items(), reverse=True)
            if epoch in wanted and holder != CANCELLED
        ]


def bind(spec: JobSpec, key: Key, scheduler: Scheduler = "slurm") -> tuple[JobSpec, tuple[str, ...]]:
    """A specification that carries the key, and the prologue for it.

    The job's name carries the key; within the job, and in the output paths, the user's own stays. A job with
    ``--dependency=singleton`` keeps its name, which is its meaning: it is found by its claim alone.

    :returns: what :meth:`~firecrest_core.jobspec.JobSpec.request` takes, with these lines as its ``prologue``
    """
    own = {} if spec.script is None else scripts.own_options(spec.script, scheduler)
    name = own_name(spec, scheduler)
    singleton = "singleton" in str(spec.dependency or "") or scripts.asks_for(spec.script or "", "singleton")
    changes: dict[str, Any] = {"name": name if singleton else key.job_name(name)}
    shared = False
    if scheduler == "slurm":
        for field, option in (("stdout", "output"), ("stderr", "error")):
            pattern = getattr(spec, field) or own.get(option)
            if pattern is not None:
                changes[field] = _with_name(pattern, name)
                shared = shared or not {"j", "J", "A"} & {symbol for _, symbol in _SYMBOL.findall(pattern)}
        if any("--open-mode" in line for line in spec.directives) or scripts.asks_for(spec.script or "", "--open-mode"):
            shared = False
        if shared:
            changes["directives"] = (*spec.directives, "--open-mode=append")
    return replace(spec, **changes), tuple(prologue(key, spec.working_dir, name, scheduler, shared_output=shared))


def own_name(spec: JobSpec, scheduler: Scheduler = "slurm") -> str:
    """The user's own name for the job."""
    own = {} if spec.script is None else scripts.own_options(spec.script, scheduler)
    return spec.name or own.get("job-name") or _DEFAULT_NAME


def prologue(
    key: Key, working_dir: str, name: str, scheduler: Scheduler = "slurm", *, shared_output: bool = False
) -> Sequence[str]:
    """Lines of POSIX shell that let what follows run in the job that holds the claim alone.

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
        f"    workdir={shlex.quote(working_dir)}; tasks={shlex.quote(home(working_dir, key.identity))}",
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


def _with_name(pattern: str, name: str) -> str:
    """Put the user's name where ``%x`` would put the scheduler's; a backslash turns all symbols off."""
    if "\\" in pattern:
        return pattern
    escaped = name.replace("%", "%%")
    return _SYMBOL.sub(lambda match: escaped if match[2] == "x" else match[0], pattern)


def _digest(text: str, length: int) -> str:
    """Letters and digits that survive file names, job names and both schedulers."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:length]
