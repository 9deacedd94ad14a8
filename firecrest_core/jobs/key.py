"""The key of a job's claim, which identifies its task, run and attempt, and the names that are made of it."""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from firecrest_core.spec.place import Place
from firecrest_core.spec.validation import LONGEST_NAME

if TYPE_CHECKING:
    from firecrest_core.connection import Connection
    from firecrest_core.spec.jobspec import JobSpec

_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_NAME = re.compile(r"-([a-z2-7]{10})-(\d{1,9})\.(\d{1,9})(-ahead)?$", re.ASCII)


def claim_identity(*parts: object, nonce: str = "") -> str:
    """Return the identity of a task. It is readable, safe as a file name, and equal only for equal arguments.

    :param parts: what identifies the task, for example DAG, run, task and map index
    :param nonce: a random text for parts that are not unique by themselves. For example, the ids of scheduled runs are
        equal in two deployments, and these may share a user and a directory.
    """
    texts = [str(part) for part in parts]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(texts)).strip("-")[:80].rstrip("-")
    return "-".join(filter(None, (readable, _digest(json.dumps([*texts, nonce]), 16))))


def digest_of(connection: Connection, system: str, spec: JobSpec) -> str:
    """Return a text that is equal only where the same is asked for, and that does not show what that is.

    :param connection: where the job is submitted
    :param system: the system there
    :param spec: the job
    """
    parts = (connection.url, system, spec.to_mapping())
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """The key of a claim. All jobs of one key compete for the same claim, so only one of them runs.

    :param identity: the task, see :func:`claim_identity`
    :param epoch: counts from 0 and grows when a person asks for a new run
    :param generation: counts from 0 in each epoch and grows when the job failed and is resubmitted
    :raises ValueError: the identity is not safe as a file name, or a number is negative
    """

    identity: str
    epoch: int = 0
    generation: int = 0

    def __post_init__(self) -> None:
        if not _IDENTITY.fullmatch(self.identity):
            raise ValueError(f"{self.identity!r} is not safe as a file's name; claim_identity() makes one that is")
        if self.epoch < 0 or self.generation < 0:
            raise ValueError(f"epoch and generation count from 0, not {self.epoch} and {self.generation}")

    def next_generation(self) -> ClaimKey:
        """Return the key for the resubmission of a failed job."""
        return replace(self, generation=self.generation + 1)

    def next_epoch(self) -> ClaimKey:
        """Return the key for a new run that a person asked for."""
        return replace(self, epoch=self.epoch + 1, generation=0)

    def directory(self, working_dir: str) -> str:
        """Return the directory of the claim.

        :param working_dir: absolute path of the job's working directory
        """
        return posixpath.join(claims_home(working_dir, self.identity), f"{self.epoch}.{self.generation}")

    def job_name(self, name: str, *, ahead: bool = False, elsewhere: Place | None = None) -> str:
        """Return a job name that contains the key, so that the job is found in a list of jobs.

        :param name: the user's name for the job; it is cut if the result would be too long
        :param ahead: the job is submitted ahead, so it waits at a gate (see :mod:`firecrest_core.claims.gate`)
        :param elsewhere: as for :func:`fingerprint`
        """
        own = fingerprint(self.identity, elsewhere)
        suffix = f"-{own}-{self.epoch}.{self.generation}" + ("-ahead" if ahead else "")
        return name[: LONGEST_NAME - len(suffix)] + suffix

    def to_dict(self) -> dict[str, Any]:
        """Return the key as JSON types; :meth:`from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClaimKey:
        """Return the key that :meth:`to_dict` wrote."""
        return cls(**data)


def claims_home(working_dir: str, identity: str) -> str:
    """Return the directory of all claims of a task.

    :param working_dir: absolute path of the job's working directory
    :param identity: the task's identity
    """
    return posixpath.join(working_dir, ".firecrest", identity)


def fingerprint(identity: str, elsewhere: Place | None = None) -> str:
    """Return the text for an identity in a job name: 50 bits, because a wrong match would cancel another task's job.

    :param identity: the task's
    :param elsewhere: in a race across file systems, the place of a job that is not at home. Two systems may have the
        same scheduler, whose list must not show the jobs of one place as those of another.
    """
    return _digest(identity if elsewhere is None else f"{identity} {elsewhere.name}", 10)


def read_job_name(job_name: str) -> tuple[str, int, int] | None:
    """Return fingerprint, epoch and generation from a job's name; ``None`` for a job without a key."""
    match = _NAME.search(job_name)
    return None if match is None else (match[1], int(match[2]), int(match[3]))


def is_ahead(job_name: str) -> bool:
    """Tell from a job's name whether it was submitted ahead."""
    match = _NAME.search(job_name)
    return match is not None and match[4] is not None


def users_name(job_name: str) -> str:
    """Return a job's name without what :meth:`ClaimKey.job_name` has added."""
    return _NAME.sub("", job_name)


def _digest(text: str, length: int) -> str:
    """Return a hash of letters and digits, which are safe in file names and in the job names of both schedulers."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:length]
