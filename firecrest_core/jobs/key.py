"""Which task, run and attempt a job belongs to: the key of its claim, and the names made of it."""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from firecrest_core.spec.validation import LONGEST_NAME

_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_NAME = re.compile(r"-([a-z2-7]{10})-(\d+)\.(\d+)$")


def claim_identity(*parts: object, nonce: str = "") -> str:
    """Name a task: readable, safe as a file's name, and equal only for equal parts and nonce.

    :param parts: what tells the task from others, for example DAG, run, task and map index
    :param nonce: a random text for parts that are not unique by themselves: the ids of scheduled runs are equal
        in two deployments that may share a user and a directory
    """
    texts = [str(part) for part in parts]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(texts)).strip("-")[:80].rstrip("-")
    return "-".join(filter(None, (readable, _digest(json.dumps([*texts, nonce]), 16))))


@dataclass(frozen=True, slots=True)
class ClaimKey:
    """Which submission: all jobs of one key carry the same claim, so one of them runs.

    :param identity: the task, as :func:`claim_identity` names it
    :param epoch: grows when a person asks for a new run
    :param generation: grows when the job itself failed and is to run again
    :raises ValueError: for an identity that is not safe as a file's name, or a negative number
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
        """The key of one more run after the job has failed."""
        return replace(self, generation=self.generation + 1)

    def next_epoch(self) -> ClaimKey:
        """The key of a new run that a person wants."""
        return replace(self, epoch=self.epoch + 1, generation=0)

    def directory(self, working_dir: str) -> str:
        """Where the claim is."""
        return posixpath.join(claims_home(working_dir, self.identity), f"{self.epoch}.{self.generation}")

    def job_name(self, name: str) -> str:
        """A job's name that tells its key also where a server cannot filter; the longest names are cut."""
        suffix = f"-{fingerprint(self.identity)}-{self.epoch}.{self.generation}"
        return name[: LONGEST_NAME - len(suffix)] + suffix

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types alone; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClaimKey:
        return cls(**data)


def claims_home(working_dir: str, identity: str) -> str:
    """The directory that holds all claims of a task."""
    return posixpath.join(working_dir, ".firecrest", identity)


def fingerprint(identity: str) -> str:
    """What stands for the identity in a job's name: 50 bits, since a wrong match would cancel another's job."""
    return _digest(identity, 10)


def read_job_name(job_name: str) -> tuple[str, int, int] | None:
    """Fingerprint, epoch and generation from a job's name; ``None`` for a job without a key."""
    match = _NAME.search(job_name)
    return None if match is None else (match[1], int(match[2]), int(match[3]))


def _digest(text: str, length: int) -> str:
    """Letters and digits that survive file names, job names and both schedulers."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:length]
